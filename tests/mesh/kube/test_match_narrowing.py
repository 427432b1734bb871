"""Two of Istio's matches as one: it takes what both take, and nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.faults.match_narrowing import Narrowing, all_of, narrowed
from autopilot.mesh.kube.faults.string_matches import both

texts = st.text("ab/", min_size=1, max_size=4)
matches = st.one_of(
    st.just({}),
    texts.map(lambda text: {"exact": text}),
    texts.map(lambda text: {"prefix": text}),
    st.lists(texts, min_size=1, max_size=3).map(lambda some: {"regex": "|".join(some)}),
    st.lists(texts, min_size=1, max_size=3).map(lambda some: {"regex": f"({'|'.join(some)})"}),
    st.sampled_from(["a.*", "[ab]+", "(a|b)/(a|b)", "(a)|(b)"]).map(lambda text: {"regex": text}),
)


def takes(match: Object, text: str) -> bool:
    ((kind, wanted),) = match.items() or [("prefix", "")]
    if kind == "regex":
        return re.fullmatch(wanted, text) is not None
    return text == wanted if kind == "exact" else text.startswith(wanted)


@given(matches, matches, texts)
def test_one_match_for_two_takes_what_both_take(one: Object, other: Object, text: str) -> None:
    try:
        found = both(one, other, "scope.path: rule a", "the path")
    except InvalidChange:
        refused = {kind for match in (one, other) for kind in match}
        assert "regex" in refused, "everything else can be said"
        return
    assert (found is not None and takes(found, text)) == (takes(one, text) and takes(other, text))


@pytest.mark.parametrize(
    ("rule", "path", "found"),
    [
        ({}, {"exact": "/a"}, {"match": [{"uri": {"exact": "/a"}}]}),
        ({"match": [{"uri": {"exact": "/b"}}]}, {"exact": "/a"}, {}),
        (
            {"match": [{"uri": {"exact": "/b"}}, {"uri": {"prefix": "/"}, "port": 80}]},
            {"exact": "/a"},
            {"match": [{"uri": {"exact": "/a"}, "port": 80}]},
        ),
        ({"match": [{"uri": {"regex": "/a|/b"}}]}, {"prefix": "/a"}, {"match": [{"uri": {"exact": "/a"}}]}),
        (
            {"match": [{"uri": {"prefix": "/A"}, "ignoreUriCase": True}]},
            {"prefix": "/a/b"},
            {"match": [{"uri": {"prefix": "/a/b"}}]},
        ),
        ({"match": [{"uri": {"exact": "/A"}, "ignoreUriCase": True}]}, {"exact": "/b"}, {}),
        (
            {"rewrite": {"uriRegexRewrite": {"match": "/a", "rewrite": "/b"}}},
            {"exact": "/a"},
            {"match": [{"uri": {"exact": "/a"}}]},
        ),
        (
            {"match": [{"uri": {"regex": "/a|/b"}}], "rewrite": {"uri": "/c"}},
            {"exact": "/a"},
            {"match": [{"uri": {"exact": "/a"}}], "rewrite": {"uri": "/c"}},
        ),
    ],
)
def test_what_differs_in_a_rules_copy(rule: Object, path: Object, found: Object) -> None:
    assert narrowed(rule, Narrowing(path=path), "a") == found


def test_two_scopes_that_exclude_each_other_have_no_requests_in_common() -> None:
    assert all_of([Narrowing(path={"exact": "/a"}), Narrowing(path={"exact": "/b"})]) is None
    assert all_of([Narrowing(method={"exact": "GET"}), Narrowing(method={"exact": "PUT"})]) is None
    assert all_of([Narrowing(path={"prefix": "/a"}), Narrowing(method={"exact": "PUT"})]) == Narrowing(
        path={"prefix": "/a"}, method={"exact": "PUT"}
    )
