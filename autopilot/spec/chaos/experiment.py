"""MeshExperiment: a hypothesis about a system, a method that disturbs it, and safety limits."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopilot.spec.base import Metadata, Misplaced, SpecModel
from autopilot.spec.chaos.faults import POLICY, Fault
from autopilot.spec.chaos.probes import OPT_IN, Probe
from autopilot.spec.chaos.schedule import ScheduleSpec
from autopilot.spec.chaos.scope import Scope
from autopilot.spec.values.units import Count, Fraction, Name, Number, Percent, Seconds, explained

DEFAULT_SHARE = 10.0
"""Percent of the target's traffic that faults may meet by default."""

_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_SERVICE = rf"^{_LABEL}(\.{_LABEL})*$"
_SERVICE_WORDS = (
    "the name of a Service, or the host of a ServiceEntry: lower-case letters, digits and dashes, with a letter or "
    "digit at both ends, and dots between such parts of a host"
)
"""As long as Kubernetes lets the value of a label and the name of an annotation be, which both bear it."""


class ExperimentTarget(SpecModel):
    """The service whose traffic is disturbed; the namespace is the resource's own."""

    service: Annotated[str, Field(max_length=63, pattern=explained(_SERVICE, _SERVICE_WORDS))]
    """A Service's name or, on Istio, the host of a ServiceEntry."""
    mesh: Name | None = None
    """Name of the mesh; needed only if the worker drives several."""


class Hypothesis(SpecModel):
    """What is expected to hold in spite of the method."""

    title: Annotated[str, Field(max_length=500)] = ""
    probes: Annotated[tuple[Probe, ...], Field(min_length=1, max_length=50)]


class Inject(SpecModel):
    """One fault, and the requests it applies to; by default those of the experiment's own scope."""

    fault: Fault
    scope: Scope | None = None


class PodKill(SpecModel):
    """Deletes pods of the target. This cannot be undone: the restore guarantee does not cover it."""

    type: Literal["podKill"] = "podKill"
    reversible: Literal[False] = False
    count: Annotated[Count, Field(ge=1, le=1000)] = 1
    arm: Name | None = None
    grace: Annotated[Seconds, Field(le=3600)] | None = None
    """Grace period of the pod in seconds; by default its own."""
    force: bool = False
    """Whether pods without a controller may be killed too, which nothing starts again; refused otherwise."""


class Scale(SpecModel):
    """Sets a workload's replicas; the earlier number is written back, but pods that ended do not come back."""

    type: Literal["scale"] = "scale"
    reversible: Literal[False] = False
    workload: Annotated[
        str, Field(pattern=explained(r"^(deployment|statefulset)/[a-z0-9.-]{1,253}$", "a workload: deployment/name"))
    ]
    replicas: Annotated[Count, Field(ge=0, le=10000)]


class Cordon(SpecModel):
    """Cordons a node, so that it gets no new pods; it is uncordoned afterwards."""

    type: Literal["cordon"] = "cordon"
    reversible: Literal[False] = False
    node: Annotated[str, Field(min_length=1, max_length=253)]


class Drain(SpecModel):
    """Drains a node: cordons it, and evicts its pods within disruption budgets. Evicted pods do not come back."""

    type: Literal["drain"] = "drain"
    reversible: Literal[False] = False
    node: Annotated[str, Field(min_length=1, max_length=253)]
    force: bool = False
    """Whether pods without a controller may be evicted too, which nothing starts again; refused otherwise."""
    delete_empty_dir_data: bool = False
    """Whether pods with emptyDir volumes may be evicted, whose data is deleted with them; refused otherwise."""


Action = Annotated[PodKill | Scale | Cordon | Drain, Field(discriminator="type")]


class MethodStep(SpecModel):
    """Faults that are laid at the same time, actions that are taken, and how long they are watched.

    A step without faults and actions is a pause.
    """

    name: Annotated[str, Field(max_length=100)] = ""
    faults: Annotated[tuple[Inject, ...], Field(max_length=10)] = ()
    actions: Annotated[tuple[Action, ...], Field(max_length=10)] = ()
    hold: Annotated[Seconds, Field(ge=1)] = 60.0


class ErrorBudget(SpecModel):
    """Stops the experiment, or does not start it, when the error budget of an objective burns too fast."""

    objective: Annotated[Fraction, Field(gt=0, lt=1)]
    max_burn: Annotated[Number, Field(gt=0, le=100000)] = 14.4
    """Maximum burn rate, as a multiple of the rate at which the budget lasts exactly its period."""
    window: Annotated[Seconds, Field(ge=1, le=3600)] = 30.0


