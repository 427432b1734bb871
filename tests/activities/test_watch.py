"""What a watch does besides judging: it keeps its lease alive, gives it up, says when it is blind, hands over."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.testing import ActivityEnvironment

from activities.canary.activities import TelemetryActivities
from activities.contracts.operation import CountRequest, WatchBeat, WatchRequest, WatchResult
from activities.temporal_health import TemporalHealth
from autopilot.evidence.model import Advance, Harm, Inconclusive, StepRule
from autopilot.evidence.tick_codec import unpack
from autopilot.mesh.errors import InvalidChange, LeaseLost, MeshUnavailable
from autopilot.mesh.leases.overrides import LeaseOrders
from autopilot.mesh.model import Aspect, Holder, Lease, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.spec.canary import Analysis, CanaryArms
from autopilot.telemetry import unproxied_requests
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Arrivals, Observation, Subject, TelemetryError
from tests.telemetry.fakes import ScriptedSource, counters, sample, seen

TARGET = Target(mesh="local", namespace="shop", service="reviews")
ARMS = CanaryArms(stable="v1", canary="v2")


@dataclass
class Mesh:
    """A mesh that only counts what a watch does to its lease."""

    renewed: int = 0
    condemned: list[str] = field(default_factory=list)
    refuses: Exception | None = None
    endpoints: dict[str, int] = field(default_factory=lambda: {"v1": 2, "v2": 2})

    async def renew(self, lease: Lease) -> LeaseOrders:
        if self.refuses is not None:
            raise self.refuses
        self.renewed += 1
        return LeaseOrders()

    async def condemn(self, lease: Lease, reason: str) -> None:
        self.condemned.append(reason)

    async def ready(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        return {arm: self.endpoints[arm] for arm in arms if arm in self.endpoints}


def traffic(errors: float = 0.0) -> Any:
    """100 requests a poll, a tenth of them to v2, of which a share fails."""

    def script(number: int, subject: Subject) -> Observation:
        done = 10.0 * number
        both = (sample("v1", time.time(), counters(9 * done)), sample("v2", time.time(), counters(done, errors * done)))
        return seen(time.time(), *both, subject=subject)

    return script


def silence(number: int, subject: Subject) -> Observation:
    raise TelemetryError("the proxies at 127.0.0.1:9901 do not answer; are they running?")


def request(*, ttl: float = 5, hold: float = 1, **more: Any) -> WatchRequest:
    lease = Lease(
        target=TARGET,
        aspects=(Aspect.TRAFFIC,),
        holder=Holder(operation="canary/a", fencing=1),
        ttl=ttl,
        max_unattended=ttl,
    )
    analysis = {
        "tick": 0.5, "warmup": 0, "noData": {"after": 1}, "metrics": [{"type": "errorRate"}],
        "detectAbsolute": 0.5, "dispersion": 1,
    }  # fmt: skip
    given = {
        "lease": lease,
        "target": TARGET,
        "name": "reviews",
        "arms": ARMS,
        "analysis": Analysis.model_validate(analysis),
        "rule": StepRule(hold=hold, min_requests=1, limit=60),
        "weight": 10,
        "step": 1,
    }
    return WatchRequest.model_validate({**given, **more})


@dataclass
class Bench:
    """One activity in Temporal's own test environment, which can cancel it and stop its worker."""

    script: Any
    mesh: Mesh = field(default_factory=Mesh)
    health: TemporalHealth = field(default_factory=TemporalHealth)
    environment: ActivityEnvironment = field(default_factory=ActivityEnvironment)
    beats: list[WatchBeat] = field(default_factory=list)
    interval: float | None = None
    queries: Any = None

    async def watch(self, asked: WatchRequest) -> WatchResult:
        self.environment.on_heartbeat = lambda *details: self.beats.append(details[0])
        async with Hub(ScriptedSource(self.script, interval=self.interval)) as hub:
            meshes = Meshes({"local": AttachedMesh(mesh=self.mesh, proxies=hub, queries=self.queries)})  # type: ignore[arg-type]
            activities = TelemetryActivities(meshes, self.health)
            async with asyncio.timeout(20):
                return await self.environment.run(activities.watch, asked)


async def test_a_held_step_advances_its_lease_renewed_and_its_ticks_kept() -> None:
    bench = Bench(traffic())
    result = await bench.watch(request())
    assert isinstance(result.verdict, Advance)
    assert bench.mesh.renewed >= 2
    assert len(unpack(result.ticks)) >= 2
    assert result.progress.measured == pytest.approx(10)
    assert bench.beats[-1].state == result.state


async def test_harm_condemns_the_lease_before_it_is_told() -> None:
    bench = Bench(traffic(errors=1.0))
    result = await bench.watch(request(hold=60))
    assert isinstance(result.verdict, Harm)
    assert bench.mesh.condemned == [result.verdict.reason]


