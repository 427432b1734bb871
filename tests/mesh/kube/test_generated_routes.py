"""Splits over generated clusters: routes as people have them, many to an object and many objects to a target.

Each cluster has two applications, whose routes may share an object, and somebody else's. What is laid over one must be
what the rule says and nothing more, whatever else stands there.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.routes.driver import Overlayer
from autopilot.mesh.kube.routes.gateway_api import GatewayRoutes
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import Holder, Target
from tests.drawn import examples
from tests.mesh.kube.memory import Memory, service, shop

WEB, CART = (Target(mesh="m", namespace="shop", service=name) for name in ("web", "cart"))
HOLDERS = {
    WEB: Holder(operation="canary/m/shop/web", fencing=3),
    CART: Holder(operation="canary/m/shop/cart", fencing=5),
}
many = settings(
    deadline=None, max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
"""2,000 in the thorough profile."""

paths = st.sampled_from(["/", "/api", "/img", "/cart"])


@dataclass(frozen=True)
class World:
    """A cluster, and how its routes are driven."""

    provider: str
    objects: tuple[Object, ...]

    def open(self) -> tuple[Memory, Overlayer]:
        api = Memory(self.objects)
        routes = IstioRoutes(api) if self.provider == "istio" else GatewayRoutes(api)
        return api, Overlayer(KubeStore(api, "m", "autopilot"), routes)

    def arms(self, target: Target) -> tuple[str, str]:
        if self.provider == "istio":
            return "v1", "v2"
        return f"{target.service}-v1", f"{target.service}-v2"

    def weights(self, target: Target, canary: float) -> dict[str, float]:
        stable, other = self.arms(target)
        return {stable: 100 - canary, other: canary}

    def entries(self, spec: Object) -> list[list[Object]]:
        """The destinations of each rule."""
        if self.provider == "istio":
            return [rule.get("route") or [] for rule in spec.get("http") or []]
        return [rule.get("backendRefs") or [] for rule in spec["rules"]]

    def arm(self, target: Target, entry: Object) -> str:
        """Which arm of the target an entry leads to, read as Istio or the Gateway API read it."""
        if self.provider == "istio":
            to = entry["destination"]
            mine = to["host"] in (target.service, f"{target.service}.shop.svc.cluster.local")
            return str(to.get("subset", "")) if mine else ""
        local = entry.get("namespace", "shop") == "shop" and entry.get("kind", "Service") == "Service"
        return str(entry["name"]) if local and entry["name"] in self.arms(target) else ""


@st.composite
def istio_rule(draw: st.DrawFn, number: int) -> Object:
    app = draw(st.sampled_from(["web", "web", "cart"]))
    host = draw(st.sampled_from([app, f"{app}.shop.svc.cluster.local"]))

    def to(host: str, subset: str | None = None, weight: int | None = None, **more: Any) -> Object:
        destination = {"host": host, "port": {"number": 80}, **({"subset": subset} if subset else {})}
        return {"destination": destination, **({} if weight is None else {"weight": weight}), **more}

    stable: dict[str, Any] = {}
    if draw(st.booleans()):
        stable["headers"] = {"request": {"set": {"x-tenant": "a"}}}
    kind = draw(st.sampled_from(["stable", "listed", "third", "tester", "elsewhere", "redirect"]))
    found: Object = {}
    match kind:
        case "stable":
            found["route"] = [to(host, "v1", draw(st.sampled_from([None, 100])), **stable)]
        case "listed":
            found["route"] = [to(host, "v1", 100, **stable), to(host, "v2", 0)]
        case "third":
            third = draw(st.sampled_from(["legacy", "legacy.old.svc.cluster.local", "api.example.com"]))
            found["route"] = [to(third, None, 2000), to(host, "v1", 8000, **stable)]
        case "tester":
            found["route"] = [to(host, "v2")]
        case "elsewhere":
            found["route"] = [to("legacy")]
        case "redirect":
            found["redirect"] = {"uri": "/elsewhere"}
    if draw(st.booleans()):
        found["match"] = [{"uri": {"prefix": draw(paths)}}]
    if draw(st.booleans()):
        found["name"] = f"rule-{number}"
    if "route" in found and draw(st.booleans()):
        found |= {"timeout": "3s", "mirror": {"host": "legacy"}}
    return found


@st.composite
def virtual_services(draw: st.DrawFn) -> World:
    objects: list[Object] = [*shop("web"), *shop("cart"), service("legacy")]
    for number in range(draw(st.integers(1, 3))):
        rules = [draw(istio_rule(index)) for index in range(draw(st.integers(1, 4)))]
        spec: Object = {"http": rules}
        if (hosts := draw(st.sampled_from([["web"], ["web", "cart"], ["shop.example.com"], None]))) is not None:
            spec["hosts"] = hosts
            if hosts == ["shop.example.com"]:
                spec["gateways"] = ["edge"]
        meta = {"name": f"route-{number}", "namespace": "shop", "annotations": {"team": "shop"}}
        objects.append({"kind": "VirtualService", "metadata": meta, "spec": spec})
    return World("istio", tuple(objects))


@st.composite
def http_rule(draw: st.DrawFn, number: int) -> Object:
    app = draw(st.sampled_from(["web", "web", "cart"]))

    def to(name: str, weight: int | None = None, **more: Any) -> Object:
        return {"name": name, "port": 80, **({} if weight is None else {"weight": weight}), **more}

    stable: dict[str, Any] = {}
    if draw(st.booleans()):
        stable["filters"] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}}]
    found: Object = {}
    match draw(st.sampled_from(["stable", "listed", "third", "tester", "elsewhere", "nothing"])):
        case "stable":
            found["backendRefs"] = [to(f"{app}-v1", draw(st.sampled_from([None, 1, 100])), **stable)]
        case "listed":
            found["backendRefs"] = [to(f"{app}-v1", 1, **stable), to(f"{app}-v2", 0)]
        case "third":
            third = draw(st.sampled_from([to("legacy", 2000), to("x", 2000, namespace="other")]))
            found["backendRefs"] = [third, to(f"{app}-v1", 8000, **stable)]
        case "tester":
            found["backendRefs"] = [to(f"{app}-v2")]
        case "elsewhere":
            found["backendRefs"] = [to("legacy"), to("pool", group="inference.networking.k8s.io", kind="InferencePool")]
    if draw(st.booleans()):
        found["matches"] = [{"path": {"type": "PathPrefix", "value": draw(paths)}}]
    if draw(st.booleans()):
        found["name"] = f"rule-{number}"
    return found


@st.composite
def http_routes(draw: st.DrawFn) -> World:
    objects: list[Object] = [*shop("web"), *shop("cart"), service("legacy")]
    for number in range(draw(st.integers(1, 3))):
        rules = [draw(http_rule(index)) for index in range(draw(st.integers(1, 4)))]
        parent = draw(st.sampled_from([{"name": "edge"}, {"kind": "Service", "group": "", "name": "web", "port": 80}]))
        meta = {"name": f"route-{number}", "namespace": "shop"}
        kind = draw(st.sampled_from(["HTTPRoute", "HTTPRoute", "GRPCRoute"]))
        objects.append({"kind": kind, "metadata": meta, "spec": {"parentRefs": [parent], "rules": rules}})
    return World("gateway_api", tuple(objects))


worlds = virtual_services() | http_routes()
canaries = st.lists(st.sampled_from([0.0, 1.0, 10.0, 50.0, 99.0, 100.0]), min_size=1, max_size=3)


def shares_of(world: World, target: Target, entries: list[Object]) -> dict[str, float]:
    implied = 0 if world.provider == "istio" else 1
    weights = [
        (world.arm(target, one), 100 if len(entries) == 1 and implied == 0 else one.get("weight", implied))
        for one in entries
    ]
    total = sum(weight for _, weight in weights)
    found: dict[str, float] = {}
    for arm, weight in weights:
        found[arm] = found.get(arm, 0.0) + (100 * weight / total if total else 0.0)
    return found


def stripped(world: World, spec: Object, target: Target) -> Object:
    """A route without its arms' weights in concerned rules, and without destinations added there."""
    found = copy.deepcopy(spec)
    stable, canary = world.arms(target)
    for entries in world.entries(found):
        if any(world.arm(target, one) == stable for one in entries):
            entries[:] = [one for one in entries if world.arm(target, one) != canary]
            for one in entries:
                if world.arm(target, one) == stable:
                    one.pop("weight", None)
    return found


