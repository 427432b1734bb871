"""Runs programs for probes: without a shell, with limited output, and killed with all their children at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LONGEST: Final = 100_000
"""Bytes of a program's output that are kept."""
_LINGER: Final = 0.2
"""Seconds that output may still come in after the program has ended, where a child of it holds the pipe."""
_REAPED: Final = 1.0
"""Seconds that the system has to end what was killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program left behind."""

    code: int
    """Its exit code; negative: the signal that ended it."""
    out: bytes
    errors: bytes

    @property
    def err(self) -> str:
        """What it wrote to standard error."""
        return self.errors.decode("utf-8", "replace")


async def run(command: Sequence[str], given: bytes = b"") -> Ended:
    """Runs a program to its end; if the caller is cancelled, it and all processes of its group are killed.

    Args:
        command: the program and its arguments.
        given: its standard input.

    Raises:
        OSError: it cannot be run.
        ValueError: an argument holds a null character.
    """
    async with _pipe() as (out, out_end), _pipe() as (errors, errors_end):
        stdin = _memory(given)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=stdin, stdout=out_end.take(), stderr=errors_end.take(), start_new_session=True
            )
        finally:
            os.close(stdin)
            out_end.close()
            errors_end.close()
        said = [asyncio.create_task(_read(each)) for each in (out, errors)]
        try:
            code = await process.wait()
            await asyncio.wait(said, timeout=_LINGER)
        finally:
            _kill_group(process.pid)
            for task in said:
                task.cancel()
            texts = await asyncio.gather(*said)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _REAPED)
        return Ended(code, *texts)


@dataclass(slots=True)
class _End:
    """The end of a pipe that a program writes to; closed here once the program has it."""

    number: int | None

    def take(self) -> int:
        if self.number is None:
            raise ValueError("this end of the pipe is closed already")
        return self.number

    def close(self) -> None:
        if self.number is not None:
            os.close(self.number)
            self.number = None


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, _End]]:
    """A pipe of our own: it can be closed though some process still holds its other end."""
    reading, writing = os.pipe()
    end = _End(writing)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", 0))
    try:
        yield reader, end
    finally:
        end.close()
        transport.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """What comes out until the end, or until it is cancelled; only the beginning is kept, the rest is let through."""
    kept = bytearray()
    with contextlib.suppress(asyncio.CancelledError):
        while part := await reader.read(65536):
            kept += part[: LONGEST - len(kept)]
    return bytes(kept)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _memory(given: bytes) -> int:
    """A file without a name that holds the text: unlike a pipe it never fills up."""
    number = os.memfd_create("probe")
    with os.fdopen(os.dup(number), "wb") as file:
        file.write(given)
    os.lseek(number, 0, os.SEEK_SET)
    return number


class FunctionError(Exception):
    """A function could not be found, or called, or did not answer."""


_CALL: Final = """
import ctypes, json, os, signal, sys
given = json.load(sys.stdin)
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # gone with the worker, whatever happens to that
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the function prints is no answer
sys.path[:] = given["path"]
try:
    import asyncio, importlib, inspect
    function = getattr(importlib.import_module(given["module"]), given["name"])
    if not callable(function):
        raise TypeError(f"{given['module']}:{given['name']} cannot be called: it is {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        signature = None
    if signature is not None:
        signature.bind(**given["arguments"])
    said = {"value": None}
    if given["call"]:
        value = function(**given["arguments"])
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            value = repr(value)
        said = {"value": value}
except BaseException as error:
    said = {"error": f"{type(error).__name__}: {error}"[:1000]}
json.dump(said, answer)
answer.close()
"""


async def call(function: str, arguments: Mapping[str, Any], *, really: bool = True) -> Any:
    """What a function returns, called in a process of its own: one that never returns can be killed.

    Args:
        function: `package.module:function`, found where this process finds its modules.
        arguments: by name.
        really: whether to call it; else it is only found, and its arguments are checked.

    Raises:
        FunctionError: it cannot be found or called, raised something itself, or ended its process.
        OSError: no process can be started.
    """
    module, _, name = function.partition(":")
    path = [each or os.getcwd() for each in sys.path]  # noqa: PTH109 - as the import system means it
    given = {"path": path, "module": module, "name": name, "arguments": dict(arguments), "call": really}
    ended = await run((sys.executable, "-I", "-c", _CALL), json.dumps(given).encode())
    try:
        said = json.loads(ended.out)
    except ValueError:
        last = ended.err.strip().rpartition("\n")[2]
        why = (
            f"it ended its process with exit code {ended.code}"
            if ended.code
            else "it gave no answer, or a longer one than is read"
        )
        raise FunctionError(f"{function}: {why}{f' ({last})' if last else ''}") from None
    if "error" in said:
        raise FunctionError(f"{function}: {said['error']}")
    return said["value"]
