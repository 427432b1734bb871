"""Late requests that no histogram shows: never fewer than before, never more than there are, none for the healthy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.inflight_latency import Late, Open, expected
from autopilot.telemetry.model import Counters, SeriesSample
from autopilot.telemetry.ticks import HubTick
from tests.telemetry.fakes import seen

BOUNDS = (0.25, 1.0, 2.5)
LAG = 6.0
"""Seconds by which the histogram trails at most: Envoy flushes it every 5 s where it was not told otherwise."""


@dataclass(frozen=True)
class Request:
    """One try: answered, reset by its server (a 5xx that Envoy makes up), or given up by its caller."""

    start: float
    duration: float
    fate: str = "answered"

    @property
    def end(self) -> float:
        return self.start + self.duration


@dataclass(frozen=True)
class Look:
    """The counters are read at `at`, and stamped `took` later at the most; the histogram is older by `lag`."""

    at: float
    late: float
    lag: float
    caught: bool
    """One more request had begun by the time that those active were read."""


def read(requests: list[Request], look: Look, took: float) -> SeriesSample:
    begun = [item for item in requests if item.start <= look.at]
    active = sum(item.end > look.at for item in begun)
    done = [item for item in begun if item.end <= look.at and item.fate != "left"]
    timed = [item for item in begun if item.end <= look.at - look.lag and item.fate == "answered"]
    counters = Counters(
        requests=len(done),
        errors=sum(item.fate == "reset" for item in done),
        timed=len(timed),
        buckets=tuple((bound, float(sum(item.duration <= bound for item in timed))) for bound in BOUNDS),
    )
    more = look.caught and any(item.start > look.at for item in requests)
    return SeriesSample(
        series="web|v2",
        arm="v2",
        time=look.at + min(look.late, took),
        started=0.0,
        attempt=counters,
        user=counters,
        active=active + more,
        begun=len(begun),
        took=took,
    )


@st.composite
def looks(draw: st.DrawFn) -> tuple[list[Look], float]:
    """Looks at uneven intervals, and how much longer than the shortest one a reading may take."""
    took = draw(st.sampled_from([0.0, 0.05, 0.4]))
    at, found, flushed = 5.0, [], 0.0
    for _ in range(draw(st.integers(2, 40))):
        at += draw(st.floats(0.41, 1.5) | st.just(0.5))
        flushed = max(flushed, at - draw(st.floats(0.0, LAG)))  # a histogram never goes back
        found.append(Look(at, draw(st.floats(0, took)), at - flushed, draw(st.booleans())))
    return found, took


def traffic(longest: float, fates: tuple[str, ...]) -> st.SearchStrategy[list[Request]]:
    one = st.builds(Request, st.floats(0, 30), st.floats(0.001, longest), st.sampled_from(fates))
    return st.lists(one, max_size=60)


def judged(
    requests: list[Request], polls: list[Look], took: float, *, canary: str = "v2"
) -> Iterator[tuple[Look, float, tuple[float, ...]]]:
    """What the hub makes of one arm, on trial or not; the other has no traffic."""
    differencer = Differencer(canary, "v2" if canary == "v1" else "v1", BOUNDS, BOUNDS)
    for look in polls:
        item = differencer.fold(seen(look.at, read(requests, look, took)))
        if isinstance(item, HubTick):
            tick = item.tick.canary if canary == "v2" else item.tick.stable
            yield look, tick.timed, tick.slow


@given(traffic(0.25, ("answered", "left")), looks(), st.sampled_from(["v1", "v2"]))
def test_an_arm_that_answers_quickly_is_never_late(
    requests: list[Request], polls: tuple[list[Look], float], canary: str
):
    """On trial or not, however uneven the looks and old the histogram, though callers leave: nothing is made up."""
    for _, decided, late in judged(requests, *polls, canary=canary):
        assert late == (0, 0, 0)
        assert decided >= 0


@given(traffic(40, ("answered", "left", "reset")), looks())
def test_late_is_at_most_the_truth_and_only_grows(requests: list[Request], polls: tuple[list[Look], float]):
    totals, all_decided = [0.0] * len(BOUNDS), 0.0
    base = polls[0][0].at
    for look, decided, late in judged(requests, *polls):
        assert all(0 <= count <= decided for count in late)
        totals = [total + count for total, count in zip(totals, late, strict=True)]
        all_decided += decided
        for bound, total in zip(BOUNDS, totals, strict=True):
            truth = sum(
                item.end > base - LAG and min(item.end, look.at) - item.start > bound and item.start <= look.at
                for item in requests
            )
            assert total <= truth
        assert all_decided <= len(BOUNDS) * len(requests)


@given(st.integers(0, 40), looks())
def test_what_hangs_is_found_and_counts_once(hung: int, polls: tuple[list[Look], float]):
    """All of it but for doubt: the share of what may be open anyhow, and what begins during a look."""
    looked, took = polls
    begin = looked[0].at + 0.01
    requests = [Request(begin + number * 0.01, 15.0) for number in range(hung)]
    found = 0.0
    for look, _, late in judged(requests, looked, took):
        found += late[1]
        # Two looks may lie 1.5 s apart: the one to compare with is that much older than the boundary at worst.
        if requests and requests[-1].start + 1.0 + took + 3.0 < look.at < requests[0].end:
            assert found >= hung - 12
    assert found <= hung


def test_a_request_that_was_open_before_is_held_against_nobody():
    always = [Request(0.0, 1000.0)] * 50
    polls = [Look(5 + second * 0.5, 0, 0, caught=False) for second in range(40)]
    for canary in ("v1", "v2"):
        assert all(late == (0, 0, 0) for _, _, late in judged(always, polls, 0.0, canary=canary))


def look(arm: str, time: float, begun: float | None, active: float, answered: float = 0.0) -> SeriesSample:
    """Answers take no time; an arm that never answered has no histogram."""
    told = Counters(requests=answered, timed=answered, buckets=tuple((bound, answered) for bound in BOUNDS))
    told = told if answered else Counters()
    return SeriesSample(f"web|{arm}", arm, time, 0.0, told, told, active=active, begun=begun)


def ticks(*polls: tuple[SeriesSample, SeriesSample]) -> list[HubTick]:
    differencer = Differencer("v2", "v1", BOUNDS)
    found = [differencer.fold(seen(canary.time, canary, stable)) for canary, stable in polls]
    return [item for item in found if isinstance(item, HubTick)]


def test_without_what_has_begun_nothing_is_overdue():
    found = ticks(*((look("v2", at, None, 50.0, 1), look("v1", at, None, 1.0, 10 * at)) for at in range(1, 20)))
    assert all(not any(item.tick.canary.slow) for item in found)


def test_the_hub_tells_what_a_silent_version_was_given():
    """Never an answer, so never a histogram of its own: the boundaries are those of the other arm."""
    found = ticks(*((look("v2", at, 5.0 * at, 5.0 * at), look("v1", at, 46.0 * at, 1.0, 45.0 * at)) for at in range(9)))
    assert sum(item.exposure.requests for item in found) == 40
    assert sum(item.tick.canary.requests for item in found) == 0
    late = [sum(item.tick.canary.slow[index] for item in found) for index in range(3)]
    # Older than 0.25 s and 1 s: what came before the look before; than 2.5 s: before the third before this one.
    assert 30 <= late[0] <= 35
    assert late[1] == late[0]
    assert late[2] == late[0] - 10
    assert all(max(item.tick.canary.slow) <= item.tick.canary.timed for item in found)
    assert sum(sum(item.tick.stable.slow) for item in found) == 0
    assert found[-1].measured is not None
    assert 0.09 < found[-1].measured < 0.1


def test_a_canary_that_fills_up_as_stable_is_filled_is_not_late():
    """One request in five is a stream of a minute: of these stable has its number all the time, the canary none yet."""
    polls = []
    for second in range(60):
        stable = look("v1", second, 1000 + 90.0 * second, 1080.0, 1 + 72.0 * second)
        polls.append((look("v2", second, 10.0 * second, 2.0 * second, 1 + 8.0 * second), stable))
    assert all(not any(item.tick.canary.slow) for item in ticks(*polls))


def test_a_canary_that_hangs_where_stable_streams_is_found():
    polls = []
    for second in range(60):
        stable = look("v1", second, 1000 + 90.0 * second, 180.0, 1 + 72.0 * second)
        polls.append((look("v2", second, 10.0 * second, 10.0 * second, 1), stable))
    assert sum(item.tick.canary.slow[1] for item in ticks(*polls)) > 500


def test_stable_counts_what_was_overdue_and_what_was_answered_late():
    """Too many rather than too few for the arm that is compared with; the canary's own never twice."""
    stable, canary = Late(lenient=False), Late(lenient=True)
    for arm in (stable, canary):
        assert arm.fold(10, [0, 0], [4, 2]) == (14, (4, 2))
    assert stable.fold(4, [4, 4], [0, 0]) == (4, (4, 4))
    assert canary.fold(4, [4, 4], [0, 0]) == (2, (0, 2))


def test_doubt_is_small_beside_a_hang():
    quiet, open_ones = Open(look("v1", 0, 0, 0)), Open(look("v2", 0, 0, 0))
    quiet.look(look("v1", 1, 90, 1), 2.5)
    open_ones.look(look("v2", 1, 10, 10), 2.5)
    assert expected([open_ones], [quiet]) == 2
    assert expected([quiet], [open_ones]) > 90
