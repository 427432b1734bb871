"""A fault and its scope in Istio's terms: fields of a rule, what narrows its matches, and which rules are meant.

Pure. What Istio cannot express exactly is refused, and the message names the nearest alternative.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.faults.match_narrowing import Narrowing, all_of
from autopilot.spec.chaos.faults import GRPC_CODES, Abort, Delay, Fault, GrpcAbort, Retries, Timeout, describe
from autopilot.spec.chaos.scope import Cookie, HeaderMatch, PathMatch, Scope

_NOT_HEADERS = {
    "uri": "use scope.path",
    "scheme": "use another header",
    "method": "use scope.method",
    "authority": "use another header",
}
"""Istio ignores header matches of these names, as it documents."""
_MOST = 3
"""Scopes of one target at a time: every combination of them is a rule of its own."""
_GRPC_NAMES = {code: name for name, code in GRPC_CODES.items()}


@dataclass(frozen=True, slots=True)
class Wish:
    """One fault as fields of a rule."""

    fields: Mapping[str, Object | str]
    """`fault`, `retries` or `timeout` → its value."""
    narrowing: Narrowing
    words: str
    arm: str = ""
    """Only in rules that lead to this version alone; empty for all."""
    rule: str = ""
    """Only in rules of this name; empty for all."""


def wish(fault: Fault, scope: Scope, *, labels: Mapping[str, str] | None = None, namespace: str = "") -> Wish:
    """A fault in Istio's terms.

    Args:
        fault: a kind that VirtualServices support.
        scope: the requests it applies to.
        labels: of the pods that `scope.source` means.
        namespace: of those pods.

    Raises:
        InvalidChange: Istio cannot express it exactly.
    """
    words = describe(fault)
    if scope.view == "policy":
        raise InvalidChange(
            f"scope.view: {words} in the policy view is not supported by VirtualServices; nearest: view app"
        )
    if scope.users is not None:
        raise InvalidChange(
            "scope.users: VirtualServices cannot select a fixed share of users; nearest: percentage, for a share of "
            "requests, or headers, for users that a header identifies"
        )
    headers = {name: _string_match(match) for name, match in scope.headers.items()}
    if wrong := sorted(_NOT_HEADERS.keys() & headers.keys()):
        instead = _NOT_HEADERS[wrong[0]]
        raise InvalidChange(f"scope.headers.{wrong[0]}: Istio ignores matches of that header; {instead}")
    if scope.cookie is not None:
        if "cookie" in headers:
            raise InvalidChange("scope.cookie: cannot be combined with headers.cookie; write one of them")
        headers["cookie"] = {"regex": cookie_pattern(scope.cookie)}
    path = _string_match(scope.path) if scope.path is not None else {}
    method = {"exact": scope.method} if scope.method is not None else {}
    narrowing = Narrowing(headers, dict(labels or {}), namespace, path, method)
    return Wish(_fields(fault, scope, words), narrowing, words, scope.arm or "", scope.rule or "")


def cookie_pattern(cookie: Cookie) -> str:
    """A regular expression (RE2, the whole header) for requests that carry the cookie."""
    value = re.escape(cookie.value) if cookie.value is not None else "[^;]*"
    return rf"(?:.*;\s*)?{re.escape(cookie.name)}={value}(?:\s*;.*)?"


def duration(seconds: float) -> str:
    """Seconds as Istio writes them."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def said_in(rule: Object, fields: Mapping[str, Object | str]) -> dict[str, Object | str]:
    """The fields as they are to stand in this rule: what it retries on stays as the user wrote it."""
    found = dict(fields)
    retries = found.get("retries")
    if isinstance(retries, dict) and retries["attempts"]:  # with none, Istio allows nothing beside it
        found["retries"] = {**(rule.get("retries") or {}), **retries}
    return found


def combined(wishes: Sequence[Wish]) -> list[tuple[Narrowing, dict[str, Object | str]]]:
    """What one rule becomes: narrower rules in their order, the narrowest first, and last what everybody meets.

    The first rule that matches decides, so a request that several scopes mean needs a rule in which all of it stands.

    Raises:
        InvalidChange: two faults of one kind mean the same requests, or there are too many scopes.
    """
    scopes: list[Narrowing] = []
    for one in wishes:
        if not one.narrowing.everybody and one.narrowing not in scopes:
            scopes.append(one.narrowing)
    if len(scopes) > _MOST:
        raise InvalidChange(
            f"{len(scopes)} scopes at the same time need too many rules; lay at most {_MOST}, and the others "
            "in another step"
        )
    found: list[tuple[Narrowing, dict[str, Object | str]]] = []
    for size in range(len(scopes), -1, -1):
        for chosen in itertools.combinations(scopes, size):
            narrowing = all_of(chosen)
            met = [one for one in wishes if one.narrowing.everybody or one.narrowing in chosen]
            if narrowing is not None and met:
                found.append((narrowing, _merged(met)))
    return found


def _merged(wishes: Sequence[Wish]) -> dict[str, Object | str]:
    found: dict[str, Object | str] = {}
    for one in wishes:
        for name, value in one.fields.items():
            there = found.get(name)
            if there is None:
                found[name] = value
            elif isinstance(there, dict) and isinstance(value, dict) and name == "fault" and not there.keys() & value:
                found[name] = {**there, **value}
            else:
                raise InvalidChange(
                    f"{one.words}: another fault of its kind selects the same requests, and a rule can have one of "
                    "each kind; lay them in separate steps, or give them scopes that exclude each other"
                )
    return found


def _fields(fault: Fault, scope: Scope, words: str) -> dict[str, Object | str]:
    percentage = {"value": _number(100.0 if scope.percentage is None else scope.percentage)}
    match fault:
        case Delay():
            if fault.jitter:
                raise InvalidChange(
                    f"{words}: VirtualServices do not support jitter; nearest: a fixed delay, without jitter"
                )
            return {"fault": {"delay": {"fixedDelay": duration(fault.delay), "percentage": percentage}}}
        case Abort():
            return {"fault": {"abort": {"httpStatus": fault.status, "percentage": percentage}}}
        case GrpcAbort():
            return {"fault": {"abort": {"grpcStatus": _GRPC_NAMES[fault.code], "percentage": percentage}}}
    if scope.percentage not in (None, 100):
        raise InvalidChange(
            f"{words}: a rule's policy holds for all of its requests; nearest: percentage 100, or headers, path "
            "or source for some of them"
        )
    if isinstance(fault, Timeout):
        return {"timeout": duration(fault.timeout)}
    if not isinstance(fault, Retries):
        raise InvalidChange(f"{words}: VirtualServices do not support it")
    tried: Object = {"attempts": fault.retries}
    if fault.retries and fault.per_try_timeout is not None:
        tried["perTryTimeout"] = duration(fault.per_try_timeout)
    return {"retries": tried}


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def _string_match(match: HeaderMatch | PathMatch) -> Object:
    if isinstance(match, HeaderMatch) and match.present:
        return {}
    return next({name: text} for name, text in match.model_dump(exclude_none=True).items())
