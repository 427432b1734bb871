"""What a rule of a VirtualService says of how a request is carried, in Envoy's words.

An overlay's route stands beside the one that Istio makes, so it must treat a request alike but for where it goes.
Faults and CORS need nothing: their filters run before ours, on the user's own route. What cannot be said here is
refused, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object

_CARRIED = frozenset({"name", "match", "route", "timeout", "retries", "headers", "fault", "corsPolicy"})
_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_CODES = "retriable-status-codes"
_PREDICATE = "envoy.retry_host_predicates.previous_hosts"
_PREDICATE_TYPE = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_PRIORITY = "envoy.retry_priorities.previous_priorities"
_PRIORITY_TYPE = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|us|µs|ns|m|s)")


def carriage(rule: Object, what: str) -> tuple[Object, Object]:
    """The fields of Envoy's route, and of its action, that say how the rule carries a request.

    Args:
        rule: one entry of a VirtualService's `http`.
        what: names the rule for people.

    Raises:
        InvalidChange: it says what an overlay's route cannot.
    """
    if unknown := sorted(key for key, value in rule.items() if value and key not in _CARRIED):
        raise InvalidChange(
            f"{what} has {', '.join(unknown)}, which driver envoyfilter cannot carry over; use driver plain"
        )
    timeout = duration(rule.get("timeout") or "0s")
    action: Object = {"timeout": timeout, "max_grpc_timeout": timeout}
    if (policy := _retries(rule.get("retries"))) is not None:
        action["retry_policy"] = policy
    return header_operations(rule.get("headers"), what), action


def duration(text: str) -> str:
    """A duration as Go writes it (`1m30s`, `100ms`) as protobuf does: decimal seconds.

    Raises:
        InvalidChange: it is none.
    """
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise InvalidChange(f"{text!r} is not a duration")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    whole = f"{seconds:.9f}".rstrip("0").rstrip(".")
    return f"{whole}s"


def header_operations(headers: Mapping[str, Any] | None, what: str) -> Object:
    """What is done to headers, of requests and of responses.

    Raises:
        InvalidChange: the authority is rewritten.
    """
    found: Object = {}
    for side in ("request", "response"):
        said = (headers or {}).get(side) or {}
        if any(_rewrites(name) for how in ("set", "add") for name in said.get(how) or {}):
            raise InvalidChange(
                f"{what} rewrites the Host header, which driver envoyfilter cannot carry over; use driver plain"
            )
        added = [
            {"header": {"key": name, "value": value}, "append_action": action}
            for how, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
            for name, value in sorted((said.get(how) or {}).items())
        ]
        if added:
            found[f"{side}_headers_to_add"] = added
        if removed := [name for name in said.get("remove") or [] if not _rewrites(name)]:
            found[f"{side}_headers_to_remove"] = removed
    return found


def _rewrites(name: str) -> bool:
    return name.startswith(":") or name.lower() == "host"


def _retries(said: Mapping[str, Any] | None) -> Object | None:
    """Istio's retry policy; None where it is switched off."""
    previous = [{"name": _PREDICATE, "typed_config": {"@type": _PREDICATE_TYPE}}]
    policy: Object = {
        "num_retries": 2,
        "retry_on": _RETRY_ON,
        "host_selection_retry_max_attempts": 5,
        "retry_host_predicate": previous,
    }
    if said is None:
        return policy
    if int(said.get("attempts") or 0) <= 0:
        return None
    policy["num_retries"] = int(said["attempts"])
    if conditions := said.get("retryOn"):
        named = [part.strip() for part in str(conditions).split(",") if part.strip()]
        codes = [int(part) for part in named if part.isdigit()]
        words = [part for part in named if not part.isdigit()]
        if codes:
            policy["retriable_status_codes"] = codes
            words += [] if _CODES in words else [_CODES]
        policy["retry_on"] = ",".join(words)
    if said.get("perTryTimeout"):
        policy["per_try_timeout"] = duration(said["perTryTimeout"])
    if said.get("retryIgnorePreviousHosts") is False:
        del policy["retry_host_predicate"]
    if said.get("retryRemoteLocalities"):
        priority = {"@type": _PRIORITY_TYPE, "update_frequency": 2}
        policy["retry_priority"] = {"name": _PRIORITY, "typed_config": priority}
    if said.get("backoff"):
        policy["retry_back_off"] = {"base_interval": duration(said["backoff"])}
    return policy
