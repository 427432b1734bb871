"""Kinds that packages add: found once, and refused with their package's name where they cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from autopilot import kinds
from autopilot.kinds import CANARY, Kind, UnusableKind
from autopilot.spec.load import load
from starter.cli.errors import explain

MINE = Kind(
    name="mine",
    document="MeshMine",
    model="nowhere:Mine",
    request="nowhere:request",
    workflow="nowhere:Mine",
    status="nowhere:Status",
    report="nowhere:Report",
)
TAKEN = CANARY
NOTHING = object()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    kinds.kinds.cache_clear()
    yield
    kinds.kinds.cache_clear()


def _installed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint("mine", f"{__name__}:{value}" if ":" not in value else value, kinds.GROUP)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point] if group == kinds.GROUP else [])
    if ":" not in value:
        monkeypatch.setattr(EntryPoint, "load", lambda _: globals()[value])


def test_a_kind_of_a_package_is_known_by_its_id_and_by_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, "MINE")
    assert kinds.of_operation("mine/local/shop/a") is MINE
    assert kinds.of_document("MeshMine") is MINE
    assert kinds.of_operation("theirs/local/shop/a") is None
    assert kinds.priority_of("mine/local/shop/a") == CANARY.priority


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nowhere:MINE", "cannot be loaded: No module named 'nowhere'; repair or uninstall that package"),
        ("NOTHING", "names no autopilot.kinds.Kind"),
        ("TAKEN", "names kind MeshCanary (canary/…), and there is MeshCanary (canary/…)"),
    ],
)
def test_one_that_cannot_be_used_is_refused_by_name_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    _installed(monkeypatch, value)
    with pytest.raises(UnusableKind, match="entry point mine of a package") as refused:
        kinds.kinds()
    assert said in str(refused.value)
    assert explain(refused.value).expected
    assert kinds.of_operation("canary/local/shop/a") is CANARY, "commands to rollouts work all the same"
    assert kinds.holds("theirs/local/shop/a"), "a halt goes on to the others"
    assert kinds.priority_of("theirs/local/shop/a") == CANARY.priority


def test_a_part_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, "MINE")
    with pytest.raises(UnusableKind, match="kind MeshMine: its model, 'nowhere:Mine', cannot be loaded"):
        load("apiVersion: meshautopilot.io/v1alpha1\nkind: MeshMine\nmetadata: {name: a}\nspec: {}\n")
