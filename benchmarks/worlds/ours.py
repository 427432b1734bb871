"""The project's own judge over many rollouts at once: what `autopilot.evidence.canary` does to one, with a batch axis.

A test holds the two to the same verdicts at the same ticks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from autopilot.evidence.batch import take
from autopilot.evidence.canary import harm_needed
from autopilot.evidence.comparison import MANY_REQUESTS, MANY_SHARE, YOUNG, crowded
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import Judge
from autopilot.evidence.statistics import clustering, coalescing, dispersion, metric_process, process_evidence
from autopilot.evidence.statistics.arrays import BatchArm, Counts, Flags
from autopilot.evidence.statistics.metric_process import FAILURES
from autopilot.spec.canary import Analysis, CanaryStep
from autopilot.telemetry.quantiles import Spread
from worlds.looking import gross, guarded, nearby, passes
from worlds.model import Step, World
from worlds.moment import Rows
from worlds.outcome import Outcome, Tally
from worlds.rows import StepRows, Watched, nothing, taken
from worlds.shapes import Shape

DEFAULT = judge_from(Analysis())
BUCKETS = (
    0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0,
    3600.0,
)  # fmt: skip
"""Envoy's histogram buckets, in seconds."""
_MANY = 1e6
MIN_REQUESTS = CanaryStep(weight=50).min_requests
_READ = 5
"""Ticks between two readings of a latency's phi, which moves slowly."""
_SHRINK = 0.8
"""Rows are dropped when less than this part of them still runs."""


@dataclass
class Walked:
    """How our rollouts ended, and what the benchmark wants to know besides."""

    outcome: Outcome
    metric: Rows
    """Which metric found harm, by its number; -1 for none."""
    also: Flags
    """Which would have been rolled back by a judge that differs in alpha alone, shape (n,)."""
    phi: Mapping[str, float] = field(default_factory=dict)
    """By metric the median phi at the end of the history."""


def boundaries(shape: Shape) -> tuple[float, ...]:
    """Where latency is compared in a world of such a shape: what the product learns from stable's requests."""
    slower = shape.slower(np.array(BUCKETS), np.ones(1))[0]
    within = {bound: _MANY * (1.0 - share) for bound, share in zip(BUCKETS, slower.tolist(), strict=True)}
    return Spread(_MANY, within).boundaries()


def following(judge: Judge, bounds: tuple[float, ...]) -> Judge:
    """The judge with latency compared at these boundaries alone."""
    at = {"boundaries": tuple(range(len(bounds))), "seconds": bounds}
    metrics = tuple(one.model_copy(update=at) if one.kind == "latency" else one for one in judge.metrics)
    return judge.model_copy(update={"metrics": metrics})


def walk(
    world: World,
    rng: np.random.Generator,
    n: int,
    judge: Judge = DEFAULT,
    steps: tuple[Step, ...] | None = None,
    *,
    also: float | None = None,
) -> Walked:
    """Walks n rollouts through a world until each has ended, by the judge's rules and a step's default limits.

    Args:
        world: where.
        rng: what the world is drawn from.
        n: number of rollouts.
        judge: how they are judged; latency at the boundaries that the world asks for.
        steps: weights and times; by default those that the world is meant for.
        also: a larger alpha, for `Walked.also`. Steps end whatever alpha is, so that one walk shows both.
    """
    steps = world.steps if steps is None else steps
    bounds = boundaries(world.shape)
    return _Walk(world.with_boundaries(bounds), rng, n, following(judge, bounds), steps, also).run()


