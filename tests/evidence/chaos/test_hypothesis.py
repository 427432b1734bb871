"""Thresholds in a row as StatusCheck has them, and a third verdict where there is nothing to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.evidence.chaos.hypothesis import (
    KEPT,
    Look,
    ProbeState,
    concluded,
    hypothesis_verdict,
    settled,
    update,
)
from autopilot.spec.chaos.probes import TcpProbe

OK = {"+": True, "-": False, "?": None}


def probe(failures: int = 1, successes: int = 1, missing: int = 3) -> TcpProbe:
    return TcpProbe(name="a", address="a:1", failures=failures, successes=successes, missing=missing)


def seen(asked: TcpProbe, looks: str, *, final: bool = False) -> ProbeState:
    """`+` passed, `-` failed, `?` saw nothing."""
    state = ProbeState()
    for time, each in enumerate(looks):
        state = update(asked, state, Look(time=time, ok=OK[each], note=f"look {time}"), final=final)
    return ProbeState.model_validate_json(state.model_dump_json())  # as it travels


@pytest.mark.parametrize(
    ("failures", "successes", "missing", "looks", "verdict"),
    [
        # StatusCheck: successThreshold 1, failureThreshold 3, consecutive
        (3, 1, 3, "+", "pass"),
        (3, 1, 3, "-", ""),
        (3, 1, 3, "--", ""),
        (3, 1, 3, "---", "fail"),
        (3, 1, 3, "--+", "pass"),
        (3, 2, 3, "--+--", ""),
        (3, 2, 3, "--+---", "fail"),
        (1, 3, 3, "++", ""),
        (1, 3, 3, "+++", "pass"),
        (2, 3, 3, "++-+", ""),
        (2, 3, 3, "++-+++", "pass"),
        # failed stays failed
        (1, 1, 3, "-+", "fail"),
        (1, 1, 3, "-????", "fail"),
        (2, 1, 3, "--++++", "fail"),
        # passed may fail later
        (1, 1, 3, "+-", "fail"),
        (3, 1, 3, "+--", "pass"),
        (3, 1, 3, "+---", "fail"),
        # StatusCheck discards an executor's error; here it counts for itself
        (1, 1, 3, "??", ""),
        (1, 1, 3, "???", "inconclusive"),
        (1, 1, 3, "??+??", "pass"),
        (1, 1, 3, "+???", "inconclusive"),
        (1, 1, 1, "+?", "inconclusive"),
        # what was not seen did not pass ...
        (1, 2, 3, "+?+", ""),
        (1, 2, 3, "+?++", "pass"),
        # ... nor hide a failure
        (2, 1, 3, "-?-", "fail"),
        (2, 1, 3, "-??-", "fail"),
        # when data returns it is open again, and has to be earned again
        (2, 2, 3, "???+", ""),
        (2, 2, 3, "???++", "pass"),
        (2, 2, 3, "++???+", ""),
        (2, 1, 3, "+???-", ""),
        (2, 1, 3, "???-", ""),
        (1, 1, 3, "???-", "fail"),
        (2, 1, 3, "-???-", "fail"),
    ],
)
def test_thresholds(failures: int, successes: int, missing: int, looks: str, verdict: str):
    state = seen(probe(failures, successes, missing), looks)
    assert state.verdict == verdict
    assert bool(state.reason) is (verdict in {"fail", "inconclusive"})
    assert (state.looks, state.failed, state.missing) == (len(looks), looks.count("-"), looks.count("?"))


@pytest.mark.parametrize(
    ("looks", "verdict", "counted"),
    [("+-", "pass", 1), ("-+", "fail", 1), ("???+-", "pass", 4), ("???-", "fail", 4), ("???", "inconclusive", 3)],
)
def test_before_and_after_the_first_answer_stands(looks: str, verdict: str, counted: int):
    state = seen(probe(), looks, final=True)
    assert (state.verdict, state.looks) == (verdict, counted)


def test_reasons_say_what_was_seen():
    assert seen(probe(), "-").reason == "look 0"
    assert seen(probe(failures=2), "--").reason == "look 1 (2 looks in a row failed)"
    assert seen(probe(), "???").reason == "no data in 3 looks in a row: look 2"
    assert seen(probe(missing=1), "?").reason == "no data in 1 look: look 0"


def test_settled_is_who_has_a_verdict():
    assert settled([])
    assert settled([seen(probe(), "+"), seen(probe(), "-"), seen(probe(), "???")])
    assert not settled([seen(probe(), "+"), seen(probe(), "?")])


@pytest.mark.parametrize(
    ("looks", "verdict", "reason"),
    [
        ("", "inconclusive", "it was never checked"),
        ("+", "inconclusive", "it had passed in 1 look; 3 are needed"),
        ("-", "inconclusive", "the last 1 look failed; 2 in a row are a failure"),
        ("?", "inconclusive", "no data when it ended: look 0"),
        ("+++", "pass", ""),
        ("+++-", "pass", ""),
        ("--", "fail", "look 1 (2 looks in a row failed)"),
    ],
)
def test_what_is_open_at_the_end_is_inconclusive(looks: str, verdict: str, reason: str):
    asked = probe(failures=2, successes=3)
    assert concluded(asked, seen(asked, looks)) == (verdict, reason)


@dataclass(frozen=True)
class Record:
    verdict: Literal["pass", "fail", "inconclusive"]
    looks: int = 1


@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        ([], "inconclusive"),
        ([Record("pass")], "pass"),
        ([Record("pass"), Record("pass")], "pass"),
        ([Record("pass"), Record("inconclusive")], "inconclusive"),
        ([Record("inconclusive"), Record("fail")], "fail"),
        ([Record("pass"), Record("pass", looks=0)], "inconclusive"),
    ],
)
def test_a_hypothesis_holds_only_where_every_probe_passed(records: list[Record], verdict: str):
    assert hypothesis_verdict(records) == verdict


LOOKS = st.text(alphabet="+-?", max_size=40)
PROBES = st.builds(probe, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@given(PROBES, LOOKS)
def test_it_passes_only_after_so_many_in_a_row(asked: TcpProbe, looks: str):
    if seen(asked, looks).verdict == "pass":
        assert "+" * asked.successes in looks
    elif not set(looks) - {"+"} and len(looks) >= asked.successes:
        pytest.fail("all looks passed, and it has not")


@given(PROBES, LOOKS)
def test_it_fails_exactly_after_so_many_that_nothing_good_lies_between(asked: TcpProbe, looks: str):
    rows = [row.count("-") for row in looks.split("+")]
    assert (seen(asked, looks).verdict == "fail") is (max(rows) >= asked.failures)


@given(PROBES, st.integers(0, 40))
def test_no_data_never_passes_nor_fails(asked: TcpProbe, count: int):
    assert seen(asked, "?" * count).verdict == ("inconclusive" if count >= asked.missing else "")


@given(PROBES, LOOKS, LOOKS)
def test_failed_stays_failed(asked: TcpProbe, looks: str, more: str):
    if seen(asked, looks).verdict == "fail":
        assert seen(asked, looks + more).verdict == "fail"
        assert seen(asked, looks + more).reason == seen(asked, looks).reason


@given(PROBES, LOOKS)
def test_no_look_without_data_makes_a_verdict_better(asked: TcpProbe, looks: str):
    order = {"fail": 0, "inconclusive": 1, "": 1, "pass": 2}
    assert order[seen(asked, looks + "?").verdict] <= order[seen(asked, looks).verdict]


@given(PROBES, LOOKS, st.booleans())
def test_what_is_kept_is_small_and_has_the_failures(asked: TcpProbe, looks: str, final: bool):
    state = seen(asked, looks, final=final)
    kept = "".join({True: "+", False: "-", None: "?"}[look.ok] for look in state.samples)
    assert len(kept) == min(state.looks, KEPT)
    assert kept.count("-") >= min(state.failed, KEPT - 1)
    assert [look.time for look in state.samples] == sorted(look.time for look in state.samples)
    if state.failed:
        first = next(look for look in state.samples if look.ok is False)
        assert first.time == looks.index("-")
