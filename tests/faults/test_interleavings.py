"""A few random interleavings of all that can happen to a rollout; `make crash` plays hundreds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.interleavings import shards

pytestmark = [pytest.mark.devserver, pytest.mark.timeout(120)]


async def test_whatever_the_order_the_mesh_is_left_as_it_was_or_promoted(tmp_path: Path) -> None:
    found = await shards.play(tmp_path, 16, shards=4, limit=100)
    assert found.interleavings >= 16
    assert not found.violations, json.dumps(found.violations, indent=1)
