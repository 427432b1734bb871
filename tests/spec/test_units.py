"""Durations and shares: what people write, what comes out, and that writing and reading agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.spec.units import format_seconds, parse_fraction, parse_percent, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("1m30s", 90), ("2h", 7200), ("1d", 86400), ("1.5h", 5400), ("12", 12), (" 5s ", 5)],
)
def test_reads_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10 s", "5x", "-3s", "1m-3s", "ten", "1e3s", "٣s"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_seconds(text)


@given(st.integers(min_value=0, max_value=366 * 86400 * 1_000_000))
def test_a_duration_survives_writing_and_reading(micros: int) -> None:
    seconds = micros / 1e6
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.0005, "0.5ms"), (0.9999999, "1s"), (90, "1m30s"), (60.25, "1m0.25s")]
)
def test_writes_durations_as_people_would(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@given(st.floats(min_value=0, max_value=1))
def test_a_share_reads_the_same_as_percentage_and_as_number(share: float) -> None:
    assert parse_fraction(f"{share * 100!r}%") == pytest.approx(share)
    assert parse_fraction(repr(share)) == share


def test_a_share_above_one_says_how_to_write_a_percentage() -> None:
    with pytest.raises(ValueError, match=r"99.5 is above 1; for a percentage write 99.5%"):
        parse_fraction(99.5)


def test_a_weight_may_carry_its_percent_sign() -> None:
    assert parse_percent("12.5%") == 12.5
    with pytest.raises(ValueError, match="is not a percentage"):
        parse_percent("half")


@pytest.mark.parametrize("parse", [parse_seconds, parse_fraction, parse_percent])
def test_true_is_no_number(parse: object) -> None:
    with pytest.raises(ValueError, match="expects a number, got true"):
        parse(True)  # type: ignore[operator]
