"""What Envoy's cluster counters are called, and how they add up to the two views (read off Envoy 1.40).

A request that is retried leaves, for each failed try, one count in `upstream_rq_retry`, and one in
`retry.upstream_rq_*` if an answer came; its last try, whatever its end, counts in `upstream_rq_completed` and
`upstream_rq_Nxx`: so do connections refused, resets and timeouts, for which Envoy makes up a 503 or 504.
`upstream_rq_total` counts what found a connection, whether it ever ends or not; what did not is in `pending_active` as
long as it waits, and then in `pending_failure_eject` or `cancelled`; what a breaker refused is in `pending_overflow`.

* user view: `completed` and `5xx` as they stand;
* attempt view: requests are `completed + retry`; errors are `5xx` and all retried tries but those that were answered
  otherwise than with a 5xx (`retry.completed - retry.5xx`): a try that was reset leaves nothing else behind.

Requests that hang have begun and are active, and count nowhere else until they end; if their caller leaves first they
never complete. `upstream_rq_time` holds only what was answered in full, once for all tries, retried ones included in
its time. `autopilot.telemetry.inflight_latency` makes up for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from autopilot.telemetry.model import Counters, Door, Subject

PREFIX = "outbound"
FAULT = "~fault-"
"""Parts an arm's own cluster from what tells its stand-ins apart."""
COMPLETED = "upstream_rq_completed"
FAILED = "upstream_rq_5xx"
CLIENT = "upstream_rq_4xx"
RETRIED = "upstream_rq_retry"
RETRY_COMPLETED = "retry.upstream_rq_completed"
RETRY_FAILED = "retry.upstream_rq_5xx"
RETRY_CLIENT = "retry.upstream_rq_4xx"
ACTIVE = "upstream_rq_active"
WAITING = "upstream_rq_pending_active"
TOTAL = "upstream_rq_total"
NEVER_CONNECTED = ("upstream_rq_pending_failure_eject", "upstream_rq_cancelled", "upstream_rq_pending_overflow")
TIME = "upstream_rq_time"
BEGUN = (TOTAL, WAITING, *NEVER_CONNECTED)
"""What tells how many have begun; see `under_way`."""
COUNTED = (
    COMPLETED, FAILED, CLIENT, RETRIED, RETRY_COMPLETED, RETRY_FAILED, RETRY_CLIENT, ACTIVE, WAITING, TOTAL,
    *NEVER_CONNECTED, TIME,
)  # fmt: skip
"""Everything that is read of a cluster."""

_MANY = 40
"""Subjects above which a pattern naming each gets too long for a URL."""


def cluster_of(subject: Subject, arm: str) -> str:
    """The caller-side cluster of one arm."""
    return f"{PREFIX}/{subject.namespace}/{subject.service}/{arm}"


def own_cluster(cluster: str) -> str:
    """The arm's own cluster that a cluster stands in for while a fault is laid; itself where it is one."""
    return cluster.partition(FAULT)[0]


def inbound_pattern(doors: Iterable[Door]) -> str:
    """A regular expression for the clusters of the applications behind these doors; empty without any."""
    return "|".join(re.escape(name) for name in sorted({cluster for door in doors for _, cluster in door.sidecars}))


def cluster_pattern(subjects: Iterable[Subject]) -> str:
    """A regular expression (RE2) for the clusters of all arms of the subjects, without anchors."""
    services = sorted({f"{subject.namespace}/{subject.service}" for subject in subjects})
    inner = "[^/]+/[^/]+" if len(services) > _MANY else "|".join(map(re.escape, services))
    return f"{PREFIX}/({inner})/[^/.]+"


def arms_pattern(subject: Subject) -> str:
    """The same for the clusters of one subject's own arms alone."""
    arms = "|".join(re.escape(arm) for arm in subject.arms)
    return f"{PREFIX}/{re.escape(subject.namespace)}/{re.escape(subject.service)}/({arms})"


def views(
    values: Mapping[str, float], buckets: Sequence[tuple[float, float]], timed: float
) -> tuple[Counters, Counters]:
    """Attempt view and user view of one cluster, from its counters by name; buckets in seconds, cumulative."""
    completed, failed, retried = (values.get(name, 0.0) for name in (COMPLETED, FAILED, RETRIED))
    answered_well = values.get(RETRY_COMPLETED, 0.0) - values.get(RETRY_FAILED, 0.0)
    # A class that was never counted has no counter: a proxy that counts at all tells client errors.
    client = values.get(CLIENT, 0.0)
    attempt = Counters(
        requests=completed + retried,
        errors=failed + max(0.0, retried - max(0.0, answered_well)),
        timed=timed,
        buckets=tuple(buckets),
        client_errors=client + values.get(RETRY_CLIENT, 0.0),
    )
    user = Counters(requests=completed, errors=failed, timed=timed, buckets=tuple(buckets), client_errors=client)
    return attempt, user


def under_way(values: Mapping[str, float]) -> tuple[float, float | None]:
    """Tries under way, and tries begun since the counters began; None where `upstream_rq_total` is not known."""
    waiting = values.get(WAITING, 0.0)
    begun = None
    if (total := values.get(TOTAL)) is not None:
        begun = total + waiting + sum(values.get(name, 0.0) for name in NEVER_CONNECTED)
    return values.get(ACTIVE, 0.0) + waiting, begun
