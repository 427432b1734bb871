"""The scrape interval is read off samples, and the window fits it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from autopilot.telemetry.prometheus.scrape_interval import WIDE, interval_of, window_for, within
from autopilot.telemetry.prometheus.source import PrometheusSource
from tests.telemetry.fakes import REVIEWS
from tests.telemetry.test_prometheus import serving


def entry(times: list[float], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [[at, "1"] for at in times]}


def test_nobody_scraped_twice_is_no_interval():
    assert interval_of([]) is None
    assert interval_of([entry([5.0]), entry([7.0])]) is None


@given(
    interval=st.sampled_from([1.0, 5.0, 15.0, 30.0]),
    phases=st.lists(st.floats(0, 30), min_size=1, max_size=5),
    scrapes=st.integers(3, 10),
    data=st.data(),
)
def test_the_interval_is_found_whatever_the_phases_and_the_order(
    interval: float, phases: list[float], scrapes: int, data: st.DataObject
):
    series = [entry([1e9 + phase + interval * n for n in range(scrapes)]) for phase in phases]
    shuffled = data.draw(st.permutations(series))
    found = interval_of([{**one, "values": data.draw(st.permutations(one["values"]))} for one in shuffled])
    assert found == pytest.approx(interval, abs=1e-3)


def test_a_scrape_that_failed_and_a_late_one_change_nothing():
    assert interval_of([entry([0, 15, 30, 60, 75])]) == 15
    assert interval_of([entry([0, 15.2, 29.9, 45])]) == pytest.approx(15.1)


def test_whoever_is_scraped_most_seldom_gives_the_interval():
    assert interval_of([entry([0, 5, 10, 15]), entry([0, 30, 60])]) == 30


def test_a_single_gap_counts_where_there_is_nothing_better():
    assert interval_of([entry([0, 60])]) == 60
    assert interval_of([entry([0, 60]), entry([0, 15, 30])]) == 15
    assert interval_of([entry([3, 3, 3])]) is None


@given(st.floats(0.1, 300), st.floats(1, 60))
def test_the_window_holds_two_scrapes_and_a_half(interval: float, least: float):
    assert window_for(interval, least) >= 2.5 * interval
    assert window_for(interval, least) >= least
    assert window_for(None, least) >= WIDE


def test_cut_to_the_newest():
    cut = within([entry([0, 90, 100], pod="a"), entry([0, 20], pod="gone")], 15)
    assert cut == [entry([90, 100], pod="a")]
    assert within([], 15) == []


class Scraped:
    """A stand-in for a Prometheus: one proxy scraped every so many seconds, and a clock that tests turn."""

    def __init__(self, interval: float, *, scrapes: int = 1000) -> None:
        self.interval, self.now = interval, interval * scrapes

    def answer(self, request: web.Request) -> list[dict[str, Any]]:
        window = float(request.query["query"].rpartition("[")[2].removesuffix("s]"))
        first = max(0, math.ceil((self.now - window) / self.interval))
        times = [n * self.interval for n in range(first, math.floor(self.now / self.interval) + 1)]
        cluster = {"envoy_cluster_name": "outbound/shop/reviews/v1"}
        series = [
            {"__name__": "envoy_cluster_upstream_rq_completed", **cluster},
            {"__name__": "envoy_cluster_upstream_rq_time_bucket", "le": "100", **cluster},
        ]
        return [{"metric": labels, "values": [[at, str(at)] for at in times]} for labels in series if times]


@pytest.mark.parametrize("interval", [1.0, 5.0, 15.0, 30.0, 60.0])
async def test_a_source_learns_the_interval_once_and_looks_back_far_enough(interval: float):
    prometheus = Scraped(interval)
    async with serving(prometheus.answer) as (url, met):
        source = PrometheusSource(url)
        assert source.interval is None
        for late in (0.0, 0.99, 1.5, 1.99):
            prometheus.now = interval * (1000 + late)
            (seen,) = await source.observe([REVIEWS])
            assert [sample.time for sample in seen.samples] == [interval * (1000 + math.floor(late))]
        await source.close()
    assert source.interval == interval
    assert source.window == max(15.0, 2.5 * interval)
    assert met[0].endswith(f"[{WIDE:g}s]")
    assert all(query.endswith(f"[{math.ceil(source.window)}s]") for query in met[1:])


async def test_a_source_goes_on_asking_far_back_until_it_has_learnt():
    prometheus = Scraped(30, scrapes=0)
    async with serving(prometheus.answer) as (url, met):
        source = PrometheusSource(url)
        for now in (-1.0, 0.0, 29.0, 31.0, 33.0):
            prometheus.now = now
            (seen,) = await source.observe([REVIEWS])
            assert len(seen.samples) == (now >= 0)
        await source.close()
    assert source.interval == 30
    assert [query.rpartition("[")[2] for query in met] == ["150s]"] * 4 + ["75s]"]


async def test_scrapes_that_have_become_rarer_are_learnt_anew():
    prometheus = Scraped(1)
    async with serving(prometheus.answer) as (url, _):
        source = PrometheusSource(url)
        await source.observe([REVIEWS])
        prometheus.interval, prometheus.now = 60, 60 * 1000 + 30
        assert [len(seen.samples) for _ in range(2) for seen in await source.observe([REVIEWS])] == [0, 1]
        await source.close()
    assert source.interval == 60


async def test_gone_proxies_of_the_first_long_look_are_left_out():
    gone = entry([1000.0, 1005.0], __name__="envoy_cluster_upstream_rq_completed", instance="gone")
    here = entry([1095.0, 1100.0, 1105.0], __name__="envoy_cluster_upstream_rq_completed", instance="here")
    for one in (gone, here):
        one["metric"]["envoy_cluster_name"] = "outbound/shop/reviews/v1"
    async with serving(lambda _: [gone, here]) as (url, _):
        source = PrometheusSource(url)
        (seen,) = await source.observe([REVIEWS])
        await source.close()
    assert [sample.series for sample in seen.samples] == ["instance=here|outbound/shop/reviews/v1"]
