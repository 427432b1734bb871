"""Both versions of every service, and the clients that call them through Envoy without a pause: one cheap process.

Every service has one client with one keep-alive connection, which sends its next request when the last is answered and
its turn has come. What came of each is a line of the log: when it was sent, which service, and what answered: `v1`,
`v2`, `v2!` (version 2, failing as it was told to), or the word for a failure nobody ordered.

Run as `python -m tests.faults.world.traffic CONFIG`, a JSON file of `Plan`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from autopilot.local.ports import LOOPBACK

_GIVES_UP = 5.0
"""Seconds after which a request without an answer is a failure."""


@dataclass(frozen=True, slots=True)
class Client:
    """Calls one service."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What the process does."""

    versions: dict[str, int]
    """Version → port it answers at."""
    clients: tuple[Client, ...]
    period: float
    """Seconds from one request of a client to its next."""
    log: str
    failing: str
    """A file with the hosts that version 2 fails for, one a line."""
    ready: str

    def write(self, path: Path) -> None:
        """Where `read` finds it."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan in a file."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**found, "clients": tuple(Client(**client) for client in found["clients"])})


class Server(asyncio.Protocol):
    """One version, for every service."""

    def __init__(self, version: str, failing: set[bytes]) -> None:
        self._version = version.encode()
        self._failing = failing
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head, self._rest = self._rest[:end].lower(), self._rest[end + 4 :]
            host = next((line[6:] for line in head.split(b"\r\n") if line.startswith(b"host: ")), b"")
            status = b"500 Told To" if self._version == b"v2" and host in self._failing else b"200 OK"
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 %b\r\ncontent-length: 2\r\n\r\n%b" % (status, self._version))


class Caller(asyncio.Protocol):
    """One client."""

    def __init__(self, client: Client, period: float, record: list[str]) -> None:
        self._client = client
        self._request = f"GET / HTTP/1.1\r\nhost: {client.host}\r\n\r\n".encode()
        self._period = period
        self._record = record
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._sent = 0.0
        self._due = 0.0
        self._limit: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> None:
        """Begins, however often it takes."""
        while True:
            try:
                await self._loop.create_connection(lambda: self, LOOPBACK, self._client.port)
            except OSError:
                self._note(time.time(), "refused")
                await asyncio.sleep(0.2)
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._rest = transport, b""
        self._send()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        self._rest = b""
        status, answer = head[9:12], body.decode(errors="replace")
        if status == b"500" and answer == "v2":
            answer = "v2!"
        elif status == b"418":  # `walks.MET`: an experiment's fault, which may answer no longer than a version 2
            answer = "v2"
        elif status != b"200":
            answer = f"status-{status.decode()}"
        self._answered(answer)
        self._due = max(self._due + self._period, self._loop.time())
        self._loop.call_at(self._due, self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sent:
            self._answered("lost")
        self._transport = None
        task = self._loop.create_task(self.connect())
        task.add_done_callback(lambda done: done.exception())

    def _send(self) -> None:
        if self._transport is None:
            return
        self._sent = time.time()
        self._limit = self._loop.call_later(_GIVES_UP, self._give_up)
        self._transport.write(self._request)

    def _give_up(self) -> None:
        self._answered("timeout")
        if self._transport is not None:
            self._transport.abort()

    def _answered(self, answer: str) -> None:
        if self._limit is not None:
            self._limit.cancel()
        sent, self._sent = self._sent, 0.0
        if sent:
            self._note(sent, answer)

    def _note(self, sent: float, answer: str) -> None:
        self._record.append(f"{sent:.4f} {self._client.name} {answer}\n")


async def run(plan: Plan) -> None:
    """Serves and calls until it is killed."""
    loop = asyncio.get_running_loop()
    failing: set[bytes] = set()
    record: list[str] = []
    servers = [
        await loop.create_server(lambda version=version: Server(version, failing), LOOPBACK, port)
        for version, port in plan.versions.items()
    ]
    callers = [Caller(client, plan.period, record) for client in plan.clients]
    for number, caller in enumerate(callers):
        loop.call_later(
            plan.period * number / len(callers), lambda caller=caller: asyncio.ensure_future(caller.connect())
        )
    Path(plan.ready).touch()  # noqa: ASYNC240
    with Path(plan.log).open("a", encoding="utf-8") as log:  # noqa: ASYNC230
        while servers:
            await asyncio.sleep(0.05)
            log.writelines(record)
            log.flush()
            record.clear()
            told = set(Path(plan.failing).read_bytes().split())  # noqa: ASYNC240
            failing.difference_update(failing - told)
            failing.update(told)


if __name__ == "__main__":
    asyncio.run(run(Plan.read(Path(sys.argv[1]))))
