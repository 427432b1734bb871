"""Plays scenarios on the embedded stack: real proxies, real traffic, and what clients met in the end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import aiohttp
from pydantic import BaseModel
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from temporalio.client import Client

from autopilot.local import stack, topology
from autopilot.local.layout import Layout
from autopilot.local.record import Condition, StackInfo
from autopilot.mesh.envoy.mesh_file import read_mesh, set_weights
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state.store import Store
from autopilot.operations.common import Caller, Command, Exposure
from autopilot.reports.canary import CANARY_TTL, CanaryInput, CanaryReport
from autopilot.reports.experiment import CHAOS_TTL, ExperimentInput, ExperimentReport
from autopilot.spec.canary import CanarySpec
from starter.client import operations, start
from starter.client.environment import EMBEDDED_HEARTBEAT
from starter.client.errors import CommandError
from starter.client.operation_watch import Snapshot, follow
from starter.demo import crash
from starter.demo.crash import Strike
from starter.demo.scenarios import Scenario
from starter.views import by_kind
from starter.views.output import emit
from starter.views.output_format import Output
from starter.views.stack import tell

SERVICE = f"{topology.NAMESPACE}/reviews"
NORMAL = {"errors": 0.0, "first_tries": 0.0, "delay": 0.0, "hang": False}
_NEEDED = ("load", "temporal", "worker", "guard")
_SERVED = 30
"""Requests that met the overlay after which its step is well under way."""
_QUIET, _QUIET_LIMIT = 0.4, 15.0
_ANSWERED_LIMIT = 12.0
"""Seconds in which clients have an answer to everything, or have given up on it."""


class Clients(BaseModel):
    """What the load generator saw during one scenario."""

    requests: int
    failures: int


class Result(BaseModel):
    """How one scenario ended."""

    name: str
    outcome: str
    seconds: float
    workflow_id: str
    ui: str
    exposure: Exposure
    client: Clients
    strike: Strike | None = None


def main(chosen: Sequence[Scenario], *, state: Path | None, keep: bool, output: Output) -> int:
    """Plays the scenarios; exit code 0 where every one ended as it should.

    Raises:
        CommandError: the stack that runs can't play them.
        StackError: the stack did not come up.
    """
    progress = _console(stderr=output.machine)
    running = stack.describe(state)
    started = None
    if running is None:
        progress.print("starting the stack (`autopilot up` keeps one running)")
        started = stack.start(state, detach=keep, on_event=lambda event: tell(progress, event))
        running = started.info
    try:
        results = asyncio.run(_play_all(_usable(running), chosen, progress))
    finally:
        if started is not None and not keep:
            started.stop(lambda event: tell(progress, event))
    if output.machine:
        emit({"scenarios": [result.model_dump(mode="json") for result in results]}, output)
    elif keep or started is None:
        progress.print(f"the stack keeps running: Temporal UI {running.ui}, `autopilot down` ends it")
    return (
        0 if all(result.outcome == scenario.expected for result, scenario in zip(results, chosen, strict=True)) else 1
    )


def _console(*, stderr: bool) -> Console:
    """Progress: beside the result where a program reads that; uncut where nobody watches."""
    progress = Console(stderr=stderr, highlight=False)
    if not progress.is_terminal:
        progress.width = max(progress.width, 160)
    return progress


def _usable(info: StackInfo) -> StackInfo:
    """The stack, where everything that scenarios need runs; Temporal's settings are pointed at it."""
    down = [name for name in _NEEDED if name not in info.parts or info.parts[name].condition is not Condition.READY]
    if down:
        raise CommandError(
            f"the stack in {info.root} runs without {', '.join(down)}",
            hint="`autopilot down`, then `autopilot demo` again; logs are in " + str(info.logs),
        )
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        del os.environ[name]
    os.environ["TEMPORAL_ADDRESS"] = str(info.temporal)
    os.environ["TEMPORAL_CONFIG_FILE"] = str(Layout(info.root).temporal / "client.toml")
    return info


async def _play_all(info: StackInfo, scenarios: Sequence[Scenario], progress: Console) -> list[Result]:
    client = await operations.connect(info.root)
    results = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for scenario in scenarios:
            progress.print(f"\n[bold]{scenario.name}[/]: {scenario.story}")
            results.append(await _Stage(info, client, session, progress).play(scenario))
    return results


