"""The table of what each provider can say is whole, and every line of it says what people need to know."""

from __future__ import annotations

from typing import get_args

import pytest

from autopilot.mesh.capabilities import ABILITIES, FAULTS, ability, fault_change
from autopilot.mesh.model import Tier
from autopilot.spec.chaos.faults import Fault


def test_it_knows_every_kind_of_fault() -> None:
    kinds = get_args(get_args(Fault)[0])
    assert sorted(FAULTS) == sorted(kind.model_fields["type"].default for kind in kinds)


@pytest.mark.parametrize(("provider", "driver"), list(ABILITIES))
def test_every_provider_says_of_every_kind_how_true_it_is_or_what_comes_nearest(provider: str, driver: str) -> None:
    names = [one.change for one in ABILITIES[provider, driver]]
    assert len(names) == len(set(names))
    for kind in FAULTS:
        found = ability(provider, driver, kind)
        assert found.change == fault_change(kind)
        assert found.supported == (found.tier is not None)
        assert found.note.startswith(("exact", "approximate: ")) if found.supported else "nearest: " in found.note


def test_a_kind_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        ability("istio", "plain", "flood")
    with pytest.raises(KeyError):
        ability("nomad", "plain", "delay")


def test_the_tiers_are_those_that_are_promised() -> None:
    assert ability("envoy", "plain", "delay").tier is Tier.PROXY
    assert ability("istio", "plain", "delay").tier is Tier.GUARD
    assert {ability(provider, driver, "partition").supported for provider, driver in ABILITIES} == {True, False}
