"""Records of other versions in a cluster, and damaged ones: kept as they are, named, and in no other target's way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from autopilot.mesh.errors import TargetUnreadable, UnreadableRecord
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import CONFIG_MAP, ENVOY_FILTER, LEASE
from autopilot.mesh.kube.envoyfilter.render import labels_of
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.weight_patch import PREFIX
from autopilot.mesh.kube.state.target_record import ANNOTATION, MANAGED
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Target
from tests.faults.events import next_release
from tests.kube.world import ME, World

BOOK = "autopilot.reviews"


def book_of(world: World, name: str = BOOK) -> Object:
    found = world.api.get(LEASE, name, world.namespace)
    assert found is not None
    return found


def text_of(world: World, name: str = BOOK) -> str:
    return str(book_of(world, name)["metadata"]["annotations"][ANNOTATION])


def rewrite(world: World, text: str, name: str = BOOK) -> None:
    body = book_of(world, name)
    body["metadata"]["annotations"][ANNOTATION] = text
    world.api.replace(LEASE, body)


def by_the_next_release(world: World, **more: Any) -> None:
    """The overlay in the book has a change that this release does not know."""
    said = json.loads(text_of(world))
    said["overlays"][0] |= {"changes": [next_release.CHANGE], **more}
    rewrite(world, json.dumps(said))


def put_book(world: World, service: str, text: str) -> None:
    meta = {
        "name": f"autopilot.{service}",
        "namespace": world.namespace,
        "labels": dict(MANAGED),
        "annotations": {ANNOTATION: text},
    }
    world.api.create(LEASE, {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": meta, "spec": {}})


async def unread(world: World) -> list[str]:
    """The unreadable records of this test's namespace."""
    world.mesh.look_every = 0
    return [one.where for one in await world.mesh.unreadable() if f" {world.namespace}/" in one.where]


async def test_nothing_of_another_target_is_in_the_way(world: World, api: KubeApi, system: str) -> None:
    before = world.route()
    other = Target(mesh="lab", namespace=world.namespace, service="of-the-next-release")
    said = {
        "target": other.model_dump(),
        "fencing": 4,
        "leases": [next_release.record(other), next_release.record(other, fencing=2, aspects=["capacity"])],
        "overlays": [next_release.overlay(other, deadline=2e9)],
        "shards": 3,
    }
    books = {"of-the-next-release": json.dumps(said), "damaged": '{"target": ', "empty": "", "list": "[1]"}
    for service, text in books.items():
        put_book(world, service, text)
    # A mark on the same route, of a service that is another's.
    world.edit(
        {"op": "add", "path": "/metadata/annotations", "value": {PREFIX + "other": "{", fault_marks.PREFIX + "x": "["}}
    )
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    await world.mesh.renew(lease)
    assert world.written() == [90, 10]
    guard = world.open(world.provider)
    guard.sweep_every = 0
    for _ in range(2):
        await guard.sweep()
    assert lease.holder in [one.lease.holder for one in await world.mesh.leases() if one.lease.target == world.target]
    record = world.mesh.ledger.store.open(world.target).leases()[0]
    assert guard.ledger.lift_if_unchanged(record, Actor(who="guard", net="guard"))
    assert world.route()["spec"] == before["spec"]
    notes = world.route()["metadata"]["annotations"]
    assert (notes[PREFIX + "other"], notes[fault_marks.PREFIX + "x"]) == ("{", "[")
    assert {service: text_of(world, f"autopilot.{service}") for service in books} == books
    found = await unread(world)
    for service in books:
        assert any(f"autopilot.{service}" in where for where in found), found
    assert any(PREFIX + "other" in where for where in found), found


async def test_a_halt_that_cannot_be_read_stops_what_its_name_covers(world: World, api: KubeApi, system: str) -> None:
    name = f"chaos.{world.namespace}"
    body = api.get(CONFIG_MAP, "autopilot-halts", system)
    made = body or {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "autopilot-halts", "namespace": system},
    }
    made["data"] = {**(made.get("data") or {}), name: "{"}
    (api.replace if body else api.create)(CONFIG_MAP, made)
    try:
        mesh = world.open(world.provider)
        lease = await world.take(mesh=mesh)
        await mesh.apply(lease, world.split(10), ME)
        assert "cannot be read" in await mesh.refused(world.target, f"chaos/lab/{world.namespace}/x")
        assert await mesh.refused(world.target, f"canary/lab/{world.namespace}/x") == ""
        await mesh.lift(lease, ME)
    finally:
        assert await world.mesh.unhalt("chaos", world.namespace, ME)


