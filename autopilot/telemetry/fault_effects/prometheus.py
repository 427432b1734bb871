"""A witness that reads what Istio's proxies say of each request to a Prometheus: by response flags.

A request that a proxy delayed has the flag DI, one that it aborted FI; a timeout UT, a connection that failed UF, UC or
UH. Envoy's own counters say the same, but Istio exports them only where somebody asks it to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autopilot.telemetry.dialects.istio import REQUESTS
from autopilot.telemetry.fault_effects.port import Counted, Hop, Mark
from autopilot.telemetry.model import Subject
from autopilot.telemetry.prometheus.source import PrometheusSource

_FLAGS = {
    "delay": "DI",
    "abort": "FI",
    "grpcAbort": "FI",
    "timeout": "UT",
    "partition": "(UF|UC|UH|URX)",
}
"""By kind of fault: the response flag of its requests at their callers' proxies."""
_LAG = 15.0
"""Seconds between two scrapes, where nobody knows yet: what Prometheus' own defaults come to."""


class PrometheusFaultEffects:
    """Sees by one Prometheus.

    Args:
        source: the Prometheus.
    """

    def __init__(self, source: PrometheusSource) -> None:
        self._source = source

    @property
    def lag(self) -> float:
        """Seconds until what happens now can be seen."""
        return 1.5 * (self._source.interval or _LAG)

    def seen_by(self, subject: Subject, mark: Mark) -> str:  # noqa: ARG002 - the same for all
        """What shows that this fault takes effect; nothing shows that of another number of retries."""
        flag = _FLAGS.get(mark.kind, "")
        return f"requests with response flag {flag.strip('()').replace('|', ', ')} at their callers" if flag else ""

    async def effects(self, subject: Subject, marks: Sequence[Mark]) -> list[Counted]:
        """What each fault has met so far."""
        of = await self._counted(subject)
        return [Counted(met=await self._counted(subject, _FLAGS.get(mark.kind, "none")), of=of) for mark in marks]

    async def hops(self, subjects: Sequence[Subject]) -> list[Hop]:
        """What callers, and the services themselves, have counted: tries are what arrived."""
        found = []
        for subject in subjects:
            requests = await self._counted(subject)
            tries = await self._counted(subject, reporter="destination")
            failures = await self._counted(subject, codes="(5..|0)")
            ref = f"{subject.namespace}/{subject.service}"
            found.append(Hop(caller="its callers", service=ref, requests=requests, tries=tries, failures=failures))
        return found

    async def close(self) -> None:
        """The source is closed by whoever made it."""

    async def _counted(
        self, subject: Subject, flags: str = "", *, reporter: str = "source", codes: str = ""
    ) -> Mapping[str, float]:
        """Newest values of the matching series, by their labels."""
        matchers = [
            f'reporter="{reporter}"',
            f'destination_service_name="{subject.service}"',
            f'destination_service_namespace="{subject.namespace}"',
        ]
        if flags:
            matchers.append(f'response_flags=~"(.*,)?{flags}(,.*)?"')
        if codes:
            matchers.append(f'response_code=~"{codes}"')
        return await self._source.vector(f"{REQUESTS}{{{','.join(matchers)}}}")
