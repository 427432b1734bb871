"""Requests that nobody sent: never more than there are, whatever is late, lost, skewed or begun anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.evidence.bypass_check import LEAST
from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.model import Arrivals, Observation
from autopilot.telemetry.ticks import HubTick, merge
from autopilot.telemetry.unproxied_requests import Arrived, Unsent
from tests.telemetry.fakes import REVIEWS, counters, sample


def arrivals(at: float, received: float, sent: float, *, skew: float = 0.0, started: float = 0.0) -> Arrivals:
    return Arrivals(
        arm="v2", time=at, received={"reviews-v2": received}, sent={"web": sent}, started={"web": started}, skew=skew
    )


def followed(looks: list[Arrivals]) -> Arrived:
    unsent = Unsent()
    for look in looks:
        unsent.look(look)
    return unsent.take()


@given(
    st.lists(
        st.tuples(
            st.floats(0.4, 3.0),  # seconds to the next look
            st.integers(0, 200),  # sent meanwhile
            st.integers(0, 60),  # of these still under way at the look
            st.integers(0, 5),  # lost for good
            st.floats(0, 0.3),  # read so much later at the sidecar than at the caller
        ),
        min_size=10,
        max_size=60,
    )
)
def test_a_mesh_whose_callers_send_everything_has_none(history: list[tuple[float, int, int, int, float]]):
    """But for what was under way all the time that a comparison had to settle: that may be taken for new, once."""
    times = np.concatenate([[0.0], np.cumsum([seconds for seconds, *_ in history])])
    sent = np.concatenate([[0.0], np.cumsum([more for _, more, *_ in history])])
    lost = np.cumsum([gone for *_, gone, _ in history])
    under_way, skews = (np.array([row[at] for row in history]) for at in (2, 4))
    read = np.interp(times[1:] + skews, times, sent)  # what the sidecar may have seen when it was read
    received = np.maximum.accumulate(np.maximum(0.0, np.floor(read) - lost - under_way))
    looks = [arrivals(*row[:3], skew=row[3]) for row in zip(times[1:], received, sent[1:], skews, strict=True)]
    assert followed(looks).unsent <= under_way.max()


def test_steady_traffic_has_none_at_all():
    rng = np.random.default_rng(1)
    looks, sent = [], 0.0
    for at in range(600):
        sent += float(rng.poisson(100))
        skew = rng.uniform(0, 0.05)
        looks.append(arrivals(at, sent - rng.poisson(2) + np.floor(skew * 100), sent, skew=skew))
    assert followed(looks).unsent == 0


@pytest.mark.parametrize("rate", [3.0, 30.0, 300.0])
def test_what_passed_no_proxy_is_counted(rate: float):
    looks = [arrivals(at, 10 * at + rate * max(0, at - 20), 10 * at) for at in range(81)]
    found = followed(looks).unsent
    truth = 60 * (rate - LEAST)
    assert truth - 2 * rate - 15 <= found <= truth


@pytest.mark.parametrize("quiet", [20, 1800])
def test_peace_is_not_saved_up(quiet: int):
    """However long nothing passed by, what begins then is counted within seconds."""
    looks = [arrivals(at, 10 * at + 30 * max(0, at - quiet), 10 * at) for at in range(quiet + 10)]
    assert followed(looks).unsent > 150


def test_a_start_in_disorder_is_not_held_against_anyone():
    """While settling, looks were half a second apart; later they are not."""
    rough = [arrivals(at, 500 * at - 250 * (at % 2), 500 * at, skew=0.5) for at in range(8)]
    smooth = [arrivals(at, 500 * at, 500 * at, skew=0.01) for at in range(8, 60)]
    assert followed([*rough, *smooth]).unsent == 0


def test_a_burst_of_health_checks_is_let_pass():
    looks = [arrivals(at, 10 * at + 8 * (at // 10), 10 * at) for at in range(600)]
    assert followed(looks).unsent == 0


def test_a_spike_that_does_not_last_is_none():
    """One look at a sidecar that was read a second after everyone else, and did not say so."""
    looks = [arrivals(at, 100 * at + (100 if at == 30 else 0), 100 * at) for at in range(60)]
    assert followed(looks).unsent == 0


@pytest.mark.parametrize("known", [True, False])
def test_a_proxy_that_began_anew_has_sent_what_nobody_saw(known: bool):
    """Its counters start at nought again, with or without its saying so: what came meanwhile is no bypass."""
    looks = [arrivals(at, 100 * at, 100 * at) for at in range(30)]
    looks += [
        arrivals(at, 100 * at, 100 * (at - 30) if known else 50 + 100 * (at - 30), started=30.0 if known else 0.0)
        for at in range(31, 60)
    ]
    assert followed(looks).unsent == 0


def test_a_stuck_sidecar_catches_up():
    stuck = [arrivals(at, 100 * min(at, 20), 100 * at) for at in range(30)]
    assert followed([*stuck, *(arrivals(at, 100 * at, 100 * at) for at in range(30, 60))]).unsent == 0


def test_a_proxy_that_was_away_for_a_while_is_no_gap_in_the_count():
    looks = [arrivals(at, 40 * at, 10 * at) for at in range(60) if not 20 < at < 30]
    assert followed(looks).unsent == pytest.approx(29 * (60 - 6), rel=0.05)


def test_ticks_carry_it_and_merge():
    differencer = Differencer("v2", "v1")
    found: list[HubTick] = []
    for at in range(20):
        seen = (sample("v1", at, counters(90 * at)), sample("v2", at, counters(10 * at)))
        look = Observation(subject=REVIEWS, time=at, samples=seen, arrivals=(arrivals(at, 40 * at, 10 * at),))
        item = differencer.fold(look)
        if isinstance(item, HubTick):
            found.append(item)
    assert found[-1].arrived == {"v2": Arrived(requests=40, unsent=29)}
    assert found[-1].given == {"v1": 90, "v2": 10}
    both = merge(*found[-2:])
    assert both.arrived == {"v2": Arrived(requests=80, unsent=58)}
    assert both.given == {"v1": 180, "v2": 20}
    assert both.users == 200
