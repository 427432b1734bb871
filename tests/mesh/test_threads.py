"""Steps of a mesh that hang: a restore waits for none of them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

from autopilot.mesh.ledger_mesh import Ledger, LedgerMesh, Overrides
from autopilot.mesh.model import Aspect, Holder, Lease
from tests.mesh.conftest import REVIEWS

LEASE = Lease(
    target=REVIEWS,
    aspects=(Aspect.TRAFFIC,),
    holder=Holder(operation="canary/local/shop/reviews", fencing=1),
    ttl=120,
    max_unattended=120,
)


class Hanging:
    """A ledger whose renewals and writes wait for somebody else's lock."""

    def __init__(self) -> None:
        self.freed = threading.Event()
        self.lifted = False

    def apply(self, *_: Any) -> None:
        self.freed.wait(60)

    def lift(self, *_: Any) -> None:
        self.lifted = True


async def test_a_restore_waits_for_no_step_that_hangs() -> None:
    ledger = Hanging()
    mesh = LedgerMesh(cast("Ledger", ledger), cast("Overrides", ledger))
    writes = [asyncio.create_task(mesh.apply(LEASE, ())) for _ in range(40)]
    await asyncio.sleep(0)  # all are given to threads
    try:
        await asyncio.wait_for(mesh.lift(LEASE), 10)
        assert ledger.lifted
        assert not any(write.done() for write in writes)
    finally:
        ledger.freed.set()
        await asyncio.gather(*writes)
        await mesh.close()
