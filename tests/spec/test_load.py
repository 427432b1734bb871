"""Files as users write them: what comes out, and what they are told when something is wrong."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from autopilot.spec.canary import MeshCanary
from autopilot.spec.errors import SpecError
from autopilot.spec.load import load
from autopilot.spec.mesh import Mesh

HEAD = "apiVersion: meshautopilot.io/v1alpha1\nkind: MeshCanary\nmetadata: {name: a}\n"
GOOD = HEAD + "spec:\n  target: {service: x}\n  arms: {stable: v1, canary: v2}\n"


def wrong(text: str) -> list[str]:
    """The lines an author is shown."""
    with pytest.raises(SpecError) as caught:
        load(text, "c.yaml")
    return str(caught.value).splitlines()


def test_reads_several_documents_and_skips_empty_ones() -> None:
    first, second = load("---\n" + GOOD + "---\n---\n" + GOOD.replace("name: a", "name: b"))
    assert isinstance(first, MeshCanary)
    assert isinstance(second, MeshCanary)
    assert [first.metadata.name, second.metadata.name] == ["a", "b"]
    assert [step.weight for step in first.spec.walk] == [5, 10, 25, 50, 100]


def test_reads_files_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert len(load(path)) == 1
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(GOOD.encode())))
    assert len(load(Path("-"))) == 1
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"kind: X")))
    with pytest.raises(SpecError, match="<stdin>:1:7: kind"):
        load(Path("-"))


def test_says_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nb: é".encode("latin-1"))
    with pytest.raises(SpecError, match=r"latin\.yaml:2: is not UTF-8"):
        load(latin)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (
            "  steps:\n    - weight: 10\n      minReqests: 5",
            "c.yaml:9:7: spec.steps[0].minReqests: unknown field (did you mean minRequests?)",
        ),
        (
            "  steps: [{weight: 10, min_requests: 5}]",
            "c.yaml:7:24: spec.steps[0].min_requests: unknown field (did you mean minRequests?)",
        ),
        ("  steps: [{weight: 101}]", "c.yaml:7:20: spec.steps[0].weight: must be at most 100, is 101"),
        ("  steps: [{weight: true}]", "c.yaml:7:20: spec.steps[0].weight: expects a number, got true"),
        (
            "  steps: [{weight: 5, minRequests: true}]",
            "c.yaml:7:36: spec.steps[0].minRequests: expects a number, got true",
        ),
        ("  steps: [50, {weight: 5}]", "c.yaml:7:11: spec.steps[0]: expects fields (`name: value`), got 50"),
        ("  steps: []", "c.yaml:7:10: spec.steps: needs at least 1 entry"),
        ("  steps:", "c.yaml:7:3: spec.steps: expects a list (`- …`), got nothing"),
        ("  steps: [{hold: 5s}]", "c.yaml:7:11: spec.steps[0].weight: is missing"),
        (
            "  steps:\n  - weight: 50\n  - weight: 10",
            (
                "c.yaml:9:13: spec.steps[1].weight: goes down from 50 to 10"
                " (if that is meant, add `allowDecrease: true` to the step)"
            ),
        ),
        (
            "  deadline: soon",
            "c.yaml:7:13: spec.deadline: 'soon' is not a duration; write for instance 250ms, 30s, 1m30s or 2h",
        ),
        ("  onInconclusive: wait", "c.yaml:7:19: spec.onInconclusive: 'wait' is not known; write pause or rollback"),
        ("  analysis: {margin: {ratio: .nan}}", "c.yaml:7:30: spec.analysis.margin.ratio: must be a finite number"),
        (
            "  analysis: {metrics: [{type: latncy}]}",
            "c.yaml:7:31: spec.analysis.metrics[0].type: 'latncy' is not known (did you mean latency?)",
        ),
        (
            "  analysis: {metrics: [{name: x}]}",
            (
                "c.yaml:7:24: spec.analysis.metrics[0]: needs type"
                " (one of errorRate, latency, clientErrorRate, successRate, latencyObjective, promql)"
            ),
        ),
        (
            "  analysis: {metrics: [{type: promql, name: q, query: x}]}",
            "c.yaml:7:24: spec.analysis.metrics[0]: a threshold needs max, min or both",
        ),
        ("  analysis: {metrics: [{type: promql, name: q}]}", "c.yaml:7:24: spec.analysis.metrics[0].query: is missing"),
        (
            "  analysis: {metrics: [{type: successRate, objective: 99.5}]}",
            "c.yaml:7:55: spec.analysis.metrics[0].objective: 99.5 is above 1; for a percentage write 99.5%",
        ),
        (
            "  analysis: {metrics: [{type: errorRate}, {type: latency, name: errors}]}",
            (
                "c.yaml:7:65: spec.analysis.metrics[1].name: another metric is called 'errors'"
                " (give each metric its own name)"
            ),
        ),
        ("  deadline: 1h\n  deadline: 2h", "c.yaml:8:3: spec.deadline: is defined twice; first in line 7"),
        (
            "  deadline: !!python/none 1",
            "c.yaml:7:13: spec.deadline: the tag tag:yaml.org,2002:python/none is not allowed here (write plain YAML)",
        ),
        ("  deadline: &x [*x]", "c.yaml:7:13: spec.deadline[0]: contains itself"),
    ],
)
def test_names_line_column_and_field(spec: str, line: str) -> None:
    assert wrong(GOOD + spec + "\n") == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "c.yaml: is empty (write a document of kind MeshCanary or MeshExperiment or Mesh)"),
        ("# nothing\n---\n", "c.yaml: is empty (write a document of kind MeshCanary or MeshExperiment or Mesh)"),
        ("- 1", "c.yaml:1:1: a document must be a mapping that begins with apiVersion and kind"),
        ("a: [1\nb: 2", "c.yaml:2:2: YAML syntax: expected ',' or ']', but got ':' while parsing a flow sequence"),
        (
            GOOD.replace("v1alpha1", "v9"),
            "c.yaml:1:13: apiVersion: 'meshautopilot.io/v9' is not known (write meshautopilot.io/v1alpha1)",
        ),
        (
            GOOD.replace("MeshCanary", "MeshCanery"),
            "c.yaml:2:7: kind: 'MeshCanery' is not known (did you mean MeshCanary?)",
        ),
        (
            GOOD.replace("MeshCanary", "Pod"),
            "c.yaml:2:7: kind: 'Pod' is not known (known: MeshCanary, MeshExperiment, Mesh)",
        ),
        (
            GOOD.replace("kind: MeshCanary\n", ""),
            "c.yaml:1:1: kind: is missing (known: MeshCanary, MeshExperiment, Mesh)",
        ),
        (GOOD.replace("v2", "v1"), "c.yaml:6:30: spec.arms.canary: is 'v1', the same as stable (name two versions)"),
        (GOOD.replace(", canary: v2", ""), "c.yaml:6:3: spec.arms.canary: is missing"),
        (
            GOOD.replace("service: x", "service: 3"),
            'c.yaml:5:21: spec.target.service: expects text, got 3 (write "3", in quotes)',
        ),
        (GOOD + "---\n" + GOOD, "c.yaml:10:18: metadata.name: MeshCanary default/a is defined twice; first in line 1"),
        (HEAD, "c.yaml:1:1: spec: is missing"),
    ],
)
def test_explains_a_wrong_document(text: str, line: str) -> None:
    assert wrong(text) == [line]


def test_tells_every_problem_of_every_document_in_order() -> None:
    text = GOOD + "  steps: [{weight: x}, {wait: 1}]\n---\nkind: Nope\n---\n" + GOOD + "  frob: 1\n"
    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in wrong(text)] == [
        "c.yaml:7:20 spec.steps[0].weight",
        "c.yaml:7:24 spec.steps[1].weight",
        "c.yaml:7:25 spec.steps[1].wait",
        "c.yaml:9:1 apiVersion",
        "c.yaml:9:7 kind",
        "c.yaml:17:3 spec.frob",
    ]


def test_anchors_and_merge_keys_work() -> None:
    text = GOOD + "  steps:\n    - &first {weight: 10, hold: 5s}\n    - {<<: *first, weight: 100}\n"
    (document,) = load(text)
    assert isinstance(document, MeshCanary)
    assert [(step.weight, step.hold) for step in document.spec.steps] == [(10, 5), (100, 5)]


def test_endless_aliases_are_refused_quickly() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert any("too large" in line for line in wrong(HEAD + "\n".join(lines)))


def test_a_mesh_names_the_place_of_what_does_not_fit() -> None:
    text = """
