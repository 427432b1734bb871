"""The base of every value that travels: frozen, and fields of newer versions are passed over."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """A frozen value that travels through Temporal; fields of newer versions are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
