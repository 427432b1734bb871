"""The definitions as they were last looked at: a change of them is a change of what clusters hold, and must be seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from autopilot.spec.crd.emit import crd
from autopilot.spec.crd.resources import resources
from starter.cli.commands.crds import to_yaml
from starter.cli.main import run

GOLDEN = Path(__file__).parent / "golden"
AGAIN = "autopilot crds --output tests/spec/golden"
DEFINITIONS = {f"{found['metadata']['name']}.yaml": found for found in map(crd, resources())}
ELSEWHERE = re.compile(r"(?i)y|n|yes|no|on|off|~|null|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""Wire text that kubectl's YAML (1.1) reads as something else."""


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions_are_as_they_were_last_looked_at(name: str) -> None:
    file = GOLDEN / name
    same = file.exists() and file.read_text(encoding="utf-8") == to_yaml(DEFINITIONS[name])
    assert same, (
        f"{name} changed; where that is meant, run `{AGAIN}`, and look at the difference before it is committed"
    )


def test_there_are_no_others() -> None:
    assert {file.name for file in GOLDEN.iterdir()} == set(DEFINITIONS), f"run `{AGAIN}`, and delete what is left"


def texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                yield from (*texts(key), *texts(each))
        case list():
            for each in value:
                yield from texts(each)
        case _:
            pass


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_every_yaml_reads_it_alike(definition: dict[str, Any]) -> None:
    text = to_yaml(definition)
    assert YAML(typ="safe", pure=True).load(text) == definition
    assert not [each for each in texts(definition) if ELSEWHERE.fullmatch(each)]
    assert not re.search(r"(^|\s)[&*]id\d", text)


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_no_pattern_repeats_more_often_than_an_api_server_allows(definition: dict[str, Any]) -> None:
    """Patterns are RE2 there, in which a repetition counts to 1,000 at most."""
    counts = [int(count) for each in texts(definition) for count in re.findall(r"\{(?:\d+,)?(\d+)\}", each)]
    assert counts
    assert max(counts) <= 1000


def test_the_command_prints_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["crds"]) == 0
    printed = list(YAML(typ="safe", pure=True).load_all(capsys.readouterr().out))
    assert printed == list(DEFINITIONS.values())


def test_the_command_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["crds", "MeshCanary"]) == 0
    assert capsys.readouterr().out == to_yaml(crd(resources()[0]))


def test_the_command_writes_one_file_a_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["crds", "--output", str(tmp_path / "new" / "folder")]) == 0
    written = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "new" / "folder").iterdir()}
    assert written == {name: to_yaml(definition) for name, definition in DEFINITIONS.items()}
    out, err = capsys.readouterr()
    assert out == ""
    assert all(f"wrote {tmp_path}/new/folder/{name}" in err for name in DEFINITIONS)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("MeshCanry", "error: there is no kind 'MeshCanry'\n hint: did you mean MeshCanary?"),
        ("Deployment", "error: there is no kind 'Deployment'\n hint: known: MeshCanary, MeshExperiment"),
        (
            "Mesh",
            (
                "error: Mesh is not a Kubernetes resource: it describes a mesh in a local file\n"
                " hint: resources: MeshCanary, MeshExperiment"
            ),
        ),
    ],
)
def test_the_command_says_which_kinds_there_are(kind: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["crds", kind]) == 1
    out, err = capsys.readouterr()
    assert (out, err.startswith(said)) == ("", True)


def test_the_command_says_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["crds", "--output", str(tmp_path / "file")]) == 1
    assert "cannot be written: " in capsys.readouterr().err
