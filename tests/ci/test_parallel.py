"""The files that are named for their stacks or their length are there, and nothing is lost or torn apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.ci.parts import ROOT
from tests.parallel import LONG, TOGETHER, in_order, scope

NAMED = [*(file for row in TOGETHER for file in row), *LONG]


def test_every_file_that_is_named_is_there_and_named_once() -> None:
    assert [file for file in NAMED if not (ROOT / file).is_file()] == []
    assert len(set(NAMED)) == len(NAMED)


@given(st.lists(st.sampled_from([*NAMED, "tests/a.py", "tests/b.py"])))
def test_every_test_is_run_once_and_those_of_a_file_in_their_order(files: list[str]) -> None:
    order = in_order(files)
    assert sorted(order) == list(range(len(files)))
    for file in set(files):
        assert [number for number in order if files[number] == file] == [
            n for n, one in enumerate(files) if one == file
        ]


def test_what_shares_a_stack_shares_a_process() -> None:
    for row in TOGETHER:
        assert len({scope(f"{file}::test_something[a::b]") for file in row}) == 1
    assert scope("tests/a.py::test_x") != scope("tests/b.py::test_x")
