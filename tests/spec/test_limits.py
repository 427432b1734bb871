"""Files that ask for too much: refused soon, with their place, and in little memory."""

from __future__ import annotations

import io
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from autopilot.spec.errors import SpecError
from autopilot.spec.input_safety.yaml_limits import MAX_BYTES, MAX_DEPTH, MAX_NODES
from autopilot.spec.load import load
from tests.spec.attacks import BODY, GOOD, HEAD, wrong


class Endless(io.RawIOBase):
    """A stream without an end, that counts what was taken from it."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "the whole of an endless stream was asked for"
        self.taken += size
        return b"#" * size


def test_no_more_is_read_than_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Endless()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
    with pytest.raises(SpecError, match=r"^<stdin>: is larger than 1 MiB"):
        load(Path("-"))
    assert endless.taken <= MAX_BYTES + 1
    path = tmp_path / "c.yaml"
    path.write_text(GOOD + "#" * (MAX_BYTES - len(GOOD)))
    assert load(path)
    path.write_text(GOOD + "#" * (MAX_BYTES - len(GOOD) + 1))
    with pytest.raises(SpecError, match=r"c\.yaml: is larger than 1 MiB \(split it into several files\)"):
        load(path)
    with pytest.raises(SpecError, match="/dev/zero: is larger"):
        load(Path("/dev/zero"))
    assert wrong("#" * (MAX_BYTES + 1)) == ["c.yaml: is larger than 1 MiB (split it into several files)"]


def test_a_path_that_cannot_be_is_named() -> None:
    with pytest.raises(SpecError, match="cannot be read: embedded null byte"):
        load(Path("a\0b"))


BOMBS = {
    "laughs": ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)],
    "mappings": ["a0: &a0 {x: 1, y: 2, z: 3}"]
    + [f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 9)],
    "merges": ["a0: &a0 {x: 1, y: 2}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)],
    "text": [f"a0: &a0 {'x' * 100_000}", f"a1: [{', '.join(['*a0'] * 1000)}]"],
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_aliases_that_multiply_are_refused_soon_and_in_little_memory(bomb: str) -> None:
    text = GOOD + "\n".join(BOMBS[bomb]) + "\n"
    wrong(text)  # whatever is loaded once is not this file's memory
    tracemalloc.start()
    (line,) = wrong(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "is too large: aliases repeat it too often (write the values out)" in line
    assert line.startswith("c.yaml:")
    assert peak < 32 << 20


def test_a_bomb_in_each_of_many_documents_is_one_bomb() -> None:
    lines = ["---", "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 4)]
    assert any("aliases repeat it too often" in line for line in wrong("\n".join(lines * 400)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, f"c.yaml:1:{MAX_DEPTH + 2}: is too large: nested more than {MAX_DEPTH} deep"),
        ("{a: " * 20_000, f"c.yaml:1:{4 * MAX_DEPTH + 5}: is too large: nested more than {MAX_DEPTH} deep"),
        ("- " * 5_000, f"is too large: nested more than {MAX_DEPTH} deep"),
        ("\n".join(" " * depth + "a:" for depth in range(400)), f"is too large: nested more than {MAX_DEPTH} deep"),
        ("x: [" + "1," * (2 * MAX_NODES) + "]", f"is too large: more than {MAX_NODES:,} values in one file"),
        ("---\n- 1\n" * 20_000, "and 901 problems more"),
    ],
    ids=["brackets", "braces", "dashes", "indents", "values", "documents"],
)
def test_depth_and_size_are_limited_while_reading(text: str, said: str) -> None:
    assert said in wrong(text)[-1]


def test_not_everything_is_told_where_everything_is_wrong() -> None:
    lines = wrong(GOOD + "".join(f"  field{number}: 1\n" for number in range(5_000)))
    assert len(lines) == 101
    assert lines[-1] == "and 4,900 problems more"


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("deadline: 0x" + "f" * 50_000, "spec.deadline: '0xfff"),
        ("deadline: " + "9" * 50_000, "spec.deadline: '999"),
        ("deadline: " + "1" * 500_000 + "x", "spec.deadline: '111"),
        ("deadline: " + "1_" * 100_000, "spec.deadline: "),
        ("steps: [{weight: " + "1" * 500_000 + "x}]", "spec.steps[0].weight: '111"),
        ("steps: [{weight: '" + "1." * 200_000 + "%'}]", "spec.steps[0].weight: '1.1"),
        ("analysis: {alpha: '" + "1" * 500_000 + "x%'}", "spec.analysis.alpha: '111"),
        ("deadline: 1e99999999", "spec.deadline: must be a finite number"),
        ("target: {service: " + "a" * 500_000 + "}", "spec.target: is defined twice"),
        ('? "' + "weight" * 50_000 + '"\n  : 1', "unknown field (known: target"),
        ("analysis: {metrics: [{type: " + "latency" * 50_000 + "}]}", "spec.analysis.metrics[0].type: 'latency"),
        ("analysis: {metrics: [{type: promql, name: q, max: 1, query: " + "x" * 4097 + "}]}", "has 4,097 characters"),
    ],
)
def test_huge_numbers_and_texts_are_refused_in_time_and_cut(field: str, said: str) -> None:
    (line,) = wrong(GOOD + "  " + field + "\n")
    assert said in line
    assert len(line) < 400


def test_labels_and_annotations_have_limits() -> None:
    def metadata(text: str) -> list[str]:
        return wrong(HEAD + f"metadata: {{name: a, {text}}}\n" + BODY)

    many = ", ".join(f"k{number}: x" for number in range(65))
    assert metadata(f"labels: {{{many}}}") == ["c.yaml:3:29: metadata.labels: takes at most 64 entries"]
    assert metadata(f"annotations: {{{many}}}") == ["c.yaml:3:34: metadata.annotations: takes at most 64 entries"]
    (long,) = metadata(f"labels: {{a: {'x' * 257}}}")
    assert long == "c.yaml:3:33: metadata.labels.a: has 257 characters, may have 256"
    (long,) = metadata(f"annotations: {{a: {'x' * 4097}}}")
    assert long.endswith("metadata.annotations.a: has 4,097 characters, may have 4,096")
    (bad,) = metadata('labels: {"a b": x}')
    assert bad.startswith("c.yaml:3:30: metadata.labels[\"a b\"]: 'a b' is not the name of a label")


def test_what_people_write_in_labels_and_annotations_is_kept() -> None:
    text = """say "hi" \\ to 'them' <b> ${HOME} {{canary}} ünï 🚀"""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    (canary,) = load(
        HEAD + f'metadata: {{name: a, labels: {{"ex.io/a_b.c": "{quoted}"}}, annotations: {{b: "x\\ny\\tz"}}}}\n' + BODY
    )
    assert canary.metadata.labels == {"ex.io/a_b.c": text}
    assert canary.metadata.annotations == {"b": "x\ny\tz"}
