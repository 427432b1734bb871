"""Faults as EnvoyFilters meet just whom the same faults in VirtualServices meet, and nobody once they have expired.

Which requests these meet is told elsewhere (`test_kube_faults`); what Istio makes of the patches, and Envoy of its
routes, is played here in a few lines.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, given

from autopilot.mesh.errors import InvalidChange, MeshUnavailable
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import DESTINATION_RULE, ENVOY_FILTER, SERVICE, VIRTUAL_SERVICE, Resource
from autopilot.mesh.kube.envoyfilter.standing_filter import FAULTS, FILTER, RELEASE
from autopilot.mesh.kube.faults.envoyfilter import FilterFaults
from autopilot.mesh.kube.faults.istio_fields import Wish, duration, wish
from autopilot.mesh.kube.faults.virtual_service import RouteFaults
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import InjectFault
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from autopilot.spec.chaos.faults import GRPC_CODES, Abort, Delay
from autopilot.spec.chaos.scope import HeaderMatch, PathMatch, Scope, Source
from tests.mesh.kube.test_rule_patch import (
    EVERYBODY,
    JASON,
    TARGET,
    Request,
    at_leisure,
    decides,
    laid,
    requests,
    takes,
    virtual_services,
    wishes,
)

NOW = 1_800_000_000.0
DEADLINE = NOW + 60
HOST = "ratings.shop.svc.cluster.local"


def meta(name: str = "ratings") -> Object:
    return {"name": name, "namespace": "shop", "resourceVersion": "1"}


def to(host: str, **more: Any) -> Object:
    return {"destination": {"host": host, **more}}


BOB = [{"headers": {"end-user": {"exact": "bob"}}}]
ONE = {"metadata": meta(), "spec": {"hosts": ["ratings"], "http": [{"name": "a", "route": [to("ratings")]}]}}


class FakeApi(KubeApi):
    """Some VirtualServices, a Service, and writes that are only told back."""

    def __init__(
        self, *bodies: Object, rules: Sequence[Object] = (), filters: Sequence[Object] = (), old: int = 0
    ) -> None:
        self._there = {VIRTUAL_SERVICE: bodies, DESTINATION_RULE: rules, ENVOY_FILTER: filters}
        self._old = old
        """The release of the standing filter; 0 for ours."""

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        if resource is ENVOY_FILTER:
            return {"metadata": {"name": name, "annotations": {RELEASE: str(self._old or 99)}}}
        assert (resource, namespace) == (SERVICE, "shop")
        return {"spec": {"ports": [{"port": 80}]}} if name in {"ratings", "details"} else None

    def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        assert fields == ""
        return list(self._there[resource])

    def create(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        assert resource is ENVOY_FILTER
        assert dry_run
        return body


def over(api: FakeApi) -> FilterFaults:
    store, routes = KubeStore(api, "m", "autopilot"), IstioRoutes(api)
    return FilterFaults(store, routes, RouteFaults(store, routes), "istio-system")


def rendered(said: list[Wish], *bodies: Object) -> Object:
    ((_, body),) = over(FakeApi(*bodies)).planned(TARGET, said, DEADLINE)
    return body


@dataclass
class Route:
    """One of Envoy's."""

    name: str
    match: Object
    """A rule with nothing but matches, Istio's or ours."""
    clusters: Mapping[str, int]
    timeout: str | None = None
    attempts: int | None = None
    fault: Object = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    removes: tuple[str, ...] = ()
    key: str = ""


def table(body: Object) -> list[Route]:
    """What Istio makes of the rules."""
    found = []
    for rule in fault_marks.rules_of(body):
        shares = {
            f"outbound|80|{one['destination'].get('subset', '')}|{one['destination']['host'].split('.')[0]}"
            f".{HOST.partition('.')[2]}": one.get("weight", 100)
            for one in rule["route"]
            if one.get("weight", 100)
        }
        attempts = (rule.get("retries") or {}).get("attempts")
        found.append(Route(rule.get("name", ""), rule, shares, rule.get("timeout"), attempts, rule.get("fault") or {}))
    return found


