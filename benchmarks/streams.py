"""Whether renewals disturb what is open: HTTP/2 streams held through minutes of them, on the embedded mesh's Envoys.

A lease of a few seconds is renewed all the time, so that proxies get new deadlines again and again. Meanwhile streams
hang at the application (half of them wholly silent, half sending a byte now and then) and kept connections carry
ordinary requests. Ends with 1 where anything was modified, drained, reset or failed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import h2.config
import h2.connection
import h2.events
from recording import record
from staging import staged

from autopilot.local import topology
from autopilot.local.record import StackInfo
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.mesh.model import Aspect, SplitTraffic, Target, baseline_of
from autopilot.spec.mesh import Mesh
from autopilot.spec.values.addresses import split_address

STREAMS, CONNECTIONS = 100, 4
TTL, RENEW, WATCH = 4.0, 0.5, 2.0
"""Seconds: the lease's, between renewals, between looks at the proxies."""
REVIEWS = Target(mesh=topology.MESH, namespace=topology.NAMESPACE, service="reviews")
STEERING = "web-v1"
"""The proxy that shares the traffic of reviews out."""
DRAINED = (
    "downstream_cx_drain_close",
    "downstream_rq_tx_reset",
    "downstream_cx_destroy_local_active_rq",
    "upstream_cx_close_notify",
    "upstream_rq_tx_reset",
)
"""Counters of what a proxy ends by itself."""
DRAINING = ("total_listeners_draining", "total_filter_chains_draining")


