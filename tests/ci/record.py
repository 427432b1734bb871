"""What each part of a run came to, kept in a file: `make test` and CI's further parts are processes of their own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.ci.parts import STATE, Part

_FILE = STATE / "parts.json"


@dataclass(frozen=True, slots=True)
class Row:
    """One part as it went; seconds."""

    name: str
    seconds: float
    usual: float
    budget: float
    code: int
    """The command's exit code."""
    junit: str = ""
    """Its JUnit file, where it ran tests."""


def forget() -> None:
    """Begins a new run."""
    STATE.mkdir(parents=True, exist_ok=True)
    for old in (_FILE, *STATE.glob("*.xml")):
        old.unlink(missing_ok=True)


def add(part: Part, seconds: float, code: int) -> None:
    """Adds a part that has ended."""
    junit = str(part.junit) if part.junit.exists() else ""
    row = Row(part.name, seconds, part.usual, part.budget, code, junit)
    STATE.mkdir(parents=True, exist_ok=True)
    _FILE.write_text(json.dumps([asdict(one) for one in (*rows(), row)], indent=1) + "\n", encoding="utf-8")


def rows() -> list[Row]:
    """The parts of this run so far."""
    if not _FILE.exists():
        return []
    return [Row(**one) for one in json.loads(_FILE.read_text(encoding="utf-8"))]


@dataclass(frozen=True, slots=True)
class Tests:
    """What a JUnit file says."""

    passed: int
    failed: int
    skipped: int
    times: tuple[tuple[float, str], ...]
    """Seconds of each test with its fixtures, and its name; in the order of the file."""


def read(junit: Path) -> Tests:
    """Reads the JUnit file of one part.

    Raises:
        ET.ParseError: it was cut short.
    """
    cases = list(ET.parse(junit).getroot().iter("testcase"))  # noqa: S314 - pytest has just written it
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    times = tuple((float(case.get("time") or 0), f"{case.get('classname')}::{case.get('name')}") for case in cases)
    return Tests(len(cases) - failed - skipped, failed, skipped, times)