def patched(routes: list[Route], body: Object) -> list[Route]:
    """The table after our patches."""
    routes = copy.deepcopy(routes)
    for patch in body["spec"]["configPatches"]:
        host = patch["match"]["routeConfiguration"]["vhost"]
        assert host["name"] == f"{HOST}:80"
        value = patch["patch"]["value"]
        if patch["patch"]["operation"] == "MERGE":
            for route in routes:
                if host.get("route", {}).get("name", "") in {"", route.name}:
                    assert not route.key, "overlays are no routes to lay overlays over"
                    route.metadata |= value["metadata"]["filter_metadata"]
                    route.removes += tuple(value["request_headers_to_remove"])
        else:
            routes.insert(0, ours(value))
    return routes


def ours(value: Object) -> Route:
    (key, *others) = value["match"]["headers"]
    assert key["name"] == OVERLAY_HEADER
    action = value["route"]
    said = {one["name"]: in_istios_words(one) for one in others}
    method = said.pop(":method", {})
    path = {kind: text for kind, text in value["match"].items() if kind != "headers"}
    return Route(
        name=value["name"],
        match={"match": [{"headers": said, "method": method, "uri": path_in_istios_words(path)}]},
        clusters={one["name"]: one["weight"] for one in action["weighted_clusters"]["clusters"]},
        timeout=action["timeout"],
        attempts=action.get("retry_policy", {}).get("num_retries", 0),
        fault=value.get("typed_per_filter_config", {}).get(FAULTS, {}),
        removes=tuple(value["request_headers_to_remove"]),
        key=key["string_match"]["exact"],
    )


def in_istios_words(matcher: Object) -> Object:
    if matcher.get("present_match"):
        return {}
    ((kind, text),) = matcher["string_match"].items()
    return {"regex": text["regex"]} if kind == "safe_regex" else {kind: text}


def path_in_istios_words(specifier: Object) -> Object:
    """Both leave out the query."""
    ((kind, text),) = specifier.items()
    return {"regex": text["regex"]} if kind == "safe_regex" else {"exact" if kind == "path" else kind: text}


def carried(routes: list[Route], request: Request, now: float = NOW) -> Route | None:
    """The route that carries a request through our standing filter, which drops what clients forge."""

    def first(key: str) -> Route | None:
        return next((one for one in routes if one.key in {"", key} and takes(one.match, request)), None)

    base = first("")
    said = base.metadata.get(FILTER, {}) if base is not None else {}
    if not said or now * 1000 >= float(said["deadline"]):
        return base
    return first(said["overlay"])


def in_envoys_words(fault: Object) -> Object:
    """A fault of a VirtualService, as an HTTPFault says it."""
    found: Object = {}
    for kind, said in fault.items():
        share = {"percentage": {"numerator": round(said["percentage"]["value"] * 10_000), "denominator": "MILLION"}}
        if kind == "delay":
            found["delay"] = {"fixed_delay": said["fixedDelay"], **share}
        elif "httpStatus" in said:
            found["abort"] = {"http_status": said["httpStatus"], **share}
        else:
            found["abort"] = {"grpc_status": GRPC_CODES[said["grpcStatus"]], **share}
    return found


def told_apart(body: Object) -> Object:
    """With a name for each rule, as this driver wants them: its own, where no rule before has it."""
    made = copy.deepcopy(body)
    names: set[str] = set()
    for number, rule in enumerate(fault_marks.rules_of(made)):
        if rule.get("name", "") in {"", *names}:
            rule["name"] = f"rule-{number}"
        names.add(rule["name"])
    return made


@at_leisure
@given(virtual_services(), wishes(), requests)
def test_both_drivers_mean_the_same_requests(given_body: Object, said: list[Wish], request_: Request) -> None:
    body = told_apart(given_body)
    try:
        written = laid(body, said)
        filters = rendered(said, body)
    except InvalidChange:
        assume(False)
        raise
    base, routes = table(body), patched(table(body), filters)
    plain, by_filter = decides(written, request_), carried(routes, request_)
    if plain is None or by_filter is None:
        assert plain is None
        assert by_filter is None
        return
    (wanted,) = table({"spec": {"http": [plain]}})
    assert by_filter.clusters == wanted.clusters
    if not by_filter.key:
        assert (by_filter.fault, by_filter.timeout, by_filter.attempts) == (
            wanted.fault,
            wanted.timeout,
            wanted.attempts,
        )
    else:
        assert {key: value for key, value in by_filter.fault.items() if key != "@type"} == in_envoys_words(wanted.fault)
        assert by_filter.timeout == (wanted.timeout or "0s")
        assert by_filter.attempts == (2 if wanted.attempts is None else wanted.attempts)  # Istio's default
        assert OVERLAY_HEADER in by_filter.removes
    # What has expired is not there, and nobody behind a route that bears a key hears of it.
    late = carried(routes, request_, DEADLINE)
    assert late is not None
    assert (late.key, late.clusters, late.fault) == ("", *_unlaid(base, request_))
    assert not late.metadata or OVERLAY_HEADER in late.removes


