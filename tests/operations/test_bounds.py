"""Whatever an operation is told and however long it lasts: its texts, its timeline and its status stay small."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.evidence.model import Evidence
from autopilot.operations import bounds
from autopilot.operations.bounds import LINE, NAME, TEXT, TIMELINE, WHOLE, Timeline, bounded, cut, news
from autopilot.operations.canary_status import CanaryStatus
from autopilot.operations.common import Approval, Caller, Command, Event, Phase, Promotion
from tests.drawn import examples

LONGEST_NOTE = 400
"""More than the judge has to say of one metric."""

FEW = 40_000
"""Bytes of a timeline that is full after some lines."""

texts = st.builds(
    lambda text, times: text * times, st.text(min_size=1, max_size=12), st.sampled_from([1, 1, 1, 50, 2000])
)
lines = st.lists(st.tuples(texts, st.sampled_from(["", "ann", "x" * 300]), st.booleans()), max_size=60)


@given(texts, st.integers(60, 3000))
def test_a_text_that_is_cut_is_no_longer_than_it_may_be_and_is_cut_once(text: str, most: int) -> None:
    short = cut(text, most)
    assert len(short) <= most
    assert cut(short, most) == short
    assert short == text or "more characters were left out" in short


@given(texts, texts, st.sampled_from([Command, Approval, Promotion]))
def test_a_command_keeps_who_verified_and_its_own_fields(reason: str, who: str, kind: type[Command]) -> None:
    own = {"gate": 3} if kind is Approval else {"full": True} if kind is Promotion else {}
    told = kind.model_validate({"reason": reason, "caller": {"who": who, "verified": True}, **own})
    kept = bounded(told)
    assert len(kept.reason) <= TEXT
    assert len(kept.caller.who) <= NAME
    assert kept.caller.verified
    assert kept.model_dump(include=set(own)) == own
    assert bounded(kept) == kept


def test_a_reason_in_a_line_of_the_timeline_is_cut_once() -> None:
    reason = bounded(Command(reason="x" * 100_000)).reason
    timeline = Timeline()
    timeline.add(1, f"promoted, the remaining steps are skipped: {reason}")
    (line,) = timeline.events()
    assert line.text.endswith(reason)


def size(events: Sequence[Event]) -> int:
    return sum(len(event.model_dump_json().encode()) + 1 for event in events)


@pytest.mark.parametrize("text", ["resumed", "\N{PILE OF POO}" * TEXT, "\x00" * TEXT, '"' * TEXT])
def test_a_timeline_is_bounded_in_bytes_whatever_its_lines_are(text: str) -> None:
    timeline = Timeline()
    for number in range(20_000 if len(text) < 10 else 400):
        timeline.add(number, text if number % 2 else f"{number}")
    events = timeline.events()
    assert size(events) <= TIMELINE + 200
    assert events[0].text == "0"
    assert events[-1].text == cut(text, LINE)


@given(lines)
@settings(max_examples=examples(60))
def test_a_timeline_keeps_its_first_and_its_last_lines_in_their_order(drawn: list[tuple[str, str, bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "TIMELINE", FEW)
        timeline, said, now = Timeline(), [], 0.0
        for text, who, later in drawn:
            now += later
            timeline.add(now, text, who)
            line = (cut(text, LINE), cut(who, NAME))
            if not said or said[-1] != line:
                said.append(line)
        events = timeline.events()
    kept = [event for event in events if not event.text.endswith("lines were left out")]
    if len(kept) < len(said):
        (marker,) = [event for event in events if event not in kept]
        assert marker.text == f"… {len(said) - len(kept)} lines were left out"
    assert [said[event.number - 1] for event in kept] == [(event.text, event.who) for event in kept]
    if said:
        assert (kept[0].number, kept[-1].number) == (1, len(said))
    assert [event.number for event in events] == sorted({event.number for event in events})


@given(lines, st.lists(st.integers(0, 5), max_size=80))
@settings(max_examples=examples(60))
def test_who_follows_is_told_each_line_once(drawn: list[tuple[str, str, bool]], pauses: list[int]) -> None:
    """Whatever was left out meanwhile, and however many lines are of the same moment or say the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "TIMELINE", FEW)
        timeline, now, told = Timeline(), 0.0, []
        last: Event | None = None
        seen: set[int] = set()
        waits = iter(pauses)
        left = next(waits, 0)
        for text, who, later in drawn:
            now += later
            timeline.add(now, text, who)
            left -= 1
            if left > 0:
                continue
            left = next(waits, 0)
            events = timeline.events()
            fresh = news(events, last)
            last = events[-1] if events else last
            told += [event.number for event in fresh]
            seen |= {event.number for event in events}
    assert told == sorted(set(told)), "no line twice"
    assert set(told) >= {number for number in seen if number == max(seen)}
    missed = seen - set(told)
    assert not missed, "no line that could be told is passed over"


def test_lines_of_an_earlier_version_are_told_apart_by_what_they_say() -> None:
    first, second, third = (Event(time=1, text=text) for text in "abc")
    assert news([first, second, third], second) == [third]
    late = Event(time=2, text="d")
    assert news([first, late], second) == [late]


def test_what_happens_after_a_reset_is_told() -> None:
    """The new run counts its lines from where it went back to."""
    told = Event(time=5, text="the canary gets 50 %", number=9)
    again = Event(time=7, text="the canary gets 25 %", number=6)
    assert news([Event(time=1, text="started", number=1), again], told) == [again]


def test_the_status_of_a_rollout_is_bounded_by_its_parts() -> None:
    """The largest specification that is accepted, and a timeline of the largest lines."""
    timeline = Timeline()
    for number in range(1000):
        timeline.add(number, "\x00" * LINE, "\x00" * NAME)
        timeline.add(number, f"{number}")
    evidence = Evidence(metric="m" * 63, harm=1 / 3, harm_needed=1 / 3, good=1 / 3, note="\x00" * LONGEST_NOTE)
    status = CanaryStatus(
        workflow_id="canary/" + "w" * 253,
        phase=Phase.UNDECIDED,
        reason="\x00" * TEXT,
        mesh="m" * 63,
        namespace="n" * 63,
        service="s" * 63,
        stable="a" * 63,
        canary="b" * 63,
        steps=(100 / 3,) * 101,
        paused_by="\x00" * NAME,
        waiting_for="\x00" * TEXT,
        evidence=(evidence,) * 20,
        timeline=timeline.events(),
    )
    assert len(status.model_dump_json().encode()) < WHOLE / 2


def test_who_asked_is_kept_in_a_line_however_long_the_name() -> None:
    timeline = Timeline()
    timeline.add(1, "paused", bounded(Command(caller=Caller(who="ann" * 1000))).caller.who)
    assert timeline.events()[0].who.startswith("annann")
