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

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.capabilities import ABILITIES
from autopilot.mesh.envoy.admin import AdminClient
from autopilot.mesh.envoy.config.faults import clusters, sign_of
from autopilot.mesh.envoy.config.laid_fault import Laid
from autopilot.mesh.envoy.config.names import APPLICATION
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.overrides import Overrides
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.envoy.state.unreadable import inventory
from autopilot.mesh.errors import ClockSkew, InvalidChange, MeshError, MeshUnavailable, UnreadableRecord
from autopilot.mesh.leases.overrides import NOBODY, Actor, Halt, LeaseOrders, Tombstone
from autopilot.mesh.leases.records import Overlay, Spare
from autopilot.mesh.leases.stale import StaleLeases
from autopilot.mesh.leases.unreadable import Unreadable
from autopilot.mesh.ledger_mesh import LedgerMesh
from autopilot.mesh.model import (
    EVERY_RULE,
    ArmState,
    Aspect,
    Capability,
    Change,
    FaultSign,
    Holder,
    InjectFault,
    Lease,
    Plan,
    Receipt,
    SplitTraffic,
    Target,
    TargetState,
    Tier,
)
from autopilot.spec.chaos.experiment import Action
from autopilot.spec.chaos.limits import Ceilings
from autopilot.spec.mesh import MeshSpec, Proxy

_POLL = 0.005
VERIFY_LIMIT = 10.0
"""Seconds that proxies have to report what was written."""
MAX_SKEW = 1.0
"""Seconds by which a proxy's clock may differ: tier A's deadlines are only as exact as the clocks."""
SWEEPER = Actor(who="autopilot guard", net="guard", why="what was due")