def _unlaid(base: list[Route], request_: Request) -> tuple[Mapping[str, int], Object]:
    found = carried(base, request_)
    assert found is not None
    return found.clusters, found.fault


def test_istios_own_example_by_a_filter() -> None:
    body = {"metadata": meta(), "spec": {"hosts": ["ratings"], "http": [{"route": [to("ratings")]}]}}
    made = rendered([wish(Delay(delay=7), JASON)], body)
    assert made["metadata"]["labels"]["meshautopilot.io/fault"] == "route"
    merged, inserted = made["spec"]["configPatches"]
    assert merged["patch"]["value"]["metadata"]["filter_metadata"][FILTER]["deadline"] == str(round(DEADLINE * 1000))
    value = inserted["patch"]["value"]
    assert value["typed_per_filter_config"][FAULTS]["delay"] == {
        "fixed_delay": "7s",
        "percentage": {"numerator": 1_000_000, "denominator": "MILLION"},
    }
    assert value["match"]["headers"][1] == {"name": "end-user", "string_match": {"exact": "jason"}}
    assert re.fullmatch(r"[0-9a-f]{32}-0-0", value["match"]["headers"][0]["string_match"]["exact"])
    assert duration(7) == "7s"


def test_a_path_is_a_routes_own_and_so_leaves_out_the_query() -> None:
    scope = Scope(path=PathMatch(exact="/api/checkout"), method="POST")
    _, inserted = rendered([wish(Abort(), scope)], ONE)["spec"]["configPatches"]
    match = inserted["patch"]["value"]["match"]
    assert match["path"] == "/api/checkout"
    assert match["headers"][1:] == [{"name": ":method", "string_match": {"exact": "POST"}}]


def test_a_rule_by_regex_can_be_narrowed_for_its_match_stays_its_own() -> None:
    http = [{"name": "a", "match": [{"uri": {"regex": "/api/v[0-9]+/.*"}}], "route": [to("ratings")]}]
    body = {"metadata": meta(), "spec": {"hosts": ["ratings"], "http": http}}
    said = [wish(Abort(), Scope(path=PathMatch(prefix="/api/v1/pay")))]
    with pytest.raises(InvalidChange, match="driver envoyfilter"):
        laid(body, said)
    routes = patched(table(body), rendered(said, body))
    met = [path for path in ("/api/v1/pay?x", "/api/v1/cart", "/api/v1/pay/7") if at(routes, path).fault]
    assert met == ["/api/v1/pay?x", "/api/v1/pay/7"]


def at(routes: list[Route], path: str) -> Route:
    found = carried(routes, Request(headers={}, path=path))
    assert found is not None
    return found


def test_a_rule_is_told_by_its_name() -> None:
    http = [{"name": "a", "match": BOB, "route": [to("ratings")]}, {"name": "b", "route": [to("ratings")]}]
    body = {"metadata": meta(), "spec": {"hosts": ["ratings"], "http": http}}
    found = rendered([wish(Abort(), Scope(rule="b"))], body)["spec"]["configPatches"]
    assert [one["match"]["routeConfiguration"]["vhost"].get("route") for one in found] == [{"name": "b"}, None]


@pytest.mark.parametrize(
    ("http", "said"),
    [
        ([{"name": "b", "route": [to("ratings")]}, {"name": "c", "route": [to("details")]}], "these do: b"),
        ([{"route": [to("ratings")]}], "has a name; give the rule a name"),
        ([{"name": "a", "route": [to("details")]}], "no VirtualService of namespace shop leads to shop/ratings"),
    ],
)
def test_a_rule_that_is_not_there_is_refused_with_those_that_are(http: list[Object], said: str) -> None:
    api = FakeApi({"metadata": meta(), "spec": {"hosts": ["ratings"], "http": http}})
    plain = RouteFaults(KubeStore(api, "m", "autopilot"), IstioRoutes(api))
    with pytest.raises(InvalidChange, match=f"scope.rule: 'a': .*{said}"):
        plain.wishes(TARGET, [InjectFault(fault=Abort(), scope=Scope(rule="a"))])


