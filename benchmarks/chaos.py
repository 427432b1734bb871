"""Whether faults are what they say, on real Envoys: delays as long, shares as large, nobody met who is out of scope.

Requests go from a caller's own proxy to `ratings`, one experiment's overlay laid at a time. Ends with 1 where a delay
is off by more than 5 ms and 2 %, a share lies outside the binomial's 99.9 % interval, or one request out of scope is
met.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from recording import record
from scipy import stats
from staging import staged

from autopilot.local import topology
from autopilot.local.record import StackInfo
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.mesh.model import Aspect, InjectFault, Target
from autopilot.spec.chaos.faults import Abort, Blackhole, Delay, Fault, Overflow, Reset, describe
from autopilot.spec.chaos.scope import Cookie, HeaderMatch, Scope, Source, Users, describe_scope

RATINGS = Target(mesh=topology.MESH, namespace=topology.NAMESPACE, service="ratings")
CALLER, OTHER = "reviews-v1", "reviews-v2"
MET = 418
_CONFIDENCE = 0.999
_AT_ONCE = 16
DELAYS = (0.02, 0.1, 0.5, 1.0)
SHARES = (0.5, 1, 5, 12.5, 50)


@dataclass
class Field:
    """The mesh, and whoever calls through its proxies."""

    mesh: EnvoyMesh
    session: aiohttp.ClientSession
    urls: dict[str, str]
    laid: int = 0

    @asynccontextmanager
    async def over(self, fault: Fault, scope: Scope) -> AsyncIterator[None]:
        """One fault, in force at the proxies, for as long as the context lasts."""
        self.laid += 1
        operation = f"chaos/bench/shop/{self.laid}"
        aspects = (Aspect.FAULTS, Aspect.RESILIENCE)
        lease = await self.mesh.acquire(RATINGS, aspects, operation=operation, token="bench", ttl=600)
        try:
            changes = (InjectFault(fault=fault, scope=scope, salt=operation),)
            await self.mesh.verify(await self.mesh.apply(lease, changes))
            task = asyncio.create_task(self._keep(lease))
            try:
                yield
            finally:
                task.cancel()
        finally:
            receipt = await self.mesh.lift(lease)
            if receipt is not None:
                await self.mesh.verify(receipt)

    async def _keep(self, lease: object) -> None:
        while True:
            await asyncio.sleep(5)
            await self.mesh.renew(lease)  # type: ignore[arg-type]

    async def ask(self, headers: dict[str, str] | None = None, *, caller: str = CALLER) -> tuple[int, float]:
        """One request: status (0: none) and seconds."""
        began = time.perf_counter()
        try:
            async with self.session.get(self.urls[caller], headers=headers) as answer:
                await answer.read()
                return answer.status, time.perf_counter() - began
        except (aiohttp.ClientError, TimeoutError):
            return 0, time.perf_counter() - began

    async def many(self, number: int, headers: Sequence[dict[str, str]], *, caller: str = CALLER) -> list[int]:
        """Statuses of many requests, whose headers take turns."""
        found: list[int] = []

        async def worker(offset: int) -> None:
            for index in range(offset, number, _AT_ONCE):
                status, _ = await self.ask(headers[index % len(headers)], caller=caller)
                found.append(status)

        await asyncio.gather(*(worker(offset) for offset in range(_AT_ONCE)))
        return found


async def delays(field: Field, rows: list[tuple[str, ...]]) -> tuple[float, bool]:
    """The worst error of a delay in milliseconds, and whether all are within 5 ms and 2 %."""
    plain = statistics.median([(await field.ask())[1] for _ in range(200)])
    worst, within = 0.0, True
    for delay in DELAYS:
        async with field.over(Delay(delay=delay), Scope(percentage=100)):
            took = await asyncio.gather(*(field.ask() for _ in range(20)))
            single = [(await field.ask())[1] for _ in range(max(5, round(10 / (1 + 10 * delay))))]
        assert len(took) == 20
        error = abs(statistics.median(single) - plain - delay)
        within &= error <= 0.005 + 0.02 * delay
        worst = max(worst, error)
        rows.append(
            (f"delay {delay:g} s", f"{1000 * delay:g} ms", f"{1000 * (delay + error):.1f} ms", f"{1000 * error:.1f} ms")
        )
    return 1000 * worst, within


async def shares(field: Field, number: int, rows: list[tuple[str, ...]]) -> tuple[int, int]:
    """How many shares lie within the binomial's interval, and how many there are."""
    cases: list[tuple[Fault, Scope, int]] = [
        *((Abort(status=MET), Scope(percentage=share), MET) for share in SHARES),
        (Abort(status=MET), Scope(percentage=10, view="policy"), MET),
        (Reset(), Scope(percentage=10), 503),
        (Blackhole(), Scope(percentage=1), 0),
        (Overflow(requests=0), Scope(percentage=10), 503),
    ]
    inside = 0
    for fault, scope, status in cases:
        requests = number if status else number // 10
        async with field.over(fault, scope):
            got = await field.many(requests, [{}])
        met = sum(one == status for one in got)
        share = (scope.percentage or 100) / 100
        low, high = stats.binom.interval(_CONFIDENCE, requests, share)
        fits = bool(low <= met <= high)
        inside += fits
        said = f"{100 * met / requests:.2f} % of {requests:,}"
        bounds = f"{100 * low / requests:.2f} to {100 * high / requests:.2f} %"
        rows.append((f"{describe(fault)}, {describe_scope(scope)}", bounds, said, "yes" if fits else "NO"))
    return inside, len(cases)


