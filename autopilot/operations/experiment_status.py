"""What an experiment says of itself while it runs: wire models without the specification that started it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from autopilot.evidence.chaos.hypothesis import Look
from autopilot.operations.common import Event, Exposure, Outcome, Phase
from autopilot.wire import Wire


class Verdict(StrEnum):
    """What an experiment came to. Only `pass` speaks for the hypothesis, only `fail` against it."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """Something that was to be seen could not be seen."""
    VOID = "void"
    """Nothing was tried: a fault was not seen to take effect, or nothing was laid at all."""
    ABORTED = "aborted"
    """A person, an abort condition or a limit ended it."""


class ProbeRecord(Wire):
    """What one probe came to in one phase."""

    name: str
    type: str
    phase: Literal["before", "during", "after"]
    step: int = 0
    """Of the method, from 1, for `during`."""
    guard: bool = False
    """Whether it is an abort condition."""
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str = ""
    looks: int = 0
    failed: int = 0
    missing: int = 0
    samples: tuple[Look, ...] = ()
    """The last looks, the failing ones before others where there are many."""


class Effect(Wire):
    """Whether a fault was seen to take effect, one hop up."""

    fault: str
    scope: str
    tier: str = ""
    exactness: str = ""
    """`exact`, or what differs."""
    seen_by: str = ""
    """The counter, or the probe, that shows it."""
    requests: float = 0.0
    """So many requests met it."""
    of: float = 0.0
    """So many requests went to the target meanwhile."""
    after_restore: float = 0.0
    """So many met it after the proxies' word that it is gone: anything but 0 is a leak."""

    @property
    def share(self) -> float | None:
        """Percent of the requests that met it."""
        return 100 * self.requests / self.of if self.of else None


class ExperimentStatus(Wire):
    """An experiment as it stands: the answer to the query `status`."""

    kind: Literal["MeshExperiment"] = "MeshExperiment"
    workflow_id: str
    phase: Phase
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    reason: str = ""
    mesh: str
    namespace: str
    service: str
    title: str = ""
    step: int = 0
    steps: tuple[str, ...] = ()
    """What each step does, in words."""
    started: float = 0.0
    paused_by: str = ""
    waiting_for: str = ""
    exposure: Exposure = Exposure()
    probes: tuple[ProbeRecord, ...] = ()
    effects: tuple[Effect, ...] = ()
    timeline: tuple[Event, ...] = ()
    left_out: tuple[str, ...] = ()
    """What is not in it, since it would be too large."""

    @property
    def standing(self) -> str:
        """How far it has come, in a few words."""
        return f"step {self.step} of {len(self.steps)}"


class ChaosProgress(Wire):
    """The step under way, as its watch last heartbeat it."""

    time: float
    held: float = 0.0
    """Seconds so far."""
    hold: float = 0.0
    effects: tuple[Effect, ...] = ()
    probes: tuple[ProbeRecord, ...] = ()
    failures: float = 0.0
    """Of `safety.service`, beyond what it had before."""
    burn: float | None = None
    silent: float = 0.0
    exposure: Exposure = Field(default_factory=Exposure)


class Acted(Wire):
    """An action that was taken; none of them can be undone in full."""

    action: str
    done: str
    undone: str = ""
    """How it was undone; empty where it could not be."""
