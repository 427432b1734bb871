"""Leases: never two holders, never a late write, and always a way back or a way through."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.mesh.envoy.config.routes import effective_weights
from autopilot.mesh.envoy.mesh_file import read_mesh, set_weights
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import InvalidChange, LeaseHeld, LeaseLost, MeshError, MeshUnavailable
from autopilot.mesh.model import Aspect, LeasePhase, SplitTraffic, Target
from tests.mesh.conftest import REVIEWS, Clock, published, split, take


def test_nothing_is_left_after_a_lift(ledger: Ledger) -> None:
    before = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(10))
    assert published(ledger) != before
    assert ledger.weights(REVIEWS) == {"v1": 90, "v2": 10, "v3": 0}
    assert ledger.lift(lease) is not None
    assert published(ledger) == before
    assert ledger.leases() == []
    assert ledger.lift(lease) is None


def test_a_commit_becomes_the_base_and_keeps_the_authors_comments(ledger: Ledger, mesh_file: Path) -> None:
    text = mesh_file.read_text()
    lease = take(ledger)
    ledger.apply(lease, split(100))
    ledger.commit(lease)
    assert mesh_file.read_text() == text.replace(
        "weights: {v1: 100}  # who serves", "weights: {v1: 0, v2: 100}  # who serves"
    )
    assert ledger.weights(REVIEWS) == {"v1": 0, "v2": 100, "v3": 0}
    assert ledger.leases() == []
    assert "overlay-1" not in "".join(published(ledger).values())
    assert ledger.commit(lease) is None  # said twice is done once


def test_a_baseline_arm_shares_endpoints_and_is_never_committed(ledger: Ledger, mesh_file: Path) -> None:
    lease = take(ledger)
    before = published(ledger)
    ledger.apply(lease, (SplitTraffic(weights={"v1": 70, "v1~baseline": 10, "v2": 20}),))
    after = published(ledger)
    assert [name for name in after if after[name] != before[name]] == ["web/routes-out.json"]
    assert '"outbound/shop/reviews/v1~baseline"' in after["web/clusters.json"]
    assert ledger.weights(REVIEWS) == {"v1": 80, "v2": 20, "v3": 0}
    ledger.commit(lease)
    assert read_mesh(mesh_file).spec.services[0].weights == {"v1": 80, "v2": 20}


def test_one_holder_at_a_time_and_the_other_is_named(ledger: Ledger) -> None:
    take(ledger, "canary/a")
    with pytest.raises(LeaseHeld, match="canary/a"):
        take(ledger, "canary/b")
    with pytest.raises(LeaseHeld):
        ledger.acquire(REVIEWS, [Aspect.FAULTS], operation="chaos/c", token="t", ttl=30, planned_end=None)
    access = ledger.acquire(REVIEWS, [Aspect.ACCESS], operation="security/d", token="t", ttl=30, planned_end=None)
    assert access.holder.operation == "security/d"


def test_asking_twice_gives_the_same_lease(ledger: Ledger) -> None:
    assert take(ledger) == take(ledger)


def test_a_new_run_of_the_same_operation_takes_over_from_the_base(ledger: Ledger) -> None:
    old = take(ledger, token="first run")
    ledger.apply(old, split(50))
    new = take(ledger, token="second run")
    assert new.holder.fencing > old.holder.fencing
    assert ledger.weights(REVIEWS)["v2"] == 0
    ledger.apply(new, split(10))
    for late in (lambda: ledger.apply(old, split(60)), lambda: ledger.renew(old), lambda: ledger.commit(old)):
        with pytest.raises(LeaseLost):
            late()
    assert ledger.lift(old) is None
    assert ledger.weights(REVIEWS)["v2"] == 10


def test_a_zombie_writes_nothing(ledger: Ledger) -> None:
    zombie = take(ledger, "canary/a")
    ledger.apply(zombie, split(30))
    ledger.lift(zombie)
    before = published(ledger)
    for late in (lambda: ledger.apply(zombie, split(60)), lambda: ledger.renew(zombie), lambda: ledger.commit(zombie)):
        with pytest.raises(LeaseLost):
            late()
    ledger.condemn(zombie, "late")
    assert published(ledger) == before
    assert take(ledger, "canary/b").holder.fencing == zombie.holder.fencing + 1


def test_a_condemned_lease_can_only_be_lifted(ledger: Ledger) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(10))
    ledger.condemn(lease, "20 % errors")
    with pytest.raises(LeaseLost, match="20 % errors"):
        ledger.renew(lease)
    with pytest.raises(LeaseLost):
        ledger.apply(lease, split(20))
    with pytest.raises(LeaseLost):
        ledger.commit(lease)
    assert ledger.weights(REVIEWS)["v2"] == 10
    ledger.lift(lease)
    assert ledger.weights(REVIEWS)["v2"] == 0


def test_renewing_touches_the_record_and_routes_only_when_half_the_time_is_gone(ledger: Ledger, clock: Clock) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(10))
    before = published(ledger)
    clock.forward(29)
    ledger.renew(lease)
    assert published(ledger) == before
    clock.forward(2)
    ledger.renew(lease)
    after = published(ledger)
    assert [name for name in after if after[name] != before[name]] == ["web/routes-out.json"]
    (status,) = ledger.leases()
    assert status.deadline == clock.now + 60
    assert status.renewed == clock.now


def test_no_deadline_lies_behind_the_planned_end(ledger: Ledger, clock: Clock) -> None:
    lease = ledger.acquire(
        REVIEWS, [Aspect.TRAFFIC], operation="canary/a", token="t", ttl=120, planned_end=clock.now + 20
    )
    assert ledger.apply(lease, split(10)).deadline == clock.now + 20
    clock.forward(15)
    ledger.renew(lease)
    assert ledger.leases()[0].deadline == clock.now + 5


def test_a_dead_overlay_is_not_rendered_again(ledger: Ledger, clock: Clock) -> None:
    base = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(10))
    clock.forward(61)
    assert ledger.weights(REVIEWS)["v2"] == 0
    for late in (lambda: ledger.renew(lease), lambda: ledger.apply(lease, split(20)), lambda: ledger.commit(lease)):
        with pytest.raises(LeaseLost, match="by themselves"):
            late()
    assert ledger.tidy()
    assert published(ledger) == base


def test_an_interrupted_commit_is_finished_whoever_comes_next(ledger: Ledger, clock: Clock) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(100))
    overlay = ledger.store.overlay_of(lease)
    assert overlay is not None
    with ledger.store.locked():  # the process died right after the one rename that decides
        ledger.store.write_overlay(overlay.model_copy(update={"phase": LeasePhase.COMMITTING}))
    clock.forward(1000)
    assert ledger.weights(REVIEWS)["v2"] == 100
    with pytest.raises(LeaseLost, match="committing"):
        ledger.apply(lease, split(10))
    ledger.lift(lease)  # a guard that means to restore rolls forward
    assert read_mesh(ledger.store.mesh_file).spec.services[0].weights == {"v1": 0, "v2": 100}


def test_what_lies_there_without_a_lease_is_removed(ledger: Ledger) -> None:
    base = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(10))
    next((ledger.store.directory / "autopilot" / "leases").glob("*.json")).unlink()
    assert any("had no lease any more" in done for done in ledger.tidy())
    assert published(ledger) == base
    assert ledger.tidy() == []


def test_foreign_edits_of_our_files_are_mended_and_of_the_base_are_kept(ledger: Ledger, mesh_file: Path) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(10))
    table = ledger.store.routes_file("web", "out")
    good = table.read_text()
    table.write_text("{}")
    assert any("routes-out.json" in done for done in ledger.tidy())
    assert table.read_text() == good
    mesh_file.write_text(mesh_file.read_text().replace("maxUnattended: 60s", "maxUnattended: 61s"))
    ledger.lift(lease)
    assert "maxUnattended: 61s" in mesh_file.read_text()


@pytest.mark.parametrize(
    ("weights", "says"),
    [({"v1": 90, "v9": 10}, "no arm v9; it has v1, v2, v3"), ({"v1": 90, "v3": 10}, "no endpoints")],
)
def test_changes_that_name_what_is_not_there_write_nothing(
    ledger: Ledger, weights: dict[str, float], says: str
) -> None:
    lease = take(ledger)
    before = published(ledger)
    with pytest.raises(InvalidChange, match=says):
        ledger.apply(lease, (SplitTraffic(weights=weights),))
    assert published(ledger) == before


def test_an_unknown_service_is_refused_with_those_there_are(ledger: Ledger) -> None:
    nowhere = Target(mesh="local", namespace="shop", service="nowhere")
    with pytest.raises(InvalidChange, match=r"shop/ratings, shop/reviews"):
        ledger.acquire(nowhere, [Aspect.TRAFFIC], operation="a", token="t", ttl=1, planned_end=None)


def test_a_full_disk_changes_nothing_and_may_be_tried_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(10))
    before = published(ledger)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(MeshUnavailable, match="No space left"):
            ledger.apply(lease, split(20))
    assert published(ledger) == before
    ledger.apply(lease, split(20))
    assert ledger.weights(REVIEWS)["v2"] == 20


def test_a_damaged_record_is_named(ledger: Ledger) -> None:
    lease = take(ledger)
    path = next((ledger.store.directory / "autopilot" / "leases").glob("*.json"))
    path.write_text("{")
    with pytest.raises(MeshError, match=path.name):
        ledger.renew(lease)


@given(
    style=st.sampled_from(
        ["{v1: 60, v2: 40}", "\n      # first\n      v1: 60  # main\n      v2: 40", "\n      v1: 100"]
    ),
    first=st.integers(0, 10_000),
    comment=st.sampled_from(["", "  # who serves"]),
)
def test_weights_change_number_by_number_in_any_style(style: str, first: int, comment: str) -> None:
    block = style.startswith("\n")
    before = f"""\
