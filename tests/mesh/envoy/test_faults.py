"""Faults over plain Envoys: what is refused, what becomes of the routes, and how long clusters live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autopilot.mesh.envoy.config.faults import PRIME, fault_routes, sizes
from autopilot.mesh.envoy.config.laid_fault import Laid
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import InvalidChange, LeaseHeld, LeasePending
from autopilot.mesh.model import Aspect, InjectFault, Lease
from autopilot.spec.chaos.faults import Abort, Blackhole, Delay, Eject, Fault, Overflow, Partition, Reset
from autopilot.spec.chaos.scope import HeaderMatch, PathMatch, Scope, Source, Users
from tests.mesh.conftest import REVIEWS, Clock, split

MESH = """\
apiVersion: meshautopilot.io/v1alpha1
kind: Mesh
metadata: {name: local}
spec:
  zones: {a: ["127.0.0.1:9001", "127.0.0.1:9002"], b: ["127.0.0.1:9003"]}
  services:
    - name: reviews
      namespace: shop
      arms: {v1: {endpoints: ["127.0.0.1:9001"]}, v2: {endpoints: ["127.0.0.1:9002", "127.0.0.1:9003"]}}
      weights: {v1: 50, v2: 50}
    - name: web
      namespace: shop
      arms: {v1: {endpoints: ["127.0.0.1:9005"]}}
      weights: {v1: 100}
    - name: named
      namespace: shop
      arms: {v1: {endpoints: ["one:80", "two:80"]}}
      weights: {v1: 100}
  proxies:
    - name: web
      admin: 127.0.0.1:9901
      inbound: [{address: "127.0.0.1:9005", application: "127.0.0.1:8005"}]
      outbound: [{name: out, address: "127.0.0.1:15001", services: [shop/reviews, shop/named]}]
    - name: ingress
      admin: 127.0.0.1:9902
      outbound: [{name: only, address: "127.0.0.1:15002", services: [shop/web]}]
    - name: reviews-v2
      admin: 127.0.0.1:9903
      inbound: [{address: "127.0.0.1:9002", application: "127.0.0.1:8002"}]
"""
TENTH = Scope(percentage=10)
CHAOS = (Aspect.FAULTS, Aspect.RESILIENCE)


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    path = tmp_path / "mesh.yaml"
    path.write_text(MESH, encoding="utf-8")
    prepare(path)
    return Ledger(Store(path), clock)


def take(ledger: Ledger, operation: str = "chaos/local/shop/x", aspects: tuple[Aspect, ...] = CHAOS) -> Lease:
    return ledger.acquire(REVIEWS, aspects, operation=operation, token="run", ttl=30, planned_end=None)


def laid(fault: Fault, scope: Scope = TENTH) -> tuple[InjectFault, ...]:
    return (InjectFault(fault=fault, scope=scope, salt="x"),)


def routes(ledger: Ledger, proxy: str = "web", listener: str = "out") -> list[dict[str, Any]]:
    """Of reviews, as the proxy's file has them."""
    import json  # noqa: PLC0415

    text = ledger.store.routes_file(proxy, listener).read_text(encoding="utf-8")
    hosts = json.loads(text)["resources"][0]["virtual_hosts"]
    return list(next(host for host in hosts if host["name"] in ("shop/reviews", "application"))["routes"])


def clusters(ledger: Ledger, proxy: str = "web") -> list[str]:
    """Names of the proxy's clusters that stand in for others."""
    text = (ledger.store.proxy_folder(proxy) / "clusters.json").read_text(encoding="utf-8")
    return [word for word in text.split('"') if "~fault-" in word and word.startswith("outbound/")]