async def test_a_canary_without_endpoints_is_harm_whatever_its_requests_say() -> None:
    bench = Bench(traffic(), Mesh(endpoints={"v1": 2, "v2": 0}))
    result = await bench.watch(request(hold=60))
    assert isinstance(result.verdict, Harm)
    assert re.fullmatch(
        r"v2 has no ready endpoint \(none was seen in the last \d s\) while it is set to 10 %", result.verdict.reason
    )
    assert result.verdict.evidence
    assert bench.mesh.condemned == [result.verdict.reason]


async def test_a_canary_without_endpoints_is_harm_while_telemetry_is_silent_and_a_person_is_asked() -> None:
    result = await Bench(silence, Mesh(endpoints={"v1": 2, "v2": 0})).watch(request(hold=60, patient=True))
    assert isinstance(result.verdict, Harm)


async def test_a_stable_version_without_endpoints_is_no_harm_of_the_canary() -> None:
    result = await Bench(traffic(), Mesh(endpoints={"v1": 0, "v2": 2})).watch(request(hold=3))
    assert isinstance(result.verdict, Advance)


async def test_a_lost_lease_ends_the_watch() -> None:
    bench = Bench(traffic(), Mesh(refuses=LeaseLost("somebody lifted it")))
    result = await bench.watch(request(hold=60))
    assert result.verdict == Inconclusive(cause="leaseLost", reason="somebody lifted it")


async def test_a_mesh_that_does_not_answer_for_a_moment_ends_nothing() -> None:
    bench = Bench(traffic(), Mesh(refuses=MeshUnavailable("busy")))
    assert isinstance((await bench.watch(request())).verdict, Advance)


async def test_where_temporal_is_gone_the_lease_is_left_to_run_out() -> None:
    bench = Bench(traffic())
    bench.health._answered -= 1000
    assert isinstance((await bench.watch(request(temporal_grace=120))).verdict, Advance)
    assert bench.mesh.renewed == 0


def bypassed(number: int, subject: Subject) -> Observation:
    """30 requests/s reach v2 that no proxy has sent; the arms' own shares are as they were set."""
    at = time.time()
    seen = traffic()(number, subject)
    received = {"reviews-v2": 10.0 * number + 15 * number}
    return dataclasses.replace(seen, arrivals=(Arrivals("v2", at, received, {"web": 10.0 * number}),))


async def test_what_passes_no_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unproxied_requests, "SETTLE", 0.4)
    bench = Bench(bypassed)
    verdict = (await bench.watch(request(hold=60))).verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "split"
    assert re.fullmatch(r"v2 is given (2\d|3\d) requests/s that passed no proxy of this mesh", verdict.reason)
    assert bench.beats[-1].bypass


async def test_a_patient_watch_names_nothing_that_somebody_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unproxied_requests, "SETTLE", 0.4)
    bench = Bench(bypassed)
    running = asyncio.create_task(bench.watch(request(hold=60, patient=True)))
    while len(bench.beats) < 10:
        await asyncio.sleep(0.05)
    bench.environment.cancel()
    assert (await running).verdict == Inconclusive(cause="stopped", reason="the watch was asked to stop")


def three(shares: dict[str, int]) -> Any:
    def script(number: int, subject: Subject) -> Observation:
        arms = (sample(arm, time.time(), counters(share * 20.0 * number)) for arm, share in shares.items())
        return seen(time.time(), *arms, subject=subject)

    return script


async def test_a_baseline_has_a_share_of_its_own_to_keep_to() -> None:
    bench = Bench(three({"v1": 80, "v1~baseline": 10, "v2": 10}))
    asked = request(hold=2, baseline="v1~baseline", since=1.0)
    assert isinstance((await bench.watch(asked)).verdict, Advance)


async def test_a_baseline_that_gets_stables_share_is_named() -> None:
    """The canary's share is as it was set: only who sees three arms sees it."""
    bench = Bench(three({"v1": 60, "v1~baseline": 30, "v2": 10}))
    verdict = (await bench.watch(request(hold=60, baseline="v1~baseline", since=1.0))).verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "split"
    assert verdict.reason.startswith("v1~baseline gets 30.0 % of")


async def test_silence_is_no_verdict_but_its_own_and_says_why() -> None:
    bench = Bench(silence)
    verdict = (await bench.watch(request())).verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert "127.0.0.1:9901" in verdict.reason
    assert bench.mesh.renewed >= 1  # blind, but alive


async def test_nobody_is_called_silent_between_two_scrapes() -> None:
    """A Prometheus that scrapes every half minute says nothing for half a minute."""
    bench = Bench(silence, interval=1.0)
    started = time.monotonic()
    verdict = (await bench.watch(request())).verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert time.monotonic() - started >= 2.0  # the spec alone says 1 s


