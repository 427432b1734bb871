"""MeshCanary: how the traffic of a new version is raised."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from autopilot.spec.base import Metadata, Misplaced, SpecModel
from autopilot.spec.values.arms import ArmName
from autopilot.spec.values.units import Count, Fraction, Name, Number, Percent, Seconds, explained, finest

DEFAULT_WEIGHTS = (5.0, 10.0, 25.0, 50.0, 100.0)
_LONG = 1800.0
"""Seconds that a step may take by default: at one canary request a second it takes about half of it to exclude harm."""


class CanaryTarget(SpecModel):
    """The service whose traffic is shifted; the namespace is the resource's own."""

    service: Name
    mesh: Name | None = None
    """Name of the mesh; needed only if the worker drives several."""


class CanaryArms(SpecModel):
    """The two versions behind the service, by their names in the mesh: subsets of it, or Services.

    Where a name may mean both, write `{subset: v2}` or `{service: v2}`.
    """

    stable: ArmName
    canary: ArmName

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.stable == self.canary:
            raise Misplaced(f"is {self.canary!r}, the same as stable", at=("canary",), hint="name two versions")
        return self


RuleName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=317,
        pattern=explained(
            r"^[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?$",
            "the name of a rule, of a route, or of a route with its namespace before a slash",
        ),
    ),
]


class RouteRules(SpecModel):
    """Which rules of the routes that lead to the stable version are split: all, unless it says otherwise.

    A rule is named by its own name, by its route's (`web`), or by its route's with the namespace (`edge/web`).
    """

    only: Annotated[tuple[RuleName, ...], Field(max_length=100)] = ()
    """These and no others."""
    except_: Annotated[tuple[RuleName, ...], Field(max_length=100, alias="except")] = ()
    """None of these: they go on leading to the stable version, during the rollout and after it."""

    @property
    def some(self) -> bool:
        """Whether some may be left out."""
        return bool(self.only or self.except_)


class Pause(SpecModel):
    """Wait for a person's approval before the next step; harm still restores meanwhile."""

    timeout: Seconds | None = None
    on_timeout: Literal["rollback", "promote"] = "rollback"


class CanaryStep(SpecModel):
    """One weight, and what must be observed before the next one."""

    weight: Annotated[Percent, finest(0.01, "meshes divide traffic", whole=True)]
    """Share of the traffic the canary gets, in percent."""
    hold: Seconds = 60.0
    """Minimum time at this weight."""
    min_requests: Annotated[Count, Field(ge=0)] = 100
    """Minimum number of requests that the canary serves in this step. The step ends when, beyond both, harm of the size
    to `detect` is excluded."""
    timeout: Seconds | None = None
    """After this long without enough requests the step is inconclusive; default: the larger of 30 min and 5 x hold."""
    pause: Pause | None = None
    """Wait for approval once the step's evidence is good; `pause: true` waits without a limit."""
    allow_decrease: bool = False
    """Allows this step's weight to be below the previous one."""

    @field_validator("pause", mode="before")
    @classmethod
    def _true_is_a_pause(cls, value: object) -> object:
        return Pause() if value is True else None if value is False else value

    @property
    def limit(self) -> float:
        """Seconds after which the step is inconclusive."""
        return self.timeout if self.timeout is not None else max(_LONG, 5 * self.hold)


class Margin(SpecModel):
    """How much worse the canary may be before it counts as harm: both must be exceeded."""

    ratio: Annotated[Number, Field(ge=1, le=100)] = 1.2
    absolute: Fraction = 0.001


class Guard(SpecModel):
    """So many failed requests are harm however stable's failures cluster, where stable's are ten times fewer."""

    share: Annotated[Fraction, Field(gt=0)] = 0.2
    """The canary's share of failed requests from which on it is harm."""
    requests: Annotated[Count, Field(ge=1)] = 100
    """So many of its requests must have been seen."""


class ErrorRate(SpecModel):
    """The canary's share of failed requests against stable's."""

    type: Literal["errorRate"] = "errorRate"
    name: Name = "errors"
    weight: Annotated[Number, Field(gt=0)] = 1.0