async def test_fields_of_the_next_release_survive_a_renewal(world: World) -> None:
    lease = await world.take()
    rewrite(world, json.dumps({**json.loads(text_of(world)), "shards": {"a": 1}}))
    await world.mesh.renew(lease)
    assert json.loads(text_of(world))["shards"] == {"a": 1}
    assert await unread(world) == []


async def test_an_overlay_of_the_next_release_is_lifted_without_being_understood(world: World) -> None:
    before = world.route()
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    by_the_next_release(world)
    for step in (world.mesh.apply(lease, world.split(20), ME), world.mesh.renew(lease), world.mesh.commit(lease, ME)):
        with pytest.raises(UnreadableRecord) as caught:
            await step
        assert caught.value.retryable
    assert world.written() == [90, 10]
    assert [one.changes for one in await world.mesh.leases() if one.lease.target == world.target] == [()]
    assert len(await unread(world)) == 1
    assert await world.mesh.lift(lease, ME) is not None
    assert world.route()["spec"] == before["spec"]
    assert json.loads(text_of(world))["overlays"] == []
    assert await unread(world) == []


async def test_a_commit_that_the_next_release_began_is_left_to_it(world: World) -> None:
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    by_the_next_release(world, phase="committing")
    kept = text_of(world)
    with pytest.raises(UnreadableRecord):
        await world.mesh.lift(lease, ME)
    world.mesh.sweep_every = 0
    await world.mesh.sweep()
    assert (world.written(), text_of(world)) == ([90, 10], kept)


async def test_a_lease_that_cannot_be_read_hides_whether_it_lives(world: World) -> None:
    before = world.route()
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    said = json.loads(text_of(world))
    said["leases"][0]["lease"]["aspects"] = ["capacity"]
    rewrite(world, json.dumps(said))
    guard = world.open(world.provider)
    guard.sweep_every = 0
    await guard.sweep()
    assert world.written() == [90, 10]
    with pytest.raises(TargetUnreadable, match="cannot be taken"):
        await world.take(token="another")
    assert await world.mesh.lift(lease, ME) is not None
    assert world.route()["spec"] == before["spec"]
    assert json.loads(text_of(world))["leases"] == said["leases"]


async def test_a_damaged_book_is_kept_and_its_holder_may_restore(world: World) -> None:
    before = world.route()
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    rewrite(world, "{")
    with pytest.raises(TargetUnreadable, match=BOOK):
        await world.take(token="another")
    with pytest.raises(UnreadableRecord):
        await world.mesh.renew(lease)
    guard = world.open(world.provider)
    guard.sweep_every = 0
    await guard.sweep()
    assert world.written() == [90, 10]
    assert await world.mesh.lift(lease, ME) is not None
    assert world.route()["spec"] == before["spec"]
    assert text_of(world) == "{"


async def test_a_mark_that_cannot_be_read_is_kept(world: World) -> None:
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    place = f"/metadata/annotations/{(PREFIX + 'reviews').replace('/', '~1')}"
    good = world.route()["metadata"]["annotations"][PREFIX + "reviews"]
    world.edit({"op": "replace", "path": place, "value": '{"lists": "of the next release"}'})
    for step in (world.mesh.apply(lease, world.split(20), ME), world.mesh.lift(lease, ME)):
        with pytest.raises(UnreadableRecord, match=PREFIX):
            await step
    assert world.route()["metadata"]["annotations"][PREFIX + "reviews"] == '{"lists": "of the next release"}'
    assert world.written() == [90, 10]
    assert len(await unread(world)) == 1
    world.edit({"op": "replace", "path": place, "value": good})
    await world.mesh.lift(lease, ME)
    assert world.written() == [100, 0]


@pytest.mark.parametrize("world", ["istio"], indirect=True)
async def test_an_envoyfilter_that_does_not_say_whose_it_is_refuses_its_target_alone(
    world: World, api: KubeApi, open_kube: Callable[..., KubeMesh]
) -> None:
    mesh = open_kube("istio", driver="envoyfilter")
    filters = mesh.spec.filters_namespace
    labels = labels_of(world.target)
    meta: dict[str, Any] = {"name": f"autopilot.{world.namespace}.reviews.next", "namespace": filters, "labels": labels}
    head = {"apiVersion": ENVOY_FILTER.api_version, "kind": ENVOY_FILTER.kind}
    api.create(ENVOY_FILTER, {**head, "metadata": meta, "spec": {"configPatches": []}})
    try:
        with pytest.raises(TargetUnreadable, match=meta["name"]):
            await world.take(mesh=mesh)
        mesh.look_every = 0
        assert any(meta["name"] in one.where for one in await mesh.unreadable())
    finally:
        api.delete(ENVOY_FILTER, meta["name"], filters)
    lease = await world.take(mesh=mesh)
    await mesh.lift(lease, ME)
