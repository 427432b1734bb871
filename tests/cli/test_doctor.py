"""`autopilot doctor` says what is missing and how to get it; `version` says what is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autopilot.mesh.errors import MeshError

from .conftest import Result, Stage

Run = Callable[..., Result]


def findings(result: Result) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in json.loads(result.out)["findings"]}


@pytest.fixture(autouse=True)
def no_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the default address, whatever runs on this machine."""
    monkeypatch.setattr("starter.cli.commands.doctor.temporal_address", lambda: "127.0.0.1:1")


def test_nothing_required_is_missing_here(autopilot: Run, stage: Stage) -> None:
    result = autopilot("doctor", "-o", "json")
    found = findings(result)
    assert result.code == 0, result.out
    assert found["Python"]["ok"]
    assert found["worker"]["ok"]
    assert found["mesh"]["found"] == "local (found/mesh.yaml)"
    assert not found["Temporal"]["ok"]
    assert "autopilot up" in str(found["Temporal"]["fix"])


def test_what_was_named_and_does_not_answer_is_required(
    autopilot: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPILOT_MESH", "nowhere.yaml")
    monkeypatch.setenv("AUTOPILOT_PROMETHEUS", "http://127.0.0.1:1")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    stage.failing["open_mesh"] = MeshError("nowhere.yaml: cannot be read")
    result = autopilot("doctor")
    assert result.code == 1
    assert "missing: mesh, Temporal, Prometheus server" in result.err
    assert "no answer at 127.0.0.1:1" in " ".join(result.out.split())


def test_missing_programs_are_optional_and_say_how_to_get_them(
    autopilot: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("AUTOPILOT_ENVOY", str(tmp_path / "none"))
    monkeypatch.setenv("AUTOPILOT_TEMPORAL", str(tmp_path / "none"))
    monkeypatch.setenv("AUTOPILOT_TOOLS", str(tmp_path))  # a stack of other tests in this process may have set it
    result = autopilot("doctor", "-o", "json")
    found = findings(result)
    assert result.code == 0
    programs = ("Envoy", "Temporal CLI", "Prometheus", "Docker")
    assert [found[name] for name in programs if found[name]["ok"]] == []
    assert all(found[name]["fix"] for name in programs)


def test_a_state_folder_that_cannot_be_written_is_required(
    autopilot: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AUTOPILOT_HOME", str(tmp_path / "file" / "state"))
    result = autopilot("doctor", "-o", "json")
    assert result.code == 1
    assert not findings(result)["state folder"]["ok"]


def test_version(autopilot: Run) -> None:
    assert autopilot("version").out.startswith("autopilot 0.")
    assert json.loads(autopilot("version", "-o", "json").out)["python"].startswith(f"{sys.version_info.major}.")
