"""Writes take effect in the order in which an operation numbered them, and runs in the order in which they asked.

An attempt may be delayed for any time (a stopped process, a paused virtual machine) and arrive when its successor has
long done its work: it is refused, and changes nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import LeaseLost, StaleWrite
from autopilot.mesh.model import Aspect, InjectFault, Lease
from autopilot.spec.chaos.faults import Abort
from autopilot.spec.chaos.scope import Scope
from tests.drawn import examples
from tests.mesh.conftest import MESH, REVIEWS, Clock, published, split, take


def everything(ledger: Ledger) -> dict[str, bytes]:
    """Every file of the mesh, but for the audit log, in which refusals may be noted."""
    root = ledger.store.directory
    return {
        str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file() and "audit" not in str(path)
    }


def test_an_attempt_that_wakes_after_its_successor_changes_nothing(ledger: Ledger, mesh_file: Path) -> None:
    lease = take(ledger)
    ledger.apply(lease.for_write(1), split(10))
    ledger.apply(lease.for_write(2), split(100))
    before = everything(ledger)
    with pytest.raises(StaleWrite, match="write 1 of canary/a#1 arrived after write 2"):
        ledger.apply(lease.for_write(1), split(10))
    assert everything(ledger) == before
    ledger.commit(lease.for_write(2))
    assert read_mesh(mesh_file).spec.services[0].weights == {"v1": 0, "v2": 100}


def test_a_second_attempt_of_the_same_write_is_that_write(ledger: Ledger) -> None:
    lease = take(ledger)
    ledger.apply(lease.for_write(1), split(10))
    ledger.apply(lease.for_write(1), split(10))
    assert ledger.weights(REVIEWS)["v2"] == 10


def test_a_commit_names_the_write_it_means(ledger: Ledger) -> None:
    lease = take(ledger)
    ledger.apply(lease.for_write(1), split(10))
    ledger.apply(lease.for_write(2), split(50))
    with pytest.raises(StaleWrite):
        ledger.commit(lease.for_write(1))
    with pytest.raises(StaleWrite, match="commits its write 3, and its write 2 is laid"):
        ledger.commit(lease.for_write(3))
    assert ledger.commit(lease.for_write(2)) is not None


def test_a_watch_of_an_earlier_write_renews_nothing(ledger: Ledger, clock: Clock) -> None:
    lease = take(ledger)
    ledger.apply(lease.for_write(1), split(10))
    ledger.apply(lease.for_write(2), split(50))
    clock.forward(40)
    (before,) = ledger.leases()
    with pytest.raises(StaleWrite):
        ledger.renew(lease.for_write(1))
    assert ledger.leases() == [before]
    ledger.renew(lease.for_write(2))
    (after,) = ledger.leases()
    assert after.deadline is not None
    assert before.deadline is not None
    assert after.deadline > before.deadline


def test_clusters_for_faults_are_not_made_for_an_earlier_write(ledger: Ledger) -> None:
    lease = ledger.acquire(REVIEWS, [Aspect.FAULTS], operation="chaos/a", token="run", ttl=30, planned_end=None)
    ledger.apply(lease.for_write(2), (InjectFault(fault=Abort(), scope=Scope(percentage=10)),))
    before = everything(ledger)
    with pytest.raises(StaleWrite):
        ledger.apply(lease.for_write(1), (InjectFault(fault=Abort(), scope=Scope(percentage=50)),))
    assert everything(ledger) == before


def test_what_an_earlier_version_laid_without_a_number_is_followed_by_numbered_writes(ledger: Ledger) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(10))
    ledger.renew(lease)
    ledger.commit(lease.for_write(3))  # its later writes are numbered, this one was not
    assert ledger.leases() == []


def test_an_earlier_run_that_asks_late_takes_nothing_from_the_later_one(ledger: Ledger) -> None:
    def asked(token: str, when: float) -> Lease:
        return ledger.acquire(
            REVIEWS, [Aspect.TRAFFIC], operation="canary/x", token=token, ttl=120, planned_end=None, asked=when
        )

    later = asked("run-2", 200.0)
    ledger.apply(later.for_write(1), split(50))
    before = everything(ledger)
    with pytest.raises(StaleWrite, match="a later run of it holds the target as canary/x#1"):
        asked("run-1", 100.0)
    assert everything(ledger) == before
    ledger.renew(later.for_write(1))
    assert asked("run-2", 200.0).holder == later.holder  # a retry of its own
    newest = asked("run-3", 300.0)  # Temporal ends a run before it begins the next
    with pytest.raises(LeaseLost):
        ledger.renew(later.for_write(1))
    ledger.renew(newest)


def test_an_earlier_run_that_asks_when_the_later_one_has_ended_takes_nothing(ledger: Ledger) -> None:
    def asked(token: str, when: float, operation: str = "canary/x") -> Lease:
        return ledger.acquire(
            REVIEWS, [Aspect.TRAFFIC], operation=operation, token=token, ttl=120, planned_end=None, asked=when
        )

    later = asked("run-2", 200.0)
    ledger.apply(later.for_write(1), split(50))
    ledger.lift(later)
    with pytest.raises(StaleWrite, match="a later run of it had the target, and has ended"):
        asked("run-1", 100.0)
    assert ledger.leases() == []
    ledger.lift(asked("run-2", 200.0))  # its lease ended before its answer arrived: it may have another
    ledger.lift(asked("run-3", 300.0))
    ledger.lift(asked("run", 1.0, "canary/y"))


@settings(max_examples=examples(25))  # each writes some hundred files
@given(st.data())
def test_however_attempts_are_delayed_the_latest_write_stands(data: st.DataObject) -> None:
    """Each write may be tried several times; a try may arrive whenever it likes after the write was asked for."""
    with tempfile.TemporaryDirectory() as folder:
        mesh_file = Path(folder) / "mesh.yaml"
        mesh_file.write_text(MESH, encoding="utf-8")
        prepare(mesh_file)
        ledger = Ledger(Store(mesh_file), Clock())
        lease = take(ledger)
        weights = {number: number * 10.0 for number in range(1, 6)}
        delayed: list[int] = []
        for number, weight in weights.items():
            delayed += [number] * data.draw(st.integers(0, 2), label=f"delayed tries of write {number}")
            ledger.apply(lease.for_write(number), split(weight))
            for _ in range(data.draw(st.integers(0, len(delayed)), label="tries that arrive now")):
                late = delayed.pop(data.draw(st.integers(0, len(delayed) - 1), label="which"))
                before = published(ledger)
                try:
                    ledger.apply(lease.for_write(late), split(weights[late]))
                except StaleWrite:
                    assert late < number
                else:
                    assert late == number
                assert published(ledger) == before
            assert ledger.weights(REVIEWS)["v2"] == weight
        ledger.commit(lease.for_write(5))
        for late in delayed:
            with pytest.raises(LeaseLost):
                ledger.apply(lease.for_write(late), split(weights[late]))
        assert read_mesh(mesh_file).spec.services[0].weights["v2"] == 50
