"""A scripted source, and short ways to write samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from autopilot.telemetry.model import Counters, Observation, SeriesSample, Subject

REVIEWS = Subject(mesh="local", namespace="shop", service="reviews", arms=("v1", "v2"))
RATINGS = Subject(mesh="local", namespace="shop", service="ratings", arms=("v1", "v2"))

Script = Callable[[int, Subject], Observation]


def counters(requests: float, errors: float = 0.0, fast: float | None = None) -> Counters:
    """With a histogram of two bounds where `fast` (at most 100 ms) is given."""
    if fast is None:
        return Counters(requests=requests, errors=errors)
    return Counters(requests=requests, errors=errors, timed=requests, buckets=((0.1, fast), (1.0, requests)))


def sample(
    arm: str,
    time: float,
    attempt: Counters,
    *,
    proxy: str = "web",
    user: Counters | None = None,
    started: float | None = 0.0,
    active: float = 0.0,
) -> SeriesSample:
    return SeriesSample(
        series=f"{proxy}|{arm}",
        arm=arm,
        time=time,
        started=started,
        attempt=attempt,
        user=attempt if user is None else user,
        active=active,
    )


def seen(time: float, *samples: SeriesSample, subject: Subject = REVIEWS, **missing: str) -> Observation:
    return Observation(subject=subject, time=time, samples=samples, missing=missing)


class ScriptedSource:
    """Answers each poll by a function of its number; what it raises is raised."""

    def __init__(self, script: Script, *, delay: float = 0.0, interval: float | None = None) -> None:
        self.script = script
        self.interval = interval
        self.delay = delay
        self.polls: list[tuple[Subject, ...]] = []
        self.closed = False

    @property
    def name(self) -> str:
        return "script"

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        number = len(self.polls)
        self.polls.append(tuple(subjects))
        if self.delay:
            await asyncio.sleep(self.delay)
        return [self.script(number, subject) for subject in subjects]

    async def close(self) -> None:
        self.closed = True