class ClientErrorRate(SpecModel):
    """The canary's share of requests answered with a client error (4xx) against stable's.

    How many there are is the callers' business, and how they differ between the arms is the version's: one that lost
    its sign-in or a route answers 401 or 404 to everybody. Compared wherever `errorRate` is, where the source tells
    them; write it for other margins, or for a source that must tell them.
    """

    type: Literal["clientErrorRate"] = "clientErrorRate"
    name: Name = "client-errors"
    weight: Annotated[Number, Field(gt=0)] = 0.1
    margin: Margin = Margin(ratio=1.5, absolute=0.05)
    detect: Annotated[Number, Field(gt=1, le=1000)] = 3.0
    """The smallest harm to find, as a multiple of stable's share..."""
    detect_absolute: Annotated[Fraction, Field(gt=0)] = 0.1
    """...and at least this much above it."""


class ErrorSettings(SpecModel):
    """What counts as an error."""

    client_errors: Literal["compare", "ignore"] = "compare"
    """`compare`: wherever `errorRate` is judged, the share of client errors (4xx) is compared as by `clientErrorRate`,
    where the source tells them."""
    caller_aborts: Literal["count", "ignore"] = "count"
    """Requests whose caller left before an answer began, where the source tells them apart (Istio: response code 0 with
    flag DC). `ignore` leaves them out, as requests and as errors: for event streams. It hides a version that hangs."""


class Latency(SpecModel):
    """The canary's share of slow requests against stable's, at each boundary of the mesh's latency histogram."""

    type: Literal["latency"] = "latency"
    name: Name = "latency"
    boundaries: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=12)] | None = None
    """Histogram boundaries to compare at; each is moved to the nearest one that the mesh's histogram has. By default
    the buckets in which the quantiles 50, 90, 99 and 99.9 % of stable's own latency lie before the rollout."""
    weight: Annotated[Number, Field(gt=0)] = 1.0


class SuccessRate(SpecModel):
    """An absolute objective: at least this share of the canary's requests succeed."""

    type: Literal["successRate"] = "successRate"
    name: Name = "success-rate"
    objective: Annotated[Fraction, Field(gt=0, lt=1)]
    weight: Annotated[Number, Field(gt=0)] = 1.0


class LatencyObjective(SpecModel):
    """An absolute objective: at least this share of the canary's requests answer within `within`."""

    type: Literal["latencyObjective"] = "latencyObjective"
    name: Name = "latency-objective"
    within: Seconds
    objective: Annotated[Fraction, Field(gt=0, lt=1)] = 0.99
    weight: Annotated[Number, Field(gt=0)] = 1.0