@pytest.mark.parametrize(
    ("fault", "scope", "said"),
    [
        (Partition(), TENTH, "which a mesh of plain Envoys has not; nearest: type: blackhole"),
        (Abort(), Scope(arm="v9"), "has no arm v9; it has v1, v2"),
        (Abort(), Scope(source=Source(service="ratings")), "the mesh has no service shop/ratings"),
        (
            Abort(),
            Scope(source=Source(service="named")),
            "shop/named does not call shop/reviews, so the fault has no effect there",
        ),
        (Abort(), Scope(source=Source(service="web", arm="v7")), "shop/web has no arm v7"),
        (Abort(), Scope(source=Source(proxy="ingress")), "proxy ingress does not call shop/reviews"),
        (Abort(), Scope(source=Source(service="web"), view="policy"), "cannot tell callers apart"),
        (Abort(), Scope(headers={"a": HeaderMatch(regex="(")}), "is not a valid regular expression"),
        (Abort(), Scope(path=PathMatch(regex="/a++")), "scope.path: .*they use RE2"),
        (Abort(), Scope(rule="api"), "scope.rule: .*has no VirtualServices.*nearest: path, method or headers"),
        (Blackhole(zone="c"), TENTH, "the mesh has no zone c; it has a, b"),
        (Blackhole(endpoints=("127.0.0.1:1",)), TENTH, "no endpoint of shop/reviews in scope"),
        (Blackhole(zone="b"), Scope(arm="v1"), "the fault would apply to no request"),
        (Eject(zone="a"), TENTH, "would remove all endpoints of arm v1"),
    ],
)
def test_what_cannot_be_said_is_refused_and_nothing_is_written(
    ledger: Ledger, fault: Fault, scope: Scope, said: str
) -> None:
    lease = take(ledger)
    with pytest.raises(InvalidChange, match="(?s)" + said.replace("(", r"\(")):
        ledger.apply(lease, laid(fault, scope))
    assert ledger.store.overlays() == []


def test_faults_at_once_share_the_requests(ledger: Ledger) -> None:
    ledger.check(REVIEWS, (*laid(Abort(), Scope(percentage=60)), *laid(Delay(delay=1), Scope(percentage=40))))
    with pytest.raises(InvalidChange, match="take 110 % of them"):
        ledger.check(REVIEWS, (*laid(Abort(), Scope(percentage=60)), *laid(Delay(delay=1), Scope(percentage=50))))


def test_who_has_traffic_has_no_faults_and_the_reverse(ledger: Ledger) -> None:
    canary = take(ledger, "canary/local/shop/r", (Aspect.TRAFFIC,))
    with pytest.raises(LeaseHeld, match="canary/local/shop/r"):
        take(ledger)
    ledger.lift(canary)
    take(ledger)
    with pytest.raises(LeaseHeld, match="chaos/local/shop/x"):
        take(ledger, "chaos/local/shop/other")
    with pytest.raises(LeasePending, match="chaos/local/shop/x was asked to release"):
        take(ledger, "canary/local/shop/r", (Aspect.TRAFFIC,))
    with pytest.raises(LeasePending):
        take(ledger, "security/p/1", (Aspect.FAULTS,))


def test_shares_of_arms_stay_as_they_are_under_a_fault(ledger: Ledger) -> None:
    ledger.apply(take(ledger), laid(Reset(), Scope(percentage=10, arm="v2")))
    fault = next(route for route in routes(ledger) if "stat_prefix" in route)
    weights = {entry["name"]: entry["weight"] for entry in fault["route"]["weighted_clusters"]["clusters"]}
    assert sum(weights.values()) == PRIME
    assert abs(weights["outbound/shop/reviews/v1"] / PRIME - 0.5) < 1e-4
    assert sum("~fault-" in name for name in weights) == 1, "the arm in scope alone is led elsewhere"


def test_clusters_come_before_routes_and_stay_until_nobody_is_on_the_way(ledger: Ledger, clock: Clock) -> None:
    lease = take(ledger)
    assert ledger.make_ready(lease, laid(Overflow(requests=1)))
    assert len(clusters(ledger)) == 2 * 2, "for both arms, each named twice"
    assert not any("stat_prefix" in route for route in routes(ledger)), "no route leads there yet"
    ledger.apply(lease, laid(Overflow(requests=1)))
    assert any("stat_prefix" in route for route in routes(ledger))
    ledger.lift(lease)
    assert not any("stat_prefix" in route for route in routes(ledger))
    assert clusters(ledger), "who is on the way finds them"
    clock.forward(20)
    ledger.tidy()
    assert clusters(ledger)
    clock.forward(60)
    ledger.tidy()
    assert not clusters(ledger)
    assert not ledger.store.spares()


def test_clusters_that_a_dead_holder_left_go_too(ledger: Ledger, clock: Clock) -> None:
    lease = take(ledger)
    ledger.make_ready(lease, laid(Reset()))
    ledger.store.forget(lease)  # died before anything was laid, and its lease was swept
    ledger.tidy()
    clock.forward(100)
    ledger.tidy()
    assert not clusters(ledger)


