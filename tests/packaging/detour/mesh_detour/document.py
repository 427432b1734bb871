"""What users write."""

from __future__ import annotations

from typing import Literal

from autopilot.spec.base import API_VERSION, Metadata, SpecModel
from autopilot.spec.chaos.schedule import ScheduleSpec
from autopilot.spec.crd.resources import ResourceKind, column
from autopilot.spec.values.units import Name, Seconds


class Target(SpecModel):
    """The service."""

    service: Name
    mesh: Name | None = None


class DetourSpec(SpecModel):
    """Which arm gets everything, and for how long."""

    target: Target
    arm: Name
    hold: Seconds = 60.0
    deadline: Seconds = 600.0
    schedule: ScheduleSpec | None = None


class MeshDetour(SpecModel):
    """All of a service's traffic to one arm, for a while."""

    api_version: Literal["meshautopilot.io/v1alpha1"] = API_VERSION
    kind: Literal["MeshDetour"] = "MeshDetour"
    metadata: Metadata
    spec: DetourSpec


RESOURCE = ResourceKind(MeshDetour, "md", columns=(column("Arm", ".spec.arm"),))
