"""Queries of the user's own, with the rollout's names filled in."""

from __future__ import annotations

from autopilot.spec.canary import CanaryArms


def filled(query: str, namespace: str, service: str, arms: CanaryArms) -> str:
    """The query with `{{service}}`, `{{namespace}}`, `{{stable}}` and `{{canary}}` replaced; anything else stays."""
    names = {"service": service, "namespace": namespace, "stable": arms.stable, "canary": arms.canary}
    for name, value in names.items():
        query = query.replace("{{" + name + "}}", value).replace("{{ " + name + " }}", value)
    return query
