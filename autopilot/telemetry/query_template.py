"""Queries of the user's own, with the rollout's names filled in."""

from __future__ import annotations

import re

from autopilot.spec.canary import CanaryArms
from autopilot.spec.values.arms import name_of

_PLACE = re.compile(r"\{\{ *(service|namespace|stable|canary) *\}\}")


def filled(query: str, namespace: str, service: str, arms: CanaryArms) -> str:
    """The query with `{{service}}`, `{{namespace}}`, `{{stable}}` and `{{canary}}` replaced; anything else stays.

    Names of Kubernetes mean nothing in any of PromQL's quotes and regular expressions; and what is filled in is never
    looked at again, so that a name cannot ask for another.
    """
    names = {"service": service, "namespace": namespace, "stable": name_of(arms.stable), "canary": name_of(arms.canary)}
    return _PLACE.sub(lambda place: names[place.group(1)], query)
