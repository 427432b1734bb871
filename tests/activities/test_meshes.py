"""Which sidecars answer for an arm, from the mesh file alone; nobody's where that can't be told."""

from __future__ import annotations

from typing import Any

from autopilot.local import topology
from autopilot.mesh_registry.meshes import doors_of
from autopilot.spec.mesh import MeshSpec
from autopilot.telemetry.model import Door


def spec(arms: dict[str, list[str]], inbound: dict[str, str]) -> MeshSpec:
    proxies: list[dict[str, Any]] = [
        {
            "name": name,
            "admin": f"127.0.0.1:{number + 1}",
            "inbound": [{"name": "in", "address": address, "application": "127.0.0.1:9"}],
        }
        for number, (name, address) in enumerate(inbound.items())
    ]
    service = {
        "name": "reviews",
        "namespace": "shop",
        "arms": {arm: {"endpoints": endpoints} for arm, endpoints in arms.items()},
        "weights": {next(iter(arms)): 100},
    }
    return MeshSpec.model_validate({"services": [service], "proxies": proxies})


def test_the_sample_shop_is_all_sidecars():
    ports = {name: number + 1000 for number, name in enumerate(topology.port_names())}
    found = doors_of(topology.build(ports).spec)
    assert set(found) == {("shop/web", "v1"), ("shop/reviews", "v1"), ("shop/reviews", "v2"), ("shop/ratings", "v1")}
    assert found["shop/reviews", "v2"] == Door(
        clusters=frozenset({"outbound/shop/reviews/v2", "outbound/shop/reviews/v2~baseline"}),
        sidecars=frozenset({("reviews-v2", "inbound/inbound")}),
    )


def test_every_endpoint_needs_one():
    arms = {"v1": ["10.0.0.1:80", "10.0.0.2:80"], "v2": ["10.0.0.3:80", "10.0.0.4:80"], "v3": []}
    found = doors_of(spec(arms, {"a": "10.0.0.1:80", "b": "10.0.0.2:80", "c": "10.0.0.3:80"}))
    assert set(found) == {("shop/reviews", "v1")}
    assert found["shop/reviews", "v1"].sidecars == {("a", "inbound/in"), ("b", "inbound/in")}


def test_an_address_that_answers_for_two_arms_is_nobodys():
    assert doors_of(spec({"v1": ["10.0.0.1:80"], "v2": ["10.0.0.1:80"]}, {"a": "10.0.0.1:80"})) == {}