class _Walk:
    def __init__(  # noqa: PLR0917 - what `walk` was given
        self,
        world: World,
        rng: np.random.Generator,
        n: int,
        judge: Judge,
        steps: tuple[Step, ...],
        also: float | None,
    ) -> None:
        self.world, self.judge = world, judge
        self.play, self.tally = world.begin(rng, n), Tally(n)
        self.rows = np.arange(n)
        self.metrics = [
            Watched(
                metric,
                metric_process.fresh(metric, (n,)),
                gauge := clustering.fresh(metric_process.width(metric), (n,)),
                clustering.dispersion(gauge),
                np.zeros((n, 2)),
            )
            for metric in judge.metrics
            if not metric.implied  # worlds tell no client errors; these keep their share of alpha
        ]
        self.weights = np.array([step.weight for step in steps])
        self.holds = np.array([step.hold for step in steps])
        self.limits = np.array([CanaryStep(weight=50, hold=step.hold).limit for step in steps])
        self.needed = [harm_needed(judge, one.metric) for one in self.metrics]
        more = judge if also is None else judge.model_copy(update={"alpha": also})
        self.sooner = [harm_needed(more, one.metric) for one in self.metrics]
        self.harmed, self.also = np.full(n, -1), np.zeros(n, dtype=bool)
        zeros = np.zeros(n)
        self.state = StepRows(
            rung=np.zeros(n, dtype=np.intp), risen=zeros, seconds=zeros, requests=zeros, company=zeros,
            company_seconds=zeros, compared=zeros, compared_stable=zeros, group_seconds=zeros,
            canary=nothing(n, len(world.boundaries)), stable=nothing(n, len(world.boundaries)),
        )  # fmt: skip
        self.warm = judge.warmup > 0

    def run(self) -> Walked:
        if self.judge.phi is None:
            for stable, seconds in self.play.past():
                self._learn(stable, seconds)
        for one in self.metrics:
            one.read = clustering.dispersion(one.gauge)
        phi = {one.metric.name: float(np.median(one.read.phi)) for one in self.metrics}
        time, number = 0.0, 0
        while self.tally.running.any():
            self._tick(time, number)
            time, number = time + self.world.tick, number + 1
            self._shrink()
        return Walked(self.tally.outcome(), self.harmed, self.also, phi)

    def _learn(self, stable: BatchArm, seconds: float) -> None:
        for one in self.metrics:
            one.gauge = clustering.fold(one.gauge, *metric_process.counts(one.metric, stable), seconds=seconds)

    def _tick(self, time: float, number: int) -> None:
        now, world, judge = self.state, self.world, self.judge
        canary, stable = self.play.tick_of(time, self.weights[now.rung], time - now.risen)
        time += world.tick
        self.tally.count(canary, self.rows)
        warm = self.warm and time <= judge.warmup + 1e-6
        if self.warm and not warm:
            self._compare(np.ones(self.rows.size, dtype=bool), time, warm=True)
            for one in self.metrics:
                one.gathered = metric_process.begin_harm(one.gathered)
                one.failing = np.zeros_like(one.failing)
        self.warm = warm
        now.canary, now.stable = coalescing.added(now.canary, canary), coalescing.added(now.stable, stable)
        now.group_seconds = now.group_seconds + world.tick
        whole = coalescing.whole(
            coalescing.seen(now.canary), coalescing.seen(now.stable), now.group_seconds,
            before_canary=now.compared, before_stable=now.compared_stable, alone=self.weights[now.rung] >= 1,
        )  # fmt: skip
        self._compare(whole, time, warm=warm)
        for one in self.metrics:
            if judge.phi is None and (one.metric.kind == "errors" or number % _READ == 0):
                one.read = clustering.dispersion(one.gauge)
        if judge.phi is None:
            self._learn(stable, world.tick)
        now.seconds, now.requests = now.seconds + world.tick, now.requests + canary.requests
        self._judge(time, warm=warm)

    def _compare(self, rows: Flags, time: float, *, warm: bool) -> None:
        """Folds what was held back, in some rows, when the tick that ends at `time` has come."""
        now, judge = self.state, self.judge
        if not rows.any():
            return
        canary, stable = coalescing.of_rows(now.canary, rows), coalescing.of_rows(now.stable, rows)
        seconds = np.where(rows, now.group_seconds, 0.0)
        everybody = canary.requests + stable.requests
        company = rows & (stable.requests >= coalescing.ALONE * canary.requests)
        nobody = ~crowded(everybody, seconds, company, now.company, now.company_seconds)
        quiet, still = coalescing.of_rows(canary, nobody), coalescing.of_rows(stable, nobody)
        for one in self.metrics:
            arms = (quiet, still) if one.metric.kind == "latency" else (canary, stable)
            judged = self._settled(one, time) & (one.metric.kind in FAILURES or not warm)
            before = one.gathered.epoch
            one.gathered = metric_process.fold(judge, one.metric, one.gathered, *arms, seconds=seconds, harm=judged)
            one.failing[one.gathered.epoch > before, 1] = 0.0
            if one.metric.kind in FAILURES:
                bad, _ = metric_process.counts(one.metric, canary)
                one.failing = one.failing + ((bad[:, :1] > 0) & judged[:, None])
        now.company = now.company + np.where(company, everybody, 0.0)
        now.company_seconds = now.company_seconds + np.where(company, seconds, 0.0)
        now.compared = now.compared + coalescing.seen(canary)
        now.compared_stable = now.compared_stable + coalescing.seen(stable)
        now.canary, now.stable = coalescing.of_rows(now.canary, ~rows), coalescing.of_rows(now.stable, ~rows)
        now.group_seconds = np.where(rows, 0.0, now.group_seconds)

    def _settled(self, one: Watched, time: float) -> Flags:
        """Where bad requests may be harm: after a while, or where almost all are bad."""
        canary, total = one.gathered.step_bad[:, 0], one.gathered.step_all[:, 0]
        stable, known = one.gathered.past_bad, one.gathered.past_all
        often = (canary >= MANY_SHARE * total) & (canary * known >= self.judge.gross_ratio * stable * total)
        gross = (total[:, 0] >= MANY_REQUESTS) & (known[:, 0] > 0) & often.any(axis=-1)
        settle, seconds = self.judge.settle, np.where(self.state.rung > 0, self.state.seconds, np.inf)
        if one.metric.kind in FAILURES:
            settling = seconds < min(settle, YOUNG) - 1e-6
        else:
            counted = time - self.world.tick - self.judge.warmup if self.judge.warmup > 0 else np.inf
            settling = np.minimum(seconds, counted) < settle - 1e-6
        return np.asarray(~settling | gross)

    def _judge(self, time: float, *, warm: bool) -> None:
        now, judge = self.state, self.judge
        harmed = np.zeros(self.rows.size, dtype=bool)
        running = self.tally.running[self.rows]
        held = (now.seconds >= self.holds[now.rung] - 1e-6) & (now.requests >= MIN_REQUESTS) & (not warm)
        excluded, good = held, held
        for number, one in enumerate(self.metrics):
            bad = gross(judge, one)
            phi = self._phi(one, bad)
            if not warm or one.metric.kind in FAILURES:
                found, sooner = self._found(number, phi, bad | (not warm))
                found, sooner = found & running, sooner & running
                self.harmed[self.rows[found & ~harmed & (self.harmed[self.rows] < 0)]] = number
                self.also[self.rows[sooner]] = True
                harmed |= found
            if held.any():
                enough, shown = passes(judge, one, phi, held)
                excluded, good = excluded & enough, good & shown
        late = now.seconds >= self.limits[now.rung] - 1e-6
        self._move(time, harmed, (excluded | good) & ~harmed, late)

    def _found(self, number: int, phi: Counts, counts: Flags) -> tuple[Flags, Flags]:
        """Which rollouts have enough evidence of harm in a metric, and which at the larger alpha; of those that count.

        A rollout that `sooner` has is one that the larger alpha would have ended.
        """
        one, judge = self.metrics[number], self.judge
        found = guarded(judge, one)
        sooner = found.copy()
        (rows,) = np.nonzero(counts & nearby(judge, one.gathered, phi=phi, needed=self.sooner[number]))
        if rows.size:
            harm = process_evidence.harm(judge, one.metric, take(one.gathered, rows), phi=phi[rows])
            found[rows] |= harm >= self.needed[number]
            sooner[rows] |= harm >= self.sooner[number]
        return found, sooner

    def _phi(self, one: Watched, bad: Flags) -> Counts:
        if self.judge.phi is not None:
            return np.full((self.rows.size, metric_process.width(one.metric)), self.judge.phi)
        unknown = np.where(bad, dispersion.GROSS, dispersion.PRIOR)[:, None]
        return np.where(one.read.known > 0, one.read.phi, unknown)

    def _move(self, time: float, harmed: Flags, up: Flags, late: Flags) -> None:
        now = self.state
        weight = np.zeros(self.tally.running.size)
        weight[self.rows] = self.weights[now.rung]
        last = now.rung == self.weights.size - 1
        self.tally.end(self.rows[harmed], "rolled_back", at=time, weight=weight)
        self.tally.end(self.rows[up & last], "promoted", at=time, weight=weight)
        self.tally.end(self.rows[late & ~up & ~harmed], "inconclusive", at=time, weight=weight)
        rises = up & ~last
        if not rises.any():
            return
        self._compare(rises, time + self.world.tick, warm=self.warm)
        for one in self.metrics:
            one.gathered = metric_process.begin_step(one.gathered, rises)
            one.failing[rises, 1] = 0.0
        now.rung = now.rung + rises
        now.risen = np.where(rises, time, now.risen)
        for name in ("seconds", "requests", "compared", "compared_stable"):
            setattr(now, name, np.where(rises, 0.0, getattr(now, name)))

    def _shrink(self) -> None:
        """Goes on without what has ended."""
        running = self.tally.running[self.rows]
        if running.mean() > _SHRINK or not running.any():
            return
        (kept,) = np.nonzero(running)
        self.play.keep(kept)
        self.rows = self.rows[kept]
        for one in self.metrics:
            one.gathered, one.gauge, one.read = (taken(each, kept) for each in (one.gathered, one.gauge, one.read))
            one.failing = one.failing[kept]
        self.state = taken(self.state, kept)
