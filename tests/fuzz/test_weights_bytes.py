"""Weights written back into a mesh file: every byte around them stays, and a refused file keeps every byte it has."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.mesh.envoy.mesh_file import read_mesh, set_weights
from autopilot.mesh.errors import MeshError
from autopilot.spec.load import load_one
from autopilot.spec.mesh import Mesh
from tests.drawn import examples

SERVICE, OTHER = "shop/reviews", "shop/other"
BEFORE = """\
kind: Mesh
metadata: {name: m}
spec:
  services:
  - {name: other, namespace: shop, arms: {v1: &arm {endpoints: ["10.0.0.1:80"]}}, weights: {v1: 100}}
  - name: reviews
    namespace: shop
    arms: {v1: *arm, v2: *arm, v3: *arm, empty: {endpoints: []}}
    weights:"""
AFTER = """
    timeout: 1s  # 100
  - {name: last, arms: {v1: *arm}, weights: {v1: 100}}
  proxies: [{name: web, admin: "127.0.0.1:5"}]
"""
GOOD = [
    " {v1: 100}",
    " {v1: 60, v2: 40}  # v1: 100",
    ' {"v1": 60.0, \'v2\': "40%"}',
    " { v1: 1e2 , v2: 0 , }",
    " {v1: 60,\n      # half\n      v2: 40\n    }",
    " !!map {v1: !!float 60, v2: !!int 40}",
    " &w {v1: 33.3333333, v2: 66.6666667}",
    "\n      v1: 60  # stays\n\n      v2: 40",
    "\n      ? v1\n      : 100\n      v2:\n        0",
    "\n      v1: &half 50\n      v2: '50'",
    "\n      v1: '60'\n      v2:    +40.   # rest",
]
BAD = [
    " {v1: &h 50, v2: *h}",
    " {<<: {v1: 100}}",
    " &w {v1: 100}\n  - {name: more, arms: {v1: *arm}, weights: *w}",
    "\n      v1: |\n        100",
    "\n      v1: '100\n        '",
    " {}",
    "",
    " {v1: 100, v1: 100}",
]

percents = st.floats(0, 100) | st.sampled_from([0.0, 1e-7, 1e-5, 0.01, 33.333333333333336, 50.0, 99.99999, 100.0])
arms = st.permutations(["v1", "v2", "v3", "empty"])
shared = st.builds(lambda arms, share: {arms[0]: share, arms[1]: 100 - share}, arms, percents)
anything = st.dictionaries(
    st.sampled_from(["v1", "v2", "v3", "empty", "none", "", "v1: 100}", "a\nb"]), st.floats(), max_size=3
)
"""Mostly nonsense: NaN, negative numbers, sums that are not 100, arms that are not there."""


def attempt(content: bytes, ref: str, weights: dict[str, float]) -> bytes | None:
    """The file afterwards; None where it was refused, which must leave it as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.yaml"
        path.write_bytes(content)
        try:
            set_weights(path, ref, weights)
        except MeshError:
            assert path.read_bytes() == content
            return None
        finally:
            assert list(path.parent.iterdir()) == [path], "something was left beside it"
        before, after = loaded(content), read_mesh(path)
        service = after.spec.service(ref)
        assert service is not None
        wanted = {arm: float(f"{weight:.10g}") for arm, weight in weights.items()}
        assert {arm: share for arm, share in service.weights.items() if share} == {a: w for a, w in wanted.items() if w}
        assert after.with_service(ref, weights={}) == before.with_service(ref, weights={})
        return path.read_bytes()


def loaded(content: bytes) -> Mesh:
    return load_one(Mesh, content.decode("utf-8-sig"), "mesh.yaml")[0]


@given(st.sampled_from(GOOD), shared, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([b"", b"\xef\xbb\xbf"]))
@settings(max_examples=examples(120), deadline=None)
def test_in_any_style_weights_change_and_not_a_byte_elsewhere(
    block: str, weights: dict[str, float], line_end: bytes, mark: bytes
) -> None:
    head, middle, tail = (part.encode().replace(b"\n", line_end) for part in (BEFORE, block, AFTER))
    after = attempt(mark + head + middle + tail, SERVICE, weights)
    if weights.get("empty"):
        assert after is None, "traffic for an arm without endpoints"
        return
    assert after is not None
    assert after.startswith(mark + head)
    assert after.endswith(tail)
    comments = [line.partition(b"#")[2] for line in middle.split(line_end) if b"#" in line]
    assert [line.partition(b"#")[2] for line in after.split(line_end) if b"#" in line][: len(comments)] == comments


@given(st.sampled_from(BAD), st.sampled_from([SERVICE, OTHER, "shop/none"]), shared)
@settings(max_examples=examples(40), deadline=None)
def test_what_cannot_be_changed_in_place_is_refused_for_whomever(
    block: str, ref: str, weights: dict[str, float]
) -> None:
    assert attempt((BEFORE + block + AFTER).encode(), ref, weights) is None


@given(st.sampled_from(GOOD), anything)
@settings(max_examples=examples(60), deadline=None)
def test_weights_that_mean_nothing_are_refused(block: str, weights: dict[str, float]) -> None:
    known = all(arm in {"v1", "v2", "v3"} or share == 0 for arm, share in weights.items())
    if attempt((BEFORE + block + AFTER).encode(), SERVICE, weights) is not None:
        assert known
        assert abs(sum(weights.values()) - 100) < 1e-5


@given(st.binary(max_size=40) | st.text().map(str.encode))
@settings(max_examples=examples(40), deadline=None)
def test_what_is_no_mesh_is_left_alone(content: bytes) -> None:
    assert attempt(content, SERVICE, {"v1": 100}) is None


def test_a_file_that_is_read_in_part_is_never_written() -> None:
    """Two bytes a letter: in characters it is within the limit, and what was not read would be lost."""
    for odd in ("", "x"):  # a letter that is cut in two is noticed by itself
        content = (BEFORE + GOOD[0] + AFTER + "# " + odd + "\u00e9" * (600 << 10)).encode()
        assert attempt(content, SERVICE, {"v1": 50, "v2": 50}) is None
