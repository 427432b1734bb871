"""phi measures clusters, and neither drift nor incidents: bounded whatever stable does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.evidence.statistics import clustering, dispersion
from autopilot.evidence.statistics.clustering import MOST
from autopilot.evidence.statistics.dispersion import FLOOR, PRIOR, Dispersion
from tests.drawn import examples

Share = Callable[[float], float]


def learned(
    share: Share, *, rate: float = 100, seconds: int = 1800, cluster: float = 1, tick: float = 1, rollouts: int = 200
) -> tuple[Dispersion, clustering.Gauge]:
    rng, gauge, time = np.random.default_rng(1), clustering.fresh(1, (rollouts,)), 0.0
    while time < seconds:
        total = rng.poisson(rate * tick, rollouts).astype(float)
        number = rng.poisson(total * share(time) / cluster)
        more = rng.negative_binomial(np.maximum(number, 1), 1 / cluster) if cluster > 1 else 0
        bad = np.minimum(np.where(number > 0, number + more, 0), total)
        gauge = clustering.fold(gauge, bad[:, None].astype(float), total[:, None], seconds=tick)
        time += tick
    return clustering.dispersion(gauge), gauge


@pytest.mark.parametrize(("cluster", "index"), [(1, 1), (2, 3), (5, 9)])
@pytest.mark.parametrize("share", [0.005, 0.02])
def test_clusters_are_measured(cluster: float, index: float, share: float) -> None:
    """At least the truth in nine cases of ten, and not far above it."""
    found, gauge = learned(lambda _: share, cluster=cluster)
    assert np.mean(found.phi >= min(index, MOST)) >= 0.85
    assert np.median(found.phi) <= max(FLOOR, 1.35 * index)
    assert gauge.left_out.mean() < 1 or cluster > 1


INCIDENTS: dict[str, Share] = {
    "ten seconds": lambda t: 0.45 if 600 <= t < 610 else 0.001,
    "a minute": lambda t: 0.45 if 600 <= t < 660 else 0.001,
    "five minutes": lambda t: 0.45 if 600 <= t < 900 else 0.001,
    "a pod of five": lambda t: 0.2 if 600 <= t < 605 else 0.001,
    "every five minutes": lambda t: 0.3 if t % 300 < 10 else 0.001,
    "a new rate": lambda t: 0.05 if t >= 900 else 0.001,
    "just before": lambda t: 0.45 if t >= 1790 else 0.001,
}


@pytest.mark.parametrize("incident", INCIDENTS)
@pytest.mark.parametrize("tick", [1, 15])
def test_an_incident_is_no_clustering(incident: str, tick: float) -> None:
    share = INCIDENTS[incident]
    found, gauge = learned(share, tick=tick)
    assert np.quantile(found.phi, 0.9) < 3.5
    if incident in {"a minute", "five minutes"}:
        seconds = sum(share(at) > 0.1 for at in range(1800))
        assert np.median(gauge.left_out[:, 0, 0]) == pytest.approx(seconds, abs=2 * tick)


@pytest.mark.parametrize(("rate", "most"), [(100, 1.3), (1000, 1.6), (10_000, 5)])
def test_rates_that_wander_are_no_clustering(rate: float, most: float) -> None:
    """1 % that wanders by 30 % within minutes: the variance over half an hour took it for 6.6, 54 and 540."""
    rng, level, wander = np.random.default_rng(2), 1.0, []
    for _ in range(1800):
        level += (1 - level) / 60 + 0.3 * np.sqrt(2 / 60) * rng.standard_normal()
        wander.append(max(0.05, level))
    found, _ = learned(lambda t: 0.01 * wander[int(t)], rate=rate)
    assert np.median(found.phi) < most


def test_clusters_beside_an_incident_are_measured_all_the_same() -> None:
    found, _ = learned(lambda t: 0.3 if 600 <= t < 660 else 0.005, cluster=2)
    assert 2.7 < np.median(found.phi) < 4.5


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.5, 1, 5, 15, 60])), max_size=60))
def test_phi_is_bounded_whatever_stable_does(rows: list[tuple[int, int, float]]) -> None:
    gauge = clustering.fresh(2)
    for total, bad, seconds in rows:
        failed = np.asarray([min(bad, total), min(bad, total) // 2], dtype=float)
        gauge = clustering.fold(gauge, failed, np.asarray([float(total)]), seconds=seconds)
        found = clustering.dispersion(gauge)
        assert np.isfinite(found.phi).all()
        assert ((found.phi >= FLOOR) & (found.phi <= MOST)).all()
        assert (found.known.astype(bool) | (found.phi == PRIOR)).all()


def test_what_version_1_made_of_an_outage() -> None:
    """The figure that the change was for: phi of hundreds from ten seconds."""
    gauge = dispersion.fresh(1)
    rng = np.random.default_rng(7)
    for at in range(1800):
        bad = rng.binomial(100, INCIDENTS["ten seconds"](at))
        gauge = dispersion.fold(gauge, np.asarray([float(bad)]), np.asarray([100.0]), seconds=1.0)
    assert dispersion.dispersion(gauge).phi[0] > 500
