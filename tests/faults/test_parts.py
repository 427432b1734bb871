"""The crash suite can be played in parts: together they are the whole, and each holds every event at some points."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.ci.parts import CRASH_PARTS
from tests.faults.events.all_events import EVENTS
from tests.faults.walks import WALKS, Point

POINTS = [Point(walk, number, str(number), 0.0, "before") for walk in WALKS.values() for number in range(1, 14)]


@pytest.fixture(scope="module")
def crash() -> ModuleType:
    """The program behind `make crash`, which is no module of a package."""
    folder = Path(__file__).parents[2] / "benchmarks"
    spec = importlib.util.spec_from_file_location("crash_program", folder / "crash.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setitem(sys.modules, "crash_program", module)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("of", [1, 2, CRASH_PARTS])
def test_all_parts_together_play_each_event_at_each_point_once(crash: ModuleType, of: int) -> None:
    played: Counter[tuple[str, str]] = Counter()
    for number in range(1, of + 1):
        part = crash.Part(number, of)
        for event in EVENTS.values():
            played.update((event.name, str(point)) for point in part.points(event, POINTS))
    assert set(played.values()) == {1}
    assert len(played) == len(EVENTS) * len(POINTS)


def test_each_part_holds_every_event_at_points_of_both_kinds_of_operation(crash: ModuleType) -> None:
    for number in range(1, CRASH_PARTS + 1):
        part = crash.Part(number, CRASH_PARTS)
        for event in EVENTS.values():
            assert {point.walk.kind for point in part.points(event, POINTS)} == {"canary", "chaos"}


def test_each_part_holds_every_net_at_every_walk(crash: ModuleType) -> None:
    for number in range(1, CRASH_PARTS + 1):
        part = crash.Part(number, CRASH_PARTS)
        met = {(event.net, point.walk.name) for event in EVENTS.values() for point in part.points(event, POINTS)}
        assert met == {(event.net, name) for event in EVENTS.values() for name in WALKS}
