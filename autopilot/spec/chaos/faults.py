"""Faults and their scopes: what an experiment may do to traffic."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from autopilot.spec.base import Misplaced, SpecModel
from autopilot.spec.values.addresses import Address
from autopilot.spec.values.units import Count, Name, Percent, Seconds, explained, finest, shown


def _small(name: object) -> object:
    return name.lower() if isinstance(name, str) else name


HeaderName = Annotated[
    str,
    Field(pattern=explained(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$", "the name of a header, without a colon")),
    BeforeValidator(_small),
]
"""Lower case, as proxies see it."""


def _once(headers: object) -> object:
    """Refuses names that differ in capitals alone: proxies would see one of them."""
    told: set[str] = set()
    for name in headers if isinstance(headers, dict) else ():
        if isinstance(name, str) and name.lower() in told:
            raise Misplaced("is written twice: capitals make no difference", at=(name,), hint="write it once")
        told.add(str(name).lower())
    return headers


HeadersOnce = BeforeValidator(_once)
_ONE_LINE = explained(r"^[^\x00-\x1f\x7f]*$", "text on one line")
HeaderText = Annotated[str, Field(min_length=1, max_length=1024, pattern=_ONE_LINE)]

_OF_PATHS = r"""[!"$->@-~]"""
"""Visible ASCII, as paths are sent, but for what begins a query or a fragment."""
_PATH = "a path as requests have it: begins with /, other characters percent-encoded, without a query"
_PREFIX = f"{_PATH}, and longer than /, which every path begins with"

GRPC_CODES = {
    "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip
"""Status codes of gRPC by name; 0 is success and no fault."""


def _grpc_code(value: object) -> object:
    if not isinstance(value, str) or value.isdigit():
        return value
    if value.upper() not in GRPC_CODES:
        hint = "write a number from 1 to 16, or a name such as UNAVAILABLE"
        raise ValueError(f"{shown(value)} is not a gRPC status of a failure; {hint}")
    return GRPC_CODES[value.upper()]


class Delay(SpecModel):
    """Requests are delayed before they are sent on."""

    type: Literal["delay"] = "delay"
    delay: Annotated[Seconds, Field(ge=0.001, le=3600)]
    jitter: Annotated[Seconds, Field(le=3600)] = 0.0
    """Delays spread evenly over `delay` ± `jitter`, in eight steps."""

    @model_validator(mode="after")
    def _never_negative(self) -> Self:
        if self.jitter >= self.delay:
            said = "is not below delay, so some delays would be negative"
            raise Misplaced(said, at=("jitter",), hint="write a smaller jitter")
        return self


class Abort(SpecModel):
    """Requests are answered with an error instead of being sent on."""

    type: Literal["abort"] = "abort"
    status: Annotated[Count, Field(ge=400, le=599)] = 503


class GrpcAbort(SpecModel):
    """The same for gRPC: `code` is a number from 1 to 16, or a name such as UNAVAILABLE."""

    type: Literal["grpcAbort"] = "grpcAbort"
    code: Annotated[Count, BeforeValidator(_grpc_code), Field(ge=1, le=16)] = 14


class Bandwidth(SpecModel):
    """Responses arrive slowly."""

    type: Literal["bandwidth"] = "bandwidth"
    limit: Annotated[Count, Field(ge=1, le=1_000_000)]
    """KiB a second, for each response."""


class Reset(SpecModel):
    """Connections close before an answer begins."""

    type: Literal["reset"] = "reset"


class Blackhole(SpecModel):
    """Requests are accepted and never answered: by every endpoint in scope, by these, or by those of one zone."""

    type: Literal["blackhole"] = "blackhole"
    endpoints: Annotated[tuple[Address, ...], Field(max_length=100)] = ()
    zone: Name | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        _refuse_both(self.endpoints, self.zone)
        return self


class Eject(SpecModel):
    """Endpoints are taken out of load balancing, as outlier detection would: the other endpoints get their load."""

    type: Literal["eject"] = "eject"
    endpoints: Annotated[tuple[Address, ...], Field(max_length=100)] = ()
    zone: Name | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if not self.endpoints and self.zone is None:
            raise ValueError("needs endpoints or zone; to remove all endpoints use type: blackhole")
        _refuse_both(self.endpoints, self.zone)
        return self


class Overflow(SpecModel):
    """Connection pools are so small that they overflow: requests over the limit are refused at once."""

    type: Literal["overflow"] = "overflow"
    requests: Annotated[Count, Field(ge=0, le=65536)] | None = None
    connections: Annotated[Count, Field(ge=0, le=65536)] | None = None
    pending: Annotated[Count, Field(ge=0, le=65536)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.requests is None and self.connections is None and self.pending is None:
            raise ValueError("has no limit; write requests, connections or pending")
        return self


class Retries(SpecModel):
    """Changes the retries of the mesh: the amplification is measured at every hop."""

    type: Literal["retries"] = "retries"
    retries: Annotated[Count, Field(ge=0, le=10)]
    per_try_timeout: Annotated[Seconds, Field(ge=0.001)] | None = None


class Timeout(SpecModel):
    """Changes the timeout of the mesh."""

    type: Literal["timeout"] = "timeout"
    timeout: Annotated[Seconds, Field(ge=0.001)]


class Partition(SpecModel):
    """The pods of the target get no traffic at all, by a NetworkPolicy (only on Kubernetes)."""

    type: Literal["partition"] = "partition"
    direction: Literal["ingress", "egress", "both"] = "ingress"


Fault = Annotated[
    Delay | Abort | GrpcAbort | Bandwidth | Reset | Blackhole | Eject | Overflow | Retries | Timeout | Partition,
    Field(discriminator="type"),
]

POLICY = (Retries, Timeout)
"""Change how the mesh treats whole requests, whichever arm they go to."""


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


def describe(fault: Fault) -> str:  # noqa: PLR0911 - one line a kind
    """What a fault does, in a few words."""
    match fault:
        case Delay():
            return f"delay {fault.delay:g} s" + (f" ± {fault.jitter:g} s" if fault.jitter else "")
        case Abort():
            return f"abort with {fault.status}"
        case GrpcAbort():
            return f"abort with gRPC status {fault.code}"
        case Bandwidth():
            return f"responses at {fault.limit} KiB/s"
        case Reset():
            return "connection reset"
        case Blackhole() | Eject():
            verb = "blackhole" if isinstance(fault, Blackhole) else "ejection"
            what = f"zone {fault.zone}" if fault.zone else ", ".join(fault.endpoints)
            return f"{verb} of {what}" if what else verb
        case Overflow():
            limits = {"requests": fault.requests, "connections": fault.connections, "pending": fault.pending}
            return "pools of " + ", ".join(f"{value} {name}" for name, value in limits.items() if value is not None)
        case Retries():
            tries = f", {fault.per_try_timeout:g} s a try" if fault.per_try_timeout else ""
            return f"{fault.retries} retries{tries}"
        case Timeout():
            return f"timeout {fault.timeout:g} s"
        case Partition():
            return f"partition ({fault.direction})"


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


def _refuse_both(endpoints: tuple[str, ...], zone: str | None) -> None:
    if endpoints and zone is not None:
        raise Misplaced("cannot be combined with endpoints", at=("zone",), hint="write one of them")
