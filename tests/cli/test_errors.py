"""Whatever goes wrong becomes one message that says what to do, and a code that is not a rollout's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from autopilot.mesh.errors import InvalidChange, LeaseHeld, MeshUnavailable
from starter.cli.errors import explain, temporal_address
from starter.client.errors import CommandError

from .conftest import ID, Result, Stage

Run = Callable[..., Result]


def test_a_wrong_command_line_is_1_because_2_means_rolled_back(autopilot: Run) -> None:
    for words in (
        ["frob"],
        ["list", "--frob"],
        ["get"],
        ["status", ID, "--timeout", "soon"],
        ["list", "-o", "xml"],
        [],
    ):
        assert autopilot(*words).code == 1
    assert "did you mean 'list'?" in autopilot("lst").err
    assert "not a duration" in autopilot("status", ID, "--timeout", "soon").err
    assert "autopilot get --help" in autopilot("get").err


def test_an_unexpected_error_is_told_shortly_and_traced_on_demand(autopilot: Run, stage: Stage) -> None:
    stage.failing["connect"] = KeyError("x")
    result = autopilot("list")
    assert (result.code, "Traceback" in result.err) == (1, False)
    assert "error: unexpected KeyError: 'x'" in result.err
    assert "autopilot --debug" in result.err
    assert "Traceback" in autopilot("--debug", "list").err


def test_interrupting_is_130(autopilot: Run, stage: Stage) -> None:
    stage.failing["connect"] = KeyboardInterrupt()  # type: ignore[assignment]
    assert autopilot("list").code == 130


async def test_temporal_down_names_the_address_and_the_fix() -> None:
    with pytest.raises(RuntimeError) as caught:
        await asyncio.wait_for(Client.connect("127.0.0.1:1"), 10)
    failure = explain(caught.value)
    assert failure.message == "Temporal did not answer at 127.0.0.1:1"
    assert failure.hint == "start it with `autopilot up`, or set TEMPORAL_ADDRESS"


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (CommandError("a\nb", hint="c", code=3), "a\nb", "c"),
        (WorkflowAlreadyStartedError(ID, "Canary"), f"held by {ID}", f"autopilot abort {ID}"),
        (RPCError("gone", RPCStatusCode.NOT_FOUND, b""), "gone", "list --all"),
        (RPCError("x", RPCStatusCode.UNAVAILABLE, b""), "did not answer at", "TEMPORAL_ADDRESS"),
        (RPCError("no", RPCStatusCode.UNAUTHENTICATED, b""), "refused access: no", "TEMPORAL_API_KEY"),
        (RPCError("slow", RPCStatusCode.DEADLINE_EXCEEDED, b""), "in time", "autopilot worker"),
        (RPCError("odd", RPCStatusCode.INTERNAL, b""), "returned an error: odd", "doctor"),
        (WorkflowUpdateFailedError(ApplicationError("not waiting")), "refused: not waiting", "get ID"),
        (LeaseHeld("shop/reviews is taken", f"{ID}#4"), f"held by {ID}#4", f"autopilot get {ID}"),
        (MeshUnavailable("edge lags"), "edge lags", "proxies"),
        (InvalidChange("no arm v9"), "no arm v9", "plan"),
        (FileNotFoundError(2, "No such file", "x.yaml"), "x.yaml: No such file", "doctor"),
    ],
)
def test_known_errors_say_what_to_do(error: BaseException, message: str, hint: str) -> None:
    failure = explain(error)
    assert message in failure.message
    assert hint in failure.hint
    assert failure.expected
    assert str(failure).startswith("error: ")


def test_the_address_is_temporals_own(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    assert temporal_address() == "localhost:7233"
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    assert temporal_address() == "temporal.example:7233"
