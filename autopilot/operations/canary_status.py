"""What a rollout says of itself while it runs: wire models without the specification that started it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autopilot.evidence.model import Evidence
from autopilot.operations.common import Event, Exposure, Outcome, Phase
from autopilot.wire import Wire

ENDPOINTS = "ready endpoints"
"""The metric of a verdict of harm that no metric found: the canary had no endpoint left. No metric of a specification
can have this name, for it has a space."""


class CanaryStatus(Wire):
    """A rollout as it stands: the answer to the query `status`."""

    kind: Literal["MeshCanary"] = "MeshCanary"
    workflow_id: str
    phase: Phase
    outcome: Outcome | None = None
    reason: str = ""
    mesh: str
    namespace: str
    service: str
    stable: str
    canary: str
    step: int = 0
    """Number of the step under way from 1; 0 before the first."""
    steps: tuple[float, ...] = ()
    """The weights that are walked, in percent."""
    weight: float = 0.0
    """The canary's weight as set, in percent."""
    started: float = 0.0
    paused_by: str = ""
    waiting_for: str = ""
    """What a person is asked for, and the command that answers."""
    exposure: Exposure = Exposure()
    """Of finished steps; `Progress` has the step under way."""
    evidence: tuple[Evidence, ...] = ()
    evidence_time: float = 0.0
    """When the last watch ended, whose evidence this is, seconds since the epoch; `Progress` has the one under way."""
    timeline: tuple[Event, ...] = ()

    @property
    def standing(self) -> str:
        """How far it has come, in a few words."""
        return f"step {self.step} of {len(self.steps)}, {self.weight:g} %"


class Progress(Wire):
    """The step under way, as its watch last heartbeat it."""

    time: float
    weight: float
    measured: float | None = None
    """The canary's measured share of requests in percent, over the last ticks."""
    requests: float = 0.0
    stable_requests: float = 0.0
    failures: float = 0.0
    seconds: float = 0.0
    evidence: tuple[Evidence, ...] = ()
    silent: float = 0.0
    """Seconds since telemetry last advanced."""
    exposure: Exposure = Field(default_factory=Exposure)
