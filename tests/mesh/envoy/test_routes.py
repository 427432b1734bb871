"""Whatever overlays there are, a request meets the base and the overlays alive at that moment, no others."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autopilot.mesh.envoy.config.names import DEADLINES, LUA_FILTER
from autopilot.mesh.envoy.config.render import render
from autopilot.mesh.envoy.config.routes import effective_weights, virtual_host
from autopilot.mesh.leases.records import Overlay
from autopilot.mesh.model import Aspect, Holder, Lease, LeasePhase, SplitTraffic, Target
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from autopilot.spec.mesh import Mesh, MeshService

ARMS = ("v1", "v2", "v3")
NOW = 1_800_000_000


@st.composite
def weights(draw: st.DrawFn) -> dict[str, float]:
    first = draw(st.integers(0, 10_000))
    second = draw(st.integers(0, 10_000 - first))
    return dict(zip(ARMS, (first / 100, second / 100, (10_000 - first - second) / 100), strict=True))


def service_with(base: dict[str, float]) -> MeshService:
    arms = {arm: {"endpoints": [f"127.0.0.1:{9000 + number}"]} for number, arm in enumerate(ARMS)}
    return MeshService.model_validate({"name": "reviews", "namespace": "shop", "arms": arms, "weights": base})


def overlay(number: int, split: dict[str, float], deadline: float, phase: LeasePhase = LeasePhase.ACTIVE) -> Overlay:
    lease = Lease(
        target=Target(mesh="local", namespace="shop", service="reviews"),
        aspects=(Aspect.TRAFFIC,),
        holder=Holder(operation="canary/a", fencing=number),
        ttl=120,
        max_unattended=120,
    )
    return Overlay(lease=lease, changes=(SplitTraffic(weights=split),), deadline=deadline, phase=phase)


def answer(host: dict[str, Any], now_ms: int, headers: dict[str, str]) -> dict[str, float]:
    """What Envoy and the constant filter do with a request: the route's weights in percent."""

    def first_match() -> dict[str, Any]:
        for route in host["routes"]:
            if all(_holds(matcher) for matcher in route["match"].get("headers", [])):
                return dict(route)
        raise AssertionError("no route matches: the request would get a 404")

    def _holds(matcher: dict[str, Any]) -> bool:
        value = headers.get(matcher["name"])
        if "present_match" in matcher:
            return (value is not None) != matcher.get("invert_match", False)
        return value == matcher["string_match"]["exact"]

    headers = dict(headers)
    headers.pop(OVERLAY_HEADER, None)
    metadata = first_match().get("metadata", {}).get("filter_metadata", {}).get(LUA_FILTER, {})
    alive = sum(now_ms < float(deadline) for deadline in metadata.get(DEADLINES, []))
    if alive:
        headers[OVERLAY_HEADER] = str(alive)
    clusters = first_match()["route"]["weighted_clusters"]["clusters"]
    return {cluster["name"].rsplit("/", 1)[1]: cluster["weight"] / 100 for cluster in clusters}


@given(
    base=weights(),
    laid=st.lists(st.tuples(weights(), st.integers(-50, 50)), max_size=4),
    when=st.integers(-60, 60),
    forged=st.none() | st.sampled_from(["0", "1", "2", "9", "x"]),
)
def test_a_request_meets_the_base_and_the_overlays_alive(
    base: dict[str, float], laid: list[tuple[dict[str, float], int]], when: int, forged: str | None
) -> None:
    service = service_with(base)
    overlays = [overlay(number, split, NOW + offset) for number, (split, offset) in enumerate(laid)]
    host = virtual_host(service, overlays, sole=True)
    headers = {} if forged is None else {OVERLAY_HEADER: forged}
    alive = [item for item in overlays if NOW + when < item.deadline]
    alive.sort(key=lambda item: (-item.deadline, item.lease.holder.fencing))
    expected = effective_weights(service, [change for item in alive for change in item.changes])
    assert answer(host, (NOW + when) * 1000, headers) == expected


@given(base=weights(), redo=weights(), when=st.integers(-60, 60))
def test_a_commit_under_way_never_falls_back(base: dict[str, float], redo: dict[str, float], when: int) -> None:
    host = virtual_host(service_with(base), [overlay(1, redo, NOW, LeasePhase.COMMITTING)], sole=True)
    assert answer(host, (NOW + when) * 1000, {}) == redo


@given(base=weights(), split=weights())
def test_without_the_filter_everything_is_base(base: dict[str, float], split: dict[str, float]) -> None:
    """The filter failed or was taken out: no header is added, and a forged one leads to an overlay at worst alive."""
    host = virtual_host(service_with(base), [overlay(1, split, NOW)], sole=False)
    unguarded = host["routes"][0]
    assert unguarded["match"]["headers"] == [{"name": OVERLAY_HEADER, "present_match": True, "invert_match": True}]
    clusters = unguarded["route"]["weighted_clusters"]["clusters"]
    assert [cluster["weight"] / 100 for cluster in clusters] == [base[arm] for arm in ARMS]


@given(split=weights(), seconds=st.integers(1, 1000))
def test_an_overlay_changes_route_tables_and_nothing_else(split: dict[str, float], seconds: int) -> None:
    mesh = Mesh.model_validate(
        {
            "metadata": {"name": "local"},
            "spec": {
                "services": [service_with({"v1": 100}).model_dump()],
                "proxies": [
                    {
                        "name": "web",
                        "admin": "127.0.0.1:1",
                        "outbound": [{"name": "out", "address": "127.0.0.1:2", "services": ["shop/reviews"]}],
                    }
                ],
            },
        }
    )
    paths = {"web": {"out": "/somewhere/routes.json"}}
    before = render(mesh.spec, [], paths)["web"]
    after = render(mesh.spec, [overlay(1, split, NOW + seconds)], paths)["web"]
    assert (after.clusters, after.listeners) == (before.clusters, before.listeners)
    assert after.routes["out"] != before.routes["out"]
    versions = {json.loads(one.routes["out"])["version_info"] for one in (before, after)}
    assert len(versions) == 2


def test_tries_are_counted_where_some_are_retried_and_nowhere_else():
    service = service_with({"v1": 100, "v2": 0, "v3": 0})
    assert "include_request_attempt_count" not in virtual_host(service, [], sole=True)
    retried = virtual_host(service.model_copy(update={"retries": 2}), [], sole=True)
    assert retried["include_request_attempt_count"] is True
    assert retried["routes"][0]["route"]["retry_policy"]["num_retries"] == 2