apiVersion: meshautopilot.io/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  services:
    - name: a
      arms: {v1: {endpoints: ["h:1"]}, v2: {endpoints: []}}
      weights: {v1: WEIGHTS}
    - {name: b, arms: {v1: {endpoints: ["h:2"]}}, weights: {v1: 100}}
  proxies:
    - name: p
      admin: "127.0.0.1:9901"
      outbound: [{name: a, address: "10.0.0.1:80", services: [CALLS]}]
"""
    good = text.replace("WEIGHTS", "100").replace("CALLS", "default/a")
    (document,) = load(good)
    assert isinstance(document, Mesh)
    assert wrong(text.replace("WEIGHTS", "90").replace("CALLS", "default/a")) == [
        "c.yaml:9:16: spec.services[0].weights: add up to 90, not 100"
    ]
    assert wrong(text.replace("WEIGHTS", "90, v3: 10").replace("CALLS", "default/a")) == [
        "c.yaml:9:29: spec.services[0].weights.v3: is not an arm of default/a (its arms: v1, v2)"
    ]
    assert wrong(text.replace("WEIGHTS", "90, v2: 10").replace("CALLS", "default/a")) == [
        "c.yaml:8:56: spec.services[0].arms.v2.endpoints: no endpoints, but 10 % of the traffic"
    ]
    assert "\n".join(wrong(good.replace("default/a", "default/z"))) == (
        "c.yaml:14:63: spec.proxies[0].outbound[0].services[0]: 'default/z' is not a service of the mesh"
        " (known: default/a, default/b)"
    )
    assert wrong(good.replace("name: b", "name: a")) == [
        "c.yaml:10:14: spec.services[1].name: 'default/a' is listed twice"
    ]
    assert wrong(good.replace('"10.0.0.1:80"', "h")) == [
        "c.yaml:14:37: spec.proxies[0].outbound[0].address: 'h' is not an address: host:port"
    ]
    assert wrong(good.replace("{v1: {endpoints", "{V_1: {endpoints", 1))[0].startswith(
        "c.yaml:8:14: spec.services[0].arms.V_1: 'V_1' is not a name"
    )
