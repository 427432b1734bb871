"""Queries made of names, parsed by a real Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from autopilot.local import ports, prometheus_install
from autopilot.local.layout import Layout
from autopilot.local.processes import Child, environment, launch
from autopilot.local.prometheus import write_config
from autopilot.mesh.model import baseline_of
from autopilot.spec.canary import CanaryArms
from autopilot.telemetry.dialects import envoy_names
from autopilot.telemetry.dialects.envoy import selector
from autopilot.telemetry.model import Subject
from autopilot.telemetry.query_template import filled

pytestmark = pytest.mark.e2e
PLACES = ["{{service}}", "{{ service }}", "{{namespace}}", "{{stable}}", "{{canary}}", "{{  canary }}"]
QUERIES = [
    'max(depth{namespace="PLACE", v="PLACE"})',
    "sum(rate(requests{job='PLACE',code=~'5..'}[1m])) / 2",
    "x{a=`PLACE`} > bool 3",
    'x{a=~"PLACE|PLACE.*", b!="\\"PLACE\\\\"} # PLACE',
    'label_replace(up{pod=~"PLACE-[a-z0-9]+"}, "a", "$1", "b", "(.*)PLACE")',
]


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[str]:
    """A real one with nothing in it."""
    found = prometheus_install.find(Layout.find().tools)
    if found is None:
        pytest.skip("there is no Prometheus on this machine")
    config = tmp_path / "prometheus.yml"
    write_config(config, proxies={}, ours={})
    port = ports.allocate(["prometheus"])["prometheus"]
    url = f"http://{ports.LOOPBACK}:{port}"
    command = found.command(config=config, data=tmp_path / "data", port=port)
    process = Child(launch(command, log=tmp_path / "log", env=environment({}), cwd=tmp_path))
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            while not await _ready(session, url):
                await asyncio.sleep(0.05)
        yield url
    finally:
        await process.stop(5)


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url + "/-/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    arms = CanaryArms.model_construct(stable="s", canary="c")
    assert filled('x{a="{{service}}"}', "n", "{{canary}}", arms) == 'x{a="{{canary}}"}'


async def test_a_real_prometheus_parses_them_all(prometheus: str) -> None:
    arms = CanaryArms(stable="v1", canary="0-" + "x" * 60 + "0")
    queries = [filled(query.replace("PLACE", place), "a-b", "c--d", arms) for query in QUERIES for place in PLACES]
    few = [Subject("m", "a-b", "c--d", ("v1", baseline_of("v1"))), Subject("m", "0", "x" * 63, ("9",))]
    many = [Subject("m", "n", f"s-{number}", ("v1",)) for number in range(50)]
    queries += [selector(few, 15), selector(many, 0.1), selector(few, 1800, latency=False)]
    queries.append(selector(few[:1], 60, clusters=envoy_names.arms_pattern(few[0])))
    async with aiohttp.ClientSession() as session:
        for query in queries:
            async with session.get(prometheus + "/api/v1/query", params={"query": query}) as response:
                assert (await response.json())["status"] == "success", query
        async with session.get(prometheus + "/api/v1/query", params={"query": 'x{a="}'}) as response:
            assert (await response.json())["status"] == "error"
