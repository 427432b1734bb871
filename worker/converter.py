"""How values travel through Temporal: one converter for clients, workers, replayers and test environments."""

from __future__ import annotations

from typing import Final

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter

DATA_CONVERTER: Final[DataConverter] = pydantic_data_converter
"""Pydantic models as JSON."""
