"""The table of kinds: everything that has to be known of a kind of operation, in one entry.

Parts are named as `module:attribute` and imported when they are used, so that a command that needs one part of one
kind loads nothing else. Packages of others add kinds by an entry point of the group `autopilot.kinds` that names a
`Kind`: files, commands, custom resources, workers, leases and guards then treat it like those that are built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

GROUP = "autopilot.kinds"
_SCHEDULE = "-schedule"


class UnusableKind(Exception):
    """A package's entry point names no usable kind; the message names both."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operation."""

    name: str
    """First part of its workflows' ids: `canary` in `canary/MESH/NAMESPACE/NAME`."""
    document: str
    """What `kind:` says in files, and the search attribute `AutopilotKind`."""
    model: str
    """Of its documents: a `SpecModel` whose spec has a `target.service`."""
    request: str
    """Makes the workflow's input: `(document, asked: autopilot.operations.asked.Asked) -> input`."""
    workflow: str
    """A class that extends `workflows.operation.lifecycle.Operation`."""
    status: str
    """Model of the answer to the query `status`."""
    report: str
    """Model of the workflow's result."""
    progress: Mapping[str, str] = field(default_factory=dict)
    """Type of an activity that watches → model of `progress` in its heartbeats."""
    activities: str = ""
    """Its activities: `(tools: activities.registry.Tools) -> Registered`; none by default."""
    check: str = "starter.client.preflight:check_target"
    """What stands against starting, a sentence each: `async (mesh, document, *, queue) -> list[str]`."""
    plan: str = "starter.views.target_plan:plan"
    """What `autopilot plan` tells programs: `async (mesh, manifest, problems) -> dict`; adds to the problems."""
    draw_plan: str = "starter.views.target_plan:picture"
    """The same for people: `(plan) -> rich renderable`."""
    draw: str = "starter.views.operation:snapshot"
    """An operation at one moment: `(snapshot, *, timeline) -> rich renderable`."""
    resource: str = ""
    """Its custom resource, a `ResourceKind`; none by default."""
    holds: bool = False
    """Whether it stays where it is while the mesh is halted; others are restored at once."""
    priority: int = 20
    """Which gives way where two want one target: the lower one (chaos 10, rollouts 20, security 30)."""

    def load(self, part: str) -> Any:
        """A part of this kind, imported now.

        Raises:
            UnusableKind: it is not there.
        """
        return _loaded(self, getattr(self, part), part)

    def progress_model(self, activity: str) -> Any:
        """The model of an activity's progress; None where the activity does not watch."""
        named = self.progress.get(activity)
        return None if named is None else _loaded(self, named, f"progress of {activity}")


def _loaded(kind: Kind, named: str, part: str) -> Any:
    module, _, attribute = named.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnusableKind(f"kind {kind.document}: its {part}, {named!r}, cannot be loaded: {error}") from error


CANARY = Kind(
    name="canary",
    document="MeshCanary",
    model="autopilot.spec.canary:MeshCanary",
    request="autopilot.reports.canary:request",
    workflow="workflows.canary.workflow:CanaryWorkflow",
    status="autopilot.operations.canary_status:CanaryStatus",
    report="autopilot.reports.canary:CanaryReport",
    progress={"telemetry.watch": "autopilot.operations.canary_status:Progress"},
    activities="activities.canary.activities:register",
    check="starter.client.canary_check:check",
    plan="starter.views.canary_plan:plan",
    draw_plan="starter.views.canary_plan:picture",
    draw="starter.views.canary:snapshot",
    resource="autopilot.spec.crd.resources:CANARY",
    holds=True,
)
CHAOS = Kind(
    name="chaos",
    document="MeshExperiment",
    model="autopilot.spec.chaos.experiment:MeshExperiment",
    request="autopilot.reports.experiment:request",
    workflow="workflows.chaos.workflow:ChaosWorkflow",
    status="autopilot.operations.experiment_status:ExperimentStatus",
    report="autopilot.reports.experiment:ExperimentReport",
    progress={"chaos.hold": "autopilot.operations.experiment_status:ChaosProgress"},
    activities="activities.chaos.activities:register",
    check="starter.client.experiment_check:check",
    plan="starter.views.experiment_plan:plan",
    draw_plan="starter.views.experiment_plan:picture",
    draw="starter.views.experiment:snapshot",
    resource="autopilot.spec.crd.resources:EXPERIMENT",
    priority=10,
)
BUILT_IN = (CANARY, CHAOS)
_PRIORITIES = {"security": 30}
"""Of kinds that other versions of this program have: their leases are given way to."""


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, the built-in ones first.

    Raises:
        UnusableKind: an installed package names one that cannot be used.
    """
    found = list(BUILT_IN)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        where = f"entry point {point.name} of {point.dist.name if point.dist else 'a package'} (group {GROUP})"
        try:
            kind = point.load()
        except (ImportError, AttributeError) as error:
            raise UnusableKind(f"{where} cannot be loaded: {error}; repair or uninstall that package") from error
        if not isinstance(kind, Kind):
            raise UnusableKind(f"{where} names no autopilot.kinds.Kind, but {kind!r}")
        taken = next((one for one in found if kind.name == one.name or kind.document == one.document), None)
        if taken is not None:
            raise UnusableKind(
                f"{where} names kind {kind.document} ({kind.name}/…), and there is {taken.document} ({taken.name}/…)"
            )
        found.append(kind)
    return tuple(found)


def kind_of(operation: str) -> str:
    """Name of the kind of operation that a workflow id names: its first part (`canary`, `chaos`, …)."""
    return operation.partition("/")[0]


def schedule_of(operation: str) -> str:
    """Id of the schedule whose runs have this workflow id."""
    name, _, rest = operation.partition("/")
    return f"{name}{_SCHEDULE}/{rest}"


def is_schedule(name: str) -> bool:
    """Whether an id is a schedule's."""
    return name.partition("/")[0].endswith(_SCHEDULE)


def of_operation(operation: str) -> Kind | None:
    """The kind that a workflow id is of; None where this process does not know it."""
    name = kind_of(operation)
    built_in = next((kind for kind in BUILT_IN if kind.name == name), None)  # packages are not searched in vain
    return built_in or next((kind for kind in kinds() if kind.name == name), None)


def priority_of(operation: str) -> int:
    """The priority that an operation's kind has; an unknown kind counts as a rollout.

    The operation of the lower priority is asked to stop, restores, and releases the target.
    """
    kind = _known(operation)
    return kind.priority if kind else _PRIORITIES.get(kind_of(operation), CANARY.priority)


def holds(operation: str) -> bool:
    """Whether a halt leaves an operation where it is. One of a kind that is not known here stays, too."""
    kind = _known(operation)
    return kind is None or kind.holds


def _known(operation: str) -> Kind | None:
    """As `of_operation`, for halts and leases: no package that cannot be loaded may stop those."""
    try:
        return of_operation(operation)
    except UnusableKind:
        return None


def of_document(document: str) -> Kind | None:
    """The kind that files call so; None where there is none."""
    return next((kind for kind in kinds() if kind.document == document), None)
