"""What a scope asks of requests beside what a rule asks already, and a rule's matches with both.

Pure. A rule's copy must carry requests as the rule does, so its rewrite follows where a narrower path would change what
Istio replaces: the prefix that was matched, or the whole path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.faults.string_matches import both

_NEAREST = "nearest: scope.rule, which names a rule and needs no other match, or driver envoyfilter"
_PATH = f"the path; {_NEAREST}"
_METHOD = f"the method; {_NEAREST}"
_ANY_PATH = {"prefix": "/"}
"""What Istio makes of a rule without a path."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a request must say, and who must send it, beside what a rule asks for already."""

    headers: Mapping[str, Object] = field(default_factory=dict)
    """Name → Istio's StringMatch."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the caller's pods."""
    namespace: str = ""
    """Of the caller; empty for any."""
    path: Mapping[str, str] = field(default_factory=dict)
    """Istio's StringMatch; empty for any."""
    method: Mapping[str, str] = field(default_factory=dict)
    """Likewise."""

    @property
    def everybody(self) -> bool:
        """Whether it narrows nothing."""
        return not (self.headers or self.labels or self.namespace or self.path or self.method)


def narrowed(rule: Object, narrowing: Narrowing, key: str) -> Object:
    """The fields in which a rule's copy for the scope differs: `match`, and `rewrite` where it must follow.

    Empty where no request can be both the rule's and the scope's.

    Args:
        rule: a rule of a VirtualService.
        narrowing: the scope.
        key: of the rule, for people.

    Raises:
        InvalidChange: Istio cannot express both.
    """
    given = rule.get("match")
    matches: list[Object] = given if isinstance(given, list) and given else [{}]
    found = [(one, after) for one in matches if (after := _match_and(one, narrowing, key)) is not None]
    if not found:
        return {}
    copied: Object = {"match": [after for _, after in found]}
    rewrite = rule.get("rewrite") or {}
    if narrowing.path and rewrite.get("uri"):
        uris = {_rewritten(str(rewrite["uri"]), one, after, key) for one, after in found}
        if len(uris) > 1:
            raise InvalidChange(
                f"scope.path: rule {key} rewrites paths of several matches, which one copy of it cannot do; nearest: "
                "scope.rule, which names a rule and needs no other match"
            )
        copied["rewrite"] = {**rewrite, "uri": uris.pop()}
    return copied


def all_of(scopes: Iterable[Narrowing]) -> Narrowing | None:
    """Requests that all the scopes mean; None where none can be.

    Raises:
        InvalidChange: Istio cannot express all of them.
    """
    found = Narrowing()
    for one in scopes:
        headers = _headers_and(found.headers, one.headers, "another scope")
        labels = _labels_and(found.labels, one.labels)
        path = both(dict(found.path), dict(one.path), "scope.path: another scope", _PATH)
        method = both(dict(found.method), dict(one.method), "scope.method: another scope", _METHOD)
        if headers is None or labels is None or path is None or method is None:
            return None
        if one.namespace and found.namespace and one.namespace != found.namespace:
            return None
        found = Narrowing(headers, labels, found.namespace or one.namespace, path, method)
    return found


def _match_and(match: Object, narrowing: Narrowing, key: str) -> Object | None:
    found = dict(match)
    if narrowing.headers:
        headers = _headers_and(match.get("headers") or {}, narrowing.headers, f"rule {key}")
        if headers is None:
            return None
        found["headers"] = headers
    if narrowing.path:
        path = _path_and(match, narrowing.path, f"scope.path: rule {key}")
        if path is None:
            return None
        found["uri"] = path
        found.pop("ignoreUriCase", None)
    if narrowing.method:
        method = both(match.get("method") or {}, dict(narrowing.method), f"scope.method: rule {key}", _METHOD)
        if method is None:
            return None
        found["method"] = method
    return _caller_and(match, found, narrowing, key)


def _caller_and(match: Object, found: Object, narrowing: Narrowing, key: str) -> Object | None:
    if not (narrowing.labels or narrowing.namespace):
        return found
    if match.get("gateways"):
        raise InvalidChange(
            f"scope.source: rule {key} matches by gateways, where Istio ignores source; nearest: a header that this "
            "caller sends"
        )
    labels = _labels_and(match.get("sourceLabels") or {}, narrowing.labels)
    theirs = match.get("sourceNamespace") or narrowing.namespace
    if labels is None or (narrowing.namespace and theirs != narrowing.namespace):
        return None
    return {**found, "sourceLabels": labels, "sourceNamespace": theirs}


def _path_and(match: Object, path: Mapping[str, str], where: str) -> Object | None:
    """The path of a match and the scope's; a match may ignore capitals, a scope never does."""
    theirs: Object = match.get("uri") or {}
    ((kind, text),) = path.items()
    if not (theirs and match.get("ignoreUriCase")) or "regex" in theirs:  # which never ignores them
        return both(theirs, dict(path), where, _PATH)
    folded = both({name: str(value).lower() for name, value in theirs.items()}, {kind: text.lower()}, where, _PATH)
    if folded is None:
        return None
    if folded != {kind: text.lower()}:  # theirs is the narrower, and takes it in other capitals too
        raise InvalidChange(
            f"{where} ignores the capitals of paths, which the scope does not, and Istio allows one match of {_PATH}"
        )
    return dict(path)


def _rewritten(uri: str, match: Object, after: Object, key: str) -> str:
    """What the copy's path is rewritten to, so that requests arrive as they do by the rule."""
    ((kind, text),) = after["uri"].items()
    ((theirs, prefix),) = (match.get("uri") or _ANY_PATH).items()
    if theirs != "prefix" or (kind, text) == (theirs, prefix):
        return uri  # for the whole path, or for the same prefix
    if kind == "regex":
        raise InvalidChange(
            f"scope.path: rule {key} rewrites the prefix {prefix!r}, and with a regex Istio would rewrite the whole "
            "path; nearest: scope.path by exact or prefix, or scope.rule"
        )
    return uri + str(text)[len(prefix) :]


def _labels_and(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str] | None:
    if any(other.get(name, value) != value for name, value in one.items()):
        return None
    return {**one, **other}


def _headers_and(one: Mapping[str, Object], other: Mapping[str, Object], where: str) -> dict[str, Object] | None:
    found = dict(one)
    spelled = {name.lower(): name for name in one}
    for name, match in other.items():
        known = spelled.get(name, name)
        if known not in found:
            found[name] = match
            continue
        met = both(
            found[known],
            match,
            f"scope.headers.{name}: {where}",
            "each header; use another header, or driver envoyfilter",
        )
        if met is None:
            return None
        found[known] = met
    return found
