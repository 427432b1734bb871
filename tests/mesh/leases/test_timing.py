"""A lease must outlive what happens every day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.mesh.leases.timing import least_ttl, too_short
from autopilot.reports.canary import CANARY_TTL
from starter.client.environment import EMBEDDED_HEARTBEAT, HEARTBEAT


@pytest.mark.parametrize("heartbeat", [HEARTBEAT, EMBEDDED_HEARTBEAT])
def test_the_defaults_outlive_a_workers_death(heartbeat: float) -> None:
    assert too_short(CANARY_TTL, 120, heartbeat) == ""


def test_what_is_too_short_is_named() -> None:
    assert "maxUnattended of the mesh is 20 s" in too_short(CANARY_TTL, 20, 30)
    assert "time to live is 20 s" in too_short(20, 120, 30)


@given(heartbeat=st.floats(0.5, 300), ttl=st.floats(1, 3600), unattended=st.floats(1, 3600))
def test_two_thirds_are_enough_for_all_of_it(heartbeat: float, ttl: float, unattended: float) -> None:
    fine = too_short(ttl, unattended, heartbeat) == ""
    assert (
        fine == (2 / 3 * min(ttl, unattended) > heartbeat + 12)
        or abs(min(ttl, unattended) - least_ttl(heartbeat)) < 1e-6
    )
