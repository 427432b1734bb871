"""A process may die between any two of the writes that one step of a lease takes; whoever comes next must mend it.

The kill is an exception that nothing catches: like the kernel after SIGKILL, it lets go of the lock and does no more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autopilot.mesh.envoy.files import write_atomically
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.watchman import Watchman
from autopilot.mesh.model import Aspect, Lease, SplitTraffic, Target
from tests.faults.shape import MeshPlace, Shape, places

TTL = 10.0
HALF = SplitTraffic(weights={"v1": 50, "v2": 50})
ALL = SplitTraffic(weights={"v1": 0, "v2": 100})


class Killed(BaseException):
    """The process is no more."""


class Reaper:
    """Kills at the n-th time a file is replaced or removed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.count = 0
        unlink = Path.unlink

        def write(path: Path, content: str) -> None:
            self._touch()
            write_atomically(path, content)

        def remove(path: Path, *, missing_ok: bool = False) -> None:
            self._touch()
            unlink(path, missing_ok=missing_ok)

        for name, module in list(sys.modules.items()):
            if name.startswith("autopilot.mesh.") and getattr(module, "write_atomically", None) is write_atomically:
                patch.setattr(module, "write_atomically", write)
        patch.setattr(Path, "unlink", remove)

    def _touch(self) -> None:
        self.count += 1
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1


def acquire(mesh: EnvoyMesh, target: Target, lease: Lease | None = None, *, token: str = "one") -> Lease:
    return mesh.ledger.acquire(
        target, [Aspect.TRAFFIC], operation="canary/m1/shop/x", token=token, ttl=TTL, planned_end=None
    )


STEPS: dict[str, tuple[Callable[[EnvoyMesh, Target, Lease | None], Any], SplitTraffic | None]] = {
    "acquire": (acquire, None),
    "apply": (lambda mesh, _, lease: mesh.ledger.apply(lease, [HALF]), None),
    "apply again": (lambda mesh, _, lease: mesh.ledger.apply(lease, [ALL]), HALF),
    "renew": (lambda mesh, _, lease: mesh.ledger.renew(lease), HALF),
    "condemn": (lambda mesh, _, lease: mesh.ledger.condemn(lease, "harm"), HALF),
    "lift": (lambda mesh, _, lease: mesh.ledger.lift(lease), HALF),
    "commit": (lambda mesh, _, lease: mesh.ledger.commit(lease), ALL),
}


def place_in(folder: Path) -> MeshPlace:
    ((place,), _) = places(folder, Shape(meshes=1, services=2))
    place.folder.mkdir(parents=True)
    place.file.write_text(place.describe({"v1": 9, "v2": 10}, 120), encoding="utf-8")
    prepare(place.file)
    return place


@pytest.mark.parametrize("step", STEPS)
async def test_whoever_dies_between_two_writes_leaves_what_a_guard_can_mend(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, laid = STEPS[step]
    reaper = Reaper(monkeypatch)
    number, killed = 0, True
    while killed:
        reaper.left = None
        place = place_in(tmp_path / str(number))
        target = place.targets[0]
        mesh = EnvoyMesh(place.file)
        lease = None if step == "acquire" else acquire(mesh, target)
        if laid is not None:
            assert lease is not None
            mesh.ledger.apply(lease, [laid])
        reaper.left, killed = number, False
        try:
            act(mesh, target, lease)
        except Killed:
            killed = True
        reaper.left = None
        await mended(place, target, may_promote=step == "commit", must_promote=step == "commit" and not killed)
        number += 1
    assert number > 1, "the step writes nothing: nobody was killed"


async def mended(place: MeshPlace, target: Target, *, may_promote: bool, must_promote: bool) -> None:
    """Two rounds of a guard, a TTL apart, and all is the base or promoted."""
    now = [0.0]
    guard = EnvoyMesh(place.file)
    guard._watchman = Watchman(lambda: now[0])
    await guard.sweep()
    now[0] += TTL + 1
    await guard.sweep()
    assert await guard.leases() == []
    service = guard.store.mesh.spec.service(target.ref)
    assert service is not None
    canary = service.weights["v2"]
    assert canary in ((0, 100) if may_promote else (0,))
    if must_promote:
        assert canary == 100
    assert guard.ledger.weights(target)["v2"] == canary
    assert guard.store.publish(guard.store.rendered(0.0, [])) == [], "what proxies follow is not the base"
    assert await guard.sweep() == []
    again = acquire(guard, target, token="two")  # and the target can be had again
    guard.ledger.apply(again, [HALF])
    guard.ledger.lift(again)
    await guard.close()