def test_a_service_without_a_route() -> None:
    made = rendered([wish(Abort(), EVERYBODY)])
    assert [one["match"]["routeConfiguration"]["vhost"] for one in made["spec"]["configPatches"]] == [
        {"name": f"{HOST}:80", "route": {"name": "default"}},
        {"name": f"{HOST}:80"},
    ]


@pytest.mark.parametrize(
    ("bodies", "said", "message"),
    [
        ([ONE], wish(Abort(), Scope(source=Source(service="web")), labels={"app": "web"}), "driver plain"),
        ([ONE, {**ONE, "metadata": meta("again")}], wish(Abort(), EVERYBODY), "not the only VirtualService"),
        (
            [{**ONE, "spec": {"hosts": ["*.shop"], "http": ONE["spec"]["http"]}}],
            wish(Abort(), EVERYBODY),
            "without wildcards",
        ),
        (
            [{**ONE, "spec": {"hosts": ["ratings"], "http": [{"route": [to("ratings")]}] * 2}}],
            wish(Abort(), EVERYBODY),
            "give each rule its own name",
        ),
        (
            [{**ONE, "spec": {"hosts": ["ratings"], "http": [{"route": [to("ratings")], "mirror": {"host": "x"}}]}}],
            wish(Abort(), EVERYBODY),
            "has mirror",
        ),
        (
            [{**ONE, "spec": {"hosts": ["ratings"], "http": [{"route": [to("ratings")], "fault": {"abort": {}}}]}}],
            wish(Abort(), EVERYBODY),
            "already has a fault",
        ),
        ([], wish(Abort(), Scope(arm="v1")), "leave out arm"),
        ([ONE], wish(Abort(), Scope(path=PathMatch(regex="(?!/a).*"))), "scope.path: .*they use RE2"),
        ([ONE], wish(Abort(), Scope(headers={"x": HeaderMatch(regex="(")})), "scope.headers.x: .*not a valid"),
        (
            [{**ONE, "spec": {"hosts": ["ratings"], "http": [{"match": BOB, "route": [to("ratings")]}]}}],
            wish(Abort(), JASON),
            "would apply to no request",
        ),
        (
            [{**ONE, "spec": {"hosts": ["ratings.example.com"], "http": ONE["spec"]["http"]}}],
            wish(Abort(), EVERYBODY),
            "no Service of this cluster",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(bodies: list[Object], said: Wish, message: str) -> None:
    with pytest.raises(InvalidChange, match=message):
        rendered([said], *bodies)


def test_hashing_is_refused_where_there_is_no_route_either() -> None:
    policy = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}
    rule = {"metadata": {"name": "sticky"}, "spec": {"host": "ratings", "trafficPolicy": policy}}
    with pytest.raises(InvalidChange, match="sticky asks for consistent hashing"):
        over(FakeApi(rules=[rule])).check(TARGET, [wish(Abort(), EVERYBODY)])


def test_two_targets_never_lie_over_one_rule() -> None:
    """A route bears one deadline and one key: the later one would silently take the earlier one's place."""
    said = [wish(Abort(), EVERYBODY)]
    theirs = rendered(said, ONE)
    theirs["metadata"]["labels"]["meshautopilot.io/service"] = "ratings-v2"
    with pytest.raises(InvalidChange, match="planned has an overlay for shop/ratings-v2 on the same rule"):
        over(FakeApi(ONE, filters=[theirs])).check(TARGET, said)
    other = {**ONE, "spec": {"hosts": ["ratings"], "http": [{"name": "b", "route": [to("ratings")]}]}}
    over(FakeApi(other, filters=[theirs])).check(TARGET, said)


def test_an_older_standing_filter_that_others_use_is_a_reason_to_wait() -> None:
    said = [wish(Abort(), EVERYBODY)]
    somebodys = {"metadata": {"name": "x", "labels": {}}, "spec": {}}
    with pytest.raises(MeshUnavailable, match="earlier release"):
        over(FakeApi(ONE, filters=[somebodys], old=1)).check(TARGET, said)
    over(FakeApi(ONE, old=1)).check(TARGET, said)
    (standing, _), _ = over(FakeApi(ONE, old=1)).planned(TARGET, said, DEADLINE)
    assert standing is not None, "the plan shows that it is replaced"
