"""What leads to a target and is not driven is named before anything is written; what is driven is listed.

Inputs as people have them: the layouts of Argo Rollouts and Flagger, routes of a gateway team, of other protocols and
kinds, and under other controllers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ruamel.yaml import YAML

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.resources import Resource
from autopilot.mesh.kube.faults.driver import FaultDriver
from autopilot.mesh.kube.faults.virtual_service import RouteFaults
from autopilot.mesh.kube.routes.discovery import Found, RouteDiscovery
from autopilot.mesh.kube.routes.driver import Overlayer
from autopilot.mesh.kube.routes.gateway_api import GatewayRoutes
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import EVERY_RULE, Holder, InjectFault, RuleChoice, Target
from autopilot.spec.chaos.faults import Abort
from autopilot.spec.chaos.scope import Scope
from tests.mesh.kube.memory import Memory, deployment, service, shop, subsets

RBAC = Path(__file__).parents[3] / "deploy" / "rbac.yaml"
WEB = Target(mesh="m", namespace="shop", service="web")
HOLDER = Holder(operation="canary/m/shop/web", fencing=3)
SUBSETS = {"v1": 90.0, "v2": 10.0}
SERVICES = {"web-v1": 90.0, "web-v2": 10.0}


def route(kind: str, spec: Object, name: str = "web", namespace: str = "shop", **meta: Any) -> Object:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, **meta}, "spec": spec}


def to(host: str, subset: str | None = None, **more: Any) -> Object:
    return {"destination": {"host": host, **({"subset": subset} if subset else {})}, **more}


def virtual_service(*rules: Object, **more: Any) -> Object:
    return route("VirtualService", {"hosts": ["web"], "http": list(rules)}, **more)


def http_route(*backends: Object, parent: Object | None = None, **more: Any) -> Object:
    spec = {"parentRefs": [parent or {"name": "edge"}], "rules": [{"backendRefs": list(backends)}]}
    return route("HTTPRoute", spec, **more)


def over(*objects: Object, provider: str = "istio", absent: Sequence[str] = ()) -> tuple[Memory, Overlayer]:
    api = Memory(objects, absent)
    routes = IstioRoutes(api) if provider == "istio" else GatewayRoutes(api)
    return api, Overlayer(KubeStore(api, "m", "autopilot"), routes)


def around(overlayer: Overlayer, weights: dict[str, float], choice: RuleChoice = EVERY_RULE) -> Found:
    split = overlayer.resolved(WEB, weights, choice, strict=False)
    return overlayer.around(WEB, split)


STABLE = virtual_service({"route": [to("web", "v1")]})
PARENT = {"kind": "Service", "group": "", "name": "web", "port": 80}
OTHERS: dict[str, tuple[Object, str]] = {
    "the gateway team's namespace": (
        route("VirtualService", {"http": [{"route": [to("web.shop.svc.cluster.local", "v1")]}]}, namespace="edge"),
        "VirtualService edge/web leads to shop/web and lies in another namespace",
    ),
    "tcp": (
        route("VirtualService", {"tcp": [{"route": [to("web", "v1")]}]}),
        "shop/web is routed by tcp, which is not driven: remove VirtualService shop/web",
    ),
    "tls": (
        route("VirtualService", {"tls": [{"match": [{"sniHosts": ["web"]}], "route": [to("web", "v1")]}]}),
        "shop/web is routed by tls, which is not driven",
    ),
    "another controller": (
        virtual_service(
            {"route": [to("web", "v1")]},
            ownerReferences=[
                {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "web", "controller": True}
            ],
        ),
        "VirtualService shop/web is controlled by Canary web (flagger.app); pause or remove it first",
    ),
    "a host that Istio takes as it is": (
        virtual_service({"route": [to("web.shop", "v1")]}),
        "web.shop is no host Istio knows; write web or web.shop.svc.cluster.local",
    ),
    "half and half": (
        virtual_service({"name": "all", "route": [to("web", "v1", weight=50), to("web", "v2", weight=50)]}),
        (
            "rule all of VirtualService shop/web gives v2 50 % before the rollout, which begins with v1 alone: set the "
            "weights of v1 and v2 to 100 and 0 there"
        ),
    ),
    "all pods of the Service": (
        virtual_service({"match": [{"uri": {"prefix": "/api"}}], "route": [to("web")]}),
        (
            "the rule for /api of VirtualService shop/web leads to web as a whole, behind which pods of v1 and v2 "
            "stand; write subset: v1 there"
        ),
    ),
    "another kind of route": (
        http_route({"name": "web", "port": 80}),
        "HTTPRoute shop/web leads to shop/web, and this mesh is driven by VirtualServices: name the provider",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_driven_is_refused_with_the_reason_and_nothing_is_written(name: str) -> None:
    other, said = OTHERS[name]
    beside = copy.deepcopy(STABLE)
    beside["metadata"]["name"] = "also"
    for objects in ([other], [other, beside]):
        api, overlayer = over(*shop("web"), *objects)
        before = api.routes
        with pytest.raises(InvalidChange) as refused:
            overlayer.lay(WEB, HOLDER, SUBSETS)
        assert said in str(refused.value)
        assert api.routes == before


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_spec_leaves_out_is_no_reason_and_is_said(name: str) -> None:
    other, _ = OTHERS[name]
    if name == "a host that Istio takes as it is":
        return  # nothing leads there: it is a mistake, whatever the spec says
    beside = copy.deepcopy(STABLE)
    beside["metadata"]["name"] = "also"
    meta = other["metadata"]
    api, overlayer = over(*shop("web"), other, beside)
    choice = RuleChoice(but=(f"{meta['namespace']}/{meta['name']}",))
    before = api.routes
    overlayer.lay(WEB, HOLDER, SUBSETS, choice=choice)
    key = (other["kind"], meta["namespace"], meta["name"])
    assert api.routes[key] == before[key]
    left = around(overlayer, SUBSETS, choice).left
    assert any("still leads to v1: spec.routes leaves it out" in one for one in left)
    full = {"v1": 0.0, "v2": 100.0}
    overlayer.lay(WEB, HOLDER, full, choice=choice)
    assert any("still leads to v1" in note for note in overlayer.take_away(WEB, 3, commit=full, choice=choice))


GATEWAYS: dict[str, tuple[Object, str]] = {
    "a consumer's route": (
        http_route({"name": "web-v1", "namespace": "shop", "port": 80}, parent={**PARENT, "namespace": "shop"},
                   name="mine", namespace="mobile"),
        "HTTPRoute mobile/mine sends callers of that namespace to web-v1, whatever the split",
    ),
    "another namespace": (
        http_route({"name": "web-v1", "namespace": "shop", "port": 80}, name="front", namespace="infra"),
        "HTTPRoute infra/front leads to shop/web and lies in another namespace",
    ),
    "an InferencePool": (
        http_route({"name": "web-v1", "group": "inference.networking.k8s.io", "kind": "InferencePool"}),
        "HTTPRoute shop/web leads to InferencePool shop/web-v1, which is no Service",
    ),
    "no weights": (
        http_route({"name": "web-v1", "port": 80}, {"name": "web-v2", "port": 80}),
        ("gives web-v2 50 % before the rollout, which begins with web-v1 alone: set the weights of web-v1 and web-v2 "
        "to 1 and 0 there"),
    ),
    "a VirtualService": (
        virtual_service({"route": [to("web-v1")]}),
        "VirtualService shop/web leads to shop/web, and this mesh is driven by HTTPRoutes and GRPCRoutes",
    ),
    "tcp": (
        {**http_route({"name": "web-v1", "port": 80}), "kind": "TCPRoute"},
        "shop/web is routed by tcp, which is not driven: remove TCPRoute shop/web",
    ),
    "udp": (
        {**http_route({"name": "web-v1", "port": 80}), "kind": "UDPRoute"},
        "shop/web is routed by udp, which is not driven: remove UDPRoute shop/web",
    ),
    "Linkerd's own kind": (
        {**http_route({"name": "web-v1", "port": 80}, parent=PARENT), "apiVersion": "policy.linkerd.io/v1beta3"},
        "Linkerd HTTPRoute shop/web leads to shop/web, and this mesh is driven by HTTPRoutes and GRPCRoutes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_same_of_gateway_routes(name: str) -> None:
    other, said = GATEWAYS[name]
    api, overlayer = over(*shop("web"), other, provider="gateway_api")
    before = api.routes
    with pytest.raises(InvalidChange) as refused:
        overlayer.lay(WEB, HOLDER, SERVICES)
    assert said in str(refused.value)
    assert api.routes == before


def test_kinds_that_a_cluster_does_not_serve_lead_nowhere() -> None:
    absent = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "TrafficSplit", "ServiceEntry")
    api, overlayer = over(*shop("web"), STABLE, absent=absent)
    overlayer.lay(WEB, HOLDER, SUBSETS)
    (rule,) = api.routes["VirtualService", "shop", "web"]["http"]
    assert [one["weight"] for one in rule["route"]] == [90, 10]


class Asked(Memory):
    """Remembers which kinds were listed."""

    kinds: ClassVar[set[tuple[str, str]]] = set()

    def list(self, resource: Resource, *arguments: Any, **named: Any) -> list[Object]:
        self.kinds.add((resource.group, resource.plural))
        return super().list(resource, *arguments, **named)


def test_all_that_is_looked_at_may_be_listed() -> None:
    api = Asked([*shop("web"), STABLE])
    Overlayer(KubeStore(api, "m", "autopilot"), IstioRoutes(api)).lay(WEB, HOLDER, SUBSETS)
    rules = [rule for one in YAML(typ="safe").load_all(RBAC) for rule in one.get("rules") or []]
    listed = {
        (group, plural)
        for rule in rules
        if "list" in rule["verbs"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
    }
    assert ("gateway.networking.k8s.io", "tcproutes") in api.kinds
    assert api.kinds <= listed


def test_every_rule_is_split_and_listed_and_testers_stay() -> None:
    rules = [
        {"name": "api", "match": [{"uri": {"prefix": "/api"}}], "route": [to("web", "v1")]},
        {"name": "testers", "match": [{"headers": {"x": {"exact": "1"}}}], "route": [to("web", "v2")]},
        {"name": "cart", "match": [{"uri": {"prefix": "/cart"}}], "route": [to("cart", "v1")]},
        {"name": "rest", "route": [to("web", "v1")], "mirror": {"host": "web", "subset": "v2"}},
    ]
    api, overlayer = over(*shop("web"), *shop("cart"), virtual_service(*rules))
    found = around(overlayer, SUBSETS)
    assert found.concerned == (
        "rule api of VirtualService shop/web is split",
        "rule rest of VirtualService shop/web is split",
    )
    assert "rule testers of VirtualService shop/web leads to v2 alone and stays" in found.notes
    assert "rule rest of VirtualService shop/web mirrors requests to v2, and goes on to do so" in found.notes
    overlayer.lay(WEB, HOLDER, SUBSETS)
    after = api.routes["VirtualService", "shop", "web"]["http"]
    assert [[one.get("weight") for one in rule["route"]] for rule in after] == [[90, 10], [None], [None], [90, 10]]
    assert after[1:3] == rules[1:3]


def test_only_some_rules() -> None:
    rules = [{"name": name, "route": [to("web", "v1")]} for name in ("api", "images", "rest")]
    api, overlayer = over(*shop("web"), virtual_service(*rules))
    overlayer.lay(WEB, HOLDER, SUBSETS, choice=RuleChoice(only=("api",)))
    after = api.routes["VirtualService", "shop", "web"]["http"]
    assert [len(rule["route"]) for rule in after] == [2, 1, 1]
    found = around(overlayer, SUBSETS, RuleChoice(only=("api",)))
    assert [one.split(" of ")[0] for one in found.left] == ["rule images", "rule rest"]
    with pytest.raises(InvalidChange, match=r"spec\.routes leaves out every rule that leads to v1"):
        over(*shop("web"), virtual_service(*rules))[1].lay(WEB, HOLDER, SUBSETS, choice=RuleChoice(only=("nothing",)))


def test_a_value_that_names_the_version_is_told() -> None:
    headers = {"request": {"set": {"x-version": "v1"}}}
    _, overlayer = over(*shop("web"), virtual_service({"name": "all", "route": [to("web", "v1", headers=headers)]}))
    (note,) = around(overlayer, SUBSETS).notes
    assert note.startswith("rule all of VirtualService shop/web sets x-version to 'v1' for v1, and v2 gets the same")


def test_a_share_that_one_route_cannot_hold_is_refused_before_another_is_written() -> None:
    small = virtual_service({"route": [to("web", "v1", weight=1), to("legacy", weight=99)]}, name="small")
    api, overlayer = over(*shop("web"), service("legacy"), STABLE, small)
    before = api.routes
    with pytest.raises(InvalidChange, match="multiply each weight of the rule by 100"):
        overlayer.lay(WEB, HOLDER, SUBSETS)
    assert api.routes == before


# Arms


def test_arms_with_the_same_pods_are_refused_by_the_pods_names() -> None:
    both = [service("web"), deployment("web", "a"), deployment("web", "b")]
    rule = subsets("web", "v1", "v2")
    for one in rule["spec"]["subsets"]:
        one["labels"] = {"app": "web"}
    _, overlayer = over(*both, rule, STABLE)
    with pytest.raises(InvalidChange, match=r"v1 and v2 select the same pods \(web-a-0, web-b-0\)"):
        overlayer.lay(WEB, HOLDER, SUBSETS)


def test_nothing_is_an_arm_by_its_name_alone() -> None:
    admin = [service("web-admin"), deployment("web-admin", "v1")]
    spec = {"hosts": ["web"], "http": [{"name": "admin", "route": [to("web-admin")]}, {"route": [to("web", "v1")]}]}
    api, overlayer = over(*shop("web"), *admin, route("VirtualService", spec))
    overlayer.lay(WEB, HOLDER, SUBSETS)
    assert api.routes["VirtualService", "shop", "web"]["http"][0] == spec["http"][0]
    with pytest.raises(InvalidChange, match=r"has no arm v3: no DestinationRule .* \(there: v1, v2\)"):
        overlayer.lay(WEB, HOLDER, {"v1": 90, "v3": 10})


@pytest.mark.parametrize("where", ["shop", "istio-system", "clients"])
def test_subsets_are_found_where_istio_finds_them(where: str) -> None:
    objects = [one for one in shop("web") if one["kind"] != "DestinationRule"]
    rule = subsets("web.shop.svc.cluster.local", "v1", "v2", namespace=where)
    api, overlayer = over(*objects, rule, STABLE)
    overlayer.lay(WEB, HOLDER, SUBSETS)
    assert len(api.routes["VirtualService", "shop", "web"]["http"][0]["route"]) == 2


def test_a_name_that_means_two_is_refused_with_what_to_write() -> None:
    _, overlayer = over(*shop("web"), service("v2"), STABLE)
    with pytest.raises(InvalidChange, match=r"write {subset: v2} or {service: v2}"):
        overlayer.lay(WEB, HOLDER, SUBSETS)


@pytest.mark.parametrize(("canary", "to_what"), [("subset/v2", to("web", "v2")), ("service/v2", to("v2"))])
def test_the_longer_form_means_one(canary: str, to_what: Object) -> None:
    api, overlayer = over(*shop("web"), service("v2", app="web", version="v2"), STABLE)
    overlayer.lay(WEB, HOLDER, {"v1": 90.0, canary: 10.0})
    (rule,) = api.routes["VirtualService", "shop", "web"]["http"]
    assert rule["route"] == [to("web", "v1", weight=90), {**to_what, "weight": 10}]
    assert overlayer.take_away(WEB, 3) == []
    assert api.routes["VirtualService", "shop", "web"]["http"] == STABLE["spec"]["http"]


def test_argos_two_services_without_a_root() -> None:
    objects = [one for one in shop("web") if one["metadata"]["name"] != "web"]
    stable = route("VirtualService", {"hosts": ["shop.example.com"], "http": [{"route": [to("web-v1"), to("web-v2")]}]})
    stable["spec"]["http"][0]["route"][0]["weight"] = 100
    stable["spec"]["http"][0]["route"][1]["weight"] = 0
    api, overlayer = over(*objects, stable)
    overlayer.lay(WEB, HOLDER, SERVICES)
    (rule,) = api.routes["VirtualService", "shop", "web"]["http"]
    assert [one["weight"] for one in rule["route"]] == [90, 10]


def test_what_an_argo_rollout_manages_is_refused() -> None:
    objects = shop("web")
    rule = subsets("web", "v1", "v2")
    rule["spec"]["subsets"][1]["labels"]["rollouts-pod-template-hash"] = "abc"
    named = [one if one["kind"] != "DestinationRule" else rule for one in objects]
    with pytest.raises(InvalidChange, match=r"v2 \(web, subset v2\) is controlled by an Argo Rollout"):
        over(*named, STABLE)[1].lay(WEB, HOLDER, SUBSETS)
    (one,) = [one for one in objects if one["kind"] == "Service" and one["metadata"]["name"] == "web-v1"]
    one["metadata"]["annotations"] = {"argo-rollouts.argoproj.io/managed-by-rollouts": "web"}
    with pytest.raises(InvalidChange, match=r"web-v1 \(web-v1\) is controlled by Rollout web \(argoproj.io\)"):
        over(*objects, virtual_service({"route": [to("web-v1")]}))[1].lay(WEB, HOLDER, SERVICES)


def test_flaggers_root_that_selects_the_primary_alone_is_stable() -> None:
    objects = [
        service("web", app="web", version="v1"),
        service("web-v1", app="web", version="v1"),
        service("web-v2", app="web", version="v2"),
        deployment("web", "v1"),
        deployment("web", "v2"),
    ]
    api, overlayer = over(*objects, virtual_service({"route": [to("web", headers={"request": {"remove": ["x"]}})]}))
    overlayer.lay(WEB, HOLDER, SERVICES)
    (rule,) = api.routes["VirtualService", "shop", "web"]["http"]
    assert [one["destination"]["host"] for one in rule["route"]] == ["web", "web-v2"]
    assert [one["weight"] for one in rule["route"]] == [90, 10]
    assert rule["route"][0]["headers"] == rule["route"][1]["headers"]
    assert overlayer.take_away(WEB, 3) == []
    assert api.routes["VirtualService", "shop", "web"]["http"][0]["route"] == [
        to("web", headers={"request": {"remove": ["x"]}})
    ]


@pytest.mark.parametrize("provider", ["istio", "gateway_api"])
def test_a_whole_service_leads_to_the_canary_too_before_it_has_pods(provider: str) -> None:
    objects = [one for one in shop("web") if one["metadata"]["name"] != "web-v2" or one["kind"] != "Deployment"]
    istio = provider == "istio"
    leading = virtual_service({"route": [to("web")]}) if istio else http_route({"name": "web", "port": 80})
    api, overlayer = over(*objects, leading, provider=provider)
    before = api.routes
    with pytest.raises(InvalidChange, match=r"leads to web as a whole, behind which pods of \S*v1 and \S*v2 stand"):
        overlayer.lay(WEB, HOLDER, SUBSETS if istio else SERVICES)
    assert api.routes == before


# Faults


@pytest.mark.parametrize("name", ["the gateway team's namespace", "tcp", "tls", "another controller"])
def test_experiments_are_refused_for_the_same_reasons(name: str) -> None:
    other, said = OTHERS[name]
    api = Memory([*shop("web"), other])
    faults = FaultDriver(KubeStore(api, "m", "autopilot"), IstioRoutes(api), "plain")
    with pytest.raises(InvalidChange) as refused:
        faults.check(WEB, [InjectFault(fault=Abort(status=503), scope=Scope(percentage=100))])
    assert said.partition(";")[0].partition(": remove")[0] in str(refused.value)


@pytest.mark.parametrize("route_there", [False, True])
def test_a_second_step_is_not_refused_for_what_the_first_laid(route_there: bool) -> None:
    """Also where the first had to make a route, which leads to the target and is nobody's."""
    rules = [{"route": [to("web")]}]
    api = Memory([*shop("web"), *([virtual_service(*rules)] if route_there else [])])
    faults = FaultDriver(KubeStore(api, "m", "autopilot"), IstioRoutes(api), "plain")
    for status in (500, 503):
        injected = [InjectFault(fault=Abort(status=status), scope=Scope(percentage=100))]
        faults.check(WEB, injected)
        faults.lay(WEB, HOLDER, injected, 100.0)
        ((rule,),) = [spec["http"] for spec in api.routes.values()]
        assert rule["fault"]["abort"]["httpStatus"] == status


def test_a_fault_does_not_hit_the_neighbour() -> None:
    rules = [{"name": "web", "route": [to("web", "v1")]}, {"name": "admin", "route": [to("web-admin")]}]
    api = Memory([*shop("web"), service("web-admin"), virtual_service(*rules)])
    store, routes = KubeStore(api, "m", "autopilot"), IstioRoutes(api)
    faults = RouteFaults(store, routes)
    wishes = faults.wishes(WEB, [InjectFault(fault=Abort(status=503), scope=Scope(percentage=100))])
    faults.lay(WEB, HOLDER, wishes)
    web, admin = api.routes["VirtualService", "shop", "web"]["http"]
    assert ("fault" in web, admin) == (True, rules[1])
    assert RouteDiscovery(api, routes, WEB).refusals() == []
