"""MeshCanary: how a new version earns its traffic."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from autopilot.spec.base import Metadata, Misplaced, SpecModel
from autopilot.spec.units import Count, Fraction, Name, Number, Percent, Seconds

DEFAULT_WEIGHTS = (5.0, 10.0, 25.0, 50.0, 100.0)


class CanaryTarget(SpecModel):
    """The service whose traffic is shifted; the namespace is the resource's own."""

    service: Name
    mesh: Name | None = None
    """Which mesh, where the worker drives several; by default the one it drives."""


class CanaryArms(SpecModel):
    """The two versions behind the service, by the names the mesh gives them."""

    stable: Name
    canary: Name

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.stable == self.canary:
            raise Misplaced(f"is {self.canary!r}, the same as stable", at=("canary",), hint="name two versions")
        return self


class Pause(SpecModel):
    """Wait for a person before going on; harm still restores while waiting."""

    timeout: Seconds | None = None
    on_timeout: Literal["rollback", "promote"] = "rollback"


class CanaryStep(SpecModel):
    """One weight, and what must be seen before the next."""

    weight: Percent
    """Share of the traffic the canary gets, in percent."""
    hold: Seconds = 60.0
    """At least this long at this weight."""
    min_requests: Annotated[Count, Field(ge=0)] = 100
    """At least this many requests served by the canary in this step."""
    timeout: Seconds | None = None
    """After this long without enough requests the step is inconclusive; default: the larger of 10 min and 5 x hold."""
    pause: Pause | None = None
    """Wait for approval once the step's evidence is good; `pause: true` waits without a limit."""
    allow_decrease: bool = False
    """Says that this step's weight is meant to be below the one before."""

    @field_validator("pause", mode="before")
    @classmethod
    def _true_is_a_pause(cls, value: object) -> object:
        return Pause() if value is True else None if value is False else value

    @property
    def limit(self) -> float:
        """Seconds after which the step is inconclusive."""
        return self.timeout if self.timeout is not None else max(600.0, 5 * self.hold)


class Margin(SpecModel):
    """How much worse the canary may be before it counts as harm: both must be exceeded."""

    ratio: Annotated[Number, Field(ge=1, le=100)] = 1.2
    absolute: Fraction = 0.001


class ErrorRate(SpecModel):
    """The canary's share of failed requests against stable's."""

    type: Literal["errorRate"] = "errorRate"
    name: Name = "errors"
    weight: Annotated[Number, Field(gt=0)] = 1.0


class Latency(SpecModel):
    """The canary's share of slow requests against stable's, at each boundary of the mesh's latency histogram."""

    type: Literal["latency"] = "latency"
    name: Name = "latency"
    boundaries: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=12)] = (0.1, 0.25, 0.5, 1.0, 2.5)
    """Histogram boundaries to compare at; each is moved to the nearest one that the mesh's histogram has."""
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
    """A fixed threshold on a query of the user's own.

    `{{service}}`, `{{namespace}}`, `{{stable}}` and `{{canary}}` are filled in.
    """

    type: Literal["promql"] = "promql"
    name: Name
    query: Annotated[str, Field(min_length=1, max_length=4096)]
    max: Number | None = None
    min: Number | None = None
    interval: Seconds = 10.0
    failures: Annotated[Count, Field(ge=1, le=1000)] = 3
    """So many evaluations out of bounds in a row are harm; an evaluation without data counts for neither side."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("a threshold needs max, min or both")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; nothing could pass")
        return self


Metric = Annotated[ErrorRate | Latency | SuccessRate | LatencyObjective | PromQL, Field(discriminator="type")]


class NoData(SpecModel):
    """What to do when telemetry is silent: never success, never harm."""

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
    """Chance that a step is taken for good though the canary is `goodRatio` times worse."""
    good_ratio: Annotated[Number, Field(gt=1, le=100)] = 1.5
    margin: Margin = Margin()
    warmup: Seconds = 60.0
    """Once per rollout: for this long only gross harm (5 % errors and 10 times stable's) counts."""
    detect: Annotated[Number, Field(gt=1, le=1000)] = 2.0
    """The smallest harm to find, as a multiple of stable's share of bad requests..."""
    detect_absolute: Annotated[Fraction, Field(gt=0)] = 0.01
    """...and at least so much more than it: reports say how many more requests that takes."""
    miss_budget: Annotated[Fraction, Field(gt=0, le=0.5)] = 0.1
    """Chance that harm of this size is missed by then."""
    dispersion: Annotated[Number, Field(ge=1, le=1000)] | None = None
    """How many failures count as one where they come in clusters; by default learned from stable's failures."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=20)] = (ErrorRate(), Latency())
    no_data: NoData = NoData()
    baseline: Literal["none", "virtual"] = "none"
    """`virtual`: a share of stable's traffic as large as the canary's is counted apart, for a fair comparison that
    holds however errors cluster in time; harm then needs both tests to agree. From 50 % upwards there is no room for
    it. Trouble that sits in one pod of the canary alone is not excused by it."""

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        seen: set[str] = set()
        for index, metric in enumerate(self.metrics):
            if metric.name in seen:
                at = ("metrics", index, "name")
                raise Misplaced(f"another metric is called {metric.name!r}", at=at, hint="give each a name of its own")
            seen.add(metric.name)
        return self


class CanarySpec(SpecModel):
    """The wish: which service, which versions, how fast, judged by what."""

    target: CanaryTarget
    arms: CanaryArms
    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1, max_length=100)] = tuple(
        CanaryStep(weight=weight) for weight in DEFAULT_WEIGHTS
    )
    analysis: Analysis = Analysis()
    on_inconclusive: Literal["pause", "rollback"] = "pause"
    """When a step's time is up and nothing can be said: ask a person, or restore."""
    on_lease_lost: Literal["resume", "hold", "rollback"] = "resume"
    """When nobody could renew for so long that the mesh went back by itself (workers and Temporal gone): lay the step
    again once somebody is back, ask a person first, or end undecided."""
    deadline: Annotated[Seconds, Field(gt=0)] = 6 * 3600.0
    """The whole rollout ends within this time; a rollout that reaches it is restored and undecided."""

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
        """The steps as walked: a last one of 100 % under lease is added where the user's do not end in it."""
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
