"""What Envoy's cluster counters are called, and how they add up to the two views (read off Envoy 1.40).

A request that is retried leaves, for each failed try, one count in `upstream_rq_retry`, and one in
`retry.upstream_rq_*` if an answer came; its last try, whatever its end, counts in `upstream_rq_completed` and
`upstream_rq_Nxx`: so do connections refused, resets and timeouts, for which Envoy makes up a 503 or 504.
`upstream_rq_total` counts nothing that found no connection.

* user view: `completed` and `5xx` as they stand;
* attempt view: requests are `completed + retry`; errors are `5xx` and all retried tries but those that were answered
otherwise
  than with a 5xx (`retry.completed - retry.5xx`): a try that was reset leaves nothing else behind.

Requests that hang count nowhere until they end, and `upstream_rq_time` holds only those that were answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from autopilot.telemetry.model import Counters, Subject

PREFIX = "outbound"
COMPLETED = "upstream_rq_completed"
FAILED = "upstream_rq_5xx"
RETRIED = "upstream_rq_retry"
RETRY_COMPLETED = "retry.upstream_rq_completed"
RETRY_FAILED = "retry.upstream_rq_5xx"
ACTIVE = "upstream_rq_active"
TIME = "upstream_rq_time"
COUNTED = (COMPLETED, FAILED, RETRIED, RETRY_COMPLETED, RETRY_FAILED, ACTIVE, TIME)
"""Everything that is read of a cluster."""

_MANY = 40
"""Subjects above which a pattern naming each gets too long for a URL."""


def cluster_of(subject: Subject, arm: str) -> str:
    """The caller-side cluster of one arm."""
    return f"{PREFIX}/{subject.namespace}/{subject.service}/{arm}"


def cluster_pattern(subjects: Iterable[Subject]) -> str:
    """A regular expression (RE2) for the clusters of all arms of the subjects, without anchors."""
    services = sorted({f"{subject.namespace}/{subject.service}" for subject in subjects})
    inner = "[^/]+/[^/]+" if len(services) > _MANY else "|".join(map(re.escape, services))
    return f"{PREFIX}/({inner})/[^/.]+"


def views(
    values: Mapping[str, float], buckets: Sequence[tuple[float, float]], timed: float
) -> tuple[Counters, Counters]:
    """Attempt view and user view of one cluster, from its counters by name; buckets in seconds, cumulative."""
    completed, failed, retried = (values.get(name, 0.0) for name in (COMPLETED, FAILED, RETRIED))
    answered_well = values.get(RETRY_COMPLETED, 0.0) - values.get(RETRY_FAILED, 0.0)
    attempt = Counters(
        requests=completed + retried,
        errors=failed + max(0.0, retried - max(0.0, answered_well)),
        timed=timed,
        buckets=tuple(buckets),
    )
    return attempt, Counters(requests=completed, errors=failed, timed=timed, buckets=tuple(buckets))