metadata: {{name: local}}
spec:
  services:
  - name: other
    arms: {{v1: {{endpoints: ["127.0.0.1:1"]}}}}
    weights: {{v1: 100}}
  - name: reviews
    namespace: shop
    weights:{"" if block else " "}{style}{"" if block else comment}
    # arms
    arms: {{v1: {{endpoints: ["127.0.0.1:2"]}}, v2: {{endpoints: ["127.0.0.1:3"]}}, v3: {{endpoints: ["127.0.0.1:4"]}}}}
  proxies: [{{name: web, admin: "127.0.0.1:5"}}]
"""
    wanted = {"v1": first / 100, "v3": (10_000 - first) / 100}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.yaml"
        path.write_text(before)
        set_weights(path, "shop/reviews", wanted)
        after, mesh = path.read_text(), read_mesh(path)
    assert effective_weights(mesh.spec.services[1], ()) == {"v1": wanted["v1"], "v2": 0, "v3": wanted["v3"]}
    kept = [line for line in before.splitlines() if "v1" not in line and "v2" not in line]
    assert [line for line in after.splitlines() if line in kept] == kept


def test_weights_of_an_unknown_service_are_refused(mesh_file: Path) -> None:
    with pytest.raises(InvalidChange, match="no service shop/nowhere"):
        set_weights(mesh_file, "shop/nowhere", {"v1": 100})


def _hammer(mesh_file: str, operation: str, rounds: int) -> None:
    ledger = Ledger(Store(Path(mesh_file)))
    for number in range(rounds):
        try:
            lease = take(ledger, operation, token=str(number))
            ledger.apply(lease, split(number % 100))
            ledger.lift(lease)
        except LeaseHeld:
            continue


def test_processes_that_write_at_once_leave_the_base(ledger: Ledger, mesh_file: Path) -> None:
    before = published(ledger)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_hammer, args=(str(mesh_file), f"canary/{name}", 15)) for name in "ab"]
    for process in others:
        process.start()
    for process in others:
        process.join(40)
        assert process.exitcode == 0
    assert published(ledger) == before
    assert ledger.leases() == []
    for path in (ledger.store.directory / "proxies").rglob("*.json"):
        json.loads(path.read_text())
