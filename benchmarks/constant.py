"""How often the judge blames a healthy canary, and how fast it finds a harmful one, where rates stand still.

100 requests/s with 10 % for the canary, in ticks of a second, after 30 minutes of stable alone from which the judge
learns how failures cluster. Clusters have geometric sizes and fall wholly into one arm. Evidence of harm rises only
with the canary's failures, so it is looked at where there was one, and everywhere when phi is read anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from autopilot.evidence.batch import take
from autopilot.evidence.canary import harm_needed
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import Judge, JudgeMetric
from autopilot.evidence.statistics import clustering, dispersion, metric_process, process_evidence
from autopilot.evidence.statistics.arrays import BatchArm, Counts
from autopilot.spec.canary import Analysis

RATE, WEIGHT, MINUTES = 100.0, 0.1, 30
SECONDS = 60 * MINUTES
HEALTHY = int(os.environ.get("ROLLOUTS", "4000"))
"""Rollouts of each kind."""
HARMFUL = max(100, HEALTHY // 5)
READ = 15
"""Seconds between two readings of phi."""
SHARES = {"100": 1.0, "20": 0.2, "5": 0.05, "2": 0.02, "0_9": 0.009}
TABLE = {"100": 4.0, "20": 5.0, "5": 9.0, "2": 23.0, "0_9": 61.0}
"""Seconds to find them, with LAG, as the notes on canary statistics have it (6)."""
LAG = 3.0

ERRORS = JudgeMetric(name="errors", kind="errors")
STRICT = Judge(metrics=(ERRORS,), alpha=0.01, ratio=1.0, absolute=0.0, warmup=0.0, phi=None)
"""Alpha 1 %, no margin, no warm-up, one metric."""
DEFAULT = judge_from(Analysis())
FOUR = DEFAULT.model_copy(
    update={"metrics": tuple(ERRORS.model_copy(update={"name": f"errors-{number}"}) for number in range(4))}
)
"""Four metrics share alpha; only one of them has something to find."""
BASES, CLUSTERS = (0.005, 0.001), (1, 2, 5)
KINDS = (
    ("healthy", "strict"),
    ("healthy", "default"),
    ("unaware", "strict"),
    ("unaware", "default"),
    ("plain", "strict"),
)
SLOW_SHARES = (0.2, 0.05, 0.01, 0.002, 0.0002)
"""Healthy requests slower than each of the default boundaries."""


@dataclass(frozen=True)
class Case:
    """So many rollouts under one judge."""

    judge: Judge
    rollouts: int
    stable: float
    canary: float
    cluster: float = 1.0
    history: bool = True
    seed: int = 0
    tempered: bool = True


class Watch:
    """One metric of many rollouts, judged as `autopilot.evidence.canary` judges one."""

    def __init__(self, case: Case, gauge: clustering.Gauge, metric: JudgeMetric) -> None:
        self.judge, self.metric, self.tempered = case.judge, metric, case.tempered
        self.gauge, self.gathered = gauge, metric_process.fresh(metric, (case.rollouts,))
        self.needed, self.clock = harm_needed(case.judge, metric), 0.0
        self.first = np.full(case.rollouts, np.inf)
        self.read = clustering.dispersion(gauge)

    def fold(self, canary: BatchArm, stable: BatchArm, seconds: float) -> None:
        """One tick: what it says of phi counts from the next on."""
        before, self.clock = self.clock, self.clock + seconds
        warm, was = self.clock <= self.judge.warmup, before < self.judge.warmup
        if was and not warm:
            self.gathered = metric_process.begin_harm(self.gathered)
        anew = before // READ != self.clock // READ or was or before < 2 * READ
        if anew:
            self.read = clustering.dispersion(self.gauge)
        judged = not warm or self.metric.kind == "errors"
        self.gathered = metric_process.fold(
            self.judge, self.metric, self.gathered, canary, stable, seconds=seconds, harm=judged
        )
        if self.tempered:
            counted = metric_process.counts(self.metric, stable)
            self.gauge = clustering.fold(self.gauge, *counted, seconds=seconds)
        if judged:
            self._look(canary, everywhere=anew, warm=warm)

    def _look(self, canary: BatchArm, *, everywhere: bool, warm: bool) -> None:
        bad, _ = metric_process.counts(self.metric, canary)
        (rows,) = np.nonzero(np.isinf(self.first) & (everywhere | (bad[:, 0] > 0)))
        if not rows.size:
            return
        some = take(self.gathered, rows)
        gross = self._gross(some)
        unknown = np.where(gross & (self.metric.kind == "errors"), dispersion.GROSS, dispersion.PRIOR)[:, None]
        phi = (
            np.where(self.read.known[rows] > 0, self.read.phi[rows], unknown)
            if self.tempered
            else metric_process.SINGLE
        )
        found = process_evidence.harm(self.judge, self.metric, some, phi=phi) >= self.needed
        self.first[rows[found & (gross | (not warm))]] = self.clock

    def _gross(self, some: metric_process.Process) -> Counts:
        canary = some.canary_bad[:, 0, 0] / np.maximum(some.canary_all[:, 0, 0], 1)
        stable = some.stable_bad[:, 0, 0] / np.maximum(some.stable_all[:, 0, 0], 1)
        return np.asarray((canary >= self.judge.gross_share) & (canary >= self.judge.gross_ratio * stable))


def failures(rng: np.random.Generator, requests: Counts, rate: float, share: float, cluster: float) -> Counts:
    """Failures of one arm in one second: each by itself, or in clusters whose number is Poisson."""
    if cluster <= 1:
        return rng.binomial(requests.astype(np.int64), share).astype(float)
    number = rng.poisson(rate * share / cluster, requests.shape[0])
    found = np.zeros_like(requests)
    np.add.at(found, np.repeat(np.arange(requests.shape[0]), number), rng.geometric(1 / cluster, number.sum()))
    return found


def arm(rng: np.random.Generator, case: Case, rate: float, share: float) -> BatchArm:
    """One arm's second; a cluster brings its own requests along, so that none is cut."""
    requests = rng.poisson(rate, case.rollouts).astype(float)
    errors = failures(rng, requests, rate, share, case.cluster)
    requests = np.maximum(requests, errors)
    return BatchArm(requests=requests, errors=errors, timed=requests, slow=np.zeros((case.rollouts, 0)))