class PromQL(SpecModel):
    """A fixed threshold on a PromQL query.

    `{{service}}`, `{{namespace}}`, `{{stable}}` and `{{canary}}` are replaced in it.
    """

    type: Literal["promql"] = "promql"
    name: Name
    query: Annotated[str, Field(min_length=1, max_length=4096)]
    max: Number | None = None
    min: Number | None = None
    interval: Seconds = 10.0
    failures: Annotated[Count, Field(ge=1, le=1000)] = 3
    """This many evaluations in a row outside the bounds are harm; an evaluation without data does not count."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("a threshold needs max, min or both")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}, so no value could pass")
        return self


Metric = Annotated[
    ErrorRate | Latency | ClientErrorRate | SuccessRate | LatencyObjective | PromQL, Field(discriminator="type")
]


class NoData(SpecModel):
    """What to do when telemetry is missing, which counts neither as success nor as harm."""

    after: Seconds = 30.0
    then: Literal["pause", "rollback"] = "pause"


class Analysis(SpecModel):
    """How the rollout is judged."""

    source: Literal["mesh", "prometheus"] = "mesh"
    """Where counts come from: the proxies themselves, or Prometheus."""
    tick: Annotated[Seconds, Field(ge=0.5, le=300)] = 1.0
    alpha: Annotated[Fraction, Field(gt=0, le=0.2)] = 0.001
    """Chance that a healthy rollout is rolled back, over its whole length."""
    beta: Annotated[Fraction, Field(gt=0, le=0.5)] = 0.05
    """Chance that a step passes although the canary is `goodRatio` times worse."""
    good_ratio: Annotated[Number, Field(gt=1, le=100)] = 1.5
    margin: Margin = Margin()
    warmup: Seconds = 60.0
    """Warm-up, once per rollout: for this time only gross harm (5 % errors and 10 times stable's) counts."""
    settle: Seconds = 20.0
    """After each rise of the weight, and after the warm-up: for this time slow requests are no harm unless they are
    very many. After a rise that holds for failures too, for 5 seconds at most."""
    detect: Annotated[Number, Field(gt=1, le=1000)] = 2.0
    """The smallest harm to find, as a multiple of stable's share of bad requests..."""
    detect_absolute: Annotated[Fraction, Field(gt=0)] = 0.01
    """...and at least this much above it. No step advances before harm of this size is excluded."""
    miss_budget: Annotated[Fraction, Field(gt=0, le=0.5)] = 0.1
    """Chance that a step advances in spite of harm of this size."""
    dispersion: Annotated[Number, Field(ge=1, le=1000)] | None = None
    """How many failures count as one, since failures come in clusters; by default learned from stable's failures."""
    guard: Guard | None = Guard()
    """Harm whatever `dispersion` is; `false` for none."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=20)] = (ErrorRate(), Latency())
    errors: ErrorSettings = ErrorSettings()
    no_data: NoData = NoData()
    baseline: Literal["none", "virtual"] = "none"
    """`virtual`: a share of stable's traffic as large as the canary's is counted separately, for a fair comparison
    however errors cluster in time; harm then needs both tests to agree. At weights of 50 % and more there is not
    enough stable traffic for it. Errors of a single canary pod still count."""

    @field_validator("guard", mode="before")
    @classmethod
    def _false_is_none(cls, value: object) -> object:
        return None if value is False else Guard() if value is True else value

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        seen: set[str] = set()
        for index, metric in enumerate(self.metrics):
            if metric.name in seen:
                at = ("metrics", index, "name")
                raise Misplaced(
                    f"another metric is called {metric.name!r}", at=at, hint="give each metric its own name"
                )
            seen.add(metric.name)
        return self


class CanarySpec(SpecModel):
    """The rollout: which service, which versions, how fast, and how it is judged."""

    target: CanaryTarget
    arms: CanaryArms
    routes: RouteRules = RouteRules()
    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1, max_length=100)] = tuple(
        CanaryStep(weight=weight) for weight in DEFAULT_WEIGHTS
    )
    analysis: Analysis = Analysis()
    on_inconclusive: Literal["pause", "rollback"] = "pause"
    """What to do when a step's time is up without a verdict: ask a person, or restore."""
    on_lease_lost: Literal["resume", "hold", "rollback"] = "resume"
    """What to do after the lease expired and the mesh returned to its base (workers and Temporal down): apply the step
    again once a worker is back, ask a person first, or end as inconclusive."""
    deadline: Annotated[Seconds, Field(gt=0)] = 6 * 3600.0
    """Time limit of the whole rollout; a rollout that reaches it is restored and ends as inconclusive."""

    @model_validator(mode="after")
    def _weights_rise(self) -> Self:
        before = 0.0
        for index, step in enumerate(self.steps):
            if step.weight < before and not step.allow_decrease:
                raise Misplaced(
                    f"goes down from {before:g} to {step.weight:g}",
                    at=("steps", index, "weight"),
                    hint="if that is meant, add `allowDecrease: true` to the step",
                )
            before = step.weight
        return self

    @property
    def walk(self) -> tuple[CanaryStep, ...]:
        """The steps to run: a last one of 100 % under lease is added unless the user's end in it."""
        last = self.steps[-1]
        if last.weight >= 100:
            return self.steps
        return (*self.steps, CanaryStep(weight=100, hold=last.hold, min_requests=last.min_requests))


class MeshCanary(SpecModel):
    """A canary rollout as a resource."""

    api_version: Literal["meshautopilot.io/v1alpha1"] = "meshautopilot.io/v1alpha1"
    kind: Literal["MeshCanary"] = "MeshCanary"
    metadata: Metadata
    spec: CanarySpec
