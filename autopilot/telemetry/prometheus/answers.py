"""What a store's answer is worth: whether it is whole, and what a refusal means.

Stores that gather from several places (Thanos, Mimir, VictoriaMetrics) may answer 200 with a part of the data, and say
so in a field that is easily overlooked. Sums of such an answer are too low, so that a failing canary looks healthy:
it is no data. Prometheus itself uses the same field for remarks on an expression, and those marked as information do
not say that anything is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autopilot.telemetry.model import TelemetryError

_REMARK = "PromQL info:"
"""Beginning of what Prometheus remarks on an expression; versions before `infos` put it among the warnings."""
_MOST = 3
_LONGEST = 300
"""Characters of what a store says that are repeated: messages are part of a rollout's timeline."""


class QueryRefused(TelemetryError):
    """The store does not evaluate such an expression."""


class Unauthorized(TelemetryError):
    """The store wants other credentials, or a tenant."""


class Unreachable(TelemetryError):
    """There was no answer at all."""


def incomplete(body: Mapping[str, Any]) -> str:
    """What an answer says of data that it lacks; empty where it is whole.

    Args:
        body: the JSON of an answer with status 200.
    """
    warnings = body.get("warnings") or []
    told = [str(each) for each in (warnings if isinstance(warnings, list) else [warnings])]
    told = [short(each) for each in told if not each.startswith(_REMARK)]
    if body.get("isPartial") is True:  # VictoriaMetrics
        told.append("isPartial: true")
    more = f"; and {len(told) - _MOST} more" if len(told) > _MOST else ""
    return "; ".join(told[:_MOST]) + more


def refusal(name: str, expression: str, status: int, said: str, *, where: str = "") -> TelemetryError:
    """The error for an answer whose status is not 200.

    Args:
        name: the store, for the message.
        expression: what was asked.
        status: of HTTP.
        said: what the store says, without secrets.
        where: the address of a redirection.
    """
    answered = f"{status} ({said})"
    match status:
        case 400:
            error: TelemetryError = QueryRefused(f"{name} refused {expression!r}: {said}; check the query")
        case 422:
            error = QueryRefused(
                f"{name} could not evaluate {expression!r}: {said}; check the query, and the store's health and limits"
            )
        case 401 | 403:
            error = Unauthorized(
                f"{name} answered {answered}: it wants credentials or a tenant, or others than it was sent; set "
                "spec.prometheus in the mesh file, or AUTOPILOT_PROMETHEUS_TOKEN, _USER and _PASSWORD, or _HEADERS"
            )
        case 404 | 405:
            error = TelemetryError(
                f"{name} has no query API: {answered}; check that the address is a Prometheus' base URL, with its path "
                "(what comes before /api/v1/query, such as /prometheus)"
            )
        case 429:
            error = TelemetryError(
                f"{name} limits queries: {answered}; raise the limit, or make `analysis.tick` longer"
            )
        case _ if 300 <= status < 400:
            error = TelemetryError(
                f"{name} redirects to {short(where) or 'another address'}, which is not followed, because it would get "
                "the credentials; give that address, or the credentials that a login page there asks for"
            )
        case _:
            error = TelemetryError(f"{name} could not answer: {answered}; check the store and what is in front of it")
    return error


def said_in(content: bytes) -> str:
    """What the body of a refusal says: the `error` of Prometheus' format, else its text."""
    try:
        body = json.loads(content)
        told = body["error"]
        if isinstance(told, dict):  # Google's APIs
            told = told["message"]
    except (ValueError, KeyError, TypeError):
        told = content[: 4 * _LONGEST].decode("utf-8", "replace")
    return short(str(told)) or "without an explanation"


def short(text: str) -> str:
    """The text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
