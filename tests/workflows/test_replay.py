"""Every history that was ever released replays: rollouts under way survive an upgrade of their worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from tests.histories.regenerate import without_machine
from worker.plugin import AutopilotPlugin, all_workflows

CORPUS = sorted((Path(__file__).parent.parent / "histories").rglob("*.json"))


def test_there_is_a_corpus_of_every_workflow() -> None:
    assert {path.parent.name for path in CORPUS} == {"Canary", "Chaos", "Guard", "ScheduledRun"}
    assert len(all_workflows()) == 4, "a new workflow needs histories: `make histories`"


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_history_tells_nothing_of_the_machine_it_was_made_on(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert without_machine(kept) == kept


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_a_released_history_replays(path: Path) -> None:
    text = path.read_text(encoding="utf-8")  # noqa: ASYNC240 (nothing else runs)
    history = WorkflowHistory.from_json(path.stem, text)
    await Replayer(workflows=all_workflows(), plugins=[AutopilotPlugin()]).replay_workflow(history)
