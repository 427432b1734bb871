"""A record of ticks gives back what was judged, and stays small."""

from __future__ import annotations

import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.evidence.model import ArmTick, Tick
from autopilot.evidence.tick_codec import Recorder, pack, rounded, unpack

counts = st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10**9).map(float)
arms = st.builds(ArmTick, requests=counts, errors=counts, timed=counts, slow=st.tuples(counts, counts))
ticks = st.builds(
    Tick,
    time=st.floats(1.5e9, 2.5e9),
    seconds=st.floats(0, 300),
    canary=arms,
    stable=arms,
    baseline=st.none() | arms,
    readings=st.dictionaries(st.sampled_from(["a", "b"]), st.none() | st.floats(-1e9, 1e9), max_size=2),
).map(rounded)


@given(st.lists(ticks, max_size=20))
def test_what_was_packed_comes_back_equal(recorded: list[Tick]) -> None:
    assert unpack(pack(recorded)) == recorded


@given(st.lists(ticks, max_size=8), st.lists(ticks, max_size=8))
def test_a_recorder_goes_on_where_another_stopped(first: list[Tick], second: list[Tick]) -> None:
    one = Recorder()
    for tick in first * 30:
        one.add(tick)
    other = Recorder(one.text())
    for tick in second * 30:
        other.add(tick)
    assert unpack(other.text()) == first * 30 + second * 30
    assert other.count == 30 * (len(first) + len(second))


@pytest.mark.parametrize("text", ["x", "AAAA", pack([Tick(time=1, seconds=1)])[:-8]])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the recorded ticks cannot be read"):
        unpack(text)


def test_an_hour_of_ticks_stays_small() -> None:
    chance = random.Random(1)

    def arm(rate: float) -> ArmTick:
        requests = float(int(chance.gauss(rate, rate**0.5)))
        slow = tuple(float(int(requests * share)) for share in (0.2, 0.05, 0.01, 0.0, 0.0))
        return ArmTick(requests=requests, errors=float(chance.random() < 0.1), timed=requests, slow=slow)

    hour = [
        rounded(Tick(time=1.8e9 + number + chance.gauss(0, 0.005), seconds=1.0, canary=arm(100), stable=arm(900)))
        for number in range(3600)
    ]
    assert len(pack(hour)) < 60_000


def test_an_hour_with_a_baseline_stays_small_and_one_without_is_as_before() -> None:
    chance = random.Random(2)

    def arm(rate: float) -> ArmTick:
        requests = float(int(chance.gauss(rate, rate**0.5)))
        return ArmTick(requests=requests, timed=requests, slow=(0.0,) * 5)

    plain = [Tick(time=1.8e9 + at, seconds=1.0, canary=arm(10), stable=arm(80)) for at in range(3600)]
    guarded = [tick.model_copy(update={"baseline": arm(10)}) for tick in plain]
    assert unpack(pack(guarded[:5])) == guarded[:5]
    assert len(pack(guarded)) < 60_000
    assert "baseline" not in zlib.decompress(base64.b64decode(pack(plain))).decode()