def play(case: Case) -> Counts:
    """The second in which each rollout is first rolled back; infinity for never."""
    rng = np.random.default_rng(case.seed)
    gauge = clustering.fresh(1, (case.rollouts,))
    for _ in range(SECONDS if case.history else 0):
        past = arm(rng, case, RATE, case.stable)
        gauge = clustering.fold(gauge, past.errors[:, None], past.requests[:, None], seconds=1.0)
    watch = Watch(case, gauge, case.judge.metrics[0])
    for _ in range(SECONDS):
        canary = arm(rng, case, RATE * WEIGHT, case.canary)
        watch.fold(canary, arm(rng, case, RATE * (1 - WEIGHT), case.stable), 1.0)
        if np.isfinite(watch.first).all():
            break
    return watch.first


def play_latency(case: Case) -> Counts:
    """Healthy latency at the default boundaries, in ticks of 5 s: five boundaries cost five times as much."""
    rng = np.random.default_rng(case.seed)
    metric, seconds = case.judge.metrics[1], 5
    watch = Watch(case, clustering.fresh(len(metric.boundaries), (case.rollouts,)), metric)

    def timed(rate: float) -> BatchArm:
        requests = rng.poisson(rate * seconds, case.rollouts).astype(float)
        slow, left, before = [], requests, 1.0
        for share in SLOW_SHARES:
            left = rng.binomial(left.astype(np.int64), share / before).astype(float)
            slow.append(left)
            before = share
        return BatchArm(requests=requests, errors=np.zeros_like(requests), timed=requests, slow=np.stack(slow, axis=-1))

    for _ in range(0, SECONDS, seconds):
        watch.fold(timed(RATE * WEIGHT), timed(RATE * (1 - WEIGHT)), seconds)
    return watch.first


def run(named: tuple[str, Case]) -> tuple[str, Counts]:
    """One case, for a pool."""
    name, case = named
    return name, play_latency(case) if name.startswith("latency") else play(case)


