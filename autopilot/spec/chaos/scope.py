"""Which requests a fault meets."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopilot.spec.base import Misplaced, SpecModel
from autopilot.spec.headers import _ONE_LINE, HeaderName, HeadersOnce, HeaderText
from autopilot.spec.values.units import Name, Percent, explained, finest

_OF_PATHS = r"""[!"$->@-~]"""
"""Visible ASCII, as paths are sent, but for what begins a query or a fragment."""


_PATH = "a path as requests have it: begins with /, other characters percent-encoded, without a query"


_PREFIX = f"{_PATH}, and longer than /, which every path begins with"


class HeaderMatch(SpecModel):
    """One of: exact, prefix, regex (RE2, the whole value), present."""

    exact: HeaderText | None = None
    prefix: HeaderText | None = None
    regex: HeaderText | None = None
    present: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("exact", "prefix", "regex", "present") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"has {', '.join(given)}" if given else "has no match"
            raise ValueError(f"{said}; write one of exact, prefix, regex and present")
        return self


class PathMatch(SpecModel):
    """One of: exact, prefix, regex (RE2, the whole path). A query does not count: `/a` selects `/a?b=c` too."""

    exact: Annotated[str, Field(pattern=explained(rf"^/{_OF_PATHS}{{0,999}}$", _PATH))] | None = None
    prefix: Annotated[str, Field(pattern=explained(rf"^/{_OF_PATHS}{{1,999}}$", _PREFIX))] | None = None
    """As characters, not as segments: `/api` selects `/apis` too."""
    regex: HeaderText | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("exact", "prefix", "regex") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"has {', '.join(given)}" if given else "has no match"
            raise ValueError(f"{said}; write one of exact, prefix and regex")
        return self


class Cookie(SpecModel):
    """Requests that carry this cookie, with any value or with this one."""

    name: Annotated[str, Field(pattern=explained(r"^[A-Za-z0-9_.-]{1,128}$", "the name of a cookie"))]
    value: (
        Annotated[
            str,
            Field(
                pattern=explained(
                    r"^[A-Za-z0-9_.~+/=%-]{1,512}$", "the value of a cookie: letters, digits and _.~+/=%-"
                )
            ),
        ]
        | None
    ) = None


class Users(SpecModel):
    """A share of the users, always the same ones in one experiment: identified by a header or by a cookie."""

    percentage: Annotated[Percent, Field(gt=0), finest(0.01, "users are told apart")]
    header: HeaderName | None = None
    cookie: Annotated[str, Field(pattern=explained(r"^[A-Za-z0-9_.-]{1,128}$", "the name of a cookie"))] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("write what tells users apart: header or cookie")
        return self


class Source(SpecModel):
    """The caller: a service of the mesh (`name`, or `namespace/name`), one version of it, or one proxy."""

    service: Annotated[
        str | None,
        Field(pattern=explained(r"^([a-z0-9-]{1,63}/)?[a-z0-9-]{1,63}$", "a service: name, or namespace/name")),
    ] = None
    arm: Name | None = None
    proxy: Name | None = None

    @model_validator(mode="after")
    def _someone(self) -> Self:
        if self.service is None and self.proxy is None:
            raise ValueError("names no caller; write service (an edge of the mesh) or proxy")
        if self.service is not None and self.proxy is not None:
            raise ValueError("names a service and a proxy; write one of them")
        if self.arm is not None and self.service is None:
            raise Misplaced("names a version without its service", at=("arm",), hint="write service too")
        return self


class Scope(SpecModel):
    """Which requests to the target a fault applies to: those that match all fields."""

    percentage: Annotated[Percent, Field(gt=0), finest(0.0001, "proxies choose requests")] | None = None
    """Random share of the requests that match the other fields; by default all of them."""
    headers: Annotated[dict[HeaderName, HeaderMatch], Field(max_length=16), HeadersOnce] = Field(default_factory=dict)
    cookie: Cookie | None = None
    path: PathMatch | None = None
    """As requests arrive at the callers' proxies, before a route rewrites it."""
    method: (
        Annotated[
            str, Field(pattern=explained(r"^[A-Z][A-Z-]{0,31}$", "an HTTP method in capitals, for instance POST"))
        ]
        | None
    ) = None
    rule: Annotated[str, Field(min_length=1, max_length=253, pattern=_ONE_LINE)] | None = None
    """Only requests that this rule takes: its `name` in a VirtualService that leads to the target (only on Istio)."""
    users: Users | None = None
    source: Source | None = None
    arm: Name | None = None
    """Only requests that would be answered by this version."""
    view: Literal["app", "policy"] = "app"
    """`app`: at the caller's side, in place of the mesh's retries and timeouts, so that the application is tested.
    `policy`: at the target's side, so that the mesh's own retries, timeouts and outlier detection are tested."""

    @model_validator(mode="after")
    def _not_everything(self) -> Self:
        narrower = (self.percentage, self.users, self.arm, self.source)
        if not self.narrowed and all(each is None for each in narrower):
            raise ValueError(
                "matches every request; write percentage (100 if all is meant), users, headers, cookie, path, method, "
                "rule, source or arm"
            )
        return self

    @property
    def narrowed(self) -> bool:
        """Whether the scope selects requests by what they are: their number is not known in advance."""
        return bool(self.headers or self.cookie or self.path or self.method or self.rule)

    @property
    def share(self) -> float:
        """Upper bound of its share of the target's traffic in percent, where it is not `narrowed`."""
        by_chance = 100.0 if self.percentage is None else self.percentage
        return by_chance * (self.users.percentage if self.users else 100.0) / 100


def describe_scope(scope: Scope) -> str:
    """The requests that a scope selects, in a few words."""
    parts = []
    if scope.percentage is not None:
        parts.append(f"{scope.percentage:g} % of requests")
    if scope.users is not None:
        key = scope.users.header or f"cookie {scope.users.cookie}"
        parts.append(f"{scope.users.percentage:g} % of users ({key})")
    parts += [f"{name} {_matched(match)}" for name, match in scope.headers.items()]
    if scope.cookie is not None:
        parts.append(f"cookie {scope.cookie.name}" + (f"={scope.cookie.value}" if scope.cookie.value else ""))
    if scope.method is not None:
        parts.append(f"method {scope.method}")
    if scope.path is not None:
        parts.append(f"path {_matched(scope.path)}")
    if scope.rule is not None:
        parts.append(f"rule {scope.rule}")
    if scope.source is not None:
        version = f" {scope.source.arm}" if scope.source.arm else ""
        parts.append(f"from {scope.source.service or scope.source.proxy}{version}")
    if scope.arm is not None:
        parts.append(f"to {scope.arm}")
    return ", ".join(parts) + (" (policy view)" if scope.view == "policy" else "")


def _matched(match: HeaderMatch | PathMatch) -> str:
    if isinstance(match, HeaderMatch) and match.present:
        return "present"
    return next(f"{name} {value}" for name, value in match.model_dump(exclude_none=True).items())
