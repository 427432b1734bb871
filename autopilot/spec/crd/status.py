"""What resources say of themselves: the status that the controller writes and `kubectl` shows.

Texts are open here where the wire has enumerations: a CRD older than the controller must not refuse a new phase.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Word = Annotated[str, Field(max_length=64)]
Message = Annotated[str, Field(max_length=32768)]
Said = Annotated[str, Field(max_length=4096)]
Share = Annotated[float, Field(ge=0, le=100)]
Generation = Annotated[int, Field(ge=0)]


class StatusModel(BaseModel):
    """Something a controller writes; fields of newer versions are passed over."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Condition(StatusModel):
    """One aspect of the resource, as Kubernetes' own tools read it (`kubectl wait --for=condition=…`)."""

    type: Annotated[
        str,
        Field(
            max_length=316,
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        ),
    ]
    """Which aspect, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """Reason of the condition, as one word for programs."""
    message: Message
    """The reason for people; may be empty."""
    last_transition_time: datetime
    """When the status last changed."""
    observed_generation: Generation | None = None
    """The metadata.generation that the condition refers to; an older one is out of date."""


class Exposure(StatusModel):
    """What users met through what was changed."""

    requests: Annotated[float, Field(ge=0)]
    """Requests that were served by it."""
    failures: Annotated[float, Field(ge=0)]
    """Those of them that failed."""
    seconds: Annotated[float, Field(ge=0)]
    """How long it was exposed."""


class OperationStatus(StatusModel):
    """How the operation stands; written by the controller alone."""

    phase: Word = ""
    """Starting, Queued, Progressing, Paused, WaitingForApproval, Undecided, Halted, Committing, Restoring, Checking or
    Ended."""
    outcome: Word | None = None
    """Promoted or RolledBack (a rollout); Passed, Refuted or Void (an experiment); Inconclusive, Aborted, TakenOver or
    Failed; absent until it ended."""
    reason: Word = ""
    """Reason of the phase, as one word for programs."""
    message: Message = ""
    """Reason of the phase, and what a person can do about it."""
    workflow_id: Annotated[str, Field(max_length=512)] = ""
    """The workflow in Temporal that runs the operation; use it with `autopilot get`."""
    started_at: datetime | None = None
    """When it began."""
    ended_at: datetime | None = None
    """When it ended."""
    observed_generation: Generation | None = None
    """The metadata.generation that this status refers to."""
    exposure: Exposure | None = None
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Conditions, one entry for each type."""


class CanaryResourceStatus(OperationStatus):
    """How the rollout stands; written by the controller alone."""

    weight: Share | None = None
    """The canary's weight as set, in percent."""
    step: Annotated[int, Field(ge=0)] | None = None
    """The current step, from 1; 0 before the first."""
    steps: Annotated[tuple[Share, ...], Field(max_length=101)] = ()
    """The weights of the steps, in percent."""


class ExperimentResourceStatus(OperationStatus):
    """How the experiment stands; written by the controller alone."""

    verdict: Word | None = None
    """pass, fail, inconclusive, void or aborted; absent until it ended. Only pass supports the hypothesis."""
    step: Annotated[int, Field(ge=0)] | None = None
    """The current step of the method, from 1; 0 before the first."""
    steps: Annotated[tuple[Said, ...], Field(max_length=50)] = ()
    """What each step does, in words."""
