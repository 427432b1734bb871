"""Death between any two writes of any step: whoever comes next finds the base, or finishes what was being committed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autopilot.mesh.audit import verify
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state import audit_log
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.overrides import Overrides
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.leases.overrides import Actor, Halt
from tests.mesh.conftest import MESH, REVIEWS, Clock, published, split, take

ANN = Actor(who="ann", net="person")
Step = Callable[[Ledger, Any], object]
"""Done on a ledger, with the lease it has: None before the first."""


class Death(BaseException):
    """The process is gone: nothing of ours may catch it."""


@contextmanager
def dying_at(number: int, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Dies before the `number`-th time that anything on disk would change; gives how often it did."""
    done = [0]

    def deadly(original: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            done[0] += 1
            if done[0] == number:
                raise Death
            return original(*arguments, **options)

        return act

    with patch.context() as patched:
        patched.setattr(Path, "replace", deadly(Path.replace))
        patched.setattr(Path, "unlink", deadly(Path.unlink))
        patched.setattr(audit_log.os, "write", deadly(audit_log.os.write))
        yield done


STEPS: dict[str, Step] = {
    "first acquire": lambda ledger, _: take(ledger),
    "first apply": lambda ledger, lease: ledger.apply(lease, split(50)),
    "acquire": lambda ledger, lease: ledger.acquire(
        REVIEWS, lease.aspects, operation="canary/a", token="another", ttl=60, planned_end=None
    ),
    "apply": lambda ledger, lease: ledger.apply(lease, split(50)),
    "renew": lambda ledger, lease: ledger.renew(lease),
    "condemn": lambda ledger, lease: ledger.condemn(lease, "harm"),
    "commit": lambda ledger, lease: ledger.commit(lease),
    "lift": lambda ledger, lease: ledger.lift(lease),
    "take over": lambda ledger, lease: Overrides(ledger, ledger._clock).take_over("canary/a", ANN, None),
    "halt": lambda ledger, lease: Overrides(ledger, ledger._clock).halt(Halt(restore=True, actor=ANN, since=0)),
}


@pytest.mark.parametrize("step", STEPS)
async def test_death_at_any_write_leaves_the_base_or_what_was_committed(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        mesh_file = folder / "mesh.yaml"
        mesh_file.write_text(MESH, encoding="utf-8")
        prepare(mesh_file)
        clock = Clock()
        ledger = Ledger(Store(mesh_file), clock)
        base = published(ledger)
        lease = None if step == "first acquire" else take(ledger)
        if lease is not None and step != "first apply":
            ledger.apply(lease, split(30))
        clock.forward(40)
        died = False
        with dying_at(number, monkeypatch) as done:
            try:
                STEPS[step](ledger, lease)
            except Death:
                died = True
        # Somebody else comes along, long after.
        clock.forward(1000)
        mesh = EnvoyMesh(mesh_file, clock)
        await mesh.sweep()
        mesh._watchman._seen = {key: (beats, since - 1000) for key, (beats, since) in mesh._watchman._seen.items()}
        await mesh.sweep()
        weights = {arm.name: arm.weight for arm in (await mesh.observe(REVIEWS)).arms}
        promoted = step == "commit" and weights == {"v1": 70, "v2": 30, "v3": 0}
        assert died or promoted or step != "commit", "a commit that was made is lost"
        assert promoted or weights == {"v1": 100, "v2": 0, "v3": 0}
        assert promoted or published(mesh.ledger) == base
        assert await mesh.leases() == []
        assert await mesh.sweep() == []
        assert verify(await mesh.audit()) == []
        if step not in ("take over", "halt"):  # and the target can be had again
            again = take(mesh.ledger, token="afterwards")
            mesh.ledger.apply(again, split(10))
            mesh.ledger.lift(again)
        await mesh.close()
        if not died:
            assert done[0] == number - 1 > 0, "every write was a point to die at"
            return
