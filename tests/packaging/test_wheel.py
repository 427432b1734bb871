"""The wheel holds one top-level name, runs by itself, and refuses to share its names with strangers."""

from __future__ import annotations

import zipfile
from pathlib import Path

from autopilot._bootstrap import APPLICATION

from .conftest import ROOT, Environment


def test_holds_one_top_level_name(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    (info,) = (name for name in names if name.endswith(".dist-info"))
    assert names == {"autopilot", info}


def test_holds_every_file_once_and_nothing_else(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert len(names) == len(set(names))
    expected = set()
    for package in ("autopilot", *APPLICATION):
        prefix = "" if package == "autopilot" else "autopilot/_app/"
        files = (file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        expected |= {f"{prefix}{file.relative_to(ROOT)}" for file in files}
    assert set(names) == expected


def test_runs_in_a_clean_environment(environment: Environment) -> None:
    shown = environment.run("autopilot", "--help")
    assert (shown.returncode, "apply" in shown.stdout) == (0, True), shown.stderr
    said = environment.run("autopilot", "version")
    assert (said.returncode, said.stdout.startswith("autopilot 0.")) == (0, True), said.stderr


def test_imports_come_from_the_wheel(environment: Environment) -> None:
    probe = (
        "from autopilot._bootstrap import bootstrap; print(bootstrap())\n"
        "import starter.cli.main, workflows.canary.workflow, activities.contracts.operation, worker.main\n"
        "for module in (starter.cli.main, workflows.canary.workflow, activities.contracts.operation, worker.main):"
        " print(module.__file__)"
    )
    done = environment.run("python", "-c", probe)
    assert done.returncode == 0, done.stderr
    inside = str(environment.site / "autopilot" / "_app")
    assert all(line.startswith(inside) for line in done.stdout.splitlines())


def test_a_stranger_of_the_same_name_is_refused(environment: Environment, tmp_path: Path) -> None:
    stranger = tmp_path / "workflows"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("")
    done = environment.run("autopilot", "version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: Mesh Autopilot needs the import name 'workflows', but {stranger}")
    assert "environment of its own" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stranger_that_is_loaded_is_refused(environment: Environment) -> None:
    probe = (
        "import sys, types; sys.modules['worker'] = types.ModuleType('worker')\n"
        "from autopilot._bootstrap import bootstrap; bootstrap()"
    )
    done = environment.run("python", "-c", probe)
    assert "ImportError: Mesh Autopilot needs the import name 'worker'" in done.stderr


def test_a_plain_folder_of_the_same_name_is_no_stranger(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    done = environment.run("autopilot", "version", PYTHONPATH=str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_incomplete_installation_says_so(environment: Environment, tmp_path: Path) -> None:
    probe = (
        "import pathlib\nfrom autopilot import _bootstrap\n"
        f"_bootstrap.application_root = lambda: pathlib.Path({str(tmp_path)!r})\n_bootstrap.main()"
    )
    done = environment.run("python", "-c", probe)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Mesh Autopilot is incomplete")
