"""How far experiments may go in one mesh, whatever they ask for: an administrator's word, in the mesh file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from autopilot.spec.base import SpecModel
from autopilot.spec.chaos.schedule import Freeze
from autopilot.spec.values.units import Count, Name, Percent


class Ceilings(SpecModel):
    """No experiment passes these; its own `safety` may only stay below."""

    max_traffic: Annotated[Percent, Field(gt=0)] = 50.0
    """Percent of a service's requests that the faults of one experiment may meet."""
    max_failures: Annotated[Count, Field(ge=0)] = 5000
    """Failures of one experiment beyond the earlier failure rate."""
    max_concurrent: Annotated[Count, Field(ge=0, le=100)] = 3
    """Maximum number of experiments that run at the same time; 0 allows none."""
    irreversible: bool = False
    """Allows actions that cannot be undone: killing pods, scaling, cordoning and draining."""
    protected: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    """Namespaces in which no experiment may run."""
    freeze: Annotated[tuple[Freeze, ...], Field(max_length=100)] = ()
    """Days (UTC) on which no experiment starts, scheduled or not."""
