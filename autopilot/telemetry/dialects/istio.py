"""Istio's standard metrics (labels read off the statistics filter of its proxy; they are Istio 1.5's and have stayed).

A request counts once when it ends, by `response_code`, `grpc_response_status` and `response_flags`. An error is:

* a 5xx;
* response code 0: no answer began. Istio has no counter of what is under way, so a caller that gave up waiting (flag
  DC) is the only trace of a version that hangs; callers that leave for reasons of their own do so on both arms;
* for gRPC, which answers 200 whatever happens, one of the listed statuses.

A client error is a 4xx, or a gRPC status that stands for one. Of the errors those with code 0 and flag DC are told
apart: the caller left before an answer began.

**Who is believed.** `reporter="source"` is the caller's sidecar or gateway, `"destination"` the sidecar of the version,
`"waypoint"` a proxy of ambient mode before all versions. An arm is told of by its waypoint; else by sources, where any
says a word; else by the destination; never by two of them added (see `told`). Sources come before the destination
since they alone see what never arrives or breaks on the way: a version that crashes tells of none of its failures.
The price is paid where callers are mixed: those without a sidecar are seen by the destination alone, and as soon as
one caller has a sidecar they are not judged. Adding them by name would be a guess, for the destination calls both
kinds `unknown` where metadata is not exchanged. So nothing is made up: the reading says that the destination saw more,
and `reporters=("destination", "source")` turns the order round. Where no caller has a sidecar (or none is scraped),
the destination tells of all.

**Both views are what that one teller counts.** Sources count a request once, after its retries: that is the user view,
and the attempt view too, though a failure which a retry made good is in it nowhere. Destinations count every attempt
that arrived. An attempt view put together from both would be sharper on retried 503s and blind to crashes: that a
version does harm must not hang on its own last words. Whoever retries much and wants attempts judged puts the
destination first.

**Whose it is.** Of a request for which no endpoint was found (flag UH) the source names the service but neither
workload, version nor namespace; of one that could not connect (UF) it names the workload, but no version. So select by
workload rather than by version, and by a Service of each arm's own where there is one: then nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from autopilot.spec.values.arms import name_of
from autopilot.telemetry.arms import ArmSelector, Resolver, named, narrowed
from autopilot.telemetry.dialects import grpc
from autopilot.telemetry.dialects import reporters as told
from autopilot.telemetry.dialects.dialect import Matrix, Reading
from autopilot.telemetry.dialects.envoy import BOUNDS
from autopilot.telemetry.model import SeriesSample, Subject

REQUESTS = "istio_requests_total"
BUCKET = "istio_request_duration_milliseconds_bucket"
REPORTERS = ("waypoint", "source", "destination")

_OWN = ("reporter", "source_", "destination_", "request_protocol", "connection_security_policy")
_OUTCOME = frozenset({"response_code", "response_flags", "grpc_response_status"})
_LEFT = "DC"
_GRPC_CLIENT = frozenset(map(str, grpc.CLIENT))
_UNSEEN = "from callers without a sidecar, or retries"


def arms_by_name(subject: Subject) -> dict[str, ArmSelector]:
    """Arms by what they are called: a Service, a workload `service-arm` or `arm`, or the subset `version: arm`.

    A host outside the cluster has no workloads: all of its requests are those of the arm that bears its name.
    """
    place = {"destination_service_namespace": subject.namespace}
    found = {}
    for arm in subject.arms:
        if arm == subject.service and "." in arm:
            found[arm] = ArmSelector.of({**place, "destination_service_name": arm})
            continue
        name = name_of(arm)
        own = [{**place, "destination_service_name": name}] if name != subject.service else []
        found[arm] = ArmSelector.of(
            {**place, "destination_workload": f"{subject.service}-{name}"},
            {**place, "destination_workload": name},
            {**place, "destination_service_name": subject.service, "destination_version": name},
            *own,
        )
    return found


class Istio:
    """The dialect.

    Args:
        arms: which series are whose. Where every alternative of every arm names a label, the query asks for its values
            alone: with workloads throughout, an answer holds nothing else.
        reporters: who is believed, the most trusted first.
        grpc_failures: gRPC statuses that are errors; see `grpc` for why these.
    """

    def __init__(
        self,
        arms: Resolver = arms_by_name,
        *,
        reporters: Sequence[str] = REPORTERS,
        grpc_failures: Collection[int] = grpc.FAILURES,
    ) -> None:
        self._grpc_failures = frozenset(map(str, grpc_failures))
        self._language = told.Language(
            tellers=tuple(reporters), meaning=self._meaning, own=_OWN, outcome=_OUTCOME, arms=arms, unseen=_UNSEEN
        )

    @property
    def histograms(self) -> Mapping[str, Sequence[float]]:
        """See `Dialect.histograms`; Istio's proxies are Envoys."""
        return {BUCKET.removesuffix("_bucket"): BOUNDS}

    def metrics(self, *, latency: bool = True) -> tuple[str, ...]:
        """See `Dialect.metrics`."""
        return (REQUESTS, BUCKET) if latency else (REQUESTS,)

    def selector(
        self, subjects: Sequence[Subject], window: float, *, latency: bool = True, strict: bool = False, name: str = ""
    ) -> str:
        """See `Dialect.selector`; always the subjects' own arms alone, as far as their selectors say."""
        del strict
        selectors = [one for subject in subjects for one in self._language.arms(subject).values()]
        matchers = {
            "__name__": named(self.metrics(latency=latency)),
            "reporter": named(self._language.tellers),
            **narrowed([each for one in selectors for each in one.alternatives]),
        }
        return told.written(matchers, window, name)

    def newest(self, result: Matrix, subjects: Sequence[Subject]) -> list[Reading]:
        """See `Dialect.newest`."""
        return told.newest(self._language, result, subjects)

    def history(self, result: Matrix, subject: Subject) -> dict[str, list[SeriesSample]]:
        """See `Dialect.history`."""
        return told.history(self._language, result, subject)

    def _meaning(self, labels: Mapping[str, str]) -> told.Meaning | None:
        reporter = labels.get("reporter", "")
        if reporter not in self._language.tellers:
            return None
        if labels["__name__"] == BUCKET:
            bound = float(labels["le"]) / 1000
            return None if math.isnan(bound) else told.Meaning(reporter, bound=bound)
        code = labels.get("response_code")
        if labels["__name__"] != REQUESTS or code is None:
            return None
        spoken = labels.get("request_protocol") == "grpc"
        failed = code == "0" or code.startswith("5")
        status = labels.get("grpc_response_status", "") if spoken else ""
        failed = failed or status in self._grpc_failures
        client = not failed and (code.startswith("4") or status in _GRPC_CLIENT)
        aborted = code == "0" and _LEFT in labels.get("response_flags", "").split(",")
        return told.Meaning(reporter, failed=failed, client=client, aborted=aborted)
