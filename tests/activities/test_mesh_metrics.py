"""What a mesh probe makes of counters: windows, restarts, what hangs, and what is too little to say anything."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from activities.probes.mesh_metrics import Traffic
from activities.probes.runner import ProbeRunner
from autopilot.evidence.chaos.hypothesis import Look
from autopilot.mesh.errors import InvalidChange, MeshUnavailable
from autopilot.mesh.model import ArmState, Target, TargetState
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.chaos.probes import MeshProbe
from autopilot.spec.chaos.tolerance import Tolerance
from autopilot.telemetry.envoy.stats import EnvoyStats
from autopilot.telemetry.fault_effects.port import Hop
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Counters, Observation, SeriesSample, Subject, TelemetryError
from tests.telemetry.conftest import Lab, envoy
from tests.telemetry.fakes import ScriptedSource, counters, sample, seen

__all__ = ["envoy"]

TARGET = Target(mesh="local", namespace="shop", service="reviews")
RATINGS = Target(mesh="local", namespace="shop", service="ratings")
BEGIN = 1000.0


class Shop:
    """A mesh of two services."""

    name = "local"

    def __init__(self) -> None:
        self.arms = ["v1", "v2"]
        self.asked = 0
        self.away = False

    async def observe(self, target: Target) -> TargetState:
        self.asked += 1
        if self.away:
            raise MeshUnavailable("the mesh does not answer; try again")
        if target not in {TARGET, RATINGS}:
            raise InvalidChange(f"the mesh has no service {target.ref}")
        arms = tuple(ArmState(name=arm, endpoints=(), weight=0, base_weight=0) for arm in self.arms)
        return TargetState(target=target, arms=arms)


class Aborts:
    """A witness: requests and failures of callers by time."""

    def __init__(self, tell: Callable[[float], dict[str, tuple[float, float]]]) -> None:
        self.tell = tell
        self.now: Callable[[], float] = lambda: 0.0

    async def hops(self, subjects: Sequence[Subject]) -> list[Hop]:
        found = [Hop("other", "shop/ratings", {"other": 9999 * self.now()}, {}, {"other": 9999 * self.now()})]
        for caller, (requests, failures) in self.tell(self.now()).items():
            found.append(Hop(caller, "shop/reviews", {caller: requests}, {}, {caller: failures}))
        return found


class Story:
    """Samples by time, and a clock that is turned by hand."""

    def __init__(
        self,
        tell: Callable[[float], list[SeriesSample]],
        interval: float | None = None,
        witness: Aborts | None = None,
    ) -> None:
        self.now = BEGIN
        self.tell = tell
        self.missing: dict[str, str] = {}
        self.shop = Shop()
        self.source = ScriptedSource(self._observe, interval=interval)
        attached = AttachedMesh(mesh=self.shop, proxies=Hub(self.source), witness=witness)  # type: ignore[arg-type]
        self.traffic = Traffic(attached, clock=lambda: self.now)
        if witness is not None:
            witness.now = lambda: self.now - BEGIN

    def _observe(self, number: int, subject: Subject) -> Observation:
        return seen(self.now, *self.tell(self.now - BEGIN), subject=subject, **self.missing)

    async def look(self, after: float, probe: MeshProbe, target: Target = TARGET) -> Any:
        self.now = BEGIN + after
        return await self.traffic.look(probe, target)

    async def looks(self, until: float, probe: MeshProbe, every: float = 1.0) -> Any:
        """Looks at every second and returns the last."""
        found = None
        for number in range(int(until / every) + 1):
            found = await self.look(number * every, probe)
        return found


def success(**more: Any) -> MeshProbe:
    return MeshProbe.model_validate({"name": "a", "tolerance": {"min": 0.9}, "window": 5, "least": 20, **more})


def steady(requests: float = 10, errors: float = 0) -> Callable[[float], list[SeriesSample]]:
    return lambda t: [sample("v1", BEGIN + t, counters(1000 + requests * t, 100 + errors * t))]


async def test_the_first_look_has_nothing_to_compare_with():
    story = Story(steady())
    look = await story.look(0, success())
    assert look.ok is None
    assert "yet" in look.note


@pytest.mark.parametrize(("errors", "ok"), [(0, True), (1, True), (1.5, False), (10, False)])
async def test_success_rate(errors: float, ok: bool):
    look = await Story(steady(errors=errors)).looks(8, success())
    assert look.ok is ok
    assert look.value.startswith(f"{5 * errors:.0f} of 50 requests failed in 5s")
    assert bool(look.note) is not ok


async def test_what_was_before_looking_began_does_not_count():
    def tell(t: float) -> list[SeriesSample]:
        return [sample("v1", BEGIN + t, counters(100 * t, 100 * min(t, 10)))]

    story = Story(tell)
    assert (await story.looks(10, success())).ok is False
    story.traffic.forget()
    assert (await story.look(10.5, success())).ok is None
    assert (await story.look(11, success())).ok is True


async def test_only_the_window_counts():
    def tell(t: float) -> list[SeriesSample]:
        return [sample("v1", BEGIN + t, counters(20 * t, 20 * min(t, 10)))]

    story = Story(tell)
    assert (await story.looks(12, success())).ok is False
    assert (await story.look(13, success())).value.startswith("40 of 100 ")
    assert (await story.look(15.5, success())).ok is True


async def test_before_a_whole_window_what_there_is_counts_once_it_is_enough():
    story = Story(steady(errors=10))
    assert [(await story.look(t, success())).ok for t in (0, 1, 2)] == [None, None, False]


async def test_fewer_requests_than_least_are_no_data():
    look = await Story(steady(requests=3, errors=3)).looks(10, success())
    assert look.ok is None
    assert look.value == "15 requests in 5s; at least 20 are needed"
    assert (await Story(steady(requests=0)).looks(10, success(least=0))).ok is None


async def test_arms_add_up_and_those_that_double_them_too():
    def tell(t: float) -> list[SeriesSample]:
        arms = (("v1", 90, 0), ("v2", 9, 9), ("v1~baseline", 1, 1))
        return [sample(arm, BEGIN + t, counters(rate * t, bad * t)) for arm, rate, bad in arms]

    story = Story(tell)
    look = await story.looks(6, success())
    assert look.value.startswith("50 of 500 ")
    assert story.source.polls[-1][0].arms == ("v1", "v2", "v1~baseline", "v2~baseline")


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_restart_is_left_out(says_so: bool):
    def tell(t: float) -> list[SeriesSample]:
        began = BEGIN + 3.5 if says_so and t > 3.5 else 0.0
        count = 10 * t if t <= 3.5 else 10 * (t - 3.5)
        return [sample("v1", BEGIN + t, counters(1000 * (t <= 3.5) + count), started=began)]

    look = await Story(tell).looks(6, success())
    assert look.ok is True
    assert look.value.startswith("0 of 40 ")


async def test_a_pod_that_leaves_or_comes_is_no_restart():
    def tell(t: float) -> list[SeriesSample]:
        here = [sample("v1", BEGIN + t, counters(10 * t), proxy="a")]
        if t < 4:
            here.append(sample("v1", BEGIN + t, counters(5000 + 10 * t, 10 * t), proxy="b"))
        if t > 4:
            here.append(sample("v1", BEGIN + t, counters(9000 + 10 * t), proxy="c"))
        return here

    look = await Story(tell).looks(6, success(tolerance={"max": 1}))
    assert look.value == "20 of 80 requests failed in 5s"


async def test_counters_that_are_no_numbers_are_no_data():
    look = await Story(lambda t: [sample("v1", BEGIN + t, counters(math.nan))]).looks(6, success())
    assert look.ok is None


async def test_a_source_that_is_silent_is_no_data_and_says_why():
    def script(t: float) -> list[SeriesSample]:
        if t > 6:
            raise TelemetryError("no Envoy answered; check that they run")
        return steady()(t)

    story = Story(script)
    assert (await story.looks(6, success())).ok is True
    look = await story.look(7, success())
    assert (look.ok, look.note) == (None, "no Envoy answered; check that they run")


async def test_counters_that_stand_still_in_time_are_no_data_soon():
    story = Story(lambda t: steady()(min(t, 6)))
    assert (await story.looks(6, success())).ok is True
    assert (await story.look(9, success())).ok is True
    look = await story.look(14, success())
    assert look.ok is None
    assert "no new counters of shop/reviews for 8 s" in look.note


async def test_a_proxy_that_is_missing_is_named():
    story = Story(steady(errors=10))
    story.missing = {"web": "did not answer"}
    assert "web is missing: did not answer" in (await story.looks(6, success())).value


async def test_where_counters_are_scraped_the_window_is_at_least_a_scrape():
    story = Story(lambda t: steady(errors=2)(15 * (t // 15)), interval=15)
    assert (await story.looks(14, success())).ok is None
    assert (await story.looks(29, success())).ok is False
    assert story.traffic.patience(success()) > 30
    look = await story.look(44, success())
    assert look.value == "30 of 150 requests failed in 15s"


async def test_samples_from_before_looking_began_are_waited_out():
    """A Prometheus' newest sample is as old as its scrape interval."""
    story = Story(lambda t: steady(errors=2)(15 * (t // 15) - 5), interval=15)
    found = [await story.look(t, success()) for t in range(27)]
    assert [look.ok for look in found] == [None] * 27
    assert (await story.look(30, success())).value == "30 of 150 requests failed in 15s"


# What hangs


def hanging(t: float, since: float = 5.0, *, answered: float = 0.0) -> list[SeriesSample]:
    """10 requests a second; those that begin after `since` stay open, a share of them with an answer begun."""
    stuck = 10 * max(0.0, t - since)
    done = 10 * min(t, since) + answered * stuck
    one = sample("v1", BEGIN + t, counters(done, 0, fast=done), active=stuck)
    return [replace(one, begun=10 * t)]


async def test_requests_that_hang_are_not_successful():
    story = Story(hanging)
    found = {t: await story.look(t, success()) for t in range(21)}
    assert found[5].ok is True
    assert found[9].ok is None  # neither answered nor yet late
    assert found[14].ok is False
    assert "without an answer" in found[14].value
    assert found[20].ok is False


async def test_what_hung_before_is_held_against_nobody():
    def tell(t: float) -> list[SeriesSample]:
        return [replace(sample("v1", BEGIN + t, counters(10 * t), active=500), begun=500 + 10 * t)]

    look = await Story(tell).looks(15, success(tolerance={"equals": 1}))
    assert look.ok is True


async def test_streams_whose_answer_has_begun_do_not_hang():
    story = Story(lambda t: hanging(t, since=0, answered=1.0))
    look = await story.looks(20, success(tolerance={"equals": 1}))
    assert look.ok is True, look


# What proxies end themselves


async def test_aborts_that_proxies_made_are_what_users_met():
    """10 of 20 requests a second never get as far as the service's own counters."""
    asked = success(tolerance={"max": 1})
    look = await Story(steady(), witness=Aborts(lambda t: {"web": (20 * t, 10 * t)})).looks(6, asked)
    assert look.value == "50 of 100 requests failed in 5s"
    rate = success(metric="requestRate", tolerance={"equals": 20})
    look = await Story(steady(), witness=Aborts(lambda t: {"web": (20 * t, 10 * t)})).looks(6, rate)
    assert look.ok is True, look


async def test_a_witness_that_begins_anew_or_later_is_left_out():
    def tell(t: float) -> dict[str, tuple[float, float]]:
        found = {"web": (100 + 10 * t, 100.0) if t < 3.5 else (10 * (t - 3.5), 0.0)}
        return found | ({"late": (5000.0 + 10 * t, 5000.0)} if t > 2 else {})

    look = await Story(steady(), witness=Aborts(tell)).looks(6, success())
    assert look.value == "0 of 70 requests failed in 5s"


async def test_a_witness_that_does_not_answer_is_no_data():
    def tell(t: float) -> dict[str, tuple[float, float]]:
        raise TelemetryError("none of web answered; check that the proxies run")

    look = await Story(steady(), witness=Aborts(tell)).looks(6, success())
    assert (look.ok, look.note) == (None, "none of web answered; check that the proxies run")


async def test_a_witness_that_knows_nothing_of_the_service_changes_nothing():
    look = await Story(steady(errors=1), witness=Aborts(lambda t: {})).looks(6, success())
    assert look.value == "5 of 50 requests failed in 5s"


# Other metrics


async def test_slow_share():
    def tell(t: float) -> list[SeriesSample]:
        return [sample("v1", BEGIN + t, counters(10 * t, 0, fast=8 * t))]

    asked = success(metric="slowShare", slower_than=0.1, tolerance={"max": 0.1})
    look = await Story(tell).looks(6, asked)
    assert (look.ok, look.value) == (False, "10 of 50 requests took longer than 100ms in 5s")
    look = await Story(tell).looks(6, success(metric="slowShare", slower_than=0.1, tolerance={"max": 0.2}))
    assert look.ok is True


async def test_slow_share_of_what_hangs():
    asked = success(metric="slowShare", slower_than=1, tolerance={"max": 0.1}, least=10)
    found = {t: await Story(hanging).looks(t, asked) for t in (5, 9)}
    assert found[5].ok is True
    assert found[9].ok is False


async def test_without_a_histogram_there_is_no_slow_share():
    asked = success(metric="slowShare", slower_than=0.1, tolerance={"max": 1})
    assert (await Story(steady()).looks(6, asked)).ok is None


async def test_a_histogram_that_is_missing_once_is_not_all_new_later():
    def tell(t: float) -> list[SeriesSample]:
        full = counters(1000 + 10 * t, 0, fast=1000 + 10 * t)
        return [sample("v1", BEGIN + t, Counters(requests=full.requests) if t == 3 else full)]

    asked = success(metric="slowShare", slower_than=0.1, tolerance={"max": 0.5})
    look = await Story(tell).looks(6, asked)
    assert look.value.startswith("0 of 50 ")


async def test_request_rate_needs_its_window_and_no_requests():
    asked = success(metric="requestRate", tolerance={"min": 5, "max": 12})
    story = Story(lambda t: steady()(min(t, 10)) if t <= 10 else [replace(steady()(10)[0], time=BEGIN + t)])
    assert [(await story.look(t, asked)).ok for t in range(7)] == [None] * 5 + [True] * 2
    look = await story.look(7, asked)
    assert look.value == "10 requests a second in 5s"
    found = [(await story.look(t, asked)).ok for t in range(8, 17)]
    assert found[-1] is False  # nobody asks any more: that is a rate, and no lack of data


# Who is asked, and how often


async def test_probes_share_a_reading():
    story = Story(steady())
    ratings = success(name="b", service="ratings")
    for t in range(5):
        story.now = BEGIN + t
        await asyncio.gather(
            *(story.traffic.look(success(), TARGET) for _ in range(5)), story.traffic.look(ratings, RATINGS)
        )
    assert len(story.source.polls) <= 7
    assert {subject.service for subject in story.source.polls[-1]} == {"reviews", "ratings"}
    assert story.shop.asked == 2


async def test_new_arms_are_found_and_a_mesh_that_is_away_does_not_hide_the_old_ones():
    story = Story(steady())
    await story.looks(3, success())
    story.shop.arms.append("v3")
    await story.look(20, success())
    assert "v3" in story.source.polls[-1][0].arms
    story.shop.away = True
    await story.look(40, success())
    assert "v3" in story.source.polls[-1][0].arms


async def test_a_slow_source_is_no_data_in_time_and_heard_later():
    source = ScriptedSource(lambda number, subject: seen(time.time(), subject=subject), delay=0.3)
    prober = ProbeRunner(AttachedMesh(mesh=Shop(), proxies=Hub(source)), TARGET)  # type: ignore[arg-type]
    asked = success(timeout=0.1)
    looks = await asyncio.gather(prober.look(asked), prober.look(asked))
    assert [(look.ok, look.note) for look in looks] == [(None, "no answer within 100ms")] * 2
    await asyncio.sleep(0.3)
    assert len(source.polls) == 1
    await prober.prime(asked)
    await prober.close()


async def looked(prober: ProbeRunner, probe: MeshProbe, until: bool | None, seconds: float = 8) -> Look:
    """Looks until it finds that."""
    look = await prober.look(probe)
    async with asyncio.timeout(seconds):
        while look.ok is not until:
            await asyncio.sleep(0.1)
            look = await prober.look(probe)
    return look


async def test_a_real_envoy(envoy: Lab):
    """Errors, and then nothing but silence: its counters show both, the second as what hangs."""
    hub = Hub(EnvoyStats({"web": envoy.admin}))
    prober = ProbeRunner(AttachedMesh(mesh=Shop(), proxies=hub), TARGET)  # type: ignore[arg-type]
    asked = MeshProbe(name="a", window=1.0, least=4, tolerance=Tolerance(min=0.5))
    assert (await prober.look(asked)).ok is None
    await envoy.get("/v2/", 10)
    assert (await looked(prober, asked, until=True)).value.startswith("0 of ")
    await asyncio.sleep(1.2)
    await envoy.get("/v2/fail", 10)
    assert (await looked(prober, asked, until=False)).value.startswith("10 of ")
    prober.forget()
    assert (await prober.look(asked)).ok is None
    waiting = asyncio.create_task(envoy.left("/v2/hang", 8, after=4))
    look = await looked(prober, asked, until=False)
    assert "without an answer" in look.value
    await waiting
    await prober.close()
    await hub.close()
