"""Ticks to judge: drawn by hypothesis, or by a seeded generator."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from autopilot.evidence.model import ArmTick, Judge, JudgeMetric, StepRule, Tick
from autopilot.evidence.statistics.arrays import BatchArm, BatchTick

WATCH = StepRule(hold=60, min_requests=100, limit=None)
"""Watches for harm alone."""

ERRORS = JudgeMetric(name="errors", kind="errors")
LATENCY = JudgeMetric(name="latency", kind="latency", boundaries=(0, 1), seconds=(0.1, 0.5))
SUCCESS = JudgeMetric(name="success-rate", kind="success", objective=0.99)
WITHIN = JudgeMetric(name="within", kind="within", boundaries=(1,), seconds=(0.5,), objective=0.95)
THRESHOLD = JudgeMetric(name="queue", kind="threshold", maximum=10, failures=3)


def judge(*metrics: JudgeMetric, **options: float) -> Judge:
    return Judge(metrics=metrics or (ERRORS, LATENCY), **{"warmup": 0.0, **options})


@st.composite
def arms(draw: st.DrawFn, most: int = 300) -> ArmTick:
    requests = draw(st.integers(0, most))
    timed = draw(st.integers(0, most))
    over = draw(st.integers(0, timed))
    return ArmTick(
        requests=requests,
        errors=draw(st.integers(0, requests)),
        timed=timed,
        slow=(over, draw(st.integers(0, over))),
    )


@st.composite
def ticks(draw: st.DrawFn, most: int = 12) -> list[Tick]:
    pairs = draw(st.lists(st.tuples(arms(60), arms(300)), min_size=1, max_size=most))
    return [Tick(time=1000.0 + i, seconds=1.0, canary=c, stable=s) for i, (c, s) in enumerate(pairs, 1)]


def steady(seconds: int, canary: ArmTick, stable: ArmTick, **readings: float | None) -> list[Tick]:
    """The same tick every second."""
    return [
        Tick(time=1000.0 + i, seconds=1.0, canary=canary, stable=stable, readings=readings)
        for i in range(1, seconds + 1)
    ]


def draw_batch(
    rng: np.random.Generator, batch: int, *, canary: float, stable: float, rate: int = 100, weight: float = 0.1
) -> BatchTick:
    """One second of traffic for many rollouts, with failures and slow requests at the given shares."""

    def arm(requests: np.ndarray, share: float) -> BatchArm:
        slow = rng.binomial(requests, share)
        return BatchArm(
            requests=requests.astype(float),
            errors=rng.binomial(requests, share).astype(float),
            timed=requests.astype(float),
            slow=np.stack([slow, rng.binomial(slow, 0.5)], axis=-1).astype(float),
        )

    split = rng.binomial(rate, weight, size=batch)
    return BatchTick(seconds=1.0, canary=arm(split, canary), stable=arm(rate - split, stable))
