"""A guard judges by its own monotonic clock since a record last changed, whatever the wall clock says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.leases.stale import StaleLeases
from tests.mesh.conftest import REVIEWS, Clock, published, split, take


def test_silence_counts_from_the_last_change_that_was_seen(ledger: Ledger, clock: Clock) -> None:
    own = Clock(0)
    watchman = StaleLeases(own)
    lease = take(ledger, ttl=10)
    ledger.apply(lease, split(10))
    assert watchman.silent(ledger.store.leases()) == []
    own.forward(9)
    ledger.renew(lease)
    assert watchman.silent(ledger.store.leases()) == []
    own.forward(9)
    clock.forward(-3600)  # somebody set the wall clock back: nothing follows from it
    assert watchman.silent(ledger.store.leases()) == []
    own.forward(2)
    ((record, seconds),) = watchman.silent(ledger.store.leases())
    assert record.lease == lease
    assert seconds == 11


async def test_a_sweep_restores_what_nobody_renews(ledger: Ledger, mesh_file: Path) -> None:
    base = published(ledger)
    mesh = EnvoyMesh(mesh_file)
    own = Clock(0)
    mesh._watchman = StaleLeases(own)
    lease = take(Ledger(mesh.store), ttl=10)
    mesh.ledger.apply(lease, split(10))
    assert await mesh.sweep() == []
    own.forward(11)
    mesh.ledger.renew(lease)
    assert await mesh.sweep() == []
    own.forward(11)
    (done,) = await mesh.sweep()
    assert "shop/reviews: restored" in done
    assert published(ledger) == base
    assert mesh.ledger.weights(REVIEWS)["v2"] == 0
    await mesh.close()


async def test_of_several_guards_one_restores_and_none_complains(ledger: Ledger, mesh_file: Path) -> None:
    base = published(ledger)
    own = Clock(0)
    guards = [EnvoyMesh(mesh_file) for _ in range(4)]
    for guard in guards:
        guard._watchman = StaleLeases(own)
    lease = take(Ledger(guards[0].store), ttl=10)
    guards[0].ledger.apply(lease, split(10))
    for guard in guards:
        assert await guard.sweep() == []
    own.forward(11)
    done = await asyncio.gather(*(guard.sweep() for guard in guards))
    assert sum(any("restored" in sentence for sentence in each) for each in done) == 1
    assert published(ledger) == base
    assert [record.action for record in await guards[0].audit()] == ["acquire", "apply", "lift"]
    for guard in guards:
        await guard.close()
