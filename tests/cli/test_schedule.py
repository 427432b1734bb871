"""`autopilot schedule …`: what it asks for, what it shows, and with which exit code it ends."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import starter.client
from autopilot.kinds import schedule_of
from autopilot.operations.common import Caller
from autopilot.reports.experiment import ExperimentInput
from autopilot.reports.schedule import ManualRun, Missed, RunRecord
from starter.cli.commands.schedule import ENTRIES
from starter.client.schedules import ScheduleError, ScheduleRow

from .conftest import EXPERIMENT, NOW, Result, Stage

Run = Callable[..., Result]
ID = "chaos-schedule/local/shop/slow"
CANARY = """\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshCanary
metadata: {name: r}
spec: {target: {service: r}, arms: {stable: v1, canary: v2}, steps: [{weight: 10}]}
"""
SCHEDULED = EXPERIMENT + "  schedule: {cron: '0 10 * * mon-fri', timeZone: Europe/Berlin}\n"


@dataclass
class Schedules:
    """What is scheduled, and what was asked for."""

    put: list[ExperimentInput] = field(default_factory=list)
    told: list[tuple[str, str, Any]] = field(default_factory=list)
    rows: list[ScheduleRow] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    changes: bool = True


@pytest.fixture
def book(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Schedules:
    """`starter.client.schedules` and `starter.client.start_schedule`, played."""
    book, module, making = (
        Schedules(),
        ModuleType("starter.client.schedules"),
        ModuleType("starter.client.start_schedule"),
    )

    async def put(_client: object, wanted: ExperimentInput) -> str:
        book.put.append(wanted)
        return schedule_of(wanted.workflow_id)

    async def resolve(_client: object, text: str) -> str:
        if text == "unknown":
            raise ScheduleError("no schedule is called 'unknown'; `autopilot schedule list` shows those there are")
        return ID

    async def list_schedules(_client: object) -> list[ScheduleRow]:
        return book.rows

    async def runs(_client: object, _schedule: str, *, limit: int) -> list[RunRecord]:
        return book.records[:limit]

    async def pause(_client: object, schedule: str, caller: Caller, reason: str) -> bool:
        book.told.append(("pause", schedule, (caller.who, reason)))
        return book.changes

    async def resume(_client: object, schedule: str, caller: Caller, reason: str) -> bool:
        book.told.append(("resume", schedule, (caller.who, reason)))
        return book.changes

    async def trigger(_client: object, schedule: str, hand: ManualRun) -> RunRecord:
        book.told.append(("trigger", schedule, hand))
        return book.records[0]

    async def delete(_client: object, schedule: str) -> None:
        book.told.append(("delete", schedule, None))

    for function in (resolve, list_schedules, runs, pause, resume, delete):
        setattr(module, function.__name__, function)
    for function in (put, trigger):
        setattr(making, function.__name__, function)
    for name, played in (("schedules", module), ("start_schedule", making)):
        monkeypatch.setitem(sys.modules, f"starter.client.{name}", played)
        monkeypatch.setattr(starter.client, name, played, raising=False)
    return book


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes an experiment's file."""

    def write(text: str = SCHEDULED) -> Path:
        path = tmp_path / "slow.yaml"
        path.write_text(text)
        return path

    return write


def record(decision: str = "started", reason: str = "due", **more: Any) -> RunRecord:
    known = {"schedule": ID, "run": f"{ID}/run-1", "scheduled": NOW, "decided": NOW}
    return RunRecord.model_validate({**known, "decision": decision, "reason": reason, **more})


def row(**more: Any) -> ScheduleRow:
    known: dict[str, Any] = {
        "id": ID, "target": "shop/reviews", "cron": "0 10 * * mon-fri", "time_zone": "Europe/Berlin",
        "next": datetime(2026, 3, 2, 9, tzinfo=UTC), "paused": False, "note": "", "last": None, "late": 0, "dropped": 0,
    }  # fmt: skip
    return ScheduleRow(**known | more)


def test_create_makes_what_the_file_asks_for(autopilot: Run, book: Schedules, file: Callable[..., Path]) -> None:
    result = autopilot("schedule", "create", "-f", file(), "--who", "ann")
    assert result.code == 0, result.err
    (wanted,) = book.put
    assert (wanted.workflow_id, wanted.caller.who) == ("chaos/local/shop/slow", "ann")
    assert f"scheduled {ID}" in result.out
    machine = autopilot("schedule", "create", "-f", file(), "-o", "json")
    assert json.loads(machine.out) == [{"schedule": ID, "clocks": []}]


