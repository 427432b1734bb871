"""What users met, counted twice: open requests get their time, and no more than they are known to be."""

from __future__ import annotations

from dataclasses import replace

from autopilot.telemetry.exposure import tally
from autopilot.telemetry.model import Observation, SeriesSample, Subject
from tests.telemetry.fakes import REVIEWS, ScriptedSource, counters, sample, seen

LOOK = replace(sample("v2", 0, counters(10, 1)), begun=14.0, active=4.0)


def source(*looks: SeriesSample) -> ScriptedSource:
    def script(number: int, subject: Subject) -> Observation:
        look = looks[min(number, len(looks) - 1)]
        return seen(look.time, look, sample("v1", look.time, counters(100)))

    return ScriptedSource(script)


async def test_nothing_open_returns_at_once():
    quiet = source(replace(LOOK, begun=10.0, active=0.0))
    assert await tally(quiet, REVIEWS, "v2") == {"web|v2": (10, 1)}
    assert len(quiet.polls) == 1


async def test_answers_that_come_in_time_are_no_failures():
    answered = source(LOOK, replace(LOOK, time=0.3, attempt=counters(14, 1), user=counters(14, 1), active=0.0))
    assert await tally(answered, REVIEWS, "v2") == {"web|v2": (14, 1)}
    assert len(answered.polls) == 2


async def test_what_stays_open_has_failed_and_younger_requests_have_not():
    looks = source(LOOK, replace(LOOK, time=1.5, attempt=counters(16, 1), user=counters(16, 1), begun=24.0, active=8.0))
    assert await tally(looks, REVIEWS, "v2", patience=0.3) == {"web|v2": (24, 1)}
    stuck = source(LOOK, replace(LOOK, time=1.5, begun=15.0, active=5.0))
    assert await tally(stuck, REVIEWS, "v2", patience=0.3) == {"web|v2": (15, 1 + 4)}


async def test_streams_are_answered():
    streams = source(replace(LOOK, attempt=counters(14, 1), user=counters(14, 1)))
    assert await tally(streams, REVIEWS, "v2", patience=0.3) == {"web|v2": (14, 1)}


async def test_a_source_that_repeats_itself_accuses_nobody():
    assert await tally(source(LOOK), REVIEWS, "v2", patience=0.3) == {"web|v2": (14, 1)}


async def test_a_source_without_what_has_begun_counts_what_ended():
    assert await tally(source(replace(LOOK, begun=None)), REVIEWS, "v2") == {"web|v2": (10, 1)}


async def test_a_count_before_a_rollout_waits_for_samples_younger_than_itself():
    """What a Prometheus scraped before the last rollout ended is not laid at the next one's door."""
    old = replace(LOOK, time=99.0, active=0.0, begun=10.0, took=0.5)
    edge = replace(old, time=100.2, attempt=counters(20, 6), user=counters(20, 6), begun=20.0)
    fresh = replace(edge, time=101.0, attempt=counters(25, 9), user=counters(25, 9), begun=25.0)
    looks = source(old, edge, fresh)
    assert await tally(looks, REVIEWS, "v2", since=100.0) == {"web|v2": (25, 9)}
    gone = source(old)
    assert await tally(gone, REVIEWS, "v2", since=100.0, promptness=0.3) == {"web|v2": (10, 1)}
    other = source(replace(fresh, arm="v1"))
    assert await tally(other, REVIEWS, "v2", since=200.0) == {}
