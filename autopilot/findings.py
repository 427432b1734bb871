"""What a chaos experiment is told, says of itself while it runs, and leaves behind: the wire models of the second kind.

`autopilot.report` has what all operations share.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from autopilot.evidence.hypothesis import Look
from autopilot.mesh.model import Receipt
from autopilot.report import Caller, Event, Exposure, Outcome, Phase, Wire
from autopilot.spec.experiment import ExperimentSpec

CHAOS_TTL = 30.0
"""Seconds without renewal after which guards restore an experiment."""
CHAOS_HEARTBEAT = 5.0
"""Seconds without a heartbeat after which a watch is started elsewhere: less than its lease's time to live."""
CHAOS_GRACE = 30.0
"""Seconds without an answer of Temporal after which the lease is no longer renewed."""


class Verdict(StrEnum):
    """What an experiment came to. Only `pass` speaks for the hypothesis, only `fail` against it."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """Data that the verdict needs was missing."""
    VOID = "void"
    """Nothing was tested: a fault was not seen to take effect, or none was laid."""
    ABORTED = "aborted"
    """A person, an abort condition or a limit ended it."""


class ExperimentInput(Wire):
    """Starts an experiment."""

    mesh: str
    namespace: str
    name: str
    spec: ExperimentSpec
    caller: Caller = Caller()
    ttl: float = CHAOS_TTL
    heartbeat_timeout: float = CHAOS_HEARTBEAT
    temporal_grace: float = CHAOS_GRACE
    queue: bool = False
    """Whether to wait in turn where another operation holds the target."""
    schedule: str = ""
    """Id of the schedule that started it; empty where a person or a program did."""

    @property
    def workflow_id(self) -> str:
        """One live experiment a resource."""
        return experiment_id(self.mesh, self.namespace, self.name)


def experiment_id(mesh: str, namespace: str, name: str) -> str:
    """The workflow id of an experiment."""
    return f"chaos/{mesh}/{namespace}/{name}"


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
    """Number of requests that it was applied to."""
    of: float = 0.0
    """Number of requests to the target meanwhile."""
    after_restore: float = 0.0
    """Number of requests that met it after the proxies reported its removal: more than 0 is a leak."""

    @property
    def share(self) -> float | None:
        """Percent of the requests that met it."""
        return 100 * self.requests / self.of if self.of else None


class Amplification(Wire):
    """What one hop made of the requests it was given: tries a request, before and during."""

    caller: str
    service: str
    before: float | None = None
    during: float | None = None


class Acted(Wire):
    """An action that was taken; none of them can be undone in full."""

    action: str
    done: str
    undone: str = ""
    """How it was undone; empty where it could not be."""


class StepFinding(Wire):
    """One step of the method as it went."""

    number: int
    name: str = ""
    started: float
    ended: float | None = None
    hold: float
    reason: str = ""
    receipt: Receipt | None = None
    effects: tuple[Effect, ...] = ()
    amplification: tuple[Amplification, ...] = ()
    actions: tuple[Acted, ...] = ()


class ExperimentReport(Wire):
    """The result of an experiment."""

    kind: Literal["MeshExperiment"] = "MeshExperiment"
    outcome: Outcome
    verdict: Verdict
    reason: str
    workflow_id: str
    mesh: str
    namespace: str
    service: str
    name: str
    schedule: str = ""
    spec: ExperimentSpec
    started: float
    ended: float
    steps: tuple[StepFinding, ...] = ()
    probes: tuple[ProbeRecord, ...] = ()
    exposure: Exposure = Exposure()
    """Requests that met a fault, and failures of `safety.service` beyond what it had before."""
    burn: float | None = None
    """The highest burn rate of the error budget, as a multiple."""
    timeline: tuple[Event, ...] = ()
    audit: tuple[str, ...] = ()
    restore_seconds: float | None = None
    restored: bool = False
    """Whether the proxies themselves reported that the base configuration is restored."""
    left: tuple[str, ...] = ()
    """Changes of others that were kept, and actions that could not be undone."""


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
