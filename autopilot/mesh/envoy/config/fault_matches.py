"""Which requests of a route a fault meets, in Envoy's terms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from autopilot.mesh.envoy.config.laid_fault import Laid
from autopilot.mesh.envoy.config.names import (
    BUCKETS,
    USER_HEADER,
)
from autopilot.spec.chaos.scope import HeaderMatch, Scope


def header_matches(one: Laid, users: Sequence[str]) -> list[dict[str, Any]]:
    """What its route asks of headers. `users`: keys of all faults that pick users, in the order of their headers."""
    scope = one.scope
    matches = [{"name": name, **_string_match(match)} for name, match in scope.headers.items()]
    if scope.cookie is not None:
        value = re.escape(scope.cookie.value) if scope.cookie.value is not None else "[^;]*"
        pattern = rf"(?:.*;\s*)?{re.escape(scope.cookie.name)}={value}(?:\s*;.*)?"
        matches.append({"name": "cookie", "string_match": {"safe_regex": {"regex": pattern}}})
    if scope.method is not None:
        matches.append({"name": ":method", "string_match": {"exact": scope.method}})
    if scope.users is not None:
        number = users.index(user_key(one)) + 1
        until = round(scope.users.percentage / 100 * BUCKETS)
        matches.append({"name": f"{USER_HEADER}-{number}", "range_match": {"start": 0, "end": until}})
    return matches


def path_match(scope: Scope) -> dict[str, Any]:
    """A route's own specifier of paths, which leaves out the query; a matcher of `:path` would not."""
    path = scope.path
    if path is None:
        return {"prefix": "/"}
    if path.regex is not None:
        return {"safe_regex": {"regex": path.regex}}
    return {"prefix": path.prefix} if path.prefix is not None else {"path": path.exact}


def _string_match(match: HeaderMatch) -> dict[str, Any]:
    if match.present:
        return {"present_match": True}
    if match.regex is not None:
        return {"string_match": {"safe_regex": {"regex": match.regex}}}
    return {"string_match": {"prefix": match.prefix} if match.prefix is not None else {"exact": match.exact}}


def user_key(one: Laid) -> str:
    """By what it picks its users: faults of one key share a header. Empty where it picks none."""
    users = one.scope.users
    if users is None:
        return ""
    return f"{'header' if users.header else 'cookie'} {users.header or users.cookie} {one.change.salt}"
