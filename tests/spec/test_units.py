"""Durations and shares: what people write, what comes out, and that writing and reading agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.spec.errors import SpecError
from autopilot.spec.load import load
from autopilot.spec.values.units import format_seconds, parse_fraction, parse_percent, parse_seconds


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


def canary(field: str) -> str:
    return f"""\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshCanary
metadata: {{name: r}}
spec: {{target: {{service: r}}, arms: {{stable: v1, canary: v2}}, {field}}}
"""


def experiment(scope: str = "percentage: 5", probe: str = "type: tcp, address: 'h:1'") -> str:
    return f"""\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshExperiment
metadata: {{name: x}}
spec:
  target: {{service: r}}
  hypothesis: {{probes: [{{name: p, {probe}}}]}}
  method: [{{faults: [{{fault: {{type: delay, delay: 100ms}}, scope: {{{scope}}}}}]}}]
"""


def weight(text: str) -> str:
    return canary(f"steps: [{{weight: {text}}}]")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (weight("0.1"), "0.1 can be read as 0.1 % and as 10 %; write 0.1% or 10%"),
        (weight("'0.07'"), "'0.07' can be read as 0.07 % and as 7 %; write 0.07% or 7%"),
        (experiment("percentage: 0.5"), "0.5 can be read as 0.5 % and as 50 %; write 0.5% or 50%"),
        (experiment("users: {percentage: .5, cookie: id}"), "can be read as 0.5 % and as 50 %"),
        (canary("analysis: {margin: {absolute: 1}}"), "1 can be read as 1 % and as 100 %; write 1% or 100%"),
        (canary("analysis: {guard: {share: 1.0}}"), "1.0 can be read as 1 % and as 100 %; write 1% or 100%"),
        (weight("0.001%"), "is 0.001 %, which is rounded to nothing: meshes divide traffic in steps of 0.01 %"),
        (weight("99.999%"), "is 99.999 %, and the rest is rounded to nothing"),
        (experiment("percentage: 0.00001%"), "proxies choose requests in steps of 0.0001 %; write 0.0001% or more"),
        (experiment("users: {percentage: 0.001%, cookie: id}"), "users are told apart in steps of 0.01 %"),
        (experiment(probe="type: mesh, tolerance: {min: 99}"), "is 99, and successRate is a share from 0 to 1"),
        (experiment(probe="type: mesh, tolerance: {min: 99}"), "for 99 % write 0.99"),
        (
            experiment(probe="type: http, url: 'http://h', latency: {max: 250}"),
            "is 250 s, above the timeout of 2 s, so no answer could fail it (for milliseconds write 0.25;",
        ),
    ],
)
def test_what_a_person_may_have_meant_otherwise_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(text)
    (problem,) = caught.value.problems
    assert says in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        weight("1"),
        weight("0"),
        weight("0.1%"),
        weight("0.01%"),
        weight("99.99"),
        weight("12.5"),
        canary("analysis: {margin: {absolute: 0.1}, guard: {share: 100%}}"),
        experiment("percentage: 0.0001%"),
        experiment("users: {percentage: 0.01%, cookie: id}"),
        experiment(probe="type: mesh, metric: requestRate, tolerance: {min: 99}"),
        experiment(probe="type: mesh, tolerance: {min: 1}"),
        experiment(probe="type: http, url: 'http://h', latency: {max: 0.25}"),
    ],
)
def test_what_has_one_meaning_is_taken(text: str) -> None:
    (document,) = load(text)
    # What was read goes over the wire as plain numbers, which are not written by a person.
    assert type(document).model_validate_json(document.model_dump_json()) == document
    assert type(document).model_validate(document.model_dump(by_alias=True, mode="json")) == document


@pytest.mark.parametrize("parse", [parse_seconds, parse_fraction, parse_percent])
def test_true_is_no_number(parse: object) -> None:
    with pytest.raises(ValueError, match="expects a number, got true"):
        parse(True)  # type: ignore[operator]
