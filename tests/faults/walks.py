"""The operations whose every point is a kill point: rollouts and experiments that end well, and in each other way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from temporalio.client import Client

from autopilot.mesh.model import Target
from autopilot.operations.common import Caller
from autopilot.reports.canary import CanaryInput, canary_id
from autopilot.reports.experiment import ExperimentInput, experiment_id
from autopilot.spec.canary import CanarySpec
from autopilot.spec.chaos.experiment import ExperimentSpec
from starter.client.start import start_operation

Action = Literal["harm", "abort", "pause", "resume", "terminate"]
LONG = 60.0
"""Seconds a step is held that is meant to be ended by something else."""
WATCHES = ("during telemetry.watch", "during chaos.hold")
"""How the points begin at which the next action of a walk is due."""
MET = 418
"""What a request is answered that meets an experiment's fault: clients tell it from everything else."""
COMMIT = "mesh.commit 1"


@dataclass(frozen=True, slots=True)
class Walk:
    """A rollout and what is done to it: one action whenever a watch is under way."""

    name: str
    actions: tuple[Action, ...]
    hold: float
    """Seconds of its first step."""
    commits: bool
    own_until: str = ""
    """The last point that is not another walk's too; empty: its last."""

    kind: Literal["canary", "chaos"] = "canary"
    watches_on: bool = False
    """Its watch is a point of its own, though other walks pass one alike: theirs is over soon after the event."""

    def operation(self, target: Target, name: str) -> str:
        """Its workflow id."""
        make = canary_id if self.kind == "canary" else experiment_id
        return make(target.mesh, target.namespace, name)

    async def start(
        self, client: Client, target: Target, name: str, *, ttl: float, heartbeat: float, grace: float = 120.0
    ) -> None:
        """Starts it."""
        if self.kind == "canary":
            await start_operation(client, self.input(target, name, ttl=ttl, heartbeat=heartbeat, grace=grace))
        else:
            await start_operation(client, self.experiment(target, name, ttl=ttl, heartbeat=heartbeat, grace=grace))

    def experiment(
        self, target: Target, name: str, *, ttl: float, heartbeat: float, grace: float = 120.0
    ) -> ExperimentInput:
        """Half of the requests to a service are answered by its caller's proxy."""
        spec = {
            "target": {"service": target.service},
            "scope": {"percentage": 50},
            "hypothesis": {
                "probes": [
                    {
                        "name": "asked",
                        "type": "mesh",
                        "metric": "requestRate",
                        "window": 1,
                        "least": 1,
                        "tolerance": {"min": 0},
                    }
                ]
            },
            "method": [{"faults": [{"fault": {"type": "abort", "status": MET}}], "hold": max(1.0, self.hold)}],
            "safety": {"maxTraffic": 100, "maxConcurrent": 100, "maxFailures": 5000},
            "tick": 0.25,
            "settle": 0.2,
            "deadline": 600,
        }
        return ExperimentInput(
            mesh=target.mesh,
            namespace=target.namespace,
            name=name,
            spec=ExperimentSpec.model_validate(spec),
            caller=Caller(who="crash suite"),
            ttl=ttl,
            heartbeat_timeout=heartbeat,
            temporal_grace=grace,
        )

    def input(self, target: Target, name: str, *, ttl: float, heartbeat: float, grace: float = 120.0) -> CanaryInput:
        """The rollout of version 2 of a service."""
        spec = {
            "target": {"service": target.service},
            "arms": {"stable": "v1", "canary": "v2"},
            "steps": [
                {"weight": 50, "hold": self.hold, "minRequests": 2, "timeout": max(12.0, self.hold)},
                {"weight": 100, "hold": 0.5, "minRequests": 2, "timeout": 12},
            ],
            "analysis": {
                "tick": 0.5,
                "warmup": 0,
                "alpha": 0.05,
                "metrics": [{"type": "errorRate"}],
                "detectAbsolute": 0.9,
                "dispersion": 1,
                "noData": {"after": 4, "then": "rollback"},
            },
            "onInconclusive": "rollback",
        }
        return CanaryInput(
            mesh=target.mesh,
            namespace=target.namespace,
            name=name,
            spec=CanarySpec.model_validate(spec),
            caller=Caller(who="crash suite"),
            ttl=ttl,
            heartbeat_timeout=heartbeat,
            temporal_grace=grace,
        )


WALKS = {
    walk.name: walk
    for walk in (
        Walk("promoted", (), 0.5, commits=True),
        Walk("harmed", ("harm",), LONG, commits=False),
        Walk("aborted", ("abort",), LONG, commits=False, watches_on=True),
        Walk("paused", ("pause", "resume"), 1.0, commits=True, own_until="after telemetry.watch 2"),
        Walk("terminated", ("terminate",), LONG, commits=False),
        Walk("experiment", (), 1.5, commits=False, kind="chaos"),
        Walk("experiment-aborted", ("abort",), LONG, commits=False, kind="chaos", watches_on=True),
    )
}


@dataclass(frozen=True, slots=True)
class Point:
    """A kill point: where in which walk, and how long after its start a rollout gets there."""

    walk: Walk
    number: int
    label: str
    offset: float
    of_commit: Literal["before", "at", "after"]
    """Whether a walk that commits has done so by then."""

    def __str__(self) -> str:
        return f"{self.walk.name} {self.number}: {self.label}"


def points_of(walk: Walk, passed: list[tuple[str, float]]) -> list[Point]:
    """Numbers what one walk passed, given as (label, seconds since its start).

    What is no watch is in its midst by chance alone: on a slow machine it says more than once how it goes, and a point
    that a walk may not come to is none.
    """
    found = []
    stage: Literal["before", "at", "after"] = "before"
    sure = [one for one in passed if not one[0].startswith("during") or one[0].startswith(WATCHES)]
    for number, (label, offset) in enumerate(sure, start=1):
        if label == f"before {COMMIT}":
            stage = "at"
        elif label == f"after {COMMIT}":
            stage = "after"
        found.append(Point(walk, number, label, offset, stage))
    return found


def distinct(points: Iterable[Point]) -> list[Point]:
    """Without those at which a walk is still where the first walk of its kind was, or is again."""
    by_walk: dict[str, list[Point]] = {}
    for point in points:
        by_walk.setdefault(point.walk.name, []).append(point)
    found: list[Point] = []
    firsts: dict[str, list[Point]] = {}
    for walked in by_walk.values():
        kind = walked[0].walk.kind
        if kind not in firsts:
            firsts[kind] = walked
            found += walked
            continue
        first = firsts[kind]
        alike = sum(1 for _ in takewhile(lambda pair: pair[0].label == pair[1].label, zip(first, walked, strict=False)))
        last = next((n for n, point in enumerate(walked) if point.label == point.walk.own_until), len(walked) - 1)
        found += [point for point in walked[:alike] if point.walk.watches_on and point.label.startswith(WATCHES)][:1]
        found += walked[alike : last + 1]
    return found