class Safety(SpecModel):
    """Limits of an experiment. They cannot exceed what the administrator allows in the mesh file."""

    max_traffic: Annotated[Percent, Field(gt=0)] | None = None
    """Percent of the target's requests that faults may meet; above 10 it must be set explicitly."""
    max_failures: Annotated[Count, Field(ge=0)] = 500
    """Maximum failures of `service` beyond its earlier failure rate, from the first fault to the last."""
    max_concurrent: Annotated[Count, Field(ge=1, le=100)] = 1
    """Does not start while this many experiments run in the mesh."""
    error_budget: ErrorBudget | None = None
    service: Annotated[
        str | None,
        Field(pattern=explained(r"^([a-z0-9-]{1,63}/)?[a-z0-9-]{1,63}$", "a service: name, or namespace/name")),
    ] = None
    """The service whose failures count, as its users see them. By default the target."""


class ExperimentSpec(SpecModel):
    """The experiment: which service, which hypothesis, which method, and which limits."""

    title: Annotated[str, Field(max_length=200)] = ""
    target: ExperimentTarget
    scope: Scope | None = None
    """Which requests faults apply to that have no scope of their own."""
    hypothesis: Hypothesis
    method: Annotated[tuple[MethodStep, ...], Field(min_length=1, max_length=50)]
    safety: Safety = Safety()
    abort: Annotated[tuple[Probe, ...], Field(max_length=20)] = ()
    """Abort conditions, checked at every tick while faults are laid: the first that fails ends the experiment."""
    tick: Annotated[Seconds, Field(ge=0.25, le=10)] = 0.5
    """Interval at which counters and abort conditions are checked while faults are laid."""
    settle: Annotated[Seconds, Field(le=3600)] = 2.0
    """Seconds between the restore and the next check of the hypothesis."""
    deadline: Annotated[Seconds, Field(gt=0)] = 3600.0
    """Time limit of the whole experiment."""
    schedule: ScheduleSpec | None = None
    """When it runs automatically; `autopilot apply` then creates the schedule and does not start a run."""

    @model_validator(mode="after")
    def _every_fault_has_a_scope(self) -> Self:
        laid = 0
        for number, step in enumerate(self.method):
            for index, one in enumerate(step.faults):
                laid += 1
                at = ("method", number, "faults", index)
                scope = one.scope or self.scope
                if scope is None and one.fault.type != "partition":
                    raise Misplaced("has no scope", at=at, hint="write scope here, or spec.scope for all")
                if scope is not None and isinstance(one.fault, POLICY) and (scope.arm or scope.view == "policy"):
                    raise Misplaced(
                        f"{one.fault.type} concerns whole requests at the caller, before a version is chosen",
                        at=(*at, "scope") if one.scope else at,
                        hint="leave out arm and view",
                    )
            laid += len(step.actions)
        if not laid:
            raise Misplaced(
                "has no effect: it has no fault and no action", at=("method",), hint="write faults in a step"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        seen: set[str] = set()
        places: list[tuple[tuple[str | int, ...], Probe]] = [
            (("hypothesis", "probes", index), one) for index, one in enumerate(self.hypothesis.probes)
        ]
        places += [(("abort", index), one) for index, one in enumerate(self.abort)]
        for at, probe in places:
            if probe.name in seen:
                hint = "give each probe its own name"
                raise Misplaced(f"another probe is called {probe.name!r}", at=(*at, "name"), hint=hint)
            seen.add(probe.name)
        return self

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        held = sum(step.hold for step in self.method) + self.settle
        if held >= self.deadline:
            raise Misplaced(
                f"is {self.deadline:g} s, but hold and settle times alone take {held:g} s",
                at=("deadline",),
                hint="make it longer",
            )
        return self

    @property
    def injections(self) -> tuple[tuple[int, Fault, Scope | None], ...]:
        """Every fault with its step's number from 1, and its scope."""
        return tuple(
            (number, one.fault, one.scope or self.scope)
            for number, step in enumerate(self.method, start=1)
            for one in step.faults
        )

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Every probe: the hypothesis' and the abort conditions."""
        return (*self.hypothesis.probes, *self.abort)

    @property
    def needs_consent(self) -> tuple[str, ...]:
        """Kinds of probes in it that a worker must allow."""
        return tuple(sorted({probe.type for probe in self.probes} & set(OPT_IN)))


class MeshExperiment(SpecModel):
    """A chaos experiment as a resource."""

    api_version: Literal["meshautopilot.io/v1alpha1"] = "meshautopilot.io/v1alpha1"
    kind: Literal["MeshExperiment"] = "MeshExperiment"
    metadata: Metadata
    spec: ExperimentSpec
