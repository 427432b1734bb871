"""What is falsified must be seen: a judge that finds nothing proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.judge import Seen, Terms, restored_after, state_of, violations
from tests.faults.world.answers import Answer

T = 1000.0
TERMS = Terms(struck=T, bound=2.0, ttl=2.0, lives=False, may_end=frozenset({"base"}))
AT_BASE = Seen(
    answers=(Answer(T + 0.1, "v2"), Answer(T + 1.5, "v2"), Answer(T + 1.6, "v1"), Answer(T + 5, "v1")),
    tail=tuple(Answer(T + 6 + n / 10, "v1") for n in range(30)),
    file_weight=0,
    proxy_weight=0,
    overlays=0,
    table_is_base=True,
)


def test_a_restore_in_time_is_fine() -> None:
    assert violations(TERMS, AT_BASE) == []
    assert restored_after(TERMS, AT_BASE) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("falsified", "said"),
    [
        ({"answers": (Answer(T + 2.5, "v2"),)}, "too late"),
        ({"answers": (Answer(T + 1, "timeout"),)}, "client requests failed: timeout"),
        ({"answers": (Answer(T + 1, "v2!"),)}, "client requests failed: v2!"),
        ({"tail": (*AT_BASE.tail[:-1], Answer(T + 9, "v2"))}, "between"),
        ({"tail": ()}, "between"),
        ({"file_weight": 50.0}, "between"),
        ({"proxy_weight": 100.0}, "between"),
        ({"overlays": 1}, "traces of overlays"),
        ({"table_is_base": False}, "not the base's"),
        ({"leases": ("canary/m1/shop/x#1",)}, "left behind"),
        ({"outcome": "Promoted"}, "reported Promoted, but it is base"),
        ({"ended": False}, "never ended"),
    ],
)
def test_what_is_falsified_is_seen(falsified: dict[str, Any], said: str) -> None:
    found = violations(TERMS, replace(AT_BASE, **falsified))
    assert any(said in sentence for sentence in found), found


def test_a_promotion_nobody_may_expect_is_seen() -> None:
    promoted = replace(
        AT_BASE, tail=(Answer(T + 6, "v2"),), file_weight=100, proxy_weight=100, committed=T + 1, outcome="Promoted"
    )
    assert state_of(promoted) == "promoted"
    assert violations(TERMS, promoted) == ["ended promoted, may end base"]
    assert restored_after(TERMS, promoted) is None


def test_a_rollout_that_lives_extends_its_time_by_every_sign_of_life_and_no_longer() -> None:
    living = replace(TERMS, lives=True, may_end=frozenset({"base", "promoted"}))
    late = Answer(T + 8, "v2")
    assert violations(living, replace(AT_BASE, answers=(late,), life=(T + 5,))) == []
    assert violations(living, replace(AT_BASE, answers=(late,), life=(T + 3,))) != []
