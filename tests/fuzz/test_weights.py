"""Weights written back into mesh files of any style: those of one service change, or nothing does."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.mesh.envoy.config.routes import effective_weights
from autopilot.mesh.envoy.mesh_file import read_mesh, set_weights
from autopilot.mesh.errors import MeshError
from autopilot.spec.mesh import Mesh
from tests.drawn import examples
from tests.fuzz.strategies import mutated, revalued, shares

SERVICES = """\
    - name: b
      arms: {v1: {endpoints: ["127.0.0.1:1"]}, v2: {endpoints: ["127.0.0.1:2"]}, v3: {endpoints: ["127.0.0.1:3"]}}
      weights: OTHER
    # the one
    - {name: a, weights: FLOW,
       arms: {v1: {endpoints: ["h:1"]}, v2: {endpoints: ["h:2"]}, v3: {endpoints: ["h:3"]}}}
    - name: c
      arms: {v1: {endpoints: ["127.0.0.1:1"]}, v2: {endpoints: ["127.0.0.1:2"]}, v3: {endpoints: ["127.0.0.1:3"]}}
      weights: BLOCK
      retries: 1
"""
FLOW = ["{v1: 100}", '{"v1": "60%", v2: 40}', "{v1: 60,\n        # why\n        v2: 40.0,}", "{v1: 1e2}",
        "{ 'v1' : 0x64 }",
        "&w {v1: 100}", "{v1: &x 100}", "{v1: !!float 100}", "{v1: +100, v3: -0.0}"]  # fmt: skip
BLOCK = ["\n        v1: 100", "\n        v1: 60  # main\n        # and\n        v2: 40",
         "\n        ? v1\n        : 100", "\n        v1:\n          100",
         '\n        "v1": \'100\'\n        v2: 0', "\n        v2: 5e-1\n        v1: 99.5",
         *FLOW]  # fmt: skip
OTHER = ["{v1: 100}", "*w", "{<<: *w}", "{v1: *x}", "{v1: 50, v2: 50}"]


@st.composite
def files(draw: st.DrawFn) -> str:
    """A mesh file in some style, anchors and aliases in any place."""
    listed = SERVICES.replace("FLOW", draw(st.sampled_from(FLOW))).replace("BLOCK", draw(st.sampled_from(BLOCK)))
    listed = listed.replace("OTHER", draw(st.sampled_from(OTHER)))
    if draw(st.booleans()):  # what has an anchor comes first
        head, _, tail = listed.partition("    # the one\n")
        listed = tail + head
    text = f"metadata: {{name: m}}\nspec:\n  services:\n{listed}  proxies: [{{name: p, admin: 'h:1'}}]\n"
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    return draw(st.sampled_from(["", "\ufeff", "# ünï 🚀\n"])) + text


def attempt(text: str, ref: str, weights: dict[str, float]) -> bool:
    """Sets the weights; says whether that was done, and fails the test where more was."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.yaml"
        raw = text.encode("utf-8", "surrogatepass")
        path.write_bytes(raw)
        try:
            before = read_mesh(path)
            readable = True
        except MeshError:
            readable = False
        try:
            set_weights(path, ref, weights)
        except MeshError:
            assert path.read_bytes() == raw, "refused, but written"
            assert not readable or before.spec.service(ref) is None, "a commit under way could never be finished"
            return False
        after, written = read_mesh(path), path.read_bytes()
        set_weights(path, ref, weights)
        assert path.read_bytes() == written, "a repeated commit changes nothing"
    service = after.spec.service(ref)
    assert service is not None
    for arm, weight in effective_weights(service, ()).items():
        assert abs(weight - weights.get(arm, 0)) < 1e-6
    assert others(after, ref) == others(before, ref)
    assert line_ends(written) == line_ends(raw)
    assert kept(raw, written) >= raw.count(b"\n") - 6, "more lines changed than hold weights"
    return True


def others(mesh: Mesh, ref: str) -> Any:
    """The mesh but for one service's weights."""
    dumped = mesh.model_dump()
    for service, model in zip(dumped["spec"]["services"], mesh.spec.services, strict=True):
        if model.ref == ref:
            service["weights"] = None
    return dumped


def line_ends(raw: bytes) -> set[bytes]:
    """The kinds of line ends there are."""
    return set(re.findall(rb"\r?\n", raw))


def kept(before: bytes, after: bytes) -> int:
    """Lines of before that are there after."""
    return sum(line in after.splitlines() for line in before.splitlines())


@given(files(), st.sampled_from(["a", "b", "c"]), shares(["v1", "v2", "v3"]) | shares(["v2", "v3"]) | shares(["v3"]))
@settings(max_examples=examples(60), deadline=None)
def test_one_services_weights_change_in_files_of_any_style(text: str, name: str, weights: dict[str, float]) -> None:
    attempt(text, f"default/{name}", weights)


@pytest.mark.parametrize(
    ("flow", "block"), [*((each, BLOCK[0]) for each in FLOW), *((FLOW[0], each) for each in BLOCK)]
)
def test_the_styles_are_read(flow: str, block: str) -> None:
    """The test above would hold of files that nobody can read, too."""
    listed = SERVICES.replace("FLOW", flow).replace("BLOCK", block).replace("OTHER", "{v1: 100}")
    text = f"metadata: {{name: m}}\nspec:\n  services:\n{listed}  proxies: [{{name: p, admin: 'h:1'}}]\n"
    for name in "ac":
        assert attempt(text, f"default/{name}", {"v2": 100})


@given(mutated() | revalued(), shares(["stable", "candidate"]))
@settings(max_examples=examples(40), deadline=None)
def test_files_gone_bad_are_refused_or_changed_in_one_place(text: str, weights: dict[str, float]) -> None:
    attempt(text, "payments/checkout", weights)
