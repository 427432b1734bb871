"""Requests that passed no proxy of the mesh: named soon, and never where there are none to speak of."""

from __future__ import annotations

import numpy as np
import pytest

from autopilot.evidence.bypass_check import LEAST, SHARE, Bypass, BypassState, update
from autopilot.evidence.sample_ratio import TOLERANCE


def noticed(
    rng: np.random.Generator, sent: float, past: float, *, seconds: int, state: BypassState | None = None
) -> tuple[float, Bypass | None, BypassState]:
    """The second of the first finding, where v2 gets so many requests a second on either way."""
    state = BypassState() if state is None else state
    for second in range(1, seconds + 1):
        unsent = float(rng.poisson(past))
        arrived = {"v2": (rng.poisson(sent) + unsent, max(0.0, unsent - LEAST)), "v1": (float(rng.poisson(90)), 0.0)}
        state, found = update(state, arrived)
        if found is not None:
            return second, found, state
    return np.inf, None, state


@pytest.mark.parametrize(("sent", "past"), [(10, 30), (10, 5), (90, 30), (1, 5), (0, 10)])
def test_noticed_within_half_a_minute(sent: float, past: float):
    rng = np.random.default_rng(1)
    found = [noticed(rng, sent, past, seconds=60)[0] for _ in range(30)]
    assert np.quantile(found, 0.9, method="higher") <= 25  # telemetry takes five seconds to begin


@pytest.mark.parametrize("before", [90, 1800])
def test_what_begins_late_is_noticed_too(before: int):
    rng = np.random.default_rng(2)
    _, none, state = noticed(rng, 10, 0, seconds=before)
    assert none is None
    assert noticed(rng, 10, 30, seconds=60, state=state)[0] <= 25


@pytest.mark.parametrize(("sent", "past"), [(10, 0), (0, 0), (10, 0.3), (200, 8)])
def test_little_is_let_pass(sent: float, past: float):
    """Half an hour each, with health checks, and with a share within what is let pass."""
    rng = np.random.default_rng(3)
    assert not any(noticed(rng, sent, past, seconds=1800)[1] for _ in range(2))


def test_how_sure_it_is():
    """With alpha 20 % at the very edge of what is let pass, in batches of a minute."""
    rng, hits = np.random.default_rng(4), 0
    odds = TOLERANCE * SHARE / (1 - SHARE)
    for _ in range(60):
        state = BypassState()
        for _ in range(20):
            unsent = float(rng.binomial(6000, odds / (1 + odds)))
            state, found = update(state, {"v1": (6000.0, 0.0), "v2": (6000.0, unsent)}, seconds=60, alpha=0.2)
            if found:
                hits += 1
                break
    assert hits <= 18  # 12 expected at most


def test_it_says_who_and_how_many():
    state = BypassState()
    for _ in range(100):
        state, found = update(state, {"v1": (90.0, 0.0), "v2": (10.0, 0.0)})
        assert found is None
    for _ in range(8):
        state, found = update(BypassState.model_validate_json(state.model_dump_json()), {"v1": (90, 0), "v2": (41, 30)})
    assert found is not None
    assert found.reason == "v2 is given 31 requests/s that passed no proxy of this mesh"


def test_where_nothing_can_be_told_nothing_is_found():
    state = BypassState()
    for _ in range(100):
        state, found = update(state, {"v1": (0.0, 0.0), "v2": (0.0, 0.0)})
        assert found is None
    assert update(BypassState(), {})[1] is None
