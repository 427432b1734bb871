"""What a rollout knows before it begins: learned where there is something to learn from, and never waited for."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from temporalio.testing import ActivityEnvironment

from activities.canary import history_baseline
from activities.canary.activities import TelemetryActivities
from activities.canary.exclusion_windows import spans
from activities.canary.history_baseline import learn
from activities.contracts.operation import Learned, LearnRequest
from activities.temporal_health import TemporalHealth
from autopilot.evidence import canary
from autopilot.evidence.configuration import boundaries_of, judge_from, with_boundaries
from autopilot.evidence.model import ArmTick, Judge, StepRule, Tick
from autopilot.evidence.state import JudgeState
from autopilot.evidence.tick_codec import pack, rounded
from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.errors import MeshError
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import InjectFault, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryReport, StepReport, WatchRecord
from autopilot.spec.canary import Analysis, CanaryArms
from autopilot.spec.chaos.faults import Abort
from autopilot.spec.chaos.scope import Scope
from autopilot.telemetry.model import Counters, Observation, SeriesSample, Subject, TelemetryError
from starter.client.replay import rejudge

ARMS = CanaryArms(stable="v1", canary="v2")
REQUEST = LearnRequest(
    target=Target(mesh="local", namespace="shop", service="reviews"), arms=ARMS, analysis=Analysis(warmup=0)
)
FOLLOWING = with_boundaries(REQUEST.analysis, (0.05, 0.25, 10.0))
"""With the boundaries that the latency of `Past` asks for."""
JUDGE = judge_from(FOLLOWING)


class Past:
    """A history of stable alone, whose failures come in so many at once."""

    def __init__(self, *, seconds: int = 1800, cluster: int = 1, every: float = 1.0, wrong: Exception | None = None):
        self.seconds, self.cluster, self.every, self.wrong = seconds, cluster, every, wrong
        self.asked: list[tuple[Subject, float, bool]] = []

    async def history(self, subject: Subject, seconds: float, *, latency: bool = True) -> list[Observation]:
        self.asked.append((subject, seconds, latency))
        if self.wrong is not None:
            raise self.wrong
        rng = np.random.default_rng(7)
        requests = errors = slow = 0.0
        looks = []
        for at in np.arange(0.0, self.seconds, self.every):
            requests += 100 * self.every
            errors += self.cluster * rng.poisson(0.5 * self.every / self.cluster)
            slow += rng.poisson(1.5 * self.every)
            buckets = (
                (0.05, requests - 2 * slow), (0.1, requests - slow), (0.25, requests - slow / 5), (10.0, requests),
            )  # fmt: skip
            seen = Counters(requests=requests, errors=errors, timed=requests, buckets=buckets)
            sample = SeriesSample(series="web|v1", arm="v1", time=at, started=None, attempt=seen, user=seen)
            looks.append(Observation(subject=subject, time=at, samples=(sample,)))
        return looks


def phi_of(found: Learned) -> float:
    """Of errors, at the first tick of a rollout."""
    tick = Tick(time=1, seconds=1, canary=arm(10, 0), stable=arm(90, 0))
    first, _ = canary.update(JUDGE, StepRule(hold=60, min_requests=0, limit=None), remembered(found), tick)
    return float(canary.evidence(JUDGE, first)[0].phi or 0.0)


def arm(requests: float, errors: float) -> ArmTick:
    return ArmTick(requests=requests, errors=errors, timed=requests, slow=(0.0,) * len(boundaries_of(FOLLOWING)))


def remembered(found: Learned, judge: Judge = JUDGE) -> JudgeState:
    return canary.begin_step(judge, JudgeState.model_validate_json(found.state))


async def test_half_an_hour_tells_how_failures_cluster():
    source = Past(cluster=1)
    found = await learn(source, REQUEST)
    assert phi_of(found) == pytest.approx(1.15, abs=0.15)
    assert found.note.startswith("learned from the last 29m59s of v1: errors: ")
    assert "one by one, 1.1" in found.note
    assert source.asked == [(Subject("local", "shop", "reviews", ("v1", "v2")), 1800.0, True)]
    clustered = await learn(Past(cluster=5), REQUEST)
    assert phi_of(clustered) == pytest.approx(5, rel=0.3)
    assert "in clusters" in clustered.note
    assert len(clustered.state) < 20_000


@pytest.mark.parametrize("every", [15.0, 60.0])
async def test_a_prometheus_that_scrapes_seldom_will_do(every: float):
    found = await learn(Past(cluster=5, every=every), REQUEST)
    assert 4 < phi_of(found) < 12  # few windows: the bound is wider


async def test_too_few_failures_are_said_to_be():
    found = await learn(Past(seconds=10), REQUEST)
    assert "too few to measure how they cluster" in found.note
    assert phi_of(found) == pytest.approx(3.0)


async def test_what_is_learned_is_no_evidence():
    """It behaves as a fresh start that knows phi: through JSON, and through the beginning of a step."""
    found = await learn(Past(), REQUEST)
    kept = remembered(found)
    assert kept == JudgeState.model_validate_json(found.state)
    fresh = canary.start(JUDGE)
    bare = kept.model_copy(update={"metrics": tuple(one.model_copy(update={"clusters": None}) for one in kept.metrics)})
    assert bare == fresh


async def test_without_latency_metrics_no_histogram_is_asked_for():
    source = Past()
    analysis = Analysis.model_validate({"metrics": [{"type": "errorRate"}]})
    found = await learn(source, REQUEST.model_copy(update={"analysis": analysis}))
    assert found.state
    assert source.asked[0][2] is False


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (None, "this worker has no Prometheus (start it with --prometheus URL)"),
        (Past(wrong=TelemetryError("Prometheus at http://x can't be read")), "Prometheus at http://x can't be read"),
        (Past(seconds=0), "Prometheus has counted no requests to v1"),
        (Past(seconds=1), "Prometheus has counted no requests to v1"),
    ],
)
async def test_nothing_to_learn_from_is_no_failure_and_nothing_is_made_up(source: Past | None, why: str):
    found = await learn(source, REQUEST)
    assert found == Learned(
        note=f"nothing was learned from the time before the rollout: {why}; latency of v1 is compared at 100ms, 250ms, "
        "500ms, 1s, 2.5s, for nothing is known of it"
    )


class Present:
    """Proxies that have counted so many requests of stable since they began, and so many of each of a canary."""

    name = "proxies"

    def __init__(self, requests: float = 1000.0) -> None:
        self.requests = requests

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        buckets = ((0.005, 0.6), (0.01, 0.95), (0.025, 0.995), (0.05, 1.0))
        seen = Counters(
            requests=self.requests,
            timed=self.requests,
            buckets=tuple((bound, share * self.requests) for bound, share in buckets),
        )
        sick = Counters(requests=1e6, timed=1e6, buckets=tuple((bound, 0.0) for bound, _ in buckets))
        samples = tuple(
            SeriesSample(series=f"web|{arm}", arm=arm, time=1.0, started=None, attempt=counted, user=counted)
            for arm, counted in (("v1", seen), ("v2", sick))
        )
        return [Observation(subject=subject, time=1.0, samples=samples) for subject in subjects]

    async def close(self) -> None:
        pass


async def test_latency_is_compared_where_stables_own_lies():
    """From what was seen lately; without a history, from what the proxies have counted."""
    assert (await learn(Past(), REQUEST, now=Present())).boundaries == (0.05, 0.25, 10.0)
    found = await learn(None, REQUEST, now=Present())
    assert found.boundaries == (0.005, 0.01, 0.025, 0.05)
    assert found.note.endswith(
        "latency of v1 is compared at 5ms, 10ms, 25ms, 50ms, the quantiles 50, 90, 99 and 99.9 % of its own"
    )
    assert (await learn(None, REQUEST, now=Present(requests=99))).boundaries == ()


async def test_who_names_boundaries_or_clusters_gets_those():
    named = Analysis.model_validate({"metrics": [{"type": "latency", "boundaries": [0.1]}]})
    found = await learn(Past(), REQUEST.model_copy(update={"analysis": named}), now=Present())
    assert found.boundaries == ()
    assert "compared at" not in found.note
    clustered = Analysis.model_validate({"dispersion": 5})
    found = await learn(None, REQUEST.model_copy(update={"analysis": clustered}), now=Present())
    assert found == Learned(
        boundaries=(0.005, 0.01, 0.025, 0.05),
        note="latency of v1 is compared at 5ms, 10ms, 25ms, 50ms, the quantiles 50, 90, 99 and 99.9 % of its own",
    )


async def test_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch):
    class Slow(Past):
        async def history(self, subject: Subject, seconds: float, *, latency: bool = True) -> list[Observation]:
            await asyncio.sleep(30)
            return []

    monkeypatch.setattr(history_baseline, "PATIENCE", 0.1)
    began = time.monotonic()
    found = await learn(Slow(), REQUEST)
    assert time.monotonic() - began < 2
    assert found.state == ""
    assert "took longer than 100ms" in found.note


class Unaudited:
    """A mesh whose records cannot be read: what was learned is learned all the same."""

    async def audit(self) -> list[AuditRecord]:
        raise MeshError("damaged")


async def test_the_activity_asks_whatever_source_is_watched():
    source: Any = Past()
    mesh: Any = Unaudited()
    proxies: Any = SimpleNamespace(source=Present(), interval=None)
    attached = AttachedMesh(mesh=mesh, proxies=proxies, history=source)
    analysis = REQUEST.analysis.model_copy(update={"source": "mesh"})
    activities = TelemetryActivities(Meshes({"local": attached}), TemporalHealth())
    found = await ActivityEnvironment().run(activities.learn, REQUEST.model_copy(update={"analysis": analysis}))
    assert found.state
    assert len(source.asked) == 1


async def test_a_replay_begins_with_what_was_learned():
    """A rollout whose verdict depends on it: clusters of 5 that would be harm, had nobody known of clusters."""
    found = await learn(Past(cluster=5), REQUEST)
    rule = StepRule(hold=600, min_requests=0, limit=None)
    rows = [
        rounded(Tick(time=at, seconds=1, canary=arm(10, 5 if at in {3, 7} else 0), stable=arm(90, 0)))
        for at in range(12)
    ]

    def judged(state: JudgeState) -> Any:
        return canary.replay(JUDGE, rule, rows, state)[1]

    assert judged(canary.start(JUDGE)) is not None
    verdict = judged(remembered(found))
    assert verdict is None
    harmful: Callable[[int], Tick] = lambda at: rounded(  # noqa: E731
        Tick(time=at, seconds=1, canary=arm(10, 9), stable=arm(90, 0))
    )
    ticks = [harmful(at) for at in range(60)]
    state, verdict = canary.replay(JUDGE, rule, ticks, remembered(found))
    assert verdict is not None
    watch = WatchRecord(rule=rule, fresh=True, verdict=verdict, ticks=pack(ticks[: state.ticks]))
    report = CanaryReport(
        outcome=Outcome.ROLLED_BACK, reason=verdict.reason, workflow_id="a", mesh="local", namespace="shop",
        service="reviews", stable="v1", canary="v2", started=0, ended=60, analysis=FOLLOWING,
        learned=found.state, steps=(StepReport(number=1, weight=10, started=0, watches=(watch,)),),
    )  # fmt: skip
    (again,) = rejudge(CanaryReport.model_validate_json(report.model_dump_json()))
    assert again.agrees
    (unlearned,) = rejudge(report.model_copy(update={"learned": ""}))
    assert not unlearned.agrees


async def test_what_a_slow_scrape_costs_is_said_before_the_first_shift() -> None:
    request = REQUEST.model_copy(update={"weight": 10.0})
    found = await learn(Past(seconds=300), request, lambda: 15.0)
    assert "Prometheus scrapes every 15s" in found.note
    assert "about 75 requests reach the canary before that (150 at worst)" in found.note
    assert "scrapes" not in (await learn(Past(seconds=300), request)).note


async def test_what_an_experiment_broke_is_not_learned_from():
    """A storm that was meant; not even as an incident, which is left out where it can be told from what is usual."""

    class Stormy(Past):
        async def history(self, subject: Subject, seconds: float, *, latency: bool = True) -> list[Observation]:
            looks = await super().history(subject, seconds, latency=latency)
            return [_stormy(look) if look.time >= 900 else look for look in looks]

    def _stormy(look: Observation) -> Observation:
        storm = 60 * min(look.time - 900, 100)
        (one,) = look.samples
        worse = dataclasses.replace(one.user, errors=one.user.errors + storm)
        return dataclasses.replace(look, samples=(dataclasses.replace(one, user=worse, attempt=worse),))

    fooled = await learn(Stormy(), REQUEST)
    told = await learn(Stormy(), REQUEST, disturbed=[(898.0, 1020.0)])
    assert "one by one, 1.15 count as one, without incidents of 1m40s" in fooled.note
    assert "one by one" in told.note.split("latency")[0]
    assert "incidents" not in told.note


def test_experiments_are_known_from_the_records_of_the_mesh():
    def record(action: str, time: float, fencing: int, operation: str = "chaos/local/shop/a") -> AuditRecord:
        change = InjectFault(fault=Abort(), scope=Scope(percentage=10))
        return AuditRecord(
            sequence=1, time=time, action=action, actor=Actor(), target="local/shop/ratings", operation=operation,
            fencing=fencing, changes=(change,) if action == "apply" else (),
        )  # fmt: skip

    records = [
        record("acquire", 90, 1),
        record("apply", 100, 1),
        record("apply", 130, 1),
        record("lift", 150, 1),
        record("apply", 300, 2, "canary/local/shop/b"),
        record("lift", 400, 2, "canary/local/shop/b"),
        record("apply", 500, 3),
    ]
    assert spans(records) == [(98.0, 170.0), (498.0, float("inf"))]
