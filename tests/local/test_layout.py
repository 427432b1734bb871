from __future__ import annotations

from pathlib import Path

import pytest

from autopilot.local.layout import Layout


def test_state_is_the_one_asked_for_then_the_environments_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOPILOT_HOME", raising=False)
    assert Layout.find().root == tmp_path / ".autopilot"
    monkeypatch.setenv("AUTOPILOT_HOME", str(tmp_path / "home"))
    assert Layout.find().root == tmp_path / "home"
    assert Layout.find(Path("asked")).root == tmp_path / "asked"


def test_tools_can_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOPILOT_TOOLS", raising=False)
    assert Layout(tmp_path).tools == tmp_path / "tools"
    monkeypatch.setenv("AUTOPILOT_TOOLS", str(tmp_path / "shared"))
    assert Layout(tmp_path).tools == tmp_path / "shared"


def test_create_is_private_repeatable_and_out_of_version_control(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.create()
    layout.create()
    assert layout.root.stat().st_mode & 0o777 == 0o700
    assert (layout.root / ".gitignore").read_text() == "*\n"
    assert layout.logs.is_dir()
    assert layout.mesh_file.parent.is_dir()