async def users(field: Field, rows: list[tuple[str, ...]]) -> bool:
    """Whether a share of users is that share of them, and always the same ones."""
    names = [{"end-user": f"user-{number}"} for number in range(4000)]
    async with field.over(Abort(status=MET), Scope(users=Users(percentage=10, header="end-user"))):
        first = [(await field.ask(one))[0] == MET for one in names]
        again = [(await field.ask(one))[0] == MET for one in names]
    low, high = stats.binom.interval(_CONFIDENCE, len(names), 0.1)
    fits = bool(low <= sum(first) <= high) and first == again
    said = f"{sum(first)} of {len(names)} users, {sum(a != b for a, b in zip(first, again, strict=True))} changed"
    rows.append(("abort, 10 % of users, twice", f"{low:.0f} to {high:.0f} users", said, "yes" if fits else "NO"))
    return fits


async def leaks(field: Field, number: int, rows: list[tuple[str, ...]]) -> int:
    """Requests out of scope that met the fault, of `number`."""
    others = [{"end-user": f"user-{one}", "cookie": f"user=user-{one}"} for one in range(1000) if one != 7]
    forged = [{**one, "x-autopilot-overlay": "1", "x-autopilot-user-1": "0"} for one in others]
    cases: list[tuple[Scope, Sequence[dict[str, str]], str, dict[str, str]]] = [
        (Scope(headers={"end-user": HeaderMatch(exact="user-7")}), others, CALLER, {"end-user": "user-7"}),
        (Scope(headers={"end-user": HeaderMatch(exact="user-7")}), forged, CALLER, {"end-user": "user-7"}),
        (Scope(cookie=Cookie(name="user", value="user-7")), others, CALLER, {"cookie": "a=b; user=user-7"}),
        (Scope(source=Source(service="reviews", arm="v1")), others, OTHER, {}),
    ]
    found = 0
    each = number // len(cases)
    for scope, headers, caller, meant in cases:
        async with field.over(Abort(status=MET), scope):
            hit = await field.ask(meant)
            got = await field.many(each, headers, caller=caller)
        if hit[0] != MET:
            found += each  # a fault that nobody meets leaks nowhere: that shows nothing
        leaked = sum(one == MET for one in got)
        found += leaked
        words = describe_scope(scope) + (", headers forged" if headers is forged else "")
        rows.append((f"out of: {words}", "0", f"{leaked} of {each:,}", "yes" if not leaked and hit[0] == MET else "NO"))
    return found


async def measure(info: StackInfo, number: int, outside: int) -> int:
    """Everything; the exit code."""
    spec = read_mesh(info.mesh_file).spec
    urls = {proxy.name: f"http://{proxy.outbound[0].address}" for proxy in spec.proxies if proxy.outbound}
    mesh = EnvoyMesh(info.mesh_file)
    rows: list[tuple[str, ...]] = [("fault", "wanted", "measured", "within")]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=3)) as session:
        field = Field(mesh, session, urls)
        worst, within = await delays(field, rows)
        inside, all_of = await shares(field, number, rows)
        sticky = await users(field, rows)
        leaked = await leaks(field, outside, rows)
    await mesh.close()
    figures: dict[str, float] = {
        "delay_error_ms": round(worst, 1),
        "percentage_within": inside,
        "percentage_of": all_of,
        "users_sticky": int(sticky),
        "scope_leaks": leaked,
        "requests_outside_scope": outside,
    }
    record("chaos", "make bench-chaos", figures, rows, "Faults are what they say")
    return 0 if within and inside == all_of and sticky and not leaked else 1


def main() -> int:
    """Measures, prints, records."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000, help="for each share")
    parser.add_argument("--outside", type=int, default=100_000, help="requests out of scope")
    given = parser.parse_args()
    with staged(("mesh",), rate=0) as info:
        return asyncio.run(measure(info, given.requests, given.outside))


if __name__ == "__main__":
    sys.exit(main())