def test_the_policy_view_is_laid_where_the_target_answers(ledger: Ledger) -> None:
    before = routes(ledger)
    receipt = ledger.apply(take(ledger), laid(Abort(), Scope(percentage=10, view="policy")))
    inbound = routes(ledger, "reviews-v2", "inbound")
    assert next(route["name"] for route in inbound) == "inbound/base"
    assert any("stat_prefix" in route for route in inbound)
    assert not any("stat_prefix" in route for route in routes(ledger))
    assert "reviews-v2/inbound" in receipt.versions, "its proxy is asked whether it has it"
    assert next(route["name"] for route in routes(ledger)) == before[0]["name"]


def test_jitter_comes_in_eight_sizes_around_the_delay() -> None:
    found = sizes(Delay(delay=1.0, jitter=0.4))
    delays = [one.delay for one in found if isinstance(one, Delay)]
    assert len(delays) == 8
    assert sum(delays) / 8 == pytest.approx(1.0)
    assert min(delays) > 0.6
    assert max(delays) < 1.4


def test_users_are_told_apart_by_a_header_nobody_can_send(ledger: Ledger) -> None:
    ledger.apply(take(ledger), laid(Abort(), Scope(users=Users(percentage=10, header="end-user"))))
    found = routes(ledger)
    assert found[0]["metadata"]["filter_metadata"]["envoy.filters.http.lua"]["users"] == ["header end-user x"]
    assert all("x-autopilot-user-1" in route["request_headers_to_remove"] for route in found)
    fault = next(route for route in found if "stat_prefix" in route)
    assert {"name": "x-autopilot-user-1", "range_match": {"start": 0, "end": 1000}} in fault["match"]["headers"]


@pytest.mark.parametrize(
    ("path", "match"),
    [
        (PathMatch(exact="/a"), {"path": "/a"}),
        (PathMatch(prefix="/a"), {"prefix": "/a"}),
        (PathMatch(regex="/a.*"), {"safe_regex": {"regex": "/a.*"}}),
        (None, {"prefix": "/"}),
    ],
)
def test_a_path_and_a_method_are_matched_by_the_faults_route_alone(
    ledger: Ledger, path: PathMatch | None, match: dict[str, Any]
) -> None:
    ledger.apply(take(ledger), laid(Abort(), Scope(path=path, method="POST")))
    found = routes(ledger)
    fault = next(route for route in found if "stat_prefix" in route)
    assert {key: value for key, value in fault["match"].items() if key != "headers"} == match
    assert fault["match"]["headers"][1:] == [{"name": ":method", "string_match": {"exact": "POST"}}]
    assert all(route["match"]["prefix"] == "/" for route in found if route is not fault)


def test_fields_that_scopes_got_later_rename_no_fault(ledger: Ledger) -> None:
    """Counters and clusters bear the name, and an upgrade may come while the fault is laid."""
    ledger.apply(take(ledger), laid(Abort()))
    assert next(route["stat_prefix"] for route in routes(ledger) if "stat_prefix" in route).startswith(
        "fault-1-2dfb3cb3"
    )


def test_a_fault_expires_with_its_overlay(ledger: Ledger, clock: Clock) -> None:
    ledger.apply(take(ledger), laid(Abort()))
    (overlay,) = ledger.store.overlays()
    assert overlay.deadline == clock.now + 30
    base = routes(ledger)[0]
    assert base["metadata"]["filter_metadata"]["envoy.filters.http.lua"]["deadlines"] == [
        str(round((clock.now + 30) * 1000))
    ]


def test_a_split_is_laid_over_no_fault(ledger: Ledger) -> None:
    lease = take(ledger, "canary/local/shop/r", (Aspect.TRAFFIC,))
    with pytest.raises(InvalidChange, match="does not cover faults"):
        ledger.apply(lease, laid(Abort()))
    ledger.apply(lease, split(10))


def test_routes_of_one_scope_stand_side_by_side() -> None:
    plain = {"name": "p", "route": {"cluster": "c"}}
    service = Store  # a service is not looked at here
    ones = [Laid(service, 1, change) for change in (*laid(Abort()), *laid(Delay(delay=1)))]  # type: ignore[arg-type]
    found = fault_routes(plain, [], ones, [])
    ends = [route["match"]["runtime_fraction"]["default_value"]["numerator"] for route in found]
    assert ends == [100_000, 200_000], "the second takes from 10 to 20 %, for one random number decides for both"