def carried(entry: Object) -> Object:
    """What hangs on a destination: headers, filters, its port."""
    found = {key: value for key, value in entry.items() if key not in ("weight", "name", "destination")}
    return {**found, "to": entry.get("destination", {}).get("port")}


def written(api: Memory) -> dict[tuple[str, str, str], tuple[Object, Any]]:
    """What every object says, its annotations with it."""
    return copy.deepcopy(
        {key: (one["spec"], one["metadata"].get("annotations")) for key, one in api.objects.items() if "spec" in one}
    )


@many
@given(worlds, canaries)
def test_what_is_laid_is_taken_away_without_a_trace(world: World, walk: list[float]) -> None:
    api, overlayer = world.open()
    before = written(api)
    for canary in walk:
        overlayer.lay(WEB, HOLDERS[WEB], world.weights(WEB, canary))
    assert overlayer.take_away(WEB, HOLDERS[WEB].fencing) == []
    assert written(api) == before


@many
@given(worlds, canaries)
def test_nothing_but_the_arms_shares_of_concerned_rules_changes(world: World, walk: list[float]) -> None:
    api, overlayer = world.open()
    before = api.routes
    for canary in walk:
        overlayer.lay(WEB, HOLDERS[WEB], world.weights(WEB, canary))
    stable, other = world.arms(WEB)
    after = api.routes
    for key, spec in before.items():
        assert stripped(world, after[key], WEB) == stripped(world, spec, WEB)
        for was, now in zip(world.entries(spec), world.entries(after[key]), strict=True):
            first, then = shares_of(world, WEB, was), shares_of(world, WEB, now)
            if not first.get(stable):
                assert now == was
                continue
            if len(now) > len(was):
                assert carried(now[-1]) == carried(next(one for one in was if world.arm(WEB, one) == stable))
            canary = walk[-1] / 100
            assert abs(then.get(other, 0.0) - first[stable] * canary) < 1e-6
            assert abs(then[stable] - first[stable] * (1 - canary)) < 1e-6
            assert abs(then.get("", 0.0) - first.get("", 0.0)) < 1e-6


