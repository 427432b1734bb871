"""References to secrets: what a specification says instead of a credential. Workers read values when they need them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from autopilot.spec.base import SpecModel
from autopilot.spec.values.units import Name, explained, shown


class KubernetesSecret(SpecModel):
    """One entry of a Secret in the mesh's cluster."""

    name: Annotated[
        str,
        Field(
            max_length=253,
            pattern=explained(
                r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "the name of a Secret: lower-case letters, digits, dashes and dots"
            ),
        ),
    ]
    key: Annotated[
        str,
        Field(
            max_length=253,
            pattern=explained(r"^[A-Za-z0-9._-]+$", "a key of a Secret: letters, digits, dashes, dots and underscores"),
        ),
    ]
    namespace: Name | None = None
    """By default the experiment's own."""


def _straight(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError(f"{shown(path)} has . or .. in it; write the path without them")
    return path


class SecretRef(SpecModel):
    """A secret that the worker reads: in the cluster, a file, or its environment."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    kubernetes: KubernetesSecret | None = None
    file: (
        Annotated[
            str,
            Field(
                min_length=2,
                max_length=1024,
                pattern=explained(r"^/[^\x00-\x1f\x7f]*$", "the path of a file from the root: /run/secrets/token"),
            ),
            AfterValidator(_straight),
        ]
        | None
    ) = None
    """Its whole content, without line ends at its end."""
    env: (
        Annotated[
            str,
            Field(pattern=explained(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$", "the name of a variable")),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(each is not None for each in (self.kubernetes, self.file, self.env)) != 1:
            raise ValueError("names no place of a secret, or several; write one of kubernetes, file and env")
        return self


class SecretText(SpecModel):
    """A text that ends with a secret; only a worker ever puts it together."""

    prefix: Annotated[str, Field(max_length=64, pattern=explained(r"^[^\x00-\x1f\x7f]*$", "text on one line"))] = ""
    """What comes before it, such as `Bearer `."""
    secret_ref: SecretRef


def described(ref: SecretRef, namespace: str) -> str:
    """The reference for messages; never the value.

    Args:
        ref: what is named.
        namespace: the one of a Kubernetes Secret that names none.
    """
    if ref.kubernetes is not None:
        where = f"{ref.kubernetes.namespace or namespace}/{ref.kubernetes.name}"
        return f"key {ref.kubernetes.key} of Secret {where}"
    return f"file {ref.file}" if ref.file is not None else f"environment variable {ref.env}"