async def test_a_patient_watch_puts_up_with_silence_until_it_is_stopped() -> None:
    bench = Bench(silence)
    running = asyncio.create_task(bench.watch(request(patient=True)))
    while not bench.beats or bench.beats[-1].progress.silent < 1.2:
        await asyncio.sleep(0.05)
    bench.environment.cancel()
    assert (await running).verdict == Inconclusive(cause="stopped", reason="the watch was asked to stop")


async def test_a_worker_that_stops_is_no_answer() -> None:
    """A result now would be taken for the truth: the watch must fail, to be tried again elsewhere."""
    bench = Bench(traffic())
    running = asyncio.create_task(bench.watch(request(hold=60)))
    while not bench.beats:
        await asyncio.sleep(0.05)
    bench.environment.cancel(cancellation_details=ActivityCancellationDetails(worker_shutdown=True))
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_another_try_goes_on_from_the_last_heartbeat() -> None:
    first = Bench(traffic())
    running = asyncio.create_task(first.watch(request(hold=60)))
    while len(first.beats) < 4:
        await asyncio.sleep(0.05)
    first.environment.cancel()
    stopped = await running
    second = Bench(traffic())
    second.environment.info = _with_heartbeat(second.environment.info, first.beats[-1])
    result = await second.watch(request(hold=3))
    assert isinstance(result.verdict, Advance)
    kept, all_ticks = unpack(stopped.ticks), unpack(result.ticks)
    assert len(kept) >= 2
    assert all_ticks[: len(kept)] == kept
    assert result.progress.requests > stopped.progress.requests


async def test_a_query_needs_a_prometheus_before_anything_is_written() -> None:
    async with Hub(ScriptedSource(traffic())) as hub:
        meshes = Meshes({"local": AttachedMesh(mesh=Mesh(), proxies=hub)})  # type: ignore[arg-type]
        analysis = Analysis.model_validate({"metrics": [{"type": "promql", "name": "ours", "query": "x", "max": 1}]})
        asked = CountRequest(target=TARGET, arms=ARMS, analysis=analysis, queries=True)
        with pytest.raises(InvalidChange, match="metric ours needs Prometheus"):
            await ActivityEnvironment().run(TelemetryActivities(meshes, TemporalHealth()).count, asked)


class Silent:
    """A Prometheus without a value for any query."""

    async def query(self, expression: str) -> float | None:
        return None


QUERY = {"type": "promql", "name": "ours", "query": 'errors{v="{{canary}}"}', "max": 1, "interval": 0.5}


async def test_a_query_without_a_value_ends_the_step_with_its_name() -> None:
    bench = Bench(traffic(), queries=Silent())
    analysis = request().analysis.model_dump(mode="json", by_alias=True) | {"metrics": [{"type": "errorRate"}, QUERY]}
    result = await bench.watch(request(analysis=Analysis.model_validate(analysis)))
    assert isinstance(result.verdict, Inconclusive)
    assert result.verdict.cause == "noData"
    assert 'ours has no data (its query returned no value: errors{v="{{canary}}"})' in result.verdict.reason


class Refusing:
    """A Prometheus that refuses every query."""

    async def query(self, expression: str) -> float | None:
        raise TelemetryError("Prometheus refused it: parse error")


async def test_a_query_that_is_refused_is_named_with_the_refusal() -> None:
    bench = Bench(traffic(), queries=Refusing())
    analysis = request().analysis.model_dump(mode="json", by_alias=True) | {"metrics": [QUERY]}
    verdict = (await bench.watch(request(analysis=Analysis.model_validate(analysis)))).verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert verdict.reason.endswith("; ours: Prometheus refused it: parse error")


async def test_what_has_no_data_is_said_before_anything_is_written() -> None:
    """A query without a value, and requests without a histogram."""
    async with Hub(ScriptedSource(traffic())) as hub:
        attached = AttachedMesh(mesh=Mesh(), proxies=hub, queries=Silent())  # type: ignore[arg-type]
        analysis = Analysis.model_validate({"metrics": [{"type": "errorRate"}, {"type": "latency"}, QUERY]})
        asked = CountRequest(target=TARGET, arms=ARMS, analysis=analysis, queries=True)
        counting = TelemetryActivities(Meshes({"local": attached}), TemporalHealth())
        query, histogram = (await ActivityEnvironment().run(counting.count, asked)).notes
        assert query.startswith("ours has no value now, and no step advances without one: errors{")
        assert re.match(r"v1 has \d+ requests and no latency histogram .*, so latency cannot be judged", histogram)
        assert not (await ActivityEnvironment().run(counting.count, asked.model_copy(update={"queries": False}))).notes


def _with_heartbeat(info: Any, beat: WatchBeat) -> Any:
    return dataclasses.replace(info, heartbeat_details=[beat.model_dump(mode="json")])