class _Stage:
    """The shop, its mesh and its load, while one scenario plays."""

    def __init__(self, info: StackInfo, client: Client, session: aiohttp.ClientSession, progress: Console) -> None:
        self._info = info
        self._client = client
        self._session = session
        self._progress = progress

    async def play(self, scenario: Scenario) -> Result:
        """From a clean shop to the operation's end; the shop behaves again afterwards."""
        await self._reset(scenario.service)
        async with self._set(scenario):
            before = await self._counts()
            began = time.monotonic()
            workflow_id, run_id = await self._start(scenario)
            strike = await self._strike(scenario, workflow_id) if scenario.strike else None
            report = await self._watch(scenario, workflow_id)
            seconds = time.monotonic() - began
            after = await self._answered()
        result = Result(
            name=scenario.name,
            outcome=report.outcome if report else "Unfinished",
            seconds=round(seconds, 1),
            workflow_id=workflow_id,
            ui=self._info.workflow_url(workflow_id, run_id),
            exposure=report.exposure if report else Exposure(),
            client=Clients(
                requests=after["requests"] - before["requests"], failures=after["failures"] - before["failures"]
            ),
            strike=strike,
        )
        self._tell_end(scenario, result, report)
        return result

    async def _start(self, scenario: Scenario) -> tuple[str, str]:
        """Starts the scenario's operation; its workflow id and run."""
        who, spec = Caller(who="autopilot demo"), scenario.spec
        if isinstance(spec, CanarySpec):
            canary = CanaryInput(
                mesh=topology.MESH,
                namespace=topology.NAMESPACE,
                name=scenario.name,
                spec=spec,
                caller=who,
                heartbeat_timeout=EMBEDDED_HEARTBEAT,
                ttl=CANARY_TTL if scenario.ttl is None else scenario.ttl,
            )
            rollout = await start.start_operation(self._client, canary)
            return rollout.id, rollout.first_execution_run_id or ""
        experiment = ExperimentInput(
            mesh=topology.MESH,
            namespace=topology.NAMESPACE,
            name=scenario.name,
            spec=spec,
            caller=who,
            ttl=CHAOS_TTL if scenario.ttl is None else scenario.ttl,
        )
        started = await start.start_operation(self._client, experiment)
        return started.id, started.first_execution_run_id or ""

    async def _reset(self, service: str) -> None:
        """Every instance behaves, all reviews come from v1, and the proxies have it."""
        held = [lease for lease in Store(self._info.mesh_file).leases() if lease.lease.target.ref == service]
        if held:
            holder = held[0].lease.holder.operation
            raise CommandError(f"{holder} holds {service}", hint=f"end it with `autopilot abort {holder}`")
        for instance in self._info.shop:
            await self._behave(instance, NORMAL)
        set_weights(self._info.mesh_file, SERVICE, {"v1": 100.0})
        topology.set_retries(self._info.mesh_file, SERVICE, 0)
        prepare(self._info.mesh_file)
        await self._until_quiet("reviews-v2")

    async def _until_quiet(self, instance: str) -> None:
        """Waits until nobody calls the instance any more."""
        deadline = time.monotonic() + _QUIET_LIMIT
        served = -1
        while served != (served := (await self._get(f"{self._info.shop[instance]}/_shop"))["requests"]):
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{instance} is still called {_QUIET_LIMIT:g} s after its weight was set to 0",
                    hint=f"see the proxies' logs in {self._info.logs}",
                )
            await asyncio.sleep(_QUIET)

    @asynccontextmanager
    async def _set(self, scenario: Scenario) -> AsyncIterator[None]:
        """The scenario's load and misbehaviour, for as long as it plays."""
        rate = (await self._counts())["rate"]
        self._retry(scenario.retries)
        await self._post(f"{self._info.load}/rate", {"rate": scenario.rate})
        for instance, behaviour in scenario.behaviour.items():
            await self._behave(instance, behaviour)
        try:
            yield
        finally:
            for instance in scenario.behaviour:
                await self._behave(instance, NORMAL)
            self._retry(0)
            await self._post(f"{self._info.load}/rate", {"rate": rate})

    def _retry(self, retries: int) -> None:
        if topology.set_retries(self._info.mesh_file, SERVICE, retries) != retries:
            prepare(self._info.mesh_file)

    async def _answered(self) -> dict[str, Any]:
        """What clients saw, at an instant when none of them waits: those that hang give up in the end."""
        deadline = time.monotonic() + _ANSWERED_LIMIT
        counts = await self._counts()
        while counts["outstanding"] and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            counts = await self._counts()
        return counts

    async def _strike(self, scenario: Scenario, workflow_id: str) -> Strike:
        """Everything of ours dies once the overlay is met; the traffic heals, and everything comes back."""

        async def served() -> int:
            return int((await self._get(f"{self._info.shop['reviews-v2']}/_shop"))["requests"])

        async def delayed() -> int:
            admins = [proxy.admin for proxy in read_mesh(self._info.mesh_file).spec.proxies if proxy.outbound]
            found = [
                await self._get(f"http://{admin}/stats?format=json&filter=fault.delays_injected$") for admin in admins
            ]
            return int(sum(one["value"] for answer in found for one in answer["stats"]))

        canary = isinstance(scenario.spec, CanarySpec)
        what, met = ("the canary", served) if canary else ("the fault", delayed)
        began, before = time.monotonic(), await met()
        while await operations.progress(self._client, workflow_id) is None or await met() < before + _SERVED:
            if time.monotonic() - began > _QUIET_LIMIT:
                raise CommandError(f"no request met {what} within {_QUIET_LIMIT:g} s", hint="see its timeline")
            await asyncio.sleep(0.1)
        return await crash.strike(self._info, met, lambda text: self._progress.print(f"  {text}"), what=what)

    async def _watch(self, scenario: Scenario, workflow_id: str) -> CanaryReport | ExperimentReport | None:
        """Shows the operation until it ends; None where it took too long, and was aborted."""
        snapshot, shown = Snapshot(workflow_id), ""
        picture = Live(console=self._progress, refresh_per_second=4, transient=True)
        with picture if self._progress.is_terminal else nullcontext():
            async for snapshot in follow(self._client, workflow_id, timeout=scenario.limit):
                if self._progress.is_terminal:
                    picture.update(Group(by_kind.snapshot(snapshot), await self._clients_line()))
                elif (line := _line(snapshot)) != shown:
                    shown = line
                    self._progress.print(f"  {line}")
        if snapshot.report is None:
            reason = f"the demo waited {scenario.limit:g} s for its end"
            await operations.abort(
                self._client, workflow_id, Command(caller=Caller(who="autopilot demo"), reason=reason)
            )
        return cast("CanaryReport | ExperimentReport | None", snapshot.report)

    async def _clients_line(self) -> Text:
        counts = await self._counts()
        latency = counts["latency_ms"]
        line = f"clients    {counts['requests']:,} requests, {counts['failures']:,} failed since the stack came up"
        return Text(f"{line}, p99 {latency['p99'] or 0:.0f} ms", "dim")

    def _tell_end(self, scenario: Scenario, result: Result, report: CanaryReport | ExperimentReport | None) -> None:
        good = result.outcome == scenario.expected
        mark = "[green]✓[/]" if good else "[red]✗[/]"
        surprise = "" if good else f" ({scenario.expected} was expected)"
        exposed = result.exposure
        if isinstance(scenario.spec, CanarySpec):
            met = (
                f"the canary was given {exposed.requests:,.0f} requests and failed {exposed.failures:,.0f} of them "
                f"within {exposed.seconds:.1f} s"
            )
        else:
            met = f"{exposed.requests:,.0f} requests met the fault within {exposed.seconds:.1f} s"
        self._progress.print(
            f"  {mark} [bold]{result.outcome}[/]{surprise} after {result.seconds:.1f} s: {met}; clients sent "
            f"{result.client.requests:,} and saw {result.client.failures:,} failures"
        )
        if report is not None and report.reason:
            self._progress.print(Text(f"    {report.reason}"))
        self._progress.print(Text(f"    {result.ui}", "dim"), soft_wrap=True)

    async def _behave(self, instance: str, behaviour: object) -> None:
        await self._post(f"{self._info.shop[instance]}/_shop", behaviour)

    async def _counts(self) -> dict[str, Any]:
        return await self._get(f"{self._info.load}/counts")

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._session.get(url, raise_for_status=True) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def _post(self, url: str, body: object) -> None:
        async with self._session.post(url, json=body, raise_for_status=True):
            pass


def _line(snapshot: Snapshot) -> str:
    """One line a step, where nobody watches a terminal."""
    if snapshot.report is not None:
        return "ended"
    if snapshot.status is None:
        return snapshot.note
    weight = getattr(snapshot.status, "weight", None)
    return f"{snapshot.status.phase.lower()}{'' if weight is None else f': reviews v2 at {weight:g} %'}"
