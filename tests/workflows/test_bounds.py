"""Whatever is sent to an operation, it can be commanded, restored and reported; a long pause stays a short history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from autopilot.operations.bounds import NAME, TEXT, WHOLE
from autopilot.operations.common import Approval, Caller, Command, Outcome, Phase, Promotion
from starter.client.operations import OperationError
from starter.client.start import refuse_large, start_operation
from tests.workflows.conftest import Handle, Lab, canary, effects_on, lab_on, watches_on
from tests.workflows.fakes import ADVANCE, HALTED, HARM, NO_DATA, Hold, World
from tests.workflows.test_chaos import experiment
from workflows.canary.workflow import CanaryWorkflow

pytestmark = pytest.mark.devserver
ANN = Caller(who="ann")
LARGE = "x" * 1_200_000
FLOOD = 1000
"""Taken in one workflow task, for which the SDK allows two seconds however busy the machine is."""
UNAVAILABLE = ApplicationError("the mesh does not answer", type="MeshUnavailable")


async def texts(handle: Handle) -> list[str]:
    """The lines of its timeline, as its status tells them."""
    return [event.text for event in (await handle.query(CanaryWorkflow.status)).timeline]


async def said(handle: Handle, text: str) -> None:
    """Waits for a line that begins so."""
    async with asyncio.timeout(30):
        while not any(line.startswith(text) for line in await texts(handle)):
            await asyncio.sleep(0.02)


async def test_reasons_of_megabytes_end_in_a_report_that_fits(real_lab: Lab) -> None:
    real_lab.world.script = [Hold()]
    handle = await real_lab.start(canary())
    await real_lab.watching()
    for verb in ("pause", "resume"):
        await handle.signal(verb, Command(caller=Caller(who=LARGE[:400_000]), reason=LARGE))
    await handle.signal("abort", Command(caller=ANN, reason=LARGE))
    report = await asyncio.wait_for(handle.result(), 30)
    assert report.outcome is Outcome.ABORTED
    assert report.reason.startswith("xxx")
    assert len(report.reason) <= TEXT
    assert real_lab.world.at_rest
    assert len(report.model_dump_json().encode()) < WHOLE
    assert real_lab.world.reports == [report]
    lines = {event.text.partition(":")[0]: event for event in report.timeline}
    assert {"paused", "resumed", "abort"} <= set(lines)
    assert len(lines["paused"].who) <= NAME


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (["please"], "please"),
        ([{"reason": "enough"}], "enough"),
        ([], "aborted, no reason given"),
        ([{"caller": {"who": 5}}], "aborted by a signal whose reason cannot be read"),
        ([[1, 2]], "aborted by a signal whose reason cannot be read"),
        (["please", "now"], "please"),
        (
            [RawValue(Payload(metadata={"encoding": b"binary/unknown"}, data=b"\xff"))],
            "aborted by a signal whose reason cannot be read",
        ),
        (
            [RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{"))],
            "aborted by a signal whose reason cannot be read",
        ),
    ],
    ids=["text", "object", "nothing", "no caller", "list", "two", "unknown encoding", "no JSON"],
)
async def test_an_abort_by_signal_aborts_whatever_it_says(real_lab: Lab, told: list[Any], reason: str) -> None:
    real_lab.world.script = [Hold()]
    handle = await real_lab.start(canary())
    await real_lab.watching()
    await handle.signal("abort", args=told)
    report = await asyncio.wait_for(handle.result(), 30)
    assert (report.outcome, report.reason) == (Outcome.ABORTED, reason)
    assert real_lab.world.at_rest


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("pause", {"caller": {"who": 5}}),
        ("resume", {"reason": ["a"]}),
        ("approve", {"gate": "first"}),
        ("promote", {"full": "perhaps"}),
        ("pause", RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{"))),
    ],
    ids=["pause", "resume", "approve", "promote", "no JSON"],
)
async def test_a_signal_that_cannot_be_read_is_ignored_and_said_so(real_lab: Lab, verb: str, told: Any) -> None:
    go_on = asyncio.Event()
    real_lab.world.script = [Hold(until=go_on)]
    handle = await real_lab.start(canary())
    await real_lab.watching()
    await handle.signal(verb, told)
    await said(handle, f"ignored: {verb} by signal, which cannot be read: ")
    go_on.set()
    assert (await asyncio.wait_for(handle.result(), 30)).outcome is Outcome.PROMOTED


def repeated(number: int) -> tuple[str, Command]:
    return "resume", Command(caller=ANN)


def to_and_fro(number: int) -> tuple[str, Command]:
    """Each is taken, and is a line of its own."""
    return ("resume" if number % 2 else "pause"), Command(caller=ANN, reason=f"{number} {'why ' * 200}")


@pytest.mark.parametrize("sent", [repeated, to_and_fro])
async def test_a_flood_of_signals_that_no_worker_took_is_worked_off(
    dev_server: WorkflowEnvironment, sent: Callable[[int], tuple[str, Command]]
) -> None:
    world = World(script=[Hold()])
    async with watches_on(dev_server.client, world.watch):
        async with effects_on(dev_server.client, world) as queue:
            lab = Lab(dev_server.client, queue, world)
            handle = await lab.start(canary())
            await lab.watching()
        few = asyncio.Semaphore(40)

        async def send(number: int) -> None:
            verb, command = sent(number)
            async with few:
                await handle.signal(verb, command)

        if sent is to_and_fro:
            for number in range(FLOOD // 2):  # one after the other: order matters
                await send(number)
        else:
            await asyncio.gather(*map(send, range(FLOOD)))
        async with effects_on(dev_server.client, world, queue=queue):
            async with asyncio.timeout(30):
                status = await handle.query(CanaryWorkflow.status)
            assert status.phase is Phase.PROGRESSING
            assert len(status.model_dump_json()) < WHOLE
            assert status.timeline[0].text.startswith("started")
            assert await lab.tell(handle, "abort", Command(caller=ANN, reason="enough")) == "Aborted: enough"
            report = await asyncio.wait_for(handle.result(), 30)
    assert report.timeline[-1].text == "Aborted: enough"
    assert len(report.model_dump_json()) < WHOLE
    assert world.at_rest


COMMANDS: dict[str, Command] = {
    "pause": Command(),
    "resume": Command(),
    "approve": Approval(),
    "approve another": Approval(gate=7),
    "promote": Promotion(),
    "promote in full": Promotion(full=True),
}
"""Name, which is also who says it: the same refusal of the same person makes one line. What is told by it."""
GATED = [{"weight": 10, "pause": True}, {"weight": 100}]


async def brought_to(lab: Lab, phase: Phase) -> Handle:
    """A rollout that stays in the phase."""
    world, steps, go_on = lab.world, None, asyncio.Event()
    match phase:
        case Phase.PROGRESSING:
            world.script = [Hold()]
        case Phase.PAUSED:
            world.script = [Hold(until=go_on), Hold()]
        case Phase.WAITING:
            world.script, steps = [ADVANCE, Hold(), Hold()], GATED
        case Phase.UNDECIDED:
            world.script = [NO_DATA, Hold(), Hold()]
        case Phase.HALTED:
            world.script = [HALTED, Hold()]
        case Phase.COMMITTING:
            world.fail_commit = [UNAVAILABLE] * 1000
        case Phase.RESTORING:
            world.script, world.fail_lift = [HARM], [UNAVAILABLE] * 1000
        case Phase.QUEUED:
            world.fail_acquire = [UNAVAILABLE] * 1000
    handle = await lab.start(canary(steps=steps).model_copy(update={"queue": phase is Phase.QUEUED}))
    if phase is Phase.PAUSED:
        await lab.watching()
        await lab.tell(handle, "pause", Command(caller=ANN))
        go_on.set()
    await lab.phase(handle, phase.value)
    return handle


PHASES = [
    Phase.PROGRESSING,
    Phase.PAUSED,
    Phase.WAITING,
    Phase.UNDECIDED,
    Phase.COMMITTING,
    Phase.RESTORING,
]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_signal_is_ignored_where_the_update_is_refused_and_only_there(
    dev_server: WorkflowEnvironment, phase: Phase
) -> None:
    accepted = await refused_alike(dev_server, phase)
    for name in accepted:
        async with lab_on(dev_server, cached=1000) as lab:
            handle = await brought_to(lab, phase)
            before = len(await texts(handle))
            lines = await heard(handle, name, before)
            assert not [line for line in lines if line.startswith("ignored: ")], name
            await handle.terminate()


async def refused_alike(environment: WorkflowEnvironment, phase: Phase) -> list[str]:
    """Tells everything in one phase, as an update and, where that is refused, as a signal; gives what was accepted."""
    accepted, left = [], list(COMMANDS)
    while left:
        async with lab_on(environment, cached=1000) as lab:
            handle = await brought_to(lab, phase)
            while left:
                name = left.pop(0)
                verb = name.split()[0]
                try:
                    await asyncio.wait_for(lab.tell(handle, verb, COMMANDS[name]), 30)
                except WorkflowUpdateFailedError as error:
                    refusal = str(error.cause).removeprefix("Refused: ")
                    before = len(await texts(handle))
                    assert await heard(handle, name, before) == [f"ignored: {verb} by signal: {refusal}"]
                else:
                    accepted.append(name)
                    break  # it is in another phase now
            await handle.terminate()
    return accepted


async def heard(handle: Handle, name: str, before: int) -> list[str]:
    """Sends the signal; gives the lines that it made."""
    command = COMMANDS[name].model_copy(update={"caller": Caller(who=name)})
    await handle.signal(name.split(maxsplit=1)[0], command)
    async with asyncio.timeout(30):
        while not (lines := (await texts(handle))[before:]):
            await asyncio.sleep(0.02)
    return lines


async def test_a_specification_that_no_report_has_room_for_is_not_started(real_lab: Lab) -> None:
    probes = [
        {"name": f"p{number}", "type": "http", "url": f"http://web/{'x' * 2000}", "headers": {"x": "y" * 1000}}
        for number in range(50)
    ]
    few = experiment(hypothesis={"probes": probes[:2]})
    refuse_large(few.spec)
    headers = {f"x-{number}": "y" * 1000 for number in range(9)}
    many = experiment(hypothesis={"probes": [{**probe, "headers": headers} for probe in probes]})
    with pytest.raises(OperationError, match="at most 400,000 are supported"):
        await start_operation(real_lab.client, many)
