"""How values travel through Temporal: one converter for clients, workers, replayers and test environments."""

from __future__ import annotations

import dataclasses
from typing import Final

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
)

DATA_CONVERTER: Final[DataConverter] = pydantic_data_converter
"""Pydantic models as JSON."""


def with_codec(codec: PayloadCodec | None) -> DataConverter:
    """The same with a codec over it, which then also has the messages and stack traces of failures."""
    if codec is None:
        return DATA_CONVERTER
    return dataclasses.replace(
        DATA_CONVERTER,
        payload_codec=codec,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def keeping_codec(existing: DataConverter | None) -> DataConverter:
    """Our converter with the codec that a client was connected with: a plugin must not undo it."""
    return with_codec(existing.payload_codec if existing is not None else None)
