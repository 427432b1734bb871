"""What every kind shares: the envelope of a Kubernetes resource, and strict reading of what users write."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from autopilot.spec.values.units import Name, explained

API_VERSION: Literal["meshautopilot.io/v1alpha1"] = "meshautopilot.io/v1alpha1"


LabelKey = Annotated[
    str,
    Field(
        pattern=explained(
            r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
            "the name of a label: letters, digits, dashes, dots and underscores, at most 63, with a domain and a slash "
            "before it if you like",
        )
    ),
]
"""A label's or an annotation's name, as Kubernetes wants them to be."""

LabelValue = Annotated[str, Field(max_length=256)]
Annotation = Annotated[str, Field(max_length=4096)]


class SpecModel(BaseModel):
    """Something a user writes: camelCase in YAML, unknown fields refused, never changed after reading.

    The same models travel to workflows, so new fields always come with defaults.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # workers log such errors, and an input may contain what must not be logged
    )


class Metadata(SpecModel):
    """Name and namespace of a resource; labels and annotations are for the user's own use, and nothing reads them."""

    name: Name
    namespace: Name = "default"
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = Field(default_factory=dict)
    annotations: Annotated[dict[LabelKey, Annotation], Field(max_length=64)] = Field(default_factory=dict)


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
