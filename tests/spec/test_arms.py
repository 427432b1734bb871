"""How the arms of a rollout are written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from autopilot.spec.canary import CanaryArms


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("v2", "v2"),
        ({"subset": "v2"}, "subset/v2"),
        ({"service": "web-v2"}, "service/web-v2"),
        ("subset/v2", "subset/v2"),
    ],
)
def test_short_and_long_forms(written: Any, read: str) -> None:
    arms = CanaryArms.model_validate({"stable": "v1", "canary": written})
    assert arms.canary == read
    assert CanaryArms.model_validate_json(arms.model_dump_json()) == arms


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"subset": "v2", "service": "v2"}, "write its name, {subset: NAME} or {service: NAME}"),
        ({"service": "web", "namespace": "edge", "port": 9090}, "an arm is in the namespace of its target"),
        ({"service": 7}, "is no arm"),
        ({}, "is no arm"),
        ("pod/v2", "should match pattern"),
        ({"subset": "v2\n"}, "is no arm"),
    ],
)
def test_what_is_no_arm_says_what_to_write(written: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("{", r"\{")):
        CanaryArms.model_validate({"stable": "v1", "canary": written})
