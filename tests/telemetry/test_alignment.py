"""Arms whose proxies are scraped at times of their own: what both share never looks like one arm's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.model import Counters, SeriesSample
from autopilot.telemetry.ticks import HubTick
from tests.drawn import examples
from tests.telemetry.fakes import sample, seen

Rate = Callable[[float], float]
_STEP = 0.1


def totals(share: Rate, requests: float, until: float) -> list[tuple[float, float]]:
    """Requests and failures up to every tenth of a second."""
    at, found = (0.0, 0.0), []
    for number in range(round(until / _STEP) + 1):
        found.append(at)
        more = requests * _STEP
        at = at[0] + more, at[1] + more * share(number * _STEP)
    return found


def looks(series: dict[str, tuple[str, float, float]], share: Rate, interval: float, until: float) -> list[HubTick]:
    """Ticks of proxies (arm, phase, requests/s), looked at every second."""
    counted = {name: totals(share, requests, until) for name, (_, _, requests) in series.items()}
    hub, last, found = Differencer("v2", "v1"), dict[str, SeriesSample](), []
    for number in range(round(until / _STEP)):
        now = number * _STEP
        for name, (arm, phase, _) in series.items():
            if round((now - phase) / _STEP) % round(interval / _STEP) == 0 and now >= phase:
                requests, errors = counted[name][number]
                last[name] = sample(arm, now, Counters(requests=requests, errors=errors), proxy=name)
        if number % 10 == 0 and len(last) == len(series):
            item = hub.fold(seen(now, *last.values()))
            found += [item] if isinstance(item, HubTick) else []
    return found


PHASES = st.lists(st.integers(0, 149), min_size=2, max_size=5)


@settings(max_examples=examples(40), deadline=None)
@given(PHASES, st.integers(400, 800), st.integers(150, 400))
def test_an_outage_that_both_share_is_not_one_arms(phases: list[int], begins: int, lasts: int) -> None:
    """One that lasts as long as an interval, or longer: of a shorter one stable's part is spread over two."""
    series = {
        f"p{number}": ("v2" if number == 0 else "v1", phase * _STEP, 5.0 if number == 0 else 95.0 / (len(phases) - 1))
        for number, phase in enumerate(phases)
    }
    outage: Rate = lambda at: 0.4 if begins * _STEP <= at < (begins + lasts) * _STEP else 0.0  # noqa: E731
    found = looks(series, outage, 15.0, 150.0)
    assert len(found) >= 5
    for item in found:
        canary, stable = item.tick.canary, item.tick.stable
        if canary.errors >= 1:
            assert stable.requests > 0
            own, others = canary.errors / canary.requests, stable.errors / stable.requests
            # A tenth of the interval is taken for the same moment: three failures at most.
            assert own <= 2 * others or canary.errors - 2 * others * canary.requests <= 3


@settings(max_examples=examples(40), deadline=None)
@given(PHASES, st.sampled_from([1.0, 5.0, 15.0]))
def test_nothing_is_counted_twice_and_little_is_late(phases: list[int], interval: float) -> None:
    series = {
        f"p{number}": ("v2" if number == 0 else "v1", (phase * _STEP) % interval, 10.0)
        for number, phase in enumerate(phases)
    }
    found = looks(series, lambda _: 0.1, interval, 120.0)
    assume(found)
    for arm in ("canary", "stable"):
        counted = sum(getattr(item.tick, arm).requests for item in found)
        seconds = sum(item.tick.seconds for item in found)
        rate = 10.0 * (1 if arm == "canary" else len(phases) - 1)
        assert counted == pytest.approx(rate * seconds, abs=rate * 0.2 * interval + 1e-6)
    assert found[-1].tick.time >= 119 - 2 * interval


def test_who_is_scraped_together_is_compared_at_once() -> None:
    found = looks({"a": ("v1", 0.0, 90.0), "b": ("v2", 0.0, 10.0)}, lambda _: 0.0, 1.0, 10.0)
    assert [item.tick.time for item in found] == pytest.approx(list(np.arange(1.0, 10.0)))
    assert all(item.tick.canary.requests == pytest.approx(10) for item in found)


def test_who_is_gone_is_not_waited_for() -> None:
    hub, found = Differencer("v2", "v1"), []
    for second in range(20):
        there = [
            sample("v2", second, Counters(requests=5.0 * second)),
            sample("v1", second, Counters(requests=9.0 * second)),
        ]
        if second < 5:
            there.append(sample("v1", second, Counters(requests=9.0 * second), proxy="goes"))
        else:  # it is told with what it had when it was seen last
            there.append(sample("v1", 4.0, Counters(requests=36.0), proxy="goes"))
        item = hub.fold(seen(second, *there))
        found += [item] if isinstance(item, HubTick) else []
    assert sum(item.tick.canary.requests for item in found) == 5.0 * 19
    assert sum(item.tick.stable.requests for item in found) == 9.0 * 19 + 36
