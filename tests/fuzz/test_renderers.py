"""Any mesh and any overlays that are let through become configuration that an Envoy can take, and that is right."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.mesh.envoy.config.faults import PRIME
from autopilot.mesh.envoy.config.names import DEADLINES, LUA_FILTER, USER_HEADER
from autopilot.mesh.envoy.config.render import ProxyFiles, render, version
from autopilot.mesh.envoy.config.routes import effective_weights, virtual_host
from autopilot.mesh.model import LeasePhase
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from autopilot.spec.mesh import MeshSpec
from tests.drawn import examples
from tests.fuzz.strategies import meshes, overlays, paths, services, spares

DURATION = re.compile(r"\d{1,12}(\.\d{1,9})?s")
"""As protobuf reads it from JSON."""


def rendered(data: st.DataObject) -> tuple[MeshSpec, dict[str, ProxyFiles]]:
    spec = data.draw(meshes())
    laid = data.draw(overlays(spec))
    return spec, render(spec, laid, paths(spec), spares(laid))


def resources(content: str) -> list[dict[str, Any]]:
    return list(json.loads(content)["resources"])


def texts(value: Any) -> list[str]:
    """Every text in it, names of fields included, but for our own filter's code."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() if key != "inline_string" for text in (key, *texts(item))]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_any_mesh_becomes_configuration_that_is_whole(data: st.DataObject) -> None:
    spec, files = rendered(data)
    check_files(spec, files)
    check_routes(spec, files)


def check_files(spec: MeshSpec, files: dict[str, ProxyFiles]) -> None:
    """Every file is there, says its version, and holds nothing that ends a line or a name."""
    assert set(files) == {proxy.name for proxy in spec.proxies}
    for proxy in spec.proxies:
        content = files[proxy.name]
        assert set(content.routes) == {listener.name for listener in (*proxy.inbound, *proxy.outbound)}
        for text in (content.clusters, content.listeners, *content.routes.values()):
            whole = json.loads(text)
            digest = hashlib.sha256(json.dumps(whole["resources"], sort_keys=True).encode()).hexdigest()
            assert whole["version_info"] == version(text) == digest[:16]
            assert {item["@type"] for item in whole["resources"]} <= {whole["type_url"]}
            assert all(part.isprintable() and part.isascii() for part in texts(whole))
            for ports in re.findall(r'"port_value": (\d+)', text):
                assert 1 <= int(ports) <= 65535


def check_routes(spec: MeshSpec, files: dict[str, ProxyFiles]) -> None:
    """Routes name clusters that are there, and share all of the traffic."""
    for proxy in spec.proxies:
        content = files[proxy.name]
        clusters = [item["name"] for item in resources(content.clusters)]
        listeners = [item["name"] for item in resources(content.listeners)]
        assert len(set(clusters)) == len(clusters)
        assert len(set(listeners)) == len(listeners)
        for text in content.routes.values():
            (table,) = resources(text)
            hosts = table["virtual_hosts"]
            domains = [domain for host in hosts for domain in host["domains"]]
            assert len(set(domains)) == len(domains), "Envoy refuses a table in which two hosts answer to one name"
            assert all(host["domains"] for host in hosts)
            assert len({host["name"] for host in hosts}) == len(hosts)
            for route in (route for host in hosts for route in host["routes"]):
                assert DURATION.fullmatch(route["route"]["timeout"])
                removed = [OVERLAY_HEADER, *(f"{USER_HEADER}-{number}" for number in range(1, 20))]
                assert route["request_headers_to_remove"] == removed[: len(route["request_headers_to_remove"])]
                if "cluster" in route["route"]:
                    assert route["route"]["cluster"] in clusters
                    continue
                shares = route["route"]["weighted_clusters"]["clusters"]
                assert {share["name"] for share in shares} <= set(clusters)
                assert sum(share["weight"] for share in shares) == (PRIME if "stat_prefix" in route else 10_000)
                assert all(type(share["weight"]) is int and share["weight"] >= 0 for share in shares)


@given(st.data())
@settings(max_examples=examples(100), deadline=None)
def test_the_base_comes_first_and_overlays_by_how_many_are_alive(data: st.DataObject) -> None:
    service = data.draw(services())
    laid = data.draw(overlays(MeshSpec.model_construct(services=(service,), proxies=()), service))
    host = virtual_host(service, laid, sole=data.draw(st.booleans()))
    first, *between, last = host["routes"]
    active = [overlay for overlay in laid if overlay.phase is LeasePhase.ACTIVE]
    assert first["match"]["headers"] == [{"name": OVERLAY_HEADER, "present_match": True, "invert_match": True}]
    assert "headers" not in last["match"]
    assert last["route"] == first["route"], "a header that nobody set means the base"
    deadlines = first.get("metadata", {}).get("filter_metadata", {}).get(LUA_FILTER, {}).get(DEADLINES, [])
    assert sorted(map(int, deadlines)) == sorted(round(overlay.deadline * 1000) for overlay in active)
    assert list(map(int, deadlines)) == sorted(map(int, deadlines), reverse=True)
    plain = [route for route in between if "stat_prefix" not in route]
    assert [route["match"]["headers"][0]["string_match"]["exact"] for route in plain] == [
        str(alive) for alive in range(len(active), 0, -1)
    ]
    depths = [int(route["match"]["headers"][0]["string_match"]["exact"]) for route in between]
    assert depths == sorted(depths, reverse=True), "a fault stands before the layer that it belongs to"
    committed = [change for overlay in laid if overlay.phase is LeasePhase.COMMITTING for change in overlay.changes]
    wanted = effective_weights(service, committed)
    shares = {share["name"]: share["weight"] for share in first["route"]["weighted_clusters"]["clusters"]}
    assert set(shares) == {f"outbound/{service.ref}/{arm}" for arm in wanted}
    for arm, weight in wanted.items():
        assert abs(shares[f"outbound/{service.ref}/{arm}"] - 100 * weight) < 1


@given(st.data())
@settings(max_examples=examples(25), deadline=None)
def test_the_same_is_rendered_the_same(data: st.DataObject) -> None:
    spec = data.draw(meshes())
    laid = data.draw(overlays(spec))
    again = MeshSpec.model_validate_json(spec.model_dump_json())
    back = list(reversed(laid))
    assert render(spec, laid, paths(spec)) == render(again, back, paths(spec)) or _depends_on_order(laid)


def _depends_on_order(laid: list[Any]) -> bool:
    """Two overlays of one target with one deadline and number, or two commits: the store has no such pair."""
    seen = [(item.lease.target, item.phase, item.deadline, item.lease.holder.fencing) for item in laid]
    commits = [target for target, phase, *_ in seen if phase is LeasePhase.COMMITTING]
    return len(set(seen)) < len(seen) or len(set(commits)) < len(commits)
