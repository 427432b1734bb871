"""Whatever is in a file: documents or a SpecError with places inside the file; soon, and the same each time."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.mesh.errors import MeshError
from autopilot.spec.errors import Problem, SpecError
from autopilot.spec.load import Document, load, models
from tests.drawn import examples
from tests.fuzz.strategies import dumped, mutated, revalued, structures

QUICK = 2.0
"""Seconds of processor time for one small file, at the most; nearly all take a tenth."""


def outcome(text: str) -> tuple[list[Document], list[Problem]]:
    """What the loader makes of it."""
    try:
        return load(text, "f.yaml"), []
    except SpecError as error:
        return [], error.problems


def attempt(text: str) -> None:
    """Loads or refuses, as it should; anything else fails the test."""
    started = time.thread_time()
    documents, problems = outcome(text)
    assert time.thread_time() - started < QUICK
    assert documents or problems
    assert outcome(text) == (documents, problems), "another time, another outcome"
    lines = [*text.split("\n"), ""]
    for problem in problems:
        assert str(problem).isprintable()
        assert len(str(problem)) < 2000
        assert "Input should" not in problem.message
        assert "instance of" not in problem.message
        if problem.line is not None:
            assert problem.column is not None
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
    for document in documents:
        # What travels to workflows and back is what was read.
        assert type(document).model_validate_json(document.model_dump_json()) == document


@given(st.text() | st.text(alphabet="a1:-? \n\t[]{},&*!|>'\"%@#<~.\\=", max_size=60))
@settings(max_examples=examples(150), deadline=None)
def test_any_text(text: str) -> None:
    attempt(text)


@given(structures, structures, st.sampled_from([*models(), "MeshCanery", "Pod"]))
@example([], [], "Mesh")
@settings(max_examples=examples(120), deadline=None)
def test_any_structure(metadata: Any, spec: Any, kind: str) -> None:
    attempt(dumped({"apiVersion": "meshautopilot.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}))


PARTS = {
    "target": {"service": "a"},
    "scope": {"percentage": 5},
    "hypothesis": {"probes": [{"type": "tcp", "name": "a", "address": "h:1"}]},
    "method": [{"faults": [{"fault": {"type": "abort"}}]}],
}
"""An experiment, part by part."""


@given(
    st.sampled_from([*PARTS, "safety", "abort", "schedule", "deadline", "title"]),
    structures,
    st.sampled_from(["delay", "abort", "grpcAbort", "overflow", "eject", "partition", "promql", "http", "python", "a"]),
)
@settings(max_examples=examples(120), deadline=None)
def test_any_part_of_an_experiment(part: str, value: Any, kind: str) -> None:
    if isinstance(value, dict):
        value = value | {"type": kind}
    put: Any = {"probes": [value]} if part == "hypothesis" else value
    put = [{"faults": [{"fault": value, "scope": value}], "actions": [value]}] if part == "method" else put
    spec = PARTS | {part: put}
    attempt(
        dumped(
            {
                "apiVersion": "meshautopilot.io/v1alpha1",
                "kind": "MeshExperiment",
                "metadata": {"name": "a"},
                "spec": spec,
            }
        )
    )


@given(st.lists(structures, max_size=3))
@settings(max_examples=examples(25), deadline=None)
def test_any_documents(documents: list[Any]) -> None:
    attempt("---\n".join(map(dumped, documents)))


@given(mutated() | revalued())
@settings(max_examples=examples(150), deadline=None)
def test_good_files_gone_bad(text: str) -> None:
    attempt(text)


@given(mutated() | revalued())
@settings(max_examples=examples(60), deadline=None)
def test_the_base_is_a_mesh_or_refused(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.mktemp("base") / "mesh.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        mesh = read_mesh(path)
    except MeshError:
        return
    assert mesh.spec.services