class EnvoyMesh(LedgerMesh):
    """A standalone mesh of Envoys on one host or one shared volume, described by a `mesh.yaml`.

    Safe to use from many tasks; writes of all processes are ordered by a lock file. `clock` gives seconds since the
    epoch and is replaced only in tests; `told` receives every audit record.
    """

    def __init__(
        self,
        mesh_file: Path,
        clock: Callable[[], float] = time.time,
        told: Callable[[AuditRecord], None] = lambda _: None,
    ) -> None:
        self.store = Store(mesh_file)
        self.ledger = Ledger(self.store, clock, told)
        super().__init__(self.ledger, Overrides(self.ledger, clock))
        self._clock = clock
        self._admin = AdminClient()
        self._watchman = StaleLeases()

    @property
    def name(self) -> str:
        """The mesh's name in its file."""
        return self.store.mesh.metadata.name

    @property
    def spec(self) -> MeshSpec:
        """What its file says."""
        return self.store.mesh.spec

    @property
    def max_unattended(self) -> float:
        """Maximum seconds that an overlay outlives the last renewal by its holder."""
        return self.store.mesh.spec.max_unattended

    @property
    def ceilings(self) -> Ceilings:
        """How far experiments may go."""
        return self.store.mesh.spec.chaos

    async def capabilities(self) -> list[Capability]:
        """What can be changed, and who undoes it."""
        return list(ABILITIES["envoy", "plain"])

    async def observe(self, target: Target, split: SplitTraffic | None = None) -> TargetState:
        """Arms, endpoints and weights of the target, and who holds it; the mesh file says what its arms are.

        Raises:
            InvalidChange: no such target, or the split leaves out rules, of which a service has one here.
        """
        if split is not None and split.choice != EVERY_RULE:
            raise InvalidChange(f"{target.ref} has one rule in a mesh file; leave out spec.routes")

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

    async def ready(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        """Nothing: endpoints are addresses of the mesh file, and what answers there shows in the error rate alone."""
        del target, arms
        return {}

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
            spare = Spare(lease=lease, changes=tuple(changes))
            after = self.store.rendered(now, [*others, overlay], [spare])
            diff: list[str] = []
            for proxy, files in after.items():
                for listener, table in files.routes.items():
                    name = f"{proxy}/{listener}"
                    old, new = (_readable(content, target.ref) for content in (before[proxy].routes[listener], table))
                    diff += difflib.unified_diff(old, new, f"{name} (now)", f"{name} (planned)", lineterm="")
            return Plan(target=target, tier=Tier.PROXY, diff="\n".join(diff))

        return await asyncio.to_thread(read)

    async def check_action(self, target: Target, action: Action) -> None:
        """Refuses it: a mesh of plain Envoys has no workloads and no nodes."""
        raise InvalidChange(
            f"{action.type} needs Kubernetes, and mesh {target.mesh} is not in a cluster: leave the action out, or use "
            "a mesh file with provider istio, gateway_api or smi"
        )

    async def signs(self, lease: Lease, changes: Sequence[Change]) -> list[FaultSign]:
        """How each fault is recognised in the counters of proxies."""

        def read() -> list[FaultSign]:
            spec, service = self.store.mesh.spec, self.ledger.service(lease.target)
            return [
                sign_of(spec, Laid(service, lease.holder.fencing, one))
                for one in changes
                if isinstance(one, InjectFault)
            ]

        return await asyncio.to_thread(read)

    async def apply(self, lease: Lease, changes: Sequence[Change], by: Actor = NOBODY) -> Receipt:
        """Lays the changes over the base."""
        answering = any(isinstance(one, InjectFault) and one.scope and one.scope.view == "policy" for one in changes)
        if skewed := await self._skewed(lease.target, answering=answering):
            raise ClockSkew(
                f"{skewed}, so its deadlines would be at another time; synchronise the clocks (NTP) and start again"
            )
        if await self.in_thread(self.ledger.make_ready, lease, changes):
            await self._until_made(lease, changes)
        return await super().apply(lease, changes, by)

    async def _until_made(self, lease: Lease, changes: Sequence[Change]) -> None:
        """Waits until every caller's proxy has the clusters that routes are about to lead to.

        Raises:
            MeshUnavailable: one has not within `VERIFY_LIMIT` seconds. No route was changed.
        """
        spec = self.store.mesh.spec
        service = self.ledger.service(lease.target)
        laid = [Laid(service, lease.holder.fencing, one) for one in changes if isinstance(one, InjectFault)]
        wanted = {str(cluster["name"]) for one in laid for cluster in clusters(spec, one)}
        callers = [proxy for proxy in spec.proxies if any(service.ref in one.services for one in proxy.outbound)]
        pattern = f".*~fault-{lease.holder.fencing}-.*"
        until = time.monotonic() + VERIFY_LIMIT
        for proxy in callers:
            while True:
                try:
                    missing = wanted - await self._admin.cluster_names(proxy.admin, pattern)
                except MeshUnavailable:
                    break  # it does not answer: `verify` names it once the routes are written
                if not missing:
                    break
                if time.monotonic() > until:
                    names = ", ".join(sorted(missing))
                    raise MeshUnavailable(
                        f"proxy {proxy.name} has not created {names} after {VERIFY_LIMIT:g} s; check its log"
                    )
                await asyncio.sleep(_POLL)

    async def verify(self, receipt: Receipt, *, timeout: float | None = None) -> None:
        """Waits until every proxy that steers the target reports what was written."""
        timeout = VERIFY_LIMIT if timeout is None else timeout
        until = time.monotonic() + timeout
        waiting = receipt.versions
        while True:
            waiting = await self._lagging(waiting)
            if not waiting:
                return
            if time.monotonic() > until:
                names = ", ".join(sorted(waiting))
                raise MeshUnavailable(
                    f"these route tables do not have the change after {timeout:g} s: {names}; check that their "
                    "proxies run"
                )
            await asyncio.sleep(_POLL)

    async def renew(self, lease: Lease) -> LeaseOrders:
        """Renews the lease."""
        # A deadline by a clock that proxies do not share could bind them for hours: better let the old one pass.
        falls = await self.in_thread(self.ledger.falls_soon, lease)
        extend = not (falls and await self._skewed(lease.target))
        return await self.in_thread(lambda: self.ledger.renew(lease, extend=extend))

    async def sweep(self, by: Actor = SWEEPER) -> list[str]:
        """One round of a guard.

        Raises:
            MeshError: of the first target that could not be restored, after all the others. Records that cannot be
                read are no failure of a round: `unreadable` names them.
        """

        def run() -> list[str]:
            done: list[str] = []
            failed: list[MeshError] = []
            for record, seconds in self._watchman.silent(self.store.leases()):
                lease = record.lease
                why = f"{lease.holder} had not renewed its lease for {seconds:.0f} s"
                try:
                    if self.ledger.lift_if_unchanged(record, by.model_copy(update={"why": why})):
                        done.append(f"{lease.target}: restored, {why}")
                except UnreadableRecord:
                    continue  # only another version can restore it: `unreadable` names the record
                except MeshError as error:
                    failed.append(error)  # one target's trouble is not another's
            done += self.ledger.tidy(by)
            if failed:
                raise failed[0]
            return done

        return await asyncio.to_thread(run)

    async def unreadable(self) -> list[Unreadable]:
        """Every record that cannot be read here."""
        return await asyncio.to_thread(inventory, self.store)

    async def orders(self) -> tuple[list[Halt], list[Tombstone]]:
        """Every halt, and every target that a person has."""
        book = self.store.orders
        return await asyncio.to_thread(lambda: (book.halts(), book.tombstones()))

    async def audit(self) -> list[AuditRecord]:
        """Every record of a change, in the order they were made."""
        return await asyncio.to_thread(lambda: list(self.store.journal.read()))

    async def close(self) -> None:
        """Closes connections and releases threads."""
        await super().close()
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

    async def _skewed(self, target: Target, *, answering: bool = False) -> str:
        """Names a proxy whose clock is off; empty where none is. One that does not answer is `verify`'s to name."""

        def steering() -> list[Proxy]:
            spec = self.store.mesh.spec
            service = spec.service(target.ref)
            arms = service.arms.values() if service and answering else ()
            answers = {address for arm in arms for address in arm.endpoints}
            return [
                proxy
                for proxy in spec.proxies
                if any(target.ref in outbound.services for outbound in proxy.outbound)
                or any(inbound.address in answers for inbound in proxy.inbound)
            ]

        async def skew(proxy: Proxy) -> float:
            try:
                return await self._admin.skew(proxy.admin)
            except MeshUnavailable:
                return 0.0

        proxies = await asyncio.to_thread(steering)
        for proxy, seconds in zip(proxies, await asyncio.gather(*map(skew, proxies)), strict=True):
            if abs(seconds) > MAX_SKEW:
                way = "ahead of" if seconds > 0 else "behind"
                return f"the clock of proxy {proxy.name} is {abs(seconds):.0f} s {way} ours"
        return ""

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
    routes = [host["routes"] for host in hosts if host["name"] in (service_ref, APPLICATION)]
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump({service_ref: routes[0]} if routes else {}, stream)
    return stream.getvalue().splitlines()
