"""How long a plan says that steps take."""

from __future__ import annotations

import numpy as np
import pytest

from autopilot.evidence.model import ArmTick, Tick
from autopilot.spec.canary import CanarySpec, MeshCanary
from starter.client.step_durations import Pace, _paced


def paced(rate: float, weights: tuple[float, ...] = (5, 50, 100)) -> Pace:
    rng = np.random.default_rng(1)
    ticks = [
        Tick(
            time=15.0 * number,
            seconds=15,
            canary=ArmTick(slow=(0.0,) * 5),
            stable=ArmTick(
                requests=15 * rate,
                errors=float(rng.binomial(round(15 * rate), 0.001)),
                timed=15 * rate,
                slow=(0.0,) * 5,
            ),
        )
        for number in range(1, 121)
    ]
    spec = {
        "target": {"service": "a"},
        "arms": {"stable": "v1", "canary": "v2"},
        "steps": [{"weight": weight, "allowDecrease": True} for weight in weights],
    }
    document = MeshCanary.model_validate(
        {
            "apiVersion": "meshautopilot.io/v1alpha1",
            "kind": "MeshCanary",
            "metadata": {"name": "a", "namespace": "shop"},
            "spec": CanarySpec.model_validate(spec).model_dump(mode="json", by_alias=True),
        }
    )
    found = _paced(document, ticks)
    assert found is not None
    return found


def test_more_traffic_makes_steps_shorter_and_a_hold_is_the_least():
    slow, fast = paced(100), paced(10_000)
    assert slow.rate == pytest.approx(100)
    assert slow.seconds[0] > slow.seconds[1] >= 60
    assert fast.seconds == (60, 60, 60)
    assert slow.warnings == fast.warnings == ()


def test_a_step_that_cannot_end_is_named():
    found = paced(2)
    assert "a step of 5 % needs about" in found.warnings[0]
    assert "it will be inconclusive after 30m" in found.warnings[0]


def test_a_step_without_traffic_is_named_too():
    found = paced(100, (0, 50))
    assert len(found.seconds) == 3
    assert "a step of 0 %" in found.warnings[0]
