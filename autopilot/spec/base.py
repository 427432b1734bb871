"""What every kind shares: the envelope of a Kubernetes resource, and strict reading of what users write."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from autopilot.spec.units import Name

API_VERSION: Literal["meshautopilot.io/v1alpha1"] = "meshautopilot.io/v1alpha1"


class SpecModel(BaseModel):
    """Something a user writes: camelCase in YAML, unknown fields refused, never changed after reading.

    The same models travel to workflows, so new fields always come with defaults.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Metadata(SpecModel):
    """Name and namespace of a resource, and labels for the user's own use."""

    name: Name
    namespace: Name = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Misplaced(ValueError):
    """A validator's finding about a field further down: says where, so that the message can name its line.

    Args:
        message: what is wrong with that field.
        at: path from the validated model to the field, names as in YAML: `("steps", 1, "weight")`.
        hint: what to do about it.
    """

    def __init__(self, message: str, *, at: tuple[str | int, ...], hint: str = "") -> None:
        self.message, self.at, self.hint = message, at, hint
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
        super().__init__(f"{where}: {message}" + (f"; {hint}" if hint else ""))
