"""Every published route is driven by the rule, or refused with the true reason; `make bench-routes` counts them."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from published import Example, examples
from routes import counts, faults

ALL = examples()


@pytest.mark.parametrize("example", ALL, ids=[one.title for one in ALL])
def test_a_published_route_is_driven_as_the_rule_says(example: Example) -> None:
    assert faults(example) == []


def test_there_are_enough_of_them_and_each_is_another() -> None:
    found = counts(ALL, [])
    assert found["routes"] >= 60
    assert found["driven"] >= 0.8 * found["routes"]
    assert len({one.title for one in ALL}) == len(ALL)


def test_another_outcome_is_noticed() -> None:
    """The check itself must not pass whatever the driver does."""
    for example in ALL:
        other = replace(example, refused="" if example.refused else "another reason")
        assert faults(other), example.title
        for key, rules in example.driven.items():
            for rule, shares in rules.items():
                swapped = dict(zip(shares, reversed(shares.values()), strict=True))
                changed = {**example.driven, key: {**rules, rule: swapped}}
                with contextlib.suppress(AssertionError):  # which a weight that is nobody's arm's raises
                    assert faults(replace(example, driven=changed)), example.title
