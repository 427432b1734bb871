"""The Mesh port over a Kubernetes cluster whose routes are written in Istio's, the Gateway API's or SMI's terms."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.capabilities import ABILITIES
from autopilot.mesh.errors import InvalidChange, MeshError, MeshUnavailable, UnreadableRecord
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import NETWORK_POLICY, Resource
from autopilot.mesh.kube.envoyfilter.overlay import FilterOverlayer
from autopilot.mesh.kube.faults.driver import FaultDriver
from autopilot.mesh.kube.leases.ledger import KubeLedger
from autopilot.mesh.kube.leases.overrides import KubeOverrides
from autopilot.mesh.kube.leases.restore import injected_of, split_of
from autopilot.mesh.kube.leases.unreadable import inventory
from autopilot.mesh.kube.routes.backends import Arms, service_backend
from autopilot.mesh.kube.routes.base import Route, Routes, addresses, arms_of, ip_of
from autopilot.mesh.kube.routes.driver import Overlayer
from autopilot.mesh.kube.routes.gateway_api import GatewayRoutes
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.overlay_port import Overlays
from autopilot.mesh.kube.routes.service_entries import refuse_absent
from autopilot.mesh.kube.routes.smi import SplitRoutes
from autopilot.mesh.kube.routes.weight_patch import mark_of
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.kube.workloads.actions import Workloads
from autopilot.mesh.kube.workloads.endpoints import Readiness
from autopilot.mesh.leases.overrides import Actor, Halt, LeaseOrders, Tombstone
from autopilot.mesh.leases.stale import StaleLeases
from autopilot.mesh.leases.unreadable import Unreadable
from autopilot.mesh.ledger_mesh import LedgerMesh
from autopilot.mesh.model import (
    ArmState,
    Capability,
    Change,
    Lease,
    Plan,
    Receipt,
    SplitTraffic,
    Target,
    TargetState,
)
from autopilot.spec.chaos.experiment import Action
from autopilot.spec.chaos.limits import Ceilings
from autopilot.spec.cluster import ClusterMesh, ClusterProvider

_POLL = 0.1
VERIFY_LIMIT = 10.0
"""Time-out for controllers to process what was written, in seconds."""
SWEEPER = Actor(who="autopilot guard", net="guard", why="what was due")
_ROUTES: dict[ClusterProvider, Callable[[KubeApi], Routes]] = {
    "istio": IstioRoutes,
    "gateway_api": GatewayRoutes,
    "smi": SplitRoutes,
}


class KubeMesh(LedgerMesh):
    """A mesh of one cluster.

    Args:
        spec: describes it.
        base: folder that the kubeconfig's path is relative to.
        clock: seconds since the epoch; exchanged by tests alone.
        told: hears of every audit record.
    """

    def __init__(
        self,
        spec: ClusterMesh,
        base: Path,
        clock: Callable[[], float] = time.time,
        told: Callable[[AuditRecord], None] = lambda _: None,
    ) -> None:
        self.spec = spec.spec
        self._name = spec.metadata.name
        self._clock = clock
        file = self.spec.kubeconfig
        self.api = KubeApi(base / Path(file).expanduser() if file else None, self.spec.context)
        store = KubeStore(self.api, self._name, self.spec.namespace)
        self.routes = _ROUTES[self.spec.provider](self.api)
        overlays: Overlays = Overlayer(store, self.routes)
        if self.spec.driver == "envoyfilter":
            overlays = FilterOverlayer(store, self.routes, self.spec.filters_namespace, clock)
        faults = FaultDriver(store, self.routes, self.spec.driver, self.spec.filters_namespace)
        self.ledger = KubeLedger(store, overlays, self.spec.max_unattended, clock, told, faults=faults)
        self._commander = KubeOverrides(self.ledger, clock)
        super().__init__(self.ledger, self._commander)
        self._readiness = Readiness(self.api, self.routes)
        self._watchman = StaleLeases()
        self.sweep_every = 1.0
        """Seconds between two rounds of a guard at the least."""
        self._swept = -math.inf
        self.look_every = 5.0
        """Seconds between two looks for records that cannot be read."""
        self._looked = -math.inf
        self._unreadable: list[Unreadable] = []

    @property
    def name(self) -> str:
        """The mesh's name in its file."""
        return self._name

    @property
    def max_unattended(self) -> float:
        """Seconds that an overlay outlives the last sign of life of its holder, at the most, while any guard lives."""
        return self.spec.max_unattended

    @property
    def ceilings(self) -> Ceilings:
        """How far experiments may go."""
        return self.spec.chaos

    @property
    def workloads(self) -> Workloads:
        """Takes actions on pods, workloads and nodes, which stand outside the promise."""
        return Workloads(self.api, self.spec.namespace)

    async def capabilities(self) -> list[Capability]:
        """What can be changed, and who undoes it."""
        return list(ABILITIES[self.spec.provider, self.spec.driver])

    async def observe(self, target: Target, split: SplitTraffic | None = None) -> TargetState:
        """Arms, endpoints and weights of the target, and who holds it.

        Args:
            target: the target.
            split: whose arms; without one the subsets of the target, or what its routes lead to.
        """

        def read() -> TargetState:
            overlayer = self.ledger.overlayer
            if split is not None:
                wanted = overlayer.resolved(target, split.ordered, split.choice)
                routes, arms = overlayer.found(target, wanted), wanted.arms
            else:
                routes = overlayer.found(target)
                arms = self._named(target, routes)
            found = {arm: overlayer.routes.endpoints(backends[0]) for arm, backends in arms.items()}
            now, base = overlayer.in_force(target, routes)
            if not now:
                now = base = self._by_endpoints(target, found)
                if split is not None:
                    _refuse_shared(target, next(iter(arms)), now, self.routes.kinds[0])
            holders = tuple(record.lease.holder.operation for record in self.ledger.store.open(target).leases())
            return TargetState(
                target=target,
                arms=tuple(
                    ArmState(name=arm, endpoints=one, weight=now.get(arm, 0.0), base_weight=base.get(arm, 0.0))
                    for arm, one in found.items()
                ),
                holders=holders,
            )

        return await self.in_thread(read)

    async def endpoints(self, target: Target, arms: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Addresses that answer for each of these arms now; arms that are not there are left out."""

        def read() -> dict[str, tuple[str, ...]]:
            found = {}
            for arm in arms:
                with contextlib.suppress(InvalidChange):
                    found[arm] = self.routes.endpoints(self.routes.resolve(target, arm))
            return found

        return await self.in_thread(read)

    def _named(self, target: Target, routes: Sequence[Route]) -> Arms:
        """The arms that can be told without a spec; a target that has none is one of its own."""
        refuse_absent(self.api, target, self.routes.provider)
        marks = [mark for route in routes if (mark := mark_of(route.body, target.service))]
        laid = {arm: backends for mark in marks for arm, backends in arms_of(mark, target).items()}
        named = {**self.routes.known(target), **(laid or self.routes.named(target, [route.body for route in routes]))}
        return named or {target.service: (service_backend(target.service, target.namespace),)}

    async def ready(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        """How many endpoints of each arm are ready now, as the cluster's EndpointSlices say."""
        return await self._readiness.count(target, arms)

    def _by_endpoints(self, target: Target, arms: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        """Without a route a Service shares its traffic among all its endpoints."""
        every = set(map(ip_of, addresses(self.api, target.namespace, target.service)))
        counted = {arm: len(every & set(map(ip_of, found))) for arm, found in arms.items()}
        total = sum(counted.values())
        return {arm: 100 * count / total for arm, count in counted.items()} if total else {}

    async def plan(self, target: Target, changes: Sequence[Change]) -> Plan:
        """Every object before and after, as the API server says it would be; writes nothing."""

        def read() -> Plan:
            self.ledger.check(target, changes)
            deadline = self._clock() + self.max_unattended
            diff: list[str] = []
            planned: list[tuple[Route | None, Object]] = []
            notes: tuple[str, ...] = ()
            if split := split_of(changes):
                overlayer = self.ledger.overlayer
                planned += overlayer.planned(target, split.ordered, deadline, choice=split.choice)
                around = overlayer.around(target, overlayer.resolved(target, split.ordered, split.choice))
                notes = (*around.concerned, *around.left, *around.notes)
            if injected := injected_of(changes):
                planned += self.ledger.faults.planned(target, injected, deadline)
            for before, after in planned:
                name = f"{after['kind']} {after['metadata']['namespace']}/{after['metadata']['name']}"
                old, new = _readable(before.body if before else {}), _readable(after)
                diff += difflib.unified_diff(old, new, f"{name} (now)", f"{name} (planned)", lineterm="")
            return Plan(target=target, tier=self.ledger.tier(changes), diff="\n".join(diff), notes=notes)

        return await self.in_thread(read)

    async def check_action(self, target: Target, action: Action) -> None:
        """Looks whether an action could be taken now."""
        await self.in_thread(self.workloads.check, target, action)

    async def verify(self, receipt: Receipt, *, timeout: float | None = None) -> None:
        """Waits until the routes' controllers have taken what was written, where they say so.

        What proxies really do, the measured split shows: it is checked during every step.
        """
        timeout = VERIFY_LIMIT if timeout is None else timeout
        until = time.monotonic() + timeout
        while problems := await self.in_thread(self._unready, receipt):
            if time.monotonic() > until:
                raise MeshUnavailable(f"the mesh does not have the change after {timeout:g} s: {'; '.join(problems)}")
            await asyncio.sleep(_POLL)

    def _unready(self, receipt: Receipt) -> list[str]:
        if all(name.startswith(NETWORK_POLICY.kind) for name in receipt.versions):
            return []  # nobody says anything of those
        routes = self.ledger.overlayer.found(receipt.target)
        return [said for route in routes if route.name in receipt.versions and (said := self.routes.unready(route))]

    async def renew(self, lease: Lease) -> LeaseOrders:
        """Says that the operation lives."""
        return await self.in_thread(self.ledger.renew, lease)

    async def sweep(self, by: Actor = SWEEPER) -> list[str]:
        """One round of a guard; asked again too soon it does nothing, to spare the API server.

        Raises:
            MeshError: of the first target that could not be restored, after all the others. Records that cannot be
                read are no failure of a round: `unreadable` names them.
        """

        def run() -> list[str]:
            done: list[str] = []
            failed: list[MeshError] = []
            books = self.ledger.store.books()
            for record, seconds in self._watchman.silent([record for book in books for record in book.leases]):
                lease = record.lease
                why = f"{lease.holder} had not renewed its lease for {seconds:.0f} s"
                try:
                    if self.ledger.lift_if_unchanged(record, by.model_copy(update={"why": why})):
                        done.append(f"{lease.target}: restored, {why}")
                except UnreadableRecord:
                    continue  # only another version can restore it
                except MeshError as error:
                    failed.append(error)
            done += self.ledger.tidy(by, books)
            if failed:
                raise failed[0]
            return done

        now = time.monotonic()
        if now - self._swept < self.sweep_every:
            return []
        self._swept = now
        return await self.in_thread(run)

    async def unreadable(self) -> list[Unreadable]:
        """Every record that cannot be read here, as of the last few seconds: to look costs requests."""
        now = time.monotonic()
        if now - self._looked >= self.look_every:
            self._unreadable = await self.in_thread(inventory, self.ledger)
            self._looked = now
        return list(self._unreadable)

    async def orders(self) -> tuple[list[Halt], list[Tombstone]]:
        """Every halt, and every target that a person has."""
        return await self.in_thread(self._commander.orders)

    async def audit(self) -> list[AuditRecord]:
        """Every record of a change, in the order they were made."""
        return await self.in_thread(lambda: list(self.ledger.journal.read()))

    async def close(self) -> None:
        """Lets go of connections and threads."""
        await super().close()
        self._readiness.close()
        self.api.close()


def _refuse_shared(target: Target, stable: str, shares: Mapping[str, float], kind: Resource) -> None:
    """Refuses a rollout of what no route leads to, where the Service sends requests to other arms too."""
    if others := [f"{arm} {share:.3g} %" for arm, share in shares.items() if share and arm != stable]:
        raise InvalidChange(
            f"no route leads to {stable} of {target.ref}, and its Service sends requests to all its pods: "
            f"{', '.join(others)}; write a {kind.kind} for {target.service} in which {stable} alone has a weight"
        )


def _readable(body: Object) -> list[str]:
    """What people write of an object, as YAML lines."""
    if not body:
        return []
    meta = {key: value for key, value in body["metadata"].items() if key in {"name", "namespace", "annotations"}}
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump({"metadata": meta, "spec": body.get("spec")}, stream)
    return stream.getvalue().splitlines()