def test_create_tells_of_hours_that_clocks_leave_out_or_repeat(
    autopilot: Run, book: Schedules, file: Callable[..., Path]
) -> None:
    at_night = file(SCHEDULED.replace("0 10 * * mon-fri", "30 2 * * *"))
    said = " ".join(autopilot("schedule", "create", "-f", at_night).err.split())
    assert re.search(r"02:30 does not exist on \d{4}-03-\d\d in Europe/Berlin, when clocks are set forward", said)
    assert re.search(r"02:30 comes twice on \d{4}-10-\d\d in Europe/Berlin, when clocks are set back", said)
    machine = autopilot("schedule", "create", "-f", at_night, "-o", "json")
    assert len(json.loads(machine.out)[0]["clocks"]) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (EXPERIMENT, "has no spec.schedule"),
        (SCHEDULED.replace("0 10 * * mon-fri", "@daily"), "slow.yaml:8:20: spec.schedule.cron"),
        (CANARY, "MeshCanary r cannot be scheduled"),
    ],
    ids=["no schedule", "no cron", "no experiment"],
)
def test_create_refuses_what_cannot_be_scheduled(
    autopilot: Run, book: Schedules, file: Callable[..., Path], text: str, says: str
) -> None:
    result = autopilot("schedule", "create", "-f", file(text))
    assert result.code == 1
    assert says in result.err
    assert book.put == []


def test_list_says_when_and_what_came_of_it(autopilot: Run, book: Schedules) -> None:
    assert "there are no schedules" in autopilot("schedule", "list").err
    book.rows = [
        row(last=record("skipped", "2026-03-01 to 2026-03-02 are frozen: sale")),
        row(id=f"{ID}-2", paused=True, next=None, note="chaos/local/shop/slow-2 refuted its hypothesis: p99"),
    ]
    said = autopilot("schedule", "list").out
    assert "0 10 * * mon-fri Europe/Berlin" in said
    assert "skipped: 2026-03-01 to 2026-03-02 are frozen: sale" in " ".join(said.split())
    assert "paused: chaos/local/shop/slow-2" in said
    assert "too late" in autopilot("schedule", "list", "-o", "wide").out
    rows = json.loads(autopilot("schedule", "list", "-o", "json").out)
    assert (rows[0]["last"]["reason"], rows[1]["paused"]) == ("2026-03-01 to 2026-03-02 are frozen: sale", True)
    assert "cron: 0 10 * * mon-fri" in autopilot("schedule", "list", "-o", "yaml").out


def test_runs_tell_of_what_was_missed_too(autopilot: Run, book: Schedules) -> None:
    assert "has not run yet" in autopilot("schedule", "runs", "slow").err
    gone = Missed(first=NOW - 86400, last=NOW - 60, count=1439, reason="Temporal was away for longer than 5m")
    book.records = [record("started", missed=(gone,), more_missed=True), record("skipped", "halted by ann", by="bob")]
    said = autopilot("schedule", "runs", "slow").out
    assert "missed 1439" in said
    assert "Temporal was away" in said
    assert "bob" in said
    assert len(json.loads(autopilot("schedule", "runs", "slow", "-o", "json", "--limit", "1").out)) == 1


def test_pause_and_resume_say_who_and_why(autopilot: Run, book: Schedules) -> None:
    assert autopilot("schedule", "pause", "slow", "--reason", "moving", "--who", "ann").code == 0
    assert autopilot("schedule", "resume", "slow", "--who", "ann").code == 0
    assert book.told == [("pause", ID, ("ann", "moving")), ("resume", ID, ("ann", ""))]
    book.changes = False
    again = autopilot("schedule", "pause", "slow", "--reason", "x")
    assert (again.code, "was paused already" in again.err) == (1, True)
    assert autopilot("schedule", "resume", "slow").code == 1
    assert autopilot("schedule", "pause", "slow", "--reason", " ").code == 1
    assert "no schedule is called" in autopilot("schedule", "pause", "unknown", "--reason", "x").err


def test_trigger_tells_by_its_code_whether_it_began(autopilot: Run, book: Schedules) -> None:
    book.records = [record("started", experiment="chaos/local/shop/slow")]
    began = autopilot("schedule", "trigger", "slow", "--who", "ann")
    assert (began.code, "started chaos/local/shop/slow" in began.out) == (0, True)
    assert autopilot("schedule", "trigger", "slow", "--force").code == 1
    assert len(book.told) == 1, "force without a reason asks for nothing"
    book.records = [record("skipped", "2026-12-20 to 2027-01-06 are frozen")]
    refused = autopilot("schedule", "trigger", "slow", "--force", "--reason", "a drill")
    assert (refused.code, "are frozen" in refused.out) == (1, True)
    assert (book.told[1][2].force, book.told[1][2].reason) == (True, "a drill")
    book.records = [record("waiting", "waits for its end")]
    assert autopilot("schedule", "trigger", "slow", "-o", "json").code == 0


def test_delete_removes_it(autopilot: Run, book: Schedules) -> None:
    assert autopilot("schedule", "delete", "slow").code == 0
    assert book.told == [("delete", ID, None)]


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_every_command_of_the_group_explains_itself(autopilot: Run, name: str) -> None:
    result = autopilot("schedule", name, "--help")
    assert result.code == 0
    assert f"Usage: autopilot schedule {name}" in result.out


def test_the_group_names_the_nearest_command(autopilot: Run) -> None:
    assert "did you mean 'trigger'" in autopilot("schedule", "triger").err
