"""Records of other versions, and damaged ones: each is kept and named, and stops nothing but its own target."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.overrides import Overrides
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import (
    Halted,
    LeaseHeld,
    MeshError,
    TakenOver,
    TargetUnreadable,
    UnreadableRecord,
)
from autopilot.mesh.leases.overrides import Actor, Halt
from autopilot.mesh.model import Aspect, Lease, LeasePhase, Target
from tests.faults.events import next_release
from tests.mesh.conftest import MESH, REVIEWS, Clock, published, split, take

RATINGS = Target(mesh="local", namespace="shop", service="ratings")
FOLDERS = ("leases", "overlays", "spares")
DAMAGES = ("truncated", "no UTF-8", "unknown change", "unknown field", "unknown aspect", "empty", "directory", "list")


def damaged(kind: str, folder: str, fencing: int, cut: int) -> bytes | None:
    """The content of a record of shop/ratings; None for a directory."""
    lease = next_release.lease(RATINGS, fencing=fencing)
    record: dict[str, Any] = next_release.record(RATINGS, fencing=fencing)
    if folder == "overlays":
        record = {"lease": lease, "deadline": 1e10, "changes": [{"kind": "SplitTraffic", "weights": {"v1": 100}}]}
    elif folder == "spares":
        record = {"lease": lease, "changes": []}
    text = json.dumps(record)
    contents: dict[str, bytes | None] = {
        "truncated": text[: 1 + cut % (len(text) - 2)].encode(),
        "no UTF-8": b'{"lease": "\xff\xfe"}',
        "unknown change": json.dumps({**record, "changes": [next_release.CHANGE], "token": 1}).encode(),
        "unknown field": json.dumps({"new": 1, "held": lease}).encode(),
        "unknown aspect": json.dumps({**record, "lease": {**lease, "aspects": ["capacity"]}}).encode(),
        "empty": b"",
        "list": b"[1, 2]",
        "directory": None,
    }
    return contents[kind]


def put(store: Store, place: str, content: bytes | str | dict[str, Any] | None) -> Path:
    """Writes a record by hand; None makes a directory of it."""
    path = store.directory / "autopilot" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.mkdir()
    elif isinstance(content, dict):
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_it_is(path: Path) -> bytes | None:
    return None if path.is_dir() else path.read_bytes()


ORDERS = ("tombstone.shop.ratings", "ticket.shop.ratings.3", "halt.chaos.shop")


@patch("os.fsync")
@settings(max_examples=25)
@given(
    bad=st.lists(st.tuples(st.sampled_from(FOLDERS), st.sampled_from(DAMAGES)), min_size=1, max_size=3, unique=True),
    notes=st.lists(st.sampled_from(["condemned", "last-run", "committed", ""]), unique=True),
    orders=st.lists(st.sampled_from(ORDERS), unique=True),
    cut=st.integers(0, 10_000),
)
async def test_no_record_of_another_target_stops_anything(
    synced: object, bad: list[tuple[str, str]], notes: list[str], orders: list[str], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mesh_file = Path(folder) / "mesh.yaml"
        mesh_file.write_text(MESH, encoding="utf-8")
        prepare(mesh_file)
        clock = Clock()
        mesh = EnvoyMesh(mesh_file, clock)
        base = published(mesh.ledger)
        kept: dict[Path, bytes | None] = {}
        for number, (kind, damage) in enumerate(bad):
            content = damaged(damage, kind, number + 2, cut)
            path = put(mesh.store, f"{kind}/shop.ratings.{number + 2}.json", content)
            kept[path] = as_it_is(path)
        for number, note in enumerate(notes):
            name = f"fencing/shop.ratings.{note}".removesuffix(".")
            path = put(mesh.store, name, (b"\xff", "{", None, b"")[number])
            if note != "committed" or number == 0:  # any text is a holder's name
                kept[path] = as_it_is(path)
        for order in orders:
            path = put(mesh.store, f"orders/{order}.json", "{")
            kept[path] = as_it_is(path)

        lease = take(mesh.ledger)
        mesh.ledger.apply(lease, split(10))
        mesh.ledger.renew(lease)
        assert mesh.ledger.weights(REVIEWS)["v2"] == 10
        assert await mesh.sweep() == []
        assert [status.lease for status in await mesh.leases()] == [lease]
        mesh.ledger.lift(lease)
        assert await mesh.sweep() == []
        assert published(mesh.ledger) == base

        lease = take(mesh.ledger, token="committed")
        mesh.ledger.apply(lease, split(30))
        mesh.ledger.commit(lease)
        dead = take(mesh.ledger, token="dies", ttl=0.1)
        mesh.ledger.apply(dead, split(90))
        mesh._watchman._seen = {}
        await mesh.sweep()
        mesh._watchman._seen = {key: (beats, since - 1000) for key, (beats, since) in mesh._watchman._seen.items()}
        assert any("restored" in done for done in await mesh.sweep())
        assert mesh.ledger.weights(REVIEWS)["v2"] == 30

        assert {path: as_it_is(path) for path in kept} == kept
        assert {one.where for one in await mesh.unreadable()} >= {str(path) for path in kept if path.suffix == ".json"}
        if any(kind != "spares" for kind, _ in bad):
            with pytest.raises((TargetUnreadable, TakenOver)):
                mesh.ledger.acquire(RATINGS, [Aspect.TRAFFIC], operation="canary/r", token="t", ttl=9, planned_end=None)
        await mesh.close()


def test_the_target_itself_is_refused_and_the_error_says_what_to_do(ledger: Ledger) -> None:
    path = put(ledger.store, "leases/shop.reviews.4.json", "{")
    with pytest.raises(TargetUnreadable) as refused:
        take(ledger)
    for said in ("local/shop/reviews cannot be taken", str(path), "EOF", "run the version", "autopilot leases"):
        assert said in str(refused.value)
    assert not refused.value.retryable
    path.unlink()
    assert take(ledger)


@pytest.mark.parametrize("note", ["", ".condemned", ".last-run"])
def test_a_note_that_cannot_be_read_refuses_the_target(ledger: Ledger, note: str) -> None:
    put(ledger.store, f"fencing/shop.reviews{note}", "x")
    with pytest.raises(TargetUnreadable, match=r"fencing/shop\.reviews"):
        take(ledger)


def test_fields_of_the_next_release_are_no_trouble(ledger: Ledger) -> None:
    put(ledger.store, "leases/shop.reviews.4.json", next_release.record(REVIEWS, fencing=4))
    with pytest.raises(LeaseHeld, match="canary/of/the/next-release"):
        take(ledger)
    assert [status.lease.holder.fencing for status in ledger.leases()] == [4]


def test_a_record_under_another_ones_name_is_not_believed(ledger: Ledger) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(10))
    own = ledger.store.overlay_records.path(lease.target, lease.holder)
    path = put(ledger.store, "overlays/shop.ratings.7.json", own.read_bytes())
    ledger.lift(lease)
    assert ledger.weights(REVIEWS)["v2"] == 0
    assert path.exists()


# An overlay of the next release


@pytest.fixture
def foreign(ledger: Ledger, clock: Clock) -> Lease:
    """A lease that this release can read, with an overlay that it cannot; proxies have what the next release wrote."""
    lease = take(ledger, "canary/of/the/next-release")
    ledger.apply(lease, split(40))
    path = ledger.store.overlay_records.path(lease.target, lease.holder)
    text = path.read_text(encoding="utf-8").replace('"SplitTraffic"', '"ShapeTraffic"')
    path.write_text(text, encoding="utf-8")
    return lease


def test_its_routes_stay_as_they_are_until_it_ends(ledger: Ledger, foreign: Lease, clock: Clock) -> None:
    laid = published(ledger)
    assert "overlay-1" in laid["web/routes-out.json"]
    assert ledger.tidy() == []
    other = ledger.acquire(RATINGS, [Aspect.TRAFFIC], operation="canary/r", token="t", ttl=60, planned_end=None)
    ledger.apply(other, (split(0)[0].model_copy(update={"weights": {"v1": 100}}),))
    hosts = json.loads(published(ledger)["web/routes-out.json"])["resources"][0]["virtual_hosts"]
    before = json.loads(laid["web/routes-out.json"])["resources"][0]["virtual_hosts"]
    assert [host for host in hosts if host["name"] == REVIEWS.ref] == [
        host for host in before if host["name"] == REVIEWS.ref
    ]
    ledger.lift(other)
    assert published(ledger) == laid
    (status,) = ledger.leases()
    assert (status.phase, status.deadline) == (LeasePhase.ACTIVE, clock() + 60)
    clock.forward(61)  # its deadline: the proxies have let go, and so do the files
    ledger.tidy()
    assert "overlay-1" not in published(ledger)["web/routes-out.json"]


def test_it_is_lifted_by_whoever_ends_its_lease(ledger: Ledger, foreign: Lease) -> None:
    assert ledger.lift_if_unchanged(ledger.store.leases()[0], Actor(who="guard", net="guard"))
    assert "overlay-1" not in published(ledger)["web/routes-out.json"]
    assert list((ledger.store.directory / "autopilot" / "overlays").iterdir()) == []
    assert ledger.leases() == []
    assert take(ledger)


def test_nothing_but_a_lift_touches_it(ledger: Ledger, foreign: Lease) -> None:
    steps: tuple[Callable[[], object], ...] = (
        lambda: ledger.apply(foreign, split(10)),
        lambda: ledger.renew(foreign),
        lambda: ledger.commit(foreign),
    )
    for step in steps:
        with pytest.raises(UnreadableRecord) as caught:
            step()
        assert caught.value.retryable, "a process of the other version may come by"
    access = [Aspect.ACCESS]
    with pytest.raises(TargetUnreadable):
        ledger.acquire(REVIEWS, access, operation="security/s", token="t", ttl=60, planned_end=None)
    ledger.lift(foreign)
    assert ledger.leases() == []


def test_a_commit_that_it_had_begun_is_left_to_a_version_that_knows_it(ledger: Ledger, foreign: Lease) -> None:
    path = ledger.store.overlay_records.path(foreign.target, foreign.holder)
    path.write_text(path.read_text().replace('"phase":"active"', '"phase":"committing"'))
    kept, laid = path.read_bytes(), published(ledger)
    assert ledger.leases()[0].phase is LeasePhase.COMMITTING
    with pytest.raises(UnreadableRecord, match="overlays"):
        ledger.lift(foreign)
    assert (path.read_bytes(), published(ledger)) == (kept, laid)


async def test_a_sweep_restores_the_others_beside_one_that_it_cannot_end(
    ledger: Ledger, foreign: Lease, mesh_file: Path, clock: Clock
) -> None:
    path = ledger.store.overlay_records.path(foreign.target, foreign.holder)
    path.write_text(path.read_text().replace('"phase":"active"', '"phase":"promoting"'))
    dead = ledger.acquire(RATINGS, [Aspect.TRAFFIC], operation="canary/r", token="t", ttl=1, planned_end=None)
    ledger.apply(dead, (split(0)[0].model_copy(update={"weights": {"v1": 100}}),))
    mesh = EnvoyMesh(mesh_file, clock)
    await mesh.sweep()
    mesh._watchman._seen = {key: (beats, since - 1000) for key, (beats, since) in mesh._watchman._seen.items()}
    done = await mesh.sweep()
    assert [sentence.partition(":")[0] for sentence in done if "restored" in sentence] == ["local/shop/ratings"]
    assert path.exists()
    await mesh.close()


def test_beside_one_that_may_be_in_force_a_restore_waits_for_the_deadline(ledger: Ledger, clock: Clock) -> None:
    mine = take(ledger)
    ledger.apply(mine, split(10))
    path = put(
        ledger.store, "overlays/shop.reviews.7.json", next_release.overlay(REVIEWS, deadline=clock() + 3600, fencing=7)
    )
    kept = path.read_bytes()
    with pytest.raises(UnreadableRecord):
        ledger.lift(mine)
    assert ledger.leases(), "nothing was forgotten"
    clock.forward(61)  # the proxies let go by themselves
    assert ledger.lift(mine) is not None
    assert ledger.leases() == []
    assert path.read_bytes() == kept


# A lease record that hides whether its operation lives


def test_no_guard_touches_what_it_has_laid_and_its_own_holder_may(ledger: Ledger) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(10))
    path = ledger.store.lease_records.path(lease.target, lease.holder)
    path.write_text(path.read_text().replace('"traffic"', '"capacity"'))
    kept = path.read_bytes()
    assert ledger.tidy() == []
    assert ledger.weights(REVIEWS)["v2"] == 10
    with pytest.raises(UnreadableRecord):
        ledger.renew(lease)
    assert ledger.lift(lease) is not None
    assert ledger.weights(REVIEWS)["v2"] == 0
    assert path.read_bytes() == kept
    assert ledger.lift(lease) is None
    with pytest.raises(TargetUnreadable):
        take(ledger, token="again")


def test_a_damaged_overlay_goes_aside_when_its_lease_ends(ledger: Ledger) -> None:
    before = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(10))
    path = ledger.store.overlay_records.path(lease.target, lease.holder)
    path.write_bytes(b"\xff{")
    assert ledger.lift(lease) is not None
    assert published(ledger) == before
    (aside,) = ledger.store.aside.iterdir()
    assert aside.read_bytes() == b"\xff{"
    assert take(ledger)


# Orders and audit records


def test_a_halt_that_cannot_be_read_stops_what_its_name_covers(ledger: Ledger, clock: Clock) -> None:
    path = put(ledger.store, "orders/halt.chaos.all.json", "{")
    take(ledger)
    with pytest.raises(Halted, match=r"halt\.chaos\.all\.json cannot be read"):
        ledger.acquire(RATINGS, [Aspect.FAULTS], operation="chaos/local/shop/x", token="t", ttl=9, planned_end=None)
    commander = Overrides(ledger, clock)
    assert commander.unhalt("chaos", "", Actor(who="ann"))
    assert not path.exists(), "a person may remove it"


def test_a_halt_restores_the_others_beside_one_that_cannot_be_ended(ledger: Ledger, foreign: Lease) -> None:
    path = ledger.store.overlay_records.path(foreign.target, foreign.holder)
    path.write_text(path.read_text().replace('"phase":"active"', '"phase":"promoting"'))
    other = ledger.acquire(RATINGS, [Aspect.TRAFFIC], operation="canary/r", token="t", ttl=60, planned_end=None)
    with pytest.raises(UnreadableRecord):
        Overrides(ledger).halt(Halt(restore=True, actor=Actor(who="ann"), since=0))
    assert [status.lease.holder for status in ledger.leases()] == [foreign.holder]
    assert ledger.store.lease_of(other) is None


def test_places_in_the_queue_are_not_given_twice(ledger: Ledger) -> None:
    path = put(ledger.store, "orders/ticket.shop.reviews.1.json", "{")
    take(ledger, "canary/a")
    with pytest.raises(LeaseHeld):
        ledger.acquire(REVIEWS, [Aspect.TRAFFIC], operation="canary/b", token="t", ttl=9, planned_end=None, queue=True)
    assert path.read_text() == "{"
    assert sorted(ticket.number for ticket in ledger.store.orders.tickets(REVIEWS)) == [1, 2]


def test_audit_records_of_the_next_release_are_continued(ledger: Ledger) -> None:
    lease = take(ledger)
    path = ledger.store.journal.path
    last = json.loads(path.read_text().splitlines()[-1])
    new = {**last, "sequence": last["sequence"] + 1, "action": "shape", "changes": [next_release.CHANGE]}
    path.write_text(path.read_text() + json.dumps(new) + "\n", encoding="utf-8")
    ledger.apply(lease, split(10))
    said = json.loads(path.read_text().splitlines()[-1])
    assert said["sequence"] == new["sequence"] + 1
    assert said["previous"] not in ("", AuditRecord.model_validate({**new, "action": "apply", "changes": []}).digest)
    with pytest.raises(MeshError, match="run the version that wrote it"):
        list(ledger.store.journal.read())