def cases() -> Iterator[tuple[str, Case]]:
    """All there is to play, the longest first."""
    half = HEALTHY // 2
    for part in (0, 1):
        yield f"latency/{part}", Case(DEFAULT, half, 0.0, 0.0, seed=900 + part)
    for number, (cluster, base) in enumerate((c, b) for b in BASES for c in CLUSTERS):
        for name, judge in (("strict", STRICT), ("default", DEFAULT)):
            yield f"healthy/{name}/{cluster}/{base}", Case(judge, HEALTHY, base, base, cluster, seed=number)
        for name, judge in (("strict", STRICT), ("default", DEFAULT)):
            unaware = Case(judge, HARMFUL, base, base, cluster, history=False, seed=100 + number)
            yield f"unaware/{name}/{cluster}/{base}", unaware
        plain = Case(STRICT, HARMFUL, base, base, cluster, history=False, tempered=False, seed=200 + number)
        yield f"plain/strict/{cluster}/{base}", plain
    for number, (share, canary) in enumerate(SHARES.items()):
        for cluster in CLUSTERS:
            yield f"found/strict/{cluster}/{share}", Case(STRICT, HARMFUL, 0.001, canary, cluster, seed=300 + number)
        after = FOUR.model_copy(update={"warmup": 0.0, "alpha": FOUR.alpha / 2})
        yield f"found/four/1/{share}", Case(after, HARMFUL, 0.001, canary, seed=400 + number)
        late = Case(STRICT, HARMFUL, 0.001, canary, history=False, seed=500 + number)
        yield f"found/unaware/1/{share}", late


def figures(seen: Mapping[str, Counts]) -> dict[str, float]:
    """What all cases say together.

    Args:
        seen: by name of the case the second of each rollback, infinity for none.
    """
    latency = float(np.isfinite(np.concatenate([seen["latency/0"], seen["latency/1"]])).mean())
    share = {name: float(np.isfinite(first).mean()) for name, first in seen.items()}
    median = {name: float(np.median(first)) for name, first in seen.items()}
    worst = {
        (kind, name, cluster): max(share[f"{kind}/{name}/{cluster}/{base}"] for base in BASES)
        for kind, name in KINDS
        for cluster in CLUSTERS
    }
    default = max(worst["healthy", "default", cluster] for cluster in CLUSTERS) + latency
    return {
        "false_rollback_independent": worst["healthy", "strict", 1],
        "false_rollback_clusters_2": worst["healthy", "strict", 2],
        "false_rollback_clusters_5": worst["healthy", "strict", 5],
        "false_rollback_default": default,
        "detection": min(share[f"found/strict/1/{one}"] for one in SHARES),
        "detection_default": min(share[f"found/four/1/{one}"] for one in SHARES),
        **{f"seconds_{one}": median[f"found/strict/1/{one}"] for one in SHARES},
        **{f"seconds_default_{one}": median[f"found/four/1/{one}"] for one in SHARES},
        **{f"seconds_no_history_{one}": median[f"found/unaware/1/{one}"] for one in SHARES},
        **{f"seconds_clusters_{c}_{one}": median[f"found/strict/{c}/{one}"] for c in (2, 5) for one in SHARES},
        **{f"detection_clusters_{c}": min(share[f"found/strict/{c}/{one}"] for one in SHARES) for c in (2, 5)},
        **{f"no_history_clusters_{c}": worst["unaware", "strict", c] for c in CLUSTERS},
        **{f"no_history_default_clusters_{c}": worst["unaware", "default", c] for c in CLUSTERS},
        **{f"no_phi_clusters_{c}": worst["plain", "strict", c] for c in CLUSTERS},
    }


def bounds() -> dict[str, float]:
    """What must hold. The seconds of the notes' table include a lag of 3 s, ours none: it is taken off before."""
    return {
        "false_rollback_independent": 0.01,
        "false_rollback_clusters_2": 0.01,
        "false_rollback_clusters_5": 0.01,
        "false_rollback_default": 0.0015,
        "detection": 0.99,
        **{f"seconds_{one}": 1.5 * (TABLE[one] - LAG) for one in SHARES},
        "detection_default": 0.99,
        **{f"seconds_default_{one}": 2.5 * (TABLE[one] - LAG) for one in SHARES},
    }
