"""What every command says and does, and with which exit code it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from autopilot.mesh.errors import MeshError
from autopilot.operations.common import Approval, Command, Outcome, Phase, Promotion
from starter.client.identity import whoami

from .conftest import (
    ID,
    OperationError,
    OperationRunning,
    Result,
    Stage,
    a_lease,
    a_progress,
    a_report,
    a_row,
    a_status,
)

Run = Callable[..., Result]
File = Callable[..., Path]


def test_apply_checks_and_starts(autopilot: Run, stage: Stage, canary_file: File) -> None:
    result = autopilot("apply", "-f", canary_file(), "--who", "ann")
    assert result.code == 0, result.err
    (started,) = stage.started
    assert started.workflow_id == ID
    assert (started.caller.who, started.caller.verified) == ("ann", False)
    assert f"started {ID}" in result.out
    assert f"autopilot watch {ID}" in result.err


def test_apply_says_so_where_no_worker_runs(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.workers = {"autopilot": 0}
    assert "no worker that drives mesh local polls Temporal yet" in autopilot("apply", "-f", canary_file()).err


def test_apply_starts_nothing_unless_all_is_well(autopilot: Run, stage: Stage, canary_file: File) -> None:
    good, bad = canary_file(), canary_file("other", "ratings", "kind: MeshCanary")
    result = autopilot("apply", "-f", good, "-f", bad)
    assert result.code == 1
    assert f"{bad}:1:1: spec: is missing" in result.err
    assert "nothing was started and nothing was written" in result.err
    assert stage.started == []


def test_apply_names_what_the_mesh_lacks(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.problems = ["spec.arms.canary: shop/reviews has no arm 'v2'; it has v1"]
    file = canary_file()
    result = autopilot("apply", "-f", file)
    assert result.code == 1
    assert f"error: {file}: shop/reviews: spec.arms.canary: shop/reviews has no arm 'v2'" in result.err
    assert stage.started == []


def test_apply_refuses_two_rollouts_of_one_service(autopilot: Run, stage: Stage, canary_file: File) -> None:
    result = autopilot("apply", "-f", canary_file("one"), "-f", canary_file("two"))
    assert result.code == 1
    assert "shop/two and shop/one" in result.err
    assert "both want shop/reviews (apply one of them)" in result.err
    assert stage.started == []


def test_apply_refuses_a_mesh_document(autopilot: Run, stage: Stage) -> None:
    example = Path(__file__).parents[2] / "examples" / "mesh.yaml"
    result = autopilot("apply", "-f", example)
    assert result.code == 1
    assert "describes a mesh, not an operation" in result.err
    assert "--mesh" in result.err


def test_apply_names_the_holder(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.failing["start_operation"] = OperationRunning(f"{ID} is under way already: look at it")
    result = autopilot("apply", "-f", canary_file())
    assert result.code == 1
    assert f"error: {ID} is under way already" in result.err


def test_apply_says_what_was_started_before_it_failed(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.failing["start_operation two"] = OperationRunning("its name is taken")
    result = autopilot("apply", "-f", canary_file("reviews"), "-f", canary_file("two", "ratings"))
    assert result.code == 1
    assert "its name is taken" in result.err
    assert f"started before it: {ID}" in result.err


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.PROMOTED, 0),
        (Outcome.FAILED, 1),
        (Outcome.ROLLED_BACK, 2),
        (Outcome.INCONCLUSIVE, 3),
        (Outcome.ABORTED, 4),
    ],
)
def test_the_end_is_an_exit_code(autopilot: Run, stage: Stage, canary_file: File, outcome: Outcome, code: int) -> None:
    stage.report, stage.status, stage.after = a_report(outcome), a_status(), 1
    waited = autopilot("apply", "-f", canary_file(), "--wait")
    assert waited.code == code
    assert outcome.value in waited.out
    assert "promoted [by] hand" in waited.err
    assert autopilot("status", ID).code == code
    assert autopilot("watch", ID).code == code


def test_apply_waits_for_several_and_ends_with_the_worst(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.report = a_report(Outcome.ROLLED_BACK)
    result = autopilot("apply", "-f", canary_file(), "-f", canary_file("b", "ratings"), "--wait", "-o", "json")
    assert result.code == 2
    assert [each["outcome"] for each in json.loads(result.out)] == ["RolledBack", "RolledBack"]


def test_plan_shows_the_walk_and_writes_nothing(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.holders = ("canary/local/shop/other#2",)
    result = autopilot("plan", "-f", canary_file())
    assert result.code == 0, result.err
    for said in (ID, "v1 → v2", "10 %", "50 %", "100 %", "waits for approval", "tier A", "held by", "+{'v1': 90.0"):
        assert said in result.out
    assert stage.started == []


def test_plan_ends_with_1_where_it_could_not_start(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.problems = ["shop/reviews is held by chaos/local/shop/x"]
    result = autopilot("plan", "-f", canary_file(), "-o", "json")
    assert result.code == 1
    (planned,) = json.loads(result.out)
    assert "held by chaos" in planned["problems"][0]
    assert [step["weight"] for step in planned["steps"]] == [10, 50, 100]
    assert planned["tier"] == "A"


def test_list(autopilot: Run, stage: Stage) -> None:
    assert "no operation is running" in autopilot("list").err
    stage.rows = [a_row(), a_row(datetime(2026, 1, 2, tzinfo=UTC))]
    assert autopilot("list").out.count(ID) == 1
    assert autopilot("list", "--all").out.count(ID) == 2
    assert "MeshCanary" in autopilot("list", "-o", "wide").out


def test_list_prints_rows_for_programs(autopilot: Run, stage: Stage) -> None:
    @dataclass
    class Row:
        workflow_id: str
        closed: datetime | None

    stage.rows = [Row(ID, None), Row(ID, datetime(2026, 1, 2, tzinfo=UTC))]
    listed = json.loads(autopilot("list", "--all", "-o", "json").out)
    assert listed[1] == {"workflow_id": ID, "closed": "2026-01-02T00:00:00Z"}
    assert YAML(typ="safe").load(autopilot("list", "-o", "yaml").out) == [{"workflow_id": ID, "closed": None}]


def test_get_draws_a_running_rollout(autopilot: Run, stage: Stage) -> None:
    stage.status, stage.progress = a_status(), a_progress()
    out = autopilot("get", "reviews").out
    for said in (
        ID, "Progressing", "✓ 10 → ▶ 50 → 100 %", "50 % set · 49.7 % measured", "canary 312 (3 failed), stable 2,901",
        "3.1 of 6.9 needed", "2.0 of 3.0 needed", "canary 1.20% · stable 0.10%", "no data for 7s", "next",
        "step 1 holds",
    ):  # fmt: skip
        assert said in out


def test_get_tells_what_a_person_is_asked_for(autopilot: Run, stage: Stage) -> None:
    stage.status = a_status(phase=Phase.WAITING, waiting_for=f"autopilot approve {ID}")
    assert f"autopilot approve {ID}" in autopilot("get", ID).out
    stage.status = a_status(phase=Phase.PAUSED, paused_by="ann")
    assert f"autopilot resume {ID}" in autopilot("get", ID).out


def test_get_draws_an_ended_rollout(autopilot: Run, stage: Stage) -> None:
    stage.report = a_report(Outcome.ROLLED_BACK)
    out = autopilot("get", ID).out
    for said in (
        "RolledBack",
        "1m15s",
        "60 requests, 12 failed, 4s",
        "restored in",
        "42ms",
        "promoted [by] hand",
        "ann",
    ):
        assert said in out


def test_get_for_programs(autopilot: Run, stage: Stage) -> None:
    stage.status, stage.progress = a_status(), a_progress()
    running = json.loads(autopilot("get", ID, "-o", "json").out)
    assert (running["running"], running["phase"], running["progress"]["measured"]) == (True, "Progressing", 49.7)
    stage.report = a_report()
    ended = YAML(typ="safe").load(autopilot("get", ID, "-o", "yaml").out)
    assert (ended["running"], ended["outcome"]) == (False, "Promoted")


def test_a_rollout_nobody_works_on_is_still_shown(autopilot: Run, stage: Stage) -> None:
    stage.status = OperationError("no worker answered for it")
    assert "no worker answered" in autopilot("get", ID).out
    result = autopilot("status", ID)
    assert (result.code, "no worker answered" in result.out) == (3, True)


def test_status_looks_once_without_a_timeout_and_waits_with_one(autopilot: Run, stage: Stage) -> None:
    stage.status, stage.report, stage.after = a_status(), a_report(), 1
    result = autopilot("status", ID)
    assert result.code == 3
    assert "Progressing: step 2 of 3, 50 %" in result.out
    stage.after = 1
    result = autopilot("status", ID, "--timeout", "5s", "-o", "json")
    assert result.code == 0
    assert json.loads(result.out)["exit_code"] == 0


def test_status_is_undecided_at_the_timeout(autopilot: Run, stage: Stage) -> None:
    stage.status = a_status()
    result = autopilot("status", ID, "--timeout", "50ms")
    assert result.code == 3
    assert "still running after 0.05 s; the operation continues" in result.err


def test_an_operation_that_is_not_there_is_an_error(autopilot: Run, stage: Stage) -> None:
    stage.failing["resolve"] = OperationError(
        "no operation is called 'x'; `autopilot list --all` shows those there are"
    )
    for command in ("get", "status", "watch", "pause"):
        result = autopilot(command, "x")
        assert (result.code, "error: no operation is called 'x'" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pause", "shop/reviews", "--reason", "lunch"], Command),
        (["resume", "reviews"], Command),
        (["abort", ID, "--reason", "no"], Command),
        (["abort", ID], Command),
        (["approve", ID, "--gate", "2"], Approval),
        (["promote", ID], Promotion),
        (["promote", ID, "--full", "--reason", "hotfix"], Promotion),
    ],
)
def test_tells_an_operation(autopilot: Run, stage: Stage, words: list[str], told: type[Command]) -> None:
    result = autopilot(*words)
    assert result.code == 0, result.err
    ((name, workflow_id, command),) = stage.told
    assert (name, workflow_id, type(command)) == (words[0], ID, told)
    assert command.caller.who == whoami()
    assert f"{ID}: {name} it is" in result.out


def test_skipping_everything_needs_a_reason(autopilot: Run, stage: Stage) -> None:
    result = autopilot("promote", ID, "--full")
    assert (result.code, "--reason" in result.err) == (1, True)
    assert stage.told == []


def test_capabilities_and_leases(autopilot: Run, stage: Stage) -> None:
    assert "SplitTraffic" in autopilot("capabilities").out
    assert json.loads(autopilot("capabilities", "-o", "json").out)["capabilities"][0]["tier"] == "A"
    assert "no lease is held on local" in autopilot("leases").err
    stage.leases = [a_lease(), a_lease("errors")]
    out = autopilot("leases", "-o", "wide").out
    assert f"{ID}#3" in out
    assert "condemned: errors" in out
    assert len(json.loads(autopilot("leases", "-o", "json").out)["leases"]) == 2


def test_no_mesh_is_an_error_that_says_what_to_do(autopilot: Run, stage: Stage, canary_file: File) -> None:
    stage.failing["open_mesh"] = MeshError("no mesh: name its file with --mesh mesh.yaml")
    for words in (["leases"], ["capabilities"], ["plan", "-f", canary_file()], ["apply", "-f", canary_file()]):
        result = autopilot(*words)
        assert (result.code, "error: no mesh: name its file" in result.err) == (1, True)


def test_worker_and_guard_run_what_they_are_told(
    autopilot: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import worker.guard_process  # noqa: PLC0415
    import worker.main  # noqa: PLC0415

    ran: list[tuple[Any, ...]] = []

    async def run(files: list[Path], **options: Any) -> None:
        ran.append((files, options))

    monkeypatch.setattr(worker.main, "run", run)
    monkeypatch.setattr(worker.guard_process, "run", run)
    monkeypatch.setenv("AUTOPILOT_PROMETHEUS", "http://p:9090")
    assert (
        autopilot("worker", "--mesh", "a.yaml", "--mesh", "b.yaml", "--metrics", "127.0.0.1:1", "--codec", "aes").code
        == 0
    )
    assert autopilot("guard").code == 0
    (files, options), (guarded, guard_options) = ran
    assert (files, options["metrics"]) == ([Path("a.yaml"), Path("b.yaml")], "127.0.0.1:1")
    assert options["prometheus"] == "http://p:9090"
    assert options["codec"] == "aes"
    assert (guarded, guard_options) == ([Path("found/mesh.yaml")], {"metrics": None})
