"""A rollout that dies at each of its writes: whatever it left, a guard makes whole, and a late write changes nothing.

On a real API server, without Temporal and without traffic: every write of taking, laying, renewing, promoting and
rolling back is a point, struck before it, after it, and with the write arriving when all is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from autopilot.mesh.audit import verify
from autopilot.mesh.errors import MeshError
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.leases.ledger import KubeLedger
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes.driver import Overlayer
from autopilot.mesh.kube.routes.weight_patch import marks_of
from autopilot.mesh.kube.state.store import KubeStore
from tests.kube.mortal import Dead, Mode, MortalApi, Walk
from tests.kube.world import World
from tests.lab.find import Cluster

pytestmark = pytest.mark.timeout(600)

TTL = 0.3
MODES: tuple[Mode, ...] = ("before", "after", "late")
_NUMBERS = itertools.count(1)
_TRIES = 3
_WALKS = 6


class Suite:
    """Plays cells on one target, one after the other."""

    def __init__(self, world: World, kubeconfig: Path, guard: Callable[[], KubeMesh]) -> None:
        self._world = world
        self._kubeconfig = kubeconfig
        self._guard = guard
        self.violations: list[str] = []
        self.cells = 0

    async def writes(self, *, promoted: bool) -> int:
        """How many writes the walk has when nothing happens to it, not even a conflict: two walks in a row agree."""
        before = -1
        for _again in range(_WALKS):
            api, _ = await self._walk(-1, "before", promoted=promoted)
            await self._made_whole()
            self._back_to_base()
            if api.writes == before:
                return before
            before = api.writes
        raise AssertionError(f"no two of {_WALKS} walks in a row had as many writes")

    async def cell(self, point: int, mode: Mode, *, promoted: bool) -> None:
        """One death, and what came of it."""
        for _ in range(_TRIES):
            api, walk = await self._walk(point, mode, promoted=promoted)
            if api.dead:
                break
            await self._made_whole()  # a slow machine may take longer than the lease lives
            self._back_to_base()
        else:
            self.violations.append(f"write {point}, {mode}: it never came to that write")
            return
        self.cells += 1
        decided = await asyncio.to_thread(self._decided)
        await self._made_whole()
        if api.pending is not None:
            with contextlib.suppress(MeshError):
                await asyncio.to_thread(api.pending)  # it arrives at last
            await self._made_whole()
        written, body = self._world.written(), self._world.route()
        allowed = [[0, 100]] if decided else [[100, 0], [0, 100]] if walk.committing else [[100, 0]]
        name = f"{'promoted' if promoted else 'rolled back'}, write {point}, {mode}"
        if written not in allowed:
            self.violations.append(f"{name}: the route has {written}")
        if marks_of(body):
            self.violations.append(f"{name}: a mark stayed")
        for status in await self._world.mesh.leases():
            if status.lease.target == self._world.target:
                self.violations.append(f"{name}: {status.lease.holder} still holds it")
        self._back_to_base()

    def _decided(self) -> bool:
        """Whether the commit had begun when death came: from then on there is one way to end."""
        book = KubeStore(self._world.api, "lab", "autopilot").open(self._world.target, orders=False).book
        return any(overlay.committing for overlay in book.overlays)

    async def _walk(self, point: int, mode: Mode, *, promoted: bool) -> tuple[MortalApi, Walk]:
        api = MortalApi(self._kubeconfig)
        api.point, api.mode = point, mode
        store = KubeStore(api, "lab", "autopilot")
        ledger = KubeLedger(store, Overlayer(store, type(self._world.mesh.routes)(api)), 60.0)
        arms = (self._world.stable, self._world.canary)
        walk = Walk(ledger, self._world.target, arms, f"canary/lab/kill/{next(_NUMBERS)}", TTL)
        await asyncio.to_thread(_until_death, walk, promoted)
        return api, walk

    async def _made_whole(self) -> None:
        """A guard that comes up now sweeps until there is nothing left to do."""
        mesh = self._guard()
        mesh.sweep_every = 0.0
        async with asyncio.timeout(30):
            while True:
                done = await mesh.sweep()
                held = [one for one in await mesh.leases() if one.lease.target == self._world.target]
                if not held and not done:
                    return
                await asyncio.sleep(TTL / 2)

    def _back_to_base(self) -> None:
        if self._world.written() != [100, 0]:
            self._world.edit(
                *(
                    {"op": "replace", "path": f"{self._world.place}/{index}/weight", "value": weight}
                    for index, weight in enumerate((100, 0))
                )
            )


def _until_death(walk: Walk, promoted: bool) -> None:
    with contextlib.suppress(Dead):
        walk.go(promoted=promoted)


@pytest.mark.parametrize("promoted", [False, True], ids=["rolled back", "promoted"])
async def test_death_at_any_write_leaves_nothing_behind(
    world: World, a_cluster: Cluster, open_kube: Callable[..., KubeMesh], api: KubeApi, promoted: bool
) -> None:
    suite = Suite(world, a_cluster.kubeconfig, lambda: open_kube(world.provider))
    points = await suite.writes(promoted=promoted)
    assert points >= 12
    for point, mode in itertools.product(range(points), MODES):
        await suite.cell(point, mode, promoted=promoted)
    assert suite.violations == []
    assert suite.cells == 3 * points
    assert verify(await world.mesh.audit()) == []
