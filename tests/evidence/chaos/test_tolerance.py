"""Tolerances: Chaos Toolkit's kinds of values, StatusCheck's ranges, and what is nothing to judge."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autopilot.evidence.chaos.tolerance import LONGEST, holds, may_backtrack, text_of
from autopilot.spec.chaos.tolerance import PATH_STEP, Tolerance

DEPLOYMENT = {
    "metadata": {"labels": {"app.kubernetes.io/name": "reviews"}},
    "spec": {
        "replicas": 3,
        "paused": False,
        "template": {"spec": {"containers": [{"name": "app"}, {"name": "proxy"}]}},
    },
    "status": {
        "conditions": [{"type": "Progressing", "status": "True"}, {"type": "Available", "status": "False"}],
        "phase": None,
    },
}


@pytest.mark.parametrize(
    ("asked", "value", "holds_"),
    [
        # Chaos Toolkit: int, str and bool are equality
        ({"equals": 0}, 0, True),
        ({"equals": 0}, 1, False),
        ({"equals": 0}, False, False),
        ({"equals": 1}, True, False),
        ({"equals": True}, True, True),
        ({"equals": True}, 1, False),
        ({"equals": True}, "true", True),
        ({"equals": False}, "true", False),
        ({"equals": "ok"}, "ok", True),
        ({"equals": "ok"}, "OK", False),
        ({"equals": "3"}, 3, True),
        ({"equals": 3}, "3", True),
        ({"equals": 3}, " 3.0 ", True),
        ({"equals": 3}, "three", False),
        ({"equals": 3}, [3], False),
        ({"equals": 0.5}, 0.5, True),
        # a list is membership
        ({"oneOf": [200, 201]}, 201, True),
        ({"oneOf": [200, 201]}, 404, False),
        ({"oneOf": ["a", 1]}, "a", True),
        ({"oneOf": [1]}, True, False),
        # StatusCheck's statusCode "200-400" is an inclusive range; so is Chaos Toolkit's range
        ({"min": 200, "max": 400}, 200, True),
        ({"min": 200, "max": 400}, 400, True),
        ({"min": 200, "max": 400}, 401, False),
        ({"min": 200, "max": 400}, "302", True),
        ({"max": 1}, True, False),
        ({"min": 0}, "many", False),
        ({"min": 0}, {"a": 1}, False),
        ({"min": 0}, 10**500, True),
        ({"max": 0.5}, 0.50001, False),
        # regex is searched, contains is found anywhere
        ({"regex": "^re"}, "reviews", True),
        ({"regex": "views$"}, "reviews", True),
        ({"regex": "^views"}, "reviews", False),
        ({"regex": "^3$"}, 3.0, True),
        ({"contains": "view"}, "reviews", True),
        ({"contains": "x"}, "reviews", False),
        ({"contains": '"a"'}, {"a": 1}, True),
        ({"contains": "ä"}, "hätte".encode(), True),
        # all that is written must hold
        ({"min": 1, "regex": "0$"}, 10, True),
        ({"min": 1, "regex": "1$"}, 10, False),
    ],
)
def test_a_value(asked: dict[str, Any], value: object, holds_: bool):
    ok, why = holds(Tolerance.model_validate(asked), value)
    assert ok is holds_
    assert bool(why) is not holds_


@pytest.mark.parametrize(
    ("path", "equals"),
    [
        ("spec.replicas", 3),
        ("$.spec.replicas", 3),
        ("spec.paused", False),
        ('metadata.labels["app.kubernetes.io/name"]', "reviews"),
        ("metadata.labels['app.kubernetes.io/name']", "reviews"),
        ("spec.template.spec.containers[1].name", "proxy"),
        ("spec.template.spec.containers[-1].name", "proxy"),
        ("status.conditions[type=Progressing].status", "True"),
        ("status.conditions[type=Available].status", "False"),
    ],
)
def test_a_path(path: str, equals: Any):
    asked = Tolerance(jsonpath=path, equals=equals)
    assert holds(asked, DEPLOYMENT) == (True, "")
    assert holds(asked, json.dumps(DEPLOYMENT)) == (True, "")
    assert holds(asked, json.dumps(DEPLOYMENT).encode()) == (True, "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {}),
        ("a.b", {"a": 1}),
        ("[0]", []),
        ("[-2]", [1]),
        ("[0]", {"0": 1}),
        ("a", [1]),
        ("[type=b]", [{"type": "a"}, 3]),
        ("status.phase", DEPLOYMENT),
        ("a", "no JSON"),
        ("a", ""),
        ("a", "[" * 100_000),
        ("a", '{"a": ' + "9" * 5000 + "}"),
        ("a", '{"a": NaN}'),
        ("a", None),
    ],
)
def test_a_path_that_leads_nowhere_is_nothing_to_judge(path: str, value: object):
    ok, why = holds(Tolerance(jsonpath=path, regex=""" *"""), value)
    assert ok is None
    assert why
    assert len(why) < 500


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "NaN", "inf", " -Infinity"])
@pytest.mark.parametrize("asked", [{"min": 0}, {"max": 0}, {"equals": 0}, {"regex": "."}, {"contains": "n"}])
def test_no_number_is_nothing_to_judge(value: object, asked: dict[str, Any]):
    assert holds(Tolerance.model_validate(asked), value)[0] is None


NAN = st.sampled_from([math.nan, "nan", "NaN", "-nan"])
ASKED = st.one_of(
    st.builds(lambda low, more: {"min": low, "max": low + more}, st.integers(-9, 9), st.integers(0, 9)),
    st.builds(lambda value: {"equals": value}, st.one_of(st.text(max_size=5), st.integers(-9, 9), st.booleans())),
    st.builds(lambda value: {"contains": value}, st.text(min_size=1, max_size=3)),
    st.builds(lambda value: {"regex": re.escape(value)}, st.text(min_size=1, max_size=3)),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


@given(ASKED, NAN)
def test_a_nan_never_passes(asked: dict[str, Any], value: object):
    assert holds(Tolerance.model_validate(asked), value)[0] is None


@given(ASKED, JSON)
def test_every_value_is_judged_and_shown_briefly(asked: dict[str, Any], value: object):
    ok, why = holds(Tolerance.model_validate(asked), value)
    assert ok in {True, False, None}
    assert bool(why) is (ok is not True)
    assert len(why) < 500


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_text_that_is_a_number_is_one(bound: int, value: int):
    asked = Tolerance(min=bound)
    assert holds(asked, value)[0] is holds(asked, str(value))[0] is holds(asked, f" {value}.0\n")[0] is (value >= bound)


@given(st.from_regex(r"\A[a-z]{1,3}([.][a-z]{1,3}|\[-?[0-9]\]|\[\"[a-z.]{1,3}\"\]|\[[a-z]=[a-z]\]){0,4}\Z"), JSON)
def test_every_path_is_walked_to_its_end(path: str, value: object):
    asked = Tolerance(jsonpath=path, contains="x")
    assert "".join(re.findall(PATH_STEP, path)) == path
    assert holds(asked, value)[0] in {True, False, None}


@pytest.mark.parametrize("path", ["", "$", "a.", "a..b", "a[", "a[*]", "a[b]", "..a", "a b", "a[?(@.b)]", "a[1:2]"])
def test_a_path_we_do_not_know_is_refused_when_it_is_read(path: str):
    with pytest.raises(ValidationError, match="jsonpath"):
        Tolerance(jsonpath=path, equals=1)


def test_a_regular_expression_that_is_none_is_refused_when_it_is_read():
    with pytest.raises(ValidationError, match="is not a valid Python regular expression"):
        Tolerance(regex="(")


def test_what_is_shown_is_cut_and_holds_no_credentials():
    token = "gh" + "p_" + "a1" * 20
    _, why = holds(Tolerance(equals="x"), f"authorization failed for {token} " + "b" * 1000)
    assert token not in why
    assert len(why) < 300
    _, why = holds(Tolerance(jsonpath="a", equals="x"), {"a": {"b": token}})
    assert token not in why


def test_of_long_values_the_beginning_is_looked_at():
    value = "a" * LONGEST + "b"
    assert holds(Tolerance(contains="b"), value)[0] is False
    assert len(text_of(value.encode())) == LONGEST


def test_what_may_take_for_ever_is_told_apart():
    assert not may_backtrack(r"^status: ok\.$")
    assert all(map(may_backtrack, ("(a+)+$", ".*x", "a?a?", "(a|a)(a|a)", "a{9}")))


def test_a_search_that_somebody_else_has_done_is_not_done_again():
    asked = Tolerance(regex="(a+)+$")
    assert holds(asked, "a" * 40 + "b", matched=False)[0] is False
    assert holds(asked, "b", matched=True) == (True, "")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1 / 24, "0.0416667 is above 0.02"),
        (0.02 + 1e-12, "0.020000000001 is above 0.02"),
        (3.0, "3 is above 0.02"),
        (123456789, "123456789 is above 0.02"),
        ("0.0416666667", "'0.0416666667' is above 0.02"),
    ],
)
def test_a_reading_is_rounded_for_people_but_never_to_the_bound_that_it_misses(value: object, said: str) -> None:
    assert holds(Tolerance(max=0.02), value) == (False, said)