@many
@given(worlds)
def test_a_promotion_leaves_stable_nothing_in_any_concerned_rule(world: World) -> None:
    api, overlayer = world.open()
    concerned = {
        (key, number)
        for key, spec in api.routes.items()
        for number, entries in enumerate(world.entries(spec))
        if shares_of(world, WEB, entries).get(world.arms(WEB)[0])
    }
    full = world.weights(WEB, 100.0)
    overlayer.lay(WEB, HOLDERS[WEB], full)
    notes = overlayer.take_away(WEB, HOLDERS[WEB].fencing, commit=full)
    assert notes == []
    for key, number in concerned:
        shares = shares_of(world, WEB, world.entries(api.routes[key])[number])
        assert shares.get(world.arms(WEB)[0], 0.0) == 0.0
        assert shares[world.arms(WEB)[1]] > 0
    assert not any("overlay.meshautopilot.io/web" in str(one["metadata"]) for one in api.objects.values())


@many
@given(worlds, st.lists(st.tuples(st.sampled_from([WEB, CART]), st.sampled_from([5.0, 50.0, None])), max_size=8))
def test_two_operations_on_siblings_do_not_disturb_each_other(
    world: World, steps: list[tuple[Target, float | None]]
) -> None:
    """Whatever the order, what one has laid is what it would be alone, and in the end there is nothing of either."""
    api, overlayer = world.open()
    before, standing = api.routes, dict[Target, float]()
    for target, canary in steps:
        if canary is None:
            assert overlayer.take_away(target, HOLDERS[target].fencing) == []
            standing.pop(target, None)
        else:
            overlayer.lay(target, HOLDERS[target], world.weights(target, canary))
            standing[target] = canary
    for target, canary in standing.items():
        alone_api, alone = world.open()
        alone.lay(target, HOLDERS[target], world.weights(target, canary))
        for key, spec in before.items():
            for was, mine, both in zip(
                *(world.entries(one) for one in (spec, alone_api.routes[key], api.routes[key])), strict=True
            ):
                if shares_of(world, target, was).get(world.arms(target)[0]):
                    assert both == mine
    for target in (WEB, CART):
        overlayer.take_away(target, HOLDERS[target].fencing)
    assert api.routes == before
