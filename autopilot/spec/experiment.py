"""MeshExperiment: what is believed of a system, what is done to it, and how far that may go."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopilot.spec.base import Metadata, Misplaced, SpecModel
from autopilot.spec.faults import POLICY, Fault, Scope
from autopilot.spec.probes import OPT_IN, Probe
from autopilot.spec.schedule import ScheduleSpec
from autopilot.spec.units import Count, Fraction, Name, Number, Percent, Seconds, explained

DEFAULT_SHARE = 10.0
"""Percent of the target's traffic that faults may meet where a spec does not say so itself."""


class ExperimentTarget(SpecModel):
    """The service whose traffic is disturbed; the namespace is the resource's own."""

    service: Name
    mesh: Name | None = None
    """Which mesh, where the worker drives several; by default the one it drives."""


class Hypothesis(SpecModel):
    """What is believed to hold, whatever is done."""

    title: Annotated[str, Field(max_length=500)] = ""
    probes: Annotated[tuple[Probe, ...], Field(min_length=1, max_length=50)]


class Inject(SpecModel):
    """One fault, and whom it meets; by default whom the experiment's own scope means."""

    fault: Fault
    scope: Scope | None = None


class PodKill(SpecModel):
    """Deletes pods of the target. Cannot be undone: it stands outside the promise."""

    type: Literal["podKill"] = "podKill"
    reversible: Literal[False] = False
    count: Annotated[Count, Field(ge=1, le=1000)] = 1
    arm: Name | None = None
    grace: Annotated[Seconds, Field(le=3600)] | None = None
    """Seconds that a pod has to end; by default its own."""


class Scale(SpecModel):
    """Sets a workload's replicas; what it had is written back, but pods that ended are gone."""

    type: Literal["scale"] = "scale"
    reversible: Literal[False] = False
    workload: Annotated[
        str, Field(pattern=explained(r"^(deployment|statefulset)/[a-z0-9.-]{1,253}$", "a workload: deployment/name"))
    ]
    replicas: Annotated[Count, Field(ge=0, le=10000)]


class Cordon(SpecModel):
    """Keeps new pods off a node; it is let go again afterwards."""

    type: Literal["cordon"] = "cordon"
    reversible: Literal[False] = False
    node: Annotated[str, Field(min_length=1, max_length=253)]


class Drain(SpecModel):
    """Evicts a node's pods, heeding disruption budgets, and keeps new ones off it; those that left do not come back."""

    type: Literal["drain"] = "drain"
    reversible: Literal[False] = False
    node: Annotated[str, Field(min_length=1, max_length=253)]


Action = Annotated[PodKill | Scale | Cordon | Drain, Field(discriminator="type")]


class MethodStep(SpecModel):
    """Faults that are laid at the same time, actions that are taken, and how long it is watched.

    With neither faults nor actions it is a pause in which all is as ever.
    """

    name: Annotated[str, Field(max_length=100)] = ""
    faults: Annotated[tuple[Inject, ...], Field(max_length=10)] = ()
    actions: Annotated[tuple[Action, ...], Field(max_length=10)] = ()
    hold: Annotated[Seconds, Field(ge=1)] = 60.0


class ErrorBudget(SpecModel):
    """Stops, or does not start, where the budget of an objective burns too fast."""

    objective: Annotated[Fraction, Field(gt=0, lt=1)]
    max_burn: Annotated[Number, Field(gt=0, le=100000)] = 14.4
    """Times the rate at which the budget would last exactly as long as it should."""
    window: Annotated[Seconds, Field(ge=1, le=3600)] = 30.0


class Safety(SpecModel):
    """How far an experiment may go. What an administrator allows in the mesh file cannot be exceeded here."""

    max_traffic: Annotated[Percent, Field(gt=0)] | None = None
    """Percent of the target's requests that faults may meet; above 10 it must be written down."""
    max_failures: Annotated[Count, Field(ge=0)] = 500
    """Failures of `service` beyond what it had before, from the first fault to the last."""
    max_concurrent: Annotated[Count, Field(ge=1, le=100)] = 1
    """Does not start where so many experiments are under way in the mesh."""
    error_budget: ErrorBudget | None = None
    service: Annotated[
        str | None,
        Field(pattern=explained(r"^([a-z0-9-]{1,63}/)?[a-z0-9-]{1,63}$", "a service: name, or namespace/name")),
    ] = None
    """Whose failures count: what people outside meet. By default the target."""


class ExperimentSpec(SpecModel):
    """The wish: which service, what is believed, what is done, and how far that may go."""

    title: Annotated[str, Field(max_length=200)] = ""
    target: ExperimentTarget
    scope: Scope | None = None
    """Whom faults meet that do not say so themselves."""
    hypothesis: Hypothesis
    method: Annotated[tuple[MethodStep, ...], Field(min_length=1, max_length=50)]
    safety: Safety = Safety()
    abort: Annotated[tuple[Probe, ...], Field(max_length=20)] = ()
    """What must hold at every tick while faults are laid: the first of these that fails ends the experiment."""
    tick: Annotated[Seconds, Field(ge=0.25, le=10)] = 0.5
    """How often counters are read and abort conditions are looked at while faults are laid."""
    settle: Annotated[Seconds, Field(le=3600)] = 2.0
    """Seconds between the restore and the hypothesis being checked again."""
    deadline: Annotated[Seconds, Field(gt=0)] = 3600.0
    """The whole experiment ends within this time, whatever happens."""
    schedule: ScheduleSpec | None = None
    """When it runs by itself; `autopilot apply` then makes the schedule, and starts nothing at once."""

    @model_validator(mode="after")
    def _every_fault_has_a_scope(self) -> Self:
        laid = 0
        for number, step in enumerate(self.method):
            for index, one in enumerate(step.faults):
                laid += 1
                at = ("method", number, "faults", index)
                scope = one.scope or self.scope
                if scope is None and one.fault.type != "partition":
                    raise Misplaced("says not whom it meets", at=at, hint="write scope here, or spec.scope for all")
                if scope is not None and isinstance(one.fault, POLICY) and (scope.arm or scope.view == "policy"):
                    raise Misplaced(
                        f"{one.fault.type} concerns whole requests at the caller, before a version is chosen",
                        at=(*at, "scope") if one.scope else at,
                        hint="leave out arm and view",
                    )
            laid += len(step.actions)
        if not laid:
            raise Misplaced(
                "does nothing: there is no fault and no action in it", at=("method",), hint="write faults in a step"
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
                hint = "give each a name of its own"
                raise Misplaced(f"another probe is called {probe.name!r}", at=(*at, "name"), hint=hint)
            seen.add(probe.name)
        return self

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        held = sum(step.hold for step in self.method) + self.settle
        if held >= self.deadline:
            raise Misplaced(
                f"is {self.deadline:g} s, and holding and settling alone take {held:g} s",
                at=("deadline",),
                hint="make it longer",
            )
        return self

    @property
    def injections(self) -> tuple[tuple[int, Fault, Scope | None], ...]:
        """Every fault with its step's number from 1, and whom it meets."""
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
        """Kinds of probes in it that only some workers run."""
        return tuple(sorted({probe.type for probe in self.probes} & set(OPT_IN)))


class MeshExperiment(SpecModel):
    """A chaos experiment as a resource."""

    api_version: Literal["meshautopilot.io/v1alpha1"] = "meshautopilot.io/v1alpha1"
    kind: Literal["MeshExperiment"] = "MeshExperiment"
    metadata: Metadata
    spec: ExperimentSpec
