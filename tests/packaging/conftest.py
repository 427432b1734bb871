"""A wheel of this tree, and a clean environment it is installed into; both are made once."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """An environment with the wheel and nothing of the checkout."""

    root: Path
    site: Path

    def run(self, *words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of it, in an empty folder unless told otherwise."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AUTOPILOT_"))}
        command = [str(self.root / "bin" / words[0]), *words[1:]]
        return subprocess.run(
            command, cwd=cwd or self.root, env=kept | variables, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    return _built(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel in an environment of its own; its dependencies are borrowed from the one the tests run in."""
    return _installed(tmp_path_factory.mktemp("clean"), wheel)


@pytest.fixture(scope="session")
def with_a_kind(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The same beside a package that adds a kind of operation."""
    detour = _built(Path(__file__).parent / "detour", tmp_path_factory.mktemp("detour"))
    return _installed(tmp_path_factory.mktemp("kinds"), wheel, detour)


def _built(project: Path, folder: Path) -> Path:
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=project, check=True, capture_output=True, timeout=60)
    (built,) = folder.glob("*.whl")
    return built


def _installed(root: Path, *wheels: Path) -> Environment:
    venv.EnvBuilder(with_pip=False, symlinks=True).create(root)
    scheme = sysconfig.get_paths("venv", {"base": str(root), "platbase": str(root)})
    site = Path(scheme["purelib"])
    destination = SchemeDictionaryDestination(scheme, interpreter=str(root / "bin" / "python"), script_kind="posix")
    for wheel in wheels:
        with WheelFile.open(wheel) as source:
            install(source=source, destination=destination, additional_metadata={})
    # Only the folder: the .pth files in it (the checkout's own among them) do not count for another environment.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Environment(root, site)
