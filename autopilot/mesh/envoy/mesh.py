"""The Mesh port over plain Envoys that follow files."""

from __future__ import annotations

import asyncio
import difflib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from autopilot.mesh.envoy.admin import AdminClient
from autopilot.mesh.envoy.ledger import Ledger
from autopilot.mesh.envoy.records import Overlay
from autopilot.mesh.envoy.store import Store
from autopilot.mesh.envoy.watchman import Watchman
from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh.model import (
    ArmState,
    Aspect,
    Capability,
    Change,
    Holder,
    Lease,
    LeaseStatus,
    Plan,
    Receipt,
    Target,
    TargetState,
    Tier,
)

_POLL = 0.005


class EnvoyMesh:
    """A standalone mesh of Envoys on one host or one shared volume, described by a `mesh.yaml`.

    Safe to use from many tasks; writes of all processes are ordered by a lock file. `clock` gives seconds since the
    epoch and is exchanged by tests alone.
    """

    def __init__(self, mesh_file: Path, clock: Callable[[], float] = time.time) -> None:
        self.store = Store(mesh_file)
        self.ledger = Ledger(self.store, clock)
        self._clock = clock
        self._admin = AdminClient()
        self._watchman = Watchman()

    @property
    def name(self) -> str:
        """The mesh's name in its file."""
        return self.store.mesh.metadata.name

    async def capabilities(self) -> list[Capability]:
        """What can be changed, and who undoes it."""
        return [
            Capability(
                change="SplitTraffic", supported=True, tier=Tier.PROXY, note="expires in the proxy's own route table"
            )
        ]

    async def observe(self, target: Target) -> TargetState:
        """Arms, endpoints and weights of the target, and who holds it."""

        def read() -> TargetState:
            service = self.ledger.service(target)
            weights = self.ledger.weights(target)
            holders = [status.lease for status in self.ledger.leases() if status.lease.target == target]
            return TargetState(
                target=target,
                arms=tuple(
                    ArmState(
                        name=name,
                        endpoints=arm.endpoints,
                        weight=weights[name],
                        base_weight=service.weights.get(name, 0.0),
                    )
                    for name, arm in service.arms.items()
                ),
                holders=tuple(lease.holder.operation for lease in holders),
            )

        return await asyncio.to_thread(read)

    async def plan(self, target: Target, changes: Sequence[Change]) -> Plan:
        """The route tables before and after, as a diff; writes nothing."""

        def read() -> Plan:
            self.ledger.check(target, changes)
            now = self._clock()
            others = [overlay for overlay in self.store.overlays() if overlay.lease.target != target]
            before = self.store.rendered(now)
            aspects = tuple(sorted({change.aspect for change in changes}))
            lease = _imagined(target, aspects, self.store.mesh.spec.max_unattended)
            overlay = Overlay(lease=lease, changes=tuple(changes), deadline=now + lease.max_unattended)
            after = self.store.rendered(now, [*others, overlay])
            diff: list[str] = []
            for proxy, files in after.items():
                for listener, table in files.routes.items():
                    name = f"{proxy}/{listener}"
                    old, new = (_readable(content, target.ref) for content in (before[proxy].routes[listener], table))
                    diff += difflib.unified_diff(old, new, f"{name} (now)", f"{name} (planned)", lineterm="")
            return Plan(target=target, tier=Tier.PROXY, diff="\n".join(diff))

        return await asyncio.to_thread(read)

    async def acquire(
        self,
        target: Target,
        aspects: Sequence[Aspect],
        *,
        operation: str,
        token: str,
        ttl: float,
        planned_end: float | None = None,
    ) -> Lease:
        """Takes the lease."""
        return await asyncio.to_thread(
            self.ledger.acquire,
            target,
            aspects,
            operation=operation,
            token=token,
            ttl=ttl,
            planned_end=planned_end,
        )

    async def apply(self, lease: Lease, changes: Sequence[Change]) -> Receipt:
        """Lays the changes over the base."""
        return await asyncio.to_thread(self.ledger.apply, lease, changes)

    async def verify(self, receipt: Receipt, *, timeout: float = 10.0) -> None:
        """Waits until every proxy that steers the target reports what was written."""
        until = time.monotonic() + timeout
        waiting = receipt.versions
        while True:
            waiting = await self._lagging(waiting)
            if not waiting:
                return
            if time.monotonic() > until:
                names = ", ".join(sorted(waiting))
                raise MeshUnavailable(f"after {timeout:g} s these route tables have not taken the change: {names}")
            await asyncio.sleep(_POLL)

    async def renew(self, lease: Lease) -> None:
        """Says that the operation lives."""
        await asyncio.to_thread(self.ledger.renew, lease)

    async def condemn(self, lease: Lease, reason: str) -> None:
        """Harm was found: the lease can no longer be renewed."""
        await asyncio.to_thread(self.ledger.condemn, lease, reason)

    async def commit(self, lease: Lease) -> Receipt | None:
        """Makes the overlay the base."""
        return await asyncio.to_thread(self.ledger.commit, lease)

    async def lift(self, lease: Lease) -> Receipt | None:
        """Takes the overlay away."""
        return await asyncio.to_thread(self.ledger.lift, lease)

    async def leases(self) -> list[LeaseStatus]:
        """Every lease held."""
        return await asyncio.to_thread(self.ledger.leases)

    async def sweep(self) -> list[str]:
        """One round of a guard."""

        def run() -> list[str]:
            done = []
            for record, seconds in self._watchman.silent(self.store.leases()):
                lease = record.lease
                if self.ledger.lift_if_unchanged(record):
                    done.append(f"{lease.target}: restored, {lease.holder} had not renewed for {seconds:.0f} s")
            return done + self.ledger.tidy()

        return await asyncio.to_thread(run)

    async def close(self) -> None:
        """Lets go of connections."""
        await self._admin.close()

    async def _lagging(self, wanted: dict[str, str]) -> dict[str, str]:
        proxies = sorted({name.split("/")[0] for name in wanted})
        answers = await asyncio.gather(*(self._versions(proxy) for proxy in proxies))
        have = {
            f"{proxy}/{table}": text
            for proxy, tables in zip(proxies, answers, strict=True)
            for table, text in tables.items()
        }
        return {name: text for name, text in wanted.items() if have.get(name) != text}

    async def _versions(self, proxy: str) -> dict[str, str]:
        try:
            return await self._admin.route_versions(self.store.proxy(proxy).admin)
        except MeshUnavailable:
            return {}  # it lags; the deadline of `verify` names it


def _imagined(target: Target, aspects: tuple[Aspect, ...], max_unattended: float) -> Lease:
    holder = Holder(operation="planned", fencing=0)
    return Lease(target=target, aspects=aspects, holder=holder, ttl=max_unattended, max_unattended=max_unattended)


def _readable(content: str, service_ref: str) -> list[str]:
    """One service's routes as YAML lines."""
    hosts: list[dict[str, Any]] = json.loads(content)["resources"][0]["virtual_hosts"]
    routes = [host["routes"] for host in hosts if host["name"] == service_ref]
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump({service_ref: routes[0]} if routes else {}, stream)
    return stream.getvalue().splitlines()
