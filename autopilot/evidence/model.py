"""Types of the judge: the content of a tick, its settings, and its verdicts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autopilot.wire import Wire


class ArmTick(Wire):
    """What one arm did in one tick: increments, never totals."""

    requests: float = 0.0
    errors: float = 0.0
    timed: float = 0.0
    """Requests in the latency histogram; it may trail `requests` by a flush."""
    slow: tuple[float, ...] = ()
    """Of these, how many took longer than each of the judge's boundaries (same order)."""
    client_errors: float | None = None
    """Of the requests, those answered with a client error (4xx); None where the source cannot tell."""
    aborts: float = 0.0
    """Of the errors, those whose caller left before an answer began, as far as the source tells."""

    def plus(self, other: ArmTick) -> ArmTick:
        """What it did in two ticks."""
        wide = max(len(self.slow), len(other.slow))
        slow = tuple(
            (self.slow[index] if index < len(self.slow) else 0.0)
            + (other.slow[index] if index < len(other.slow) else 0.0)
            for index in range(wide)
        )
        client = (self.client_errors or 0.0) + (other.client_errors or 0.0)
        return ArmTick(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            timed=self.timed + other.timed,
            slow=slow,
            client_errors=None if self.client_errors is other.client_errors is None else client,
            aborts=self.aborts + other.aborts,
        )


class Tick(Wire):
    """One comparable observation of both arms, and the latest readings of the user's own queries."""

    time: float
    """Sample time, seconds since the epoch."""
    seconds: float
    """Seconds the tick covers."""
    canary: ArmTick = ArmTick()
    stable: ArmTick = ArmTick()
    baseline: ArmTick | None = None
    """Stable's version with the canary's weight, counted apart; None where there is no such arm."""
    readings: dict[str, float | None] = Field(default_factory=dict)
    """Custom thresholds evaluated in this tick, by metric name; None where the query had no data."""


class JudgeMetric(Wire):
    """One thing that is judged."""

    name: str
    kind: Literal["errors", "latency", "clientErrors", "success", "within", "threshold"]
    """`errors`, `latency` and `clientErrors` compare with stable; `success` and `within` are absolute; `threshold` is a
    fixed gate."""
    weight: float = 1.0
    """Share of alpha, relative to the other metrics'; thresholds spend none."""
    boundaries: tuple[int, ...] = ()
    """Indices into `ArmTick.slow`, for `latency` (several) and `within` (one)."""
    seconds: tuple[float, ...] = ()
    """What those boundaries are in seconds, for words alone; may be left out."""
    ratio: float | None = None
    """Margins and sizes of this metric alone, where it has its own: see `Judge`."""
    absolute: float | None = None
    detect: float | None = None
    detect_absolute: float | None = None
    implied: bool = False
    """Judged where the source tells it, although the spec does not name it: its absence holds up no step."""
    aborts: bool = True
    """For `errors` and `success`: whether callers that left before an answer began count, as requests and as errors."""
    objective: float | None = None
    """For `success` and `within`: the share of requests that must be good."""
    maximum: float | None = None
    minimum: float | None = None
    failures: int = 3
    asked: str = ""
    """For `threshold`: the query, as the user wrote it; for words alone."""
    patience: float = 30.0
    """Seconds for which a step that could end otherwise waits for the first reading of this metric."""


class Judge(Wire):
    """The numeric settings of a judge, the same for every step."""

    metrics: tuple[JudgeMetric, ...]
    alpha: float = 0.001
    beta: float = 0.05
    ratio: float = 1.2
    absolute: float = 0.001
    good_ratio: float = 1.5
    warmup: float = 60.0
    """Seconds after the first tick in which only gross harm counts."""
    gross_share: float = 0.05
    gross_ratio: float = 10.0
    phi: float | None = 1.0
    """How many failures count as one where they cluster; None estimates it, from stable's ticks so far."""
    baseline: bool = False
    """Harm needs the sign test against the baseline arm to agree, in ticks that have one."""
    detect: float = 2.0
    """The smallest harm that a step's requests should be enough for, as a multiple of stable's share..."""
    detect_absolute: float = 0.01
    """...and at least so much more than it."""
    miss_budget: float = 0.1
    """Chance of missing it by then."""
    settle: float = 0.0
    """Seconds after a step began, and after the warm-up, in which latency is no harm unless it is gross: connections
    and caches are new. After a rise the same holds for failures, for five seconds at most: pods are new."""
    guard_share: float | None = 0.2
    """The absolute guard: so large a share of failures is harm whatever phi says, where stable's is `gross_ratio` times
    smaller; None for no guard."""
    guard_requests: float = 100.0
    """Canary requests that it takes for that..."""
    guard_failing: int = 5
    """...and comparisons in which some failed: one burst of a client is over in fewer."""
    past_margin: float = 2.0
    """How many times both margins a canary without company may exceed what stable did before: time may change much."""

    def of(self, metric: JudgeMetric) -> Judge:
        """The judge with the margins of one metric, where it has its own."""
        names = ("ratio", "absolute", "detect", "detect_absolute")
        own = {name: value for name in names if (value := getattr(metric, name)) is not None}
        return self.model_copy(update=own) if own else self


class StepRule(Wire):
    """When one step is over."""

    hold: float
    min_requests: float
    limit: float | None
    """Seconds after which the step is inconclusive; None watches for harm alone and never advances."""
    alone: bool = False
    """The canary gets all traffic, so that stable's silence need not be waited for."""


class Evidence(Wire):
    """How far one metric's evidence has come: natural logarithms, so much of so much needed; never a probability."""

    metric: str
    harm: float
    harm_needed: float
    good: float | None = None
    good_needed: float | None = None
    canary: float | None = None
    """The canary's share of bad requests so far in the rollout, where it had any."""
    stable: float | None = None
    more: float | None = None
    """About how many more canary requests it takes until the smallest harm to `detect` would have been seen."""
    good_more: float | None = None
    """About how many more until a canary as good as stable would have been shown to be."""
    phi: float | None = None
    """How many failures counted as one, for stable's come in clusters; None where the judge was told."""
    excluded: float | None = None
    """Evidence of this step that harm of the size to be detected is excluded; None where nothing can be compared."""
    excluded_needed: float | None = None
    smallest: float | None = None
    """The smallest share of bad requests that this step has excluded, at the same chance of a mistake."""
    note: str = ""


class Harm(Wire):
    """The canary is worse than the margin allows, at the stated error rate."""

    kind: Literal["harm"] = "harm"
    metric: str
    reason: str
    evidence: tuple[Evidence, ...] = ()


class Advance(Wire):
    """The step has held, with enough requests and no harm."""

    kind: Literal["advance"] = "advance"
    reason: str
    evidence: tuple[Evidence, ...] = ()


class Inconclusive(Wire):
    """Nothing can be said: too few requests in the time there was, or no telemetry, of a metric or at all."""

    kind: Literal["inconclusive"] = "inconclusive"
    cause: Literal["time", "noData", "split", "leaseLost", "condemned", "takenOver", "halted", "stopped"]
    """`noData`: of a metric that had no reading in the step (the judge's finding), or of all (its watch's). From
    `leaseLost` on, not a finding of the judge. `condemned`: an earlier watch found harm under this lease but
    could not report it; `takenOver`: a person or a higher priority has the target; `halted`: a halt is in force;
    `stopped`: the watch was ended by its workflow before it had a verdict."""
    reason: str
    evidence: tuple[Evidence, ...] = ()


Verdict = Annotated[Harm | Advance | Inconclusive, Field(discriminator="kind")]
