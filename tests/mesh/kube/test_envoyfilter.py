"""What EnvoyFilters of ours say, and where requests would go by them: Istio's and Envoy's rules in a few lines."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import DESTINATION_RULE, SERVICE, VIRTUAL_SERVICE, Resource
from autopilot.mesh.kube.envoyfilter.istio_route_to_envoy import carriage, duration
from autopilot.mesh.kube.envoyfilter.render import FENCING, Laid, OverlaidRule, laid_by, overlay, with_deadline
from autopilot.mesh.kube.envoyfilter.source_rules import Reader, patched, route_names
from autopilot.mesh.kube.envoyfilter.standing_filter import FILTER, standing_filter
from autopilot.mesh.kube.routes.backends import service_backend
from autopilot.mesh.kube.routes.base import Route, Split, route_to
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.model import Target
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from autopilot.spec.cluster import ClusterSpec

TARGET = Target(mesh="m", namespace="shop", service="reviews")
HOST = "reviews.shop.svc.cluster.local"
NOW = 1_800_000_000.0


class FakeApi(KubeApi):
    """Services and DestinationRules, and nothing else."""

    def __init__(self, ports: Sequence[int] = (80,), policy: Object | None = None, *others: Object) -> None:
        self._others = others
        subsets = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v3")]
        self._services = {"reviews": {"spec": {"ports": [{"port": port} for port in ports]}}}
        self._rule: Object = {"metadata": {"name": "reviews"}, "spec": {"host": "reviews", "subsets": subsets}}
        if policy:
            self._rule["spec"]["trafficPolicy"] = policy

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        assert (resource, namespace) == (SERVICE, "shop")
        return self._services.get(name)

    def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        if resource is VIRTUAL_SERVICE:
            return list(self._others)
        assert (resource, labels) == (DESTINATION_RULE, "")
        return [self._rule]


def rule(name: str | None, weights: Mapping[str, int], *, header: str = "", **more: Any) -> Object:
    route = [{"destination": {"host": "reviews", "subset": arm}, "weight": weight} for arm, weight in weights.items()]
    made: Object = {"route": route, **more}
    if name:
        made["name"] = name
    if header:
        made["match"] = [{"headers": {header: {"exact": "yes"}}}]
    return made


def virtual_service(*rules: Object, **spec: Any) -> Object:
    metadata = {"name": "reviews", "namespace": "shop", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"hosts": ["reviews"], "http": list(rules), **spec}}


def laid(token: str = "secret", fencing: int = 3, weights: dict[str, float] | None = None) -> Laid:
    weights = weights or {"v1": 90, "v2": 10}
    return Laid(operation="o", fencing=fencing, deadline=NOW + 60, token=token, weights=weights)


def split_of(weights: Mapping[str, float]) -> Split:
    own = service_backend("reviews", "shop")
    return Split(weights, {arm: (own.model_copy(update={"subset": arm}),) for arm in weights})


def pieces_of(body: Object, weights: Mapping[str, float], api: FakeApi | None = None) -> list[OverlaidRule]:
    api = api or FakeApi()
    routes, split = IstioRoutes(api), split_of(weights)
    route = route_to(routes, TARGET, VIRTUAL_SERVICE, body, split=split)
    assert route is not None
    reader = Reader(api, routes, TARGET)
    return reader.pieces([reader.intended(route, split, Mark(service="reviews", operation="o", fencing=3))])


def rendered(body: Object, weights: dict[str, float], **more: Any) -> Object:
    return overlay("istio-system", TARGET, laid(weights=weights, **more), pieces_of(body, weights))


# What Istio makes of a VirtualService and of our patches, and what Envoy does with a request


def base_routes(body: Object) -> list[Object]:
    found = []
    for one in body["spec"]["http"]:
        clusters = {
            f"outbound|80|{item['destination']['subset']}|{HOST}": item.get("weight", 100)
            for item in one["route"]
            if item.get("weight", 100) or len(one["route"]) == 1
        }
        headers = {name: "yes" for match in one.get("match") or [{}] for name in match.get("headers", {})}
        found.append({"name": one.get("name", ""), "headers": headers, "clusters": clusters, "metadata": {}})
    return found


def with_patches(routes: list[Object], *filters: Object) -> list[Object]:
    routes = copy.deepcopy(routes)
    patches = [
        one["spec"]["configPatches"] for one in sorted(filters, key=lambda one: int(one["spec"].get("priority", 0)))
    ]
    for patch in [patch for one in patches for patch in one]:
        host = patch["match"]["routeConfiguration"]["vhost"]
        assert host["name"] == f"{HOST}:80"
        value = patch["patch"]["value"]
        if patch["patch"]["operation"] == "MERGE":
            for route in routes:
                if host.get("route", {}).get("name", "") in ("", route["name"]) and "ours" not in route:
                    route["metadata"] |= value["metadata"]["filter_metadata"]
        else:
            (header,) = value["match"]["headers"]
            made = {
                "name": value["name"],
                "headers": {header["name"]: header["string_match"]["exact"]},
                "clusters": {one["name"]: one["weight"] for one in value["route"]["weighted_clusters"]["clusters"]},
                "metadata": {},
                "ours": True,
            }
            assert OVERLAY_HEADER in value["request_headers_to_remove"]
            routes.insert(0, made)
    return routes


def goes_to(routes: list[Object], headers: Mapping[str, str], now: float, *, filtered: bool = True) -> dict[str, int]:
    def match(given: Mapping[str, str]) -> Object:
        return next(
            (one for one in routes if all(given.get(name) == value for name, value in one["headers"].items())),
            {"clusters": {}, "metadata": {}},
        )

    if not filtered:
        return dict(match(headers)["clusters"])
    kept = {name: value for name, value in headers.items() if name != OVERLAY_HEADER}
    said = match(kept)["metadata"].get(FILTER, {})
    if said and now * 1000 < float(said["deadline"]):
        kept[OVERLAY_HEADER] = said["overlay"]
    return dict(match(kept)["clusters"])


weights_of_a_rule = st.fixed_dictionaries({"v1": st.integers(1, 100), "v2": st.integers(0, 100)})
testers = st.lists(st.sampled_from(["x-a", "x-b", "x-c"]), unique=True, max_size=3)


@given(testers, st.lists(st.sampled_from(["x-d", "x-e"]), unique=True), weights_of_a_rule, st.integers(0, 100))
def test_requests_are_split_where_the_users_rules_split_and_nowhere_else(
    alone: list[str], shared: list[str], weights: dict[str, int], canary: int
) -> None:
    rules = [rule(f"test-{name}", {"v2": 100}, header=name) for name in alone]
    rules += [rule(f"split-{name}", weights, header=name) for name in shared]
    body = virtual_service(*rules, rule("everybody", weights))
    base = base_routes(body)
    routes = with_patches(base, rendered(body, {"v1": 100 - canary, "v2": canary}))
    wanted = {f"outbound|80|{arm}|{HOST}": share for arm, share in (("v1", 100 - canary), ("v2", canary)) if share}
    for header in ({}, *({name: "yes"} for name in (*alone, *shared))):
        name = next(iter(header), "")
        before = goes_to(base, header, NOW)
        assert goes_to(routes, header, NOW) == (before if name in alone else wanted)
        for forged in ("1", "secret", "secret-"):
            given_headers = {**header, OVERLAY_HEADER: forged}
            assert goes_to(routes, given_headers, NOW) == goes_to(routes, header, NOW)
            assert goes_to(routes, given_headers, NOW, filtered=False) == before
        # Not even the right key helps after the deadline; nor does anything without the filter.
        assert goes_to(routes, {**header, OVERLAY_HEADER: "secret-0"}, NOW + 61) == before
        assert goes_to(routes, header, NOW + 61) == before
        assert goes_to(routes, header, NOW, filtered=False) == before


def test_a_late_writer_of_a_lower_number_changes_nothing() -> None:
    body = virtual_service(rule("testers", {"v2": 100}, header="x-t"), rule("everybody", {"v1": 100, "v2": 0}))
    later = rendered(body, {"v1": 80, "v2": 20}, token="later", fencing=12)
    late = rendered(body, {"v1": 0, "v2": 100}, token="late", fencing=9)
    assert late["metadata"]["name"] != later["metadata"]["name"]
    for order in ((later, late), (late, later)):
        routes = with_patches(base_routes(body), *order)
        assert set(goes_to(routes, {}, NOW).values()) == {80, 20}


def test_a_new_deadline_changes_nothing_else() -> None:
    body = rendered(virtual_service(rule(None, {"v1": 100})), {"v1": 95, "v2": 5})
    body["metadata"] |= {"resourceVersion": "7"}
    found = laid_by(body)
    assert found is not None
    moved = patched(body, with_deadline(body, found, NOW + 90))
    again = laid_by(moved)
    assert again == found.model_copy(update={"deadline": NOW + 90})
    assert moved["spec"]["configPatches"][1:] == body["spec"]["configPatches"][1:]
    metadata = moved["spec"]["configPatches"][0]["patch"]["value"]["metadata"]["filter_metadata"][FILTER]
    assert metadata == {"deadline": str(round((NOW + 90) * 1000)), "overlay": "secret-0"}
    moved["metadata"]["annotations"] = {}
    told = laid_by(moved)
    assert told is not None
    assert (told.fencing, told.weights) == (3, {})
    assert laid_by(standing_filter("istio-system")) is None
    assert moved["metadata"]["labels"][FENCING] == "3"


def test_ports_and_hosts_are_named_as_istio_names_them() -> None:
    several = FakeApi(ports=(80, 9080))
    body = virtual_service(rule(None, {"v1": 100}), gateways=["mesh"])
    found = pieces_of(body, {"v1": 50, "v2": 50}, several)
    assert [piece.host["name"] for piece in found] == [f"{HOST}:80", f"{HOST}:9080"]
    assert [one["name"] for one in found[1].route["route"]["weighted_clusters"]["clusters"]] == [
        f"outbound|9080|v1|{HOST}",
        f"outbound|9080|v2|{HOST}",
    ]
    outside = virtual_service(rule("all", {"v1": 100}), hosts=["shop.example.com"], gateways=["istio-ingress/public"])
    (piece,) = pieces_of(outside, {"v1": 50, "v2": 50})
    assert (piece.context, piece.host) == ("GATEWAY", {"domainName": "shop.example.com"})
    with pytest.raises(InvalidChange, match="names no port of reviews"):
        pieces_of(outside, {"v1": 50, "v2": 50}, several)
    unnamed = virtual_service(rule(None, {"v1": 100}), hosts=["shop.example.com"], gateways=["public"])
    with pytest.raises(InvalidChange, match="give each rule its own name"):  # a gateway may have routes of others there
        pieces_of(unnamed, {"v1": 50, "v2": 50})
    theirs = copy.deepcopy(outside)
    theirs["metadata"] |= {"namespace": "pay"}
    with pytest.raises(InvalidChange, match=r"pay/reviews is for shop\.example\.com too, and has a rule"):
        pieces_of(outside, {"v1": 50, "v2": 50}, FakeApi((80,), None, outside, theirs))
    theirs["spec"]["http"][0]["name"] = "pay"
    pieces_of(outside, {"v1": 50, "v2": 50}, FakeApi((80,), None, outside, theirs))


def test_a_rule_with_a_name_is_told_by_it_even_alone() -> None:
    """Whoever adds a rule meanwhile must not find it overlaid."""
    (named,) = pieces_of(virtual_service(rule("a", {"v1": 100})), {"v1": 50, "v2": 50})
    (unnamed,) = pieces_of(virtual_service(rule(None, {"v1": 100})), {"v1": 50, "v2": 50})
    assert (named.routes, unnamed.routes) == (("a",), ())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (virtual_service(rule("a", {"v1": 100}), hosts=["*"]), "without wildcards"),
        (virtual_service(rule("a", {"v1": 100}, mirror={"host": "x"})), "has mirror, which driver envoyfilter cannot"),
        (virtual_service(rule("a", {"v1": 1}, header="x-t"), rule(None, {"v1": 100})), "rule 2 of VirtualService"),
        (virtual_service(rule("a", {"v1": 1}, header="x-t"), rule("a", {"v1": 100})), "no unique name"),
        (virtual_service(rule("a", {"v1": 100}), hosts=["elsewhere.example.com"]), "no Service of this cluster"),
        (
            virtual_service(rule("a", {"v1": 100}, headers={"request": {"set": {"Host": "x"}}})),
            "rewrites the Host",
        ),
    ],
)
def test_what_cannot_be_carried_over_is_refused(body: Object, said: str) -> None:
    with pytest.raises(InvalidChange, match=said):
        pieces_of(body, {"v1": 50, "v2": 50})


def test_hashing_and_two_virtual_services_for_one_host_are_refused() -> None:
    body = virtual_service(rule("a", {"v1": 100}))
    hashing = FakeApi(policy={"loadBalancer": {"consistentHash": {"useSourceIp": True}}})
    with pytest.raises(InvalidChange, match="consistent hashing"):
        pieces_of(body, {"v1": 50, "v2": 50}, hashing)
    api = FakeApi()
    reader, routes = Reader(api, IstioRoutes(api), TARGET), IstioRoutes(api)
    two: list[Route] = [found for _ in range(2) if (found := route_to(routes, TARGET, VIRTUAL_SERVICE, body))]
    mark = Mark(service="reviews", operation="o", fencing=1)
    with pytest.raises(InvalidChange, match="is not the only VirtualService"):
        reader.pieces([reader.intended(one, split_of({"v1": 50, "v2": 50}), mark) for one in two])


def test_faults_timeouts_and_retries_stay_as_they_are() -> None:
    route, action = carriage({"fault": {"abort": {}}, "timeout": "2s", "retries": {"attempts": 0}}, "rule")
    assert (route, action) == ({}, {"timeout": "2s", "max_grpc_timeout": "2s"})
    _, action = carriage({"retries": {"attempts": 4, "retryOn": "503, reset", "retryIgnorePreviousHosts": False}}, "r")
    assert action["retry_policy"] == {
        "num_retries": 4,
        "retry_on": "reset,retriable-status-codes",
        "retriable_status_codes": [503],
        "host_selection_retry_max_attempts": 5,
    }


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
def test_durations_of_go_are_protobufs_seconds(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    found = duration(f"{hours}h{minutes}m{seconds}s{milliseconds}ms")
    assert found.endswith("s")
    assert float(found[:-1]) == pytest.approx(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)
    assert "e" not in found


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 s", "1d"])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(InvalidChange, match="not a duration"):
        duration(text)


def test_names_of_routes_are_the_rules_and_their_matches() -> None:
    rules: list[Object] = [{"name": "a", "match": [{"name": "m"}, {}]}, {"name": "b"}, {}]
    assert route_names(rules, 0, "it", alone=True) == ("a.m", "a")
    assert route_names(rules, 1, "it", alone=True) == ("b",)
    assert route_names(rules[2:], 0, "it", alone=True) == ()


def test_the_driver_is_istios_alone() -> None:
    assert ClusterSpec.model_validate({"provider": "istio"}).driver == "plain"
    assert ClusterSpec.model_validate({"provider": "istio", "driver": "envoyfilter"}).driver == "envoyfilter"
    with pytest.raises(ValidationError, match="driver: is 'envoyfilter', which provider smi does not support"):
        ClusterSpec.model_validate({"provider": "smi", "driver": "envoyfilter"})
