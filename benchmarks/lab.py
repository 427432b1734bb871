"""What a bad version costs on Istio, by how often Prometheus scrapes; and by reading the arms' own proxies.

Over a real API server, istiod and Envoys (`tests.lab`). A canary with 20 % errors at 10 % weight under 100 requests/s,
every other setting at its default; counted at the version's own application and by the load generator.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from in_lab import reexecuted

reexecuted()

from recording import record  # noqa: E402

from autopilot.mesh.kube.client.client import KubeApi  # noqa: E402
from autopilot.operations.common import Outcome  # noqa: E402
from starter.client.start import start_operation  # noqa: E402
from tests.conftest import start_dev_server  # noqa: E402
from tests.kube.stage import Stage, staged  # noqa: E402
from tests.lab import scrape  # noqa: E402
from tests.lab.cluster import make_namespace  # noqa: E402
from tests.lab.find import find  # noqa: E402
from tests.lab.parts import PROMETHEUS  # noqa: E402

RATE, ERRORS, WEIGHT = 100.0, 0.2, 10
MUST = "2s"
"""The scrape interval that the bounds are for: 100 requests, 10 s, 25 failures."""


async def once(stage: Stage, number: int) -> dict[str, float]:
    """One bad version, from the order to roll it out until nobody meets it any more."""
    await stage.behave("v2", errors=0.0)
    await stage.flowing()
    await stage.behave("v2", errors=ERRORS)
    clients, served = await stage.counts(), await stage.served("v2")
    handle = await start_operation(stage.client, stage.rollout(f"bad-{number}", [{"weight": WEIGHT, "hold": 600}]))
    meeting = Meeting(served)
    watching = asyncio.create_task(meeting.follow(stage))
    report = await handle.result()
    await stage.flowing()
    watching.cancel()
    assert report.outcome is Outcome.ROLLED_BACK, report.reason
    after = await stage.counts()
    statuses = {key: after["statuses"][key] - clients["statuses"].get(key, 0) for key in after["statuses"]}
    return {
        "exposure_requests": await stage.served("v2") - served,
        "exposure_seconds": round(meeting.seconds, 2),
        "failures": after["failures"] - clients["failures"],
        # The version itself answers 500 and nothing else: whatever failed otherwise was lost on the way.
        "lost_requests": sum(count for key, count in statuses.items() if key not in {"200", "500"}),
    }


class Meeting:
    """How long requests have met a version."""

    def __init__(self, served: int) -> None:
        self._served = served
        self._first: float | None = None
        self.seconds = 0.0

    async def follow(self, stage: Stage) -> None:
        """Looks until it is cancelled."""
        while True:
            now = await stage.served("v2")
            if now > self._served:
                self._served, at = now, time.monotonic()
                self._first = at if self._first is None else self._first
                self.seconds = at - self._first
            await asyncio.sleep(0.05)


async def scraping(every: float) -> None:
    """Has the lab's Prometheus scrape so often."""
    home = Path(os.environ["AUTOPILOT_LAB"]) / "prometheus"
    scrape.write(home / "prometheus.yml", home / "targets.json", every)
    async with aiohttp.ClientSession() as session, session.post(f"{PROMETHEUS}/-/reload") as answer:
        answer.raise_for_status()


async def measure(runs: int, wanted: list[str]) -> dict[str, dict[str, list[float]]]:
    """Every way of looking, so many times."""
    found = find()
    assert not isinstance(found, str), found
    api = KubeApi(found.kubeconfig)
    make_namespace(api, "autopilot")
    seen: dict[str, dict[str, list[float]]] = {}
    async with await start_dev_server() as temporal:
        for place, name in enumerate(wanted):
            proxies = name == "proxies"
            await scraping(15.0 if proxies else float(name.removesuffix("s")))
            namespace = f"bench-{place}"
            make_namespace(api, namespace)
            with tempfile.TemporaryDirectory() as folder:
                async with staged(
                    api,
                    namespace,
                    "istio",
                    temporal.client,
                    Path(folder),
                    kubeconfig=found.kubeconfig,
                    rate=RATE,
                    telemetry="proxies" if proxies else "prometheus",
                ) as stage:
                    await asyncio.sleep(3 * (0 if proxies else float(name.removesuffix("s"))))  # some scrapes
                    for number in range(runs):
                        run = await once(stage, number)
                        print(f"{name}: {run}", file=sys.stderr, flush=True)
                        for figure, value in run.items():
                            seen.setdefault(name, {}).setdefault(figure, []).append(value)
    api.close()
    return seen


def main() -> None:
    """Measures, draws the table, keeps the figures."""
    parser = argparse.ArgumentParser(prog="make bench-lab", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[MUST, "5s", "15s", "30s", "proxies"])
    given = parser.parse_args()
    seen = asyncio.run(measure(given.runs, given.only))
    names = ("exposure_requests", "exposure_seconds", "failures", "lost_requests")
    rows = [("looking", *names)]
    figures: dict[str, Any] = {}
    for looking, found in seen.items():
        medians = {name: round(statistics.median(found[name]), 2) for name in names}
        figures |= {(name if looking == MUST else f"{name}_{looking}"): value for name, value in medians.items()}
        rows.append((looking, *(f"{medians[name]:g} ({min(found[name]):g}-{max(found[name]):g})" for name in names)))
    title = f"{ERRORS:.0%} errors at {WEIGHT} % weight, {RATE:g} requests/s, medians of {given.runs} (lowest-highest)"
    record("lab", "make bench-lab", figures, rows, title)


if __name__ == "__main__":
    main()