@dataclass
class Client:
    """One HTTP/2 connection without TLS, and what became of its streams."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h2.connection.H2Connection
    silent: set[int] = field(default_factory=set)
    talking: set[int] = field(default_factory=set)
    statuses: dict[int, str] = field(default_factory=dict)
    completed: set[int] = field(default_factory=set)
    resets: int = 0
    goaways: int = 0
    lost: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def connect(cls, host: str, port: int) -> Client:
        """Speaks HTTP/2 from the first byte on."""
        reader, writer = await asyncio.open_connection(host, port)
        protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        protocol.initiate_connection()
        client = cls(reader, writer, protocol)
        client.flush()
        return client

    @property
    def open(self) -> int:
        """Streams that have not ended."""
        return len(self.silent | self.talking) - len(self.completed) - self.resets

    def flush(self) -> None:
        """Sends what the protocol has to say."""
        self.writer.write(self.protocol.data_to_send())

    def begin(self, *, talking: bool) -> None:
        """Opens one stream; one that talks goes on sending its request."""
        stream = self.protocol.get_next_available_stream_id()
        headers = [(":scheme", "http"), (":authority", "reviews.shop"), (":path", "/stream")]
        headers.insert(0, (":method", "POST" if talking else "GET"))
        self.protocol.send_headers(stream, headers, end_stream=not talking)
        (self.talking if talking else self.silent).add(stream)
        self.flush()

    def say(self, *, last: bool = False) -> None:
        """One byte on every stream that talks."""
        for stream in self.talking - self.completed:
            self.protocol.send_data(stream, b".", end_stream=last)
        self.flush()

    async def listen(self) -> None:
        """Takes what comes until the connection ends."""
        while data := await self.reader.read(65536):
            for event in self.protocol.receive_data(data):
                self._take(event)
            self.flush()
            self.changed.set()
        self.lost = True
        self.changed.set()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.statuses[event.stream_id] = dict(event.headers)[":status"]
            case h2.events.StreamEnded():
                self.completed.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets += 1
            case h2.events.ConnectionTerminated():
                self.goaways += 1
            case _:
                pass


@dataclass
class Ordinary:
    """Requests of every day over connections that are kept."""

    url: str
    connections: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Sends until it is cancelled, from as many callers as there are connections."""
        trace = aiohttp.TraceConfig()

        async def connected(*_: object) -> None:
            self.connections += 1

        trace.on_connection_create_end.append(connected)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=3600)
        async with aiohttp.ClientSession(connector=connector, trace_configs=[trace]) as session:
            await asyncio.gather(*(self._call(session) for _ in range(CONNECTIONS)))

    async def _call(self, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                async with session.get(self.url, headers={"Host": "reviews.shop"}) as response:
                    await response.read()
                    self.outcomes[str(response.status)] += 1
            except aiohttp.ClientError as error:
                self.outcomes[type(error).__name__] += 1
            await asyncio.sleep(0.1)


class Proxies:
    """What all proxies count."""

    def __init__(self, mesh: Mesh, session: aiohttp.ClientSession) -> None:
        self._admins = {proxy.name: proxy.admin for proxy in mesh.spec.proxies}
        self._session = session

    async def counts(self, names: tuple[str, ...], proxy: str = "") -> Counter[str]:
        """Sum over proxies (or of one) and over all that a name ends."""
        total: Counter[str] = Counter(dict.fromkeys(names, 0))
        for admin in [self._admins[proxy]] if proxy else self._admins.values():
            async with self._session.get(f"http://{admin}/stats?format=json") as response:
                stats = (await response.json(content_type=None))["stats"]
            for stat in stats:
                name = str(stat.get("name", "")).rpartition(".")[2]
                if name in names and "admin" not in stat["name"]:
                    total[name] += int(stat["value"])
        return total

    async def renewals(self) -> int:
        """Route tables that the steering proxy has taken."""
        admin = self._admins[STEERING]
        async with self._session.get(f"http://{admin}/stats?format=json&filter=rds.reviews.update_success") as response:
            return sum(
                int(stat["value"]) for stat in (await response.json(content_type=None))["stats"] if "name" in stat
            )


async def wait_for(condition: Callable[[], bool], clients: list[Client], limit: float) -> None:
    """Until it holds, looking at whatever any client hears."""
    async with asyncio.timeout(limit):
        while not condition():
            for client in clients:
                client.changed.clear()
            waiting = [asyncio.create_task(client.changed.wait()) for client in clients]
            _, rest = await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()


async def behave(session: aiohttp.ClientSession, info: StackInfo, *, hang: bool) -> int:
    """Lets reviews v2 hang or answer; returns how many requests it has had."""
    async with session.post(info.shop["reviews-v2"] + "/_shop", json={"hang": hang}) as response:
        return int((await response.json())["requests"])


async def measure(info: StackInfo, minutes: float) -> dict[str, float]:
    """Holds everything open, renews, and counts."""
    patient(info.mesh_file)
    mesh = EnvoyMesh(info.mesh_file)
    await mesh.sweep()
    described = read_mesh(info.mesh_file)
    caller = next(proxy for proxy in described.spec.proxies if proxy.name == STEERING)
    (door,) = caller.outbound
    lease = await mesh.acquire(REVIEWS, [Aspect.TRAFFIC], operation="benchmark", token="b", ttl=TTL)
    async with aiohttp.ClientSession() as session:
        proxies = Proxies(described, session)
        had = await behave(session, info, hang=True)
        await mesh.verify(await mesh.apply(lease, [SplitTraffic(weights={"v1": 0, "v2": 100})]))
        clients = [await Client.connect(*split_address(door.address)) for _ in range(CONNECTIONS)]
        tasks = [asyncio.create_task(client.listen()) for client in clients]
        for number in range(STREAMS):
            clients[number % CONNECTIONS].begin(talking=number // CONNECTIONS % 2 == 0)
        for client in clients:
            client.say()
        while await behave(session, info, hang=True) < had + STREAMS:
            await mesh.renew(lease)
            await asyncio.sleep(0.05)
        # From here on nothing new meets what hangs; the streams stay where they are.
        split = SplitTraffic(weights={"v1": 50, baseline_of("v1"): 50})
        await mesh.verify(await mesh.apply(lease, [split]))
        ordinary = Ordinary(f"http://{door.address}/")
        tasks.append(asyncio.create_task(ordinary.run()))

        renewals, before = await proxies.renewals(), await proxies.counts(("listener_modified", *DRAINED))
        draining, until, look = 0, time.monotonic() + 60 * minutes, 0.0
        while time.monotonic() < until:
            await mesh.renew(lease)
            if time.monotonic() > look:
                look = time.monotonic() + WATCH
                draining = max(draining, sum((await proxies.counts(DRAINING)).values()))
                for client in clients:
                    client.say()
            await asyncio.sleep(RENEW)
        renewals = await proxies.renewals() - renewals
        change = await proxies.counts(("listener_modified", *DRAINED))
        change.subtract(before)
        open_at_end = sum(client.open for client in clients)

        for client in clients:
            client.say(last=True)
        await behave(session, info, hang=False)
        await wait_for(lambda: all(not client.open or client.lost for client in clients), clients, 30)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in clients:
            client.writer.close()
    await mesh.lift(lease)
    await mesh.close()
    good = sum(status == "200" for client in clients for status in client.statuses.values())
    return {
        "minutes": round(minutes, 2),
        "streams": STREAMS,
        "renewals": renewals,
        "listener_modified": change["listener_modified"],
        "listeners_draining": draining,
        "cx_drained": sum(change[name] for name in DRAINED),
        "streams_reset": sum(client.resets for client in clients),
        "goaways": sum(client.goaways + client.lost for client in clients),
        "streams_closed_early": STREAMS - open_at_end,
        "streams_not_completed": STREAMS - good,
        "requests": ordinary.outcomes.total(),
        "requests_failed": ordinary.outcomes.total() - ordinary.outcomes["200"],
        "reconnects": ordinary.connections - CONNECTIONS,
    }


def patient(mesh_file: Path) -> None:
    """Lets requests take an hour, so that no proxy ends one by itself."""
    mesh = read_mesh(mesh_file)
    for service in mesh.spec.services:
        mesh = mesh.with_service(service.ref, timeout=3600.0)
    topology.write(mesh, mesh_file)


FREE = {"minutes", "streams", "renewals", "requests"}
"""Figures that say how much was tried; every other one must be 0."""


def main() -> int:
    """Brings a mesh up, measures, takes it down; 1 where anything was disturbed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with staged(("mesh",), rate=0) as info:
        figures = asyncio.run(measure(info, minutes))
    least = 60 * minutes / TTL
    rows = [("what", "count", "must be")]
    for name, value in figures.items():
        must = {"renewals": f"at least {least:.0f}"}.get(name, "" if name in FREE else "0")
        rows.append((name.replace("_", " "), f"{value:g}", must))
    title = f"{STREAMS} HTTP/2 streams through {minutes:g} minutes of renewals"
    command = "make bench-streams" if minutes == 10 else f'make bench-streams ARGS="--minutes {minutes:g}"'
    record("streams", command, figures, rows, title)
    disturbed = [name for name, value in figures.items() if name not in FREE and value]
    return 1 if disturbed or figures["renewals"] < least else 0


if __name__ == "__main__":
    sys.exit(main())
