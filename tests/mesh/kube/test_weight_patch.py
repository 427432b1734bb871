"""Marks and overlays as pure functions: whatever a route looks like, what is laid over it can be taken back exactly."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import (
    GRPC_ROUTE,
    HTTP_ROUTE,
    TRAFFIC_SPLIT,
    VIRTUAL_SERVICE,
    Resource,
)
from autopilot.mesh.kube.routes import weight_patch
from autopilot.mesh.kube.routes.backends import service_backend
from autopilot.mesh.kube.routes.base import Route, Routes, Split, beside, route_to, rule_key
from autopilot.mesh.kube.routes.gateway_api import GatewayRoutes
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.smi import SplitRoutes
from autopilot.mesh.kube.routes.weight_patch import Destination, Mark, WeightList
from autopilot.mesh.model import Target
from tests.fuzz.strategies import shares

TARGET = Target(mesh="m", namespace="shop", service="reviews")
OTHER = TARGET.model_copy(update={"service": "ratings"})
at_leisure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines that run many tests at a time are slow at times."""


# JSON patches


class NotSo(Exception):
    """A `test` operation did not hold."""


def patched(body: Object, operations: Sequence[Mapping[str, Any]]) -> Object:
    """What an API server makes of the object: all operations of an RFC 6902 patch, or an error."""
    found = copy.deepcopy(body)
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place: Any = found
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key: Any = (len(place) if last == "-" else int(last)) if isinstance(place, list) else last
        there = key < len(place) if isinstance(place, list) else key in place
        match operation["op"]:
            case "add" if isinstance(place, list):
                place.insert(key, copy.deepcopy(operation["value"]))
            case "add":
                place[key] = copy.deepcopy(operation["value"])
            case "test" if not there or place[key] != operation["value"]:
                raise NotSo(operation)
            case "replace" if there:
                place[key] = copy.deepcopy(operation["value"])
            case "remove" if there:
                del place[key]
            case "test":
                pass
            case _:
                raise KeyError(operation)
    return found


def test_the_patches_here_are_those_of_the_rfc() -> None:
    body = {"a": [1, 2, 3], "b/c": {"~": 1}}
    assert patched(body, [{"op": "add", "path": "/a/1", "value": 9}])["a"] == [1, 9, 2, 3]
    assert patched(body, [{"op": "add", "path": "/a/-", "value": 9}])["a"] == [1, 2, 3, 9]
    assert patched(body, [{"op": "remove", "path": "/a/0"}])["a"] == [2, 3]
    assert patched(body, [{"op": "replace", "path": "/b~1c/~0", "value": 2}])["b/c"] == {"~": 2}
    with pytest.raises(NotSo):
        patched(body, [{"op": "test", "path": "/a/0", "value": 2}])
    with pytest.raises(KeyError):
        patched(body, [{"op": "replace", "path": "/none", "value": 2}])


# Routes as users write them


EVEN = {"stable": 50.0, "canary": 50.0}


class NoCluster(KubeApi):
    """Parsing asks for nothing."""


@dataclass(frozen=True)
class Written:
    """A route, and how its provider reads it."""

    routes: Routes
    resource: Resource
    body: Object
    arms: tuple[str, str] = ("v1", "v2")
    """Stable and canary; `{}` stands for the target."""

    def names(self, target: Target = TARGET) -> tuple[str, str]:
        stable, canary = (arm.format(target.service) for arm in self.arms)
        return stable, canary

    def split(self, weights: Mapping[str, float], target: Target = TARGET) -> Split:
        """Percent by role: `stable`, `canary`."""
        own = service_backend(target.service, target.namespace)
        subsets = (
            self.resource is VIRTUAL_SERVICE and "{}" not in self.arms[0]
        )  # else Services, called after the target
        arms = {
            arm: (own.model_copy(update={"subset": arm}) if subsets else service_backend(arm, target.namespace),)
            for arm in self.names(target)
        }
        return Split(dict(zip(self.names(target), (weights["stable"], weights["canary"]), strict=True)), arms)

    def found(self, body: Object | None = None, target: Target = TARGET) -> Route | None:
        body = self.body if body is None else body
        return route_to(self.routes, target, self.resource, body, split=self.split(EVEN, target))

    def read(self, body: Object | None = None, target: Target = TARGET) -> Route:
        found = self.found(body, target)
        assert found is not None
        return found

    def lay(
        self,
        weights: Mapping[str, float],
        body: Object | None = None,
        target: Target = TARGET,
    ) -> Object:
        route, split = self.read(body, target), self.split(weights, target)
        mark = Mark(service=target.service, operation="canary/m/shop/x", fencing=3, arms=dict(split.arms))

        def entry(one: WeightList, arm: str, weight: int) -> Object:
            like = beside(one, route.body, split.stable)
            return self.routes.entry(like, split.arms[arm][0], weight, target.namespace)

        before = weight_patch.mark_of(route.body, target.service)
        operations, _ = weight_patch.lay(route.body, route.lists, split.weights, new=mark, entry=entry, before=before)
        return patched(route.body, operations)

    def restore(self, body: Object, target: Target = TARGET) -> tuple[Object, list[str]]:
        route, mark = self.read(body, target), weight_patch.mark_of(body, target.service)
        assert mark is not None
        operations, notes = weight_patch.restore(body, route.lists, mark)
        return patched(body, operations), notes

    def foreign(self, body: Object, target: Target = TARGET) -> list[str]:
        mark = weight_patch.mark_of(body, target.service)
        assert mark is not None
        return weight_patch.foreign(self.read(body, target).lists, mark)

    def rules(self, body: Object) -> list[Object]:
        spec: Object = body["spec"]
        return spec.get("http") or spec.get("rules") or [spec]

    def destinations(self, rule: Object) -> list[Object]:
        found: list[Object] = rule.get("route") or rule.get("backendRefs") or rule.get("backends") or []
        return found


weights_written = st.none() | st.integers(0, 100) | st.sampled_from([1, 1000, 10_000])
annotations = st.none() | st.dictionaries(
    st.sampled_from(["a", "team", "example.com/x"]), st.text(max_size=5), min_size=1
)
matches = st.lists(
    st.builds(lambda value: {"path": {"type": "Exact", "value": f"/{value}"}}, st.integers(0, 3)), max_size=2
)
names = st.none() | st.sampled_from(["everybody", "default", "a", "a#2", "match-1", "name default"])


@st.composite
def metadata(draw: st.DrawFn) -> Object:
    found: Object = {"name": draw(st.sampled_from(["reviews", "front"])), "namespace": "shop", "resourceVersion": "7"}
    if (notes := draw(annotations)) is not None:
        found["annotations"] = notes
    return found


def weighted(destination: Object, weight: int | None) -> Object:
    return destination if weight is None else {**destination, "weight": weight}


@st.composite
def virtual_services(draw: st.DrawFn) -> Written:
    hosts = draw(st.sampled_from([["reviews"], ["reviews.shop.svc.cluster.local"], ["shop.example.com"]]))
    subset = st.sampled_from(["v1", "v2", "v3"]).map(lambda name: {"host": "reviews", "subset": name})
    service = st.sampled_from(["reviews", "blue", "green", "ratings.other"]).map(lambda name: {"host": name})
    rules = []
    for _ in range(draw(st.integers(1, 4))):
        found = draw(st.lists(subset | service, min_size=1, max_size=4))
        rule: Object = {"route": [weighted({"destination": one}, draw(weights_written)) for one in found]}
        if match := draw(matches):
            rule["match"] = match
        if name := draw(names):
            rule["name"] = name
        rules.append(rule)
    body = {"metadata": draw(metadata()), "spec": {"hosts": hosts, "http": rules}}
    return Written(IstioRoutes(NoCluster()), VIRTUAL_SERVICE, body)


@st.composite
def http_routes(draw: st.DrawFn) -> Written:
    parent = draw(
        st.sampled_from([{"kind": "Service", "group": "", "name": "reviews", "port": 80}, {"name": "a-gateway"}])
    )
    backend = st.sampled_from(["reviews", "reviews-v1", "reviews-v2", "blue"]).map(
        lambda name: {"name": name, "port": 80}
    )
    elsewhere = st.just({"name": "x", "namespace": "other", "port": 80})
    rules = []
    for _ in range(draw(st.integers(1, 4))):
        found = draw(st.lists(backend | elsewhere, min_size=1, max_size=4))
        rule: Object = {"backendRefs": [weighted(one, draw(weights_written)) for one in found]}
        if match := draw(matches):
            rule["matches"] = match
        if name := draw(names):
            rule["name"] = name
        rules.append(rule)
    body = {"metadata": draw(metadata()), "spec": {"parentRefs": [parent], "rules": rules}}
    resource = draw(st.sampled_from([HTTP_ROUTE, GRPC_ROUTE]))
    return Written(GatewayRoutes(NoCluster()), resource, body, ("{}-v1", "{}-v2"))


@st.composite
def traffic_splits(draw: st.DrawFn) -> Written:
    arms = draw(st.lists(st.sampled_from(["reviews-v1", "reviews-v2", "reviews-v3"]), min_size=1, unique=True))
    backends = [weighted({"service": arm}, draw(weights_written)) for arm in arms]
    service = draw(st.sampled_from(["reviews", "reviews.shop"]))
    body = {"metadata": draw(metadata()), "spec": {"service": service, "backends": backends}}
    return Written(SplitRoutes(NoCluster()), TRAFFIC_SPLIT, body, ("{}-v1", "{}-v2"))


def concerns(written: Written) -> bool:
    return written.found() is not None


routes = (virtual_services() | http_routes() | traffic_splits()).filter(concerns)
splits = shares(["stable", "canary"])


def laid(written: Written, weights: Mapping[str, float], body: Object | None = None, target: Target = TARGET) -> Object:
    """Lays, where what is asked can be said."""
    try:
        return written.lay(weights, body, target)
    except InvalidChange:  # a rule that leads elsewhere too gives too few parts to the target
        assume(False)
        raise


# What holds for all of them


@at_leisure
@given(routes, st.lists(splits, min_size=1, max_size=3))
def test_a_restore_gives_back_exactly_what_was_there(written: Written, walk: list[dict[str, float]]) -> None:
    body = written.body
    for weights in walk:
        body = laid(written, weights, body)
        assert written.foreign(body) == []
    assert written.restore(body) == (written.body, [])


@at_leisure
@given(routes, splits)
def test_every_rule_shares_as_asked_and_others_keep_their_part(written: Written, weights: dict[str, float]) -> None:
    for before, after in zip(written.read().lists, written.read(laid(written, weights)).lists, strict=True):
        assert after.key == before.key
        theirs = before.shares.get("", 0.0)
        assert after.shares.get("", 0.0) == pytest.approx(theirs)
        mine = 100 - theirs
        parts = after.parts if after.parts is not None else 10_000
        if not before.shares or not parts or not mine:
            continue
        for arm, weight in written.split(weights).weights.items():
            got = 100 * after.shares.get(arm, 0.0) / mine
            assert got == pytest.approx(weight, abs=100 / parts + 1e-6)


@at_leisure
@given(routes, splits)
def test_laying_twice_changes_nothing_more(written: Written, weights: dict[str, float]) -> None:
    once = laid(written, weights)
    assert laid(written, weights, once) == once


@at_leisure
@given(routes, splits, st.data())
def test_edits_elsewhere_are_kept_and_ours_is_given_back(
    written: Written, weights: dict[str, float], data: st.DataObject
) -> None:
    body = laid(written, weights)
    expected = copy.deepcopy(written.body)
    theirs = {"metadata": {"labels": {"team": "shop"}}, "rule": "theirs"}
    place = data.draw(st.sampled_from(["before", "after", "none"]), label="a rule of theirs")
    for one in (body, expected):
        one["metadata"]["labels"] = theirs["metadata"]["labels"]
        one["metadata"].setdefault("annotations", {})["example.com/theirs"] = "x"
        one["metadata"]["resourceVersion"] = "8"
        rules = written.rules(one)
        if written.resource is not TRAFFIC_SPLIT and place != "none":
            key = "route" if written.resource is VIRTUAL_SERVICE else "backendRefs"
            backend = {"destination": {"host": "x.other"}} if key == "route" else {"name": "x", "namespace": "other"}
            rules.insert(0 if place == "before" else len(rules), {"name": "of-theirs", key: [backend]})
    assert written.foreign(body) == []
    assert written.restore(body) == (expected, [])


@at_leisure
@given(routes, splits, st.data())
def test_weights_of_others_are_never_written_over_and_always_told(
    written: Written, weights: dict[str, float], data: st.DataObject
) -> None:
    body = laid(written, weights)
    mark = weight_patch.mark_of(body, TARGET.service)
    assert mark is not None
    changed = data.draw(st.sampled_from(written.read(body).lists), label="list")
    slot = data.draw(st.sampled_from(sorted(changed.slots)), label="slot")
    was, of = changed.slots[slot].weight, mark.of(changed.key)
    assert of is not None
    new = data.draw(
        st.integers(0, 10_001).filter(lambda weight: weight not in (was, of.before.get(slot))), label="weight"
    )
    index = weight_patch._places(changed)[slot]
    edited = patched(body, [{"op": "add", "path": f"{changed.path}/{index}/weight", "value": new}])
    assert written.foreign(edited) == [changed.key]
    after, notes = written.restore(edited)
    assert [changed.key in note for note in notes] == [True]
    assert at(after, changed.path) == at(edited, changed.path)
    for one in written.read().lists:
        if one.key != changed.key:
            assert at(after, one.path) == at(written.body, one.path)
    assert "annotations" not in after["metadata"] or weight_patch.marks_of(after) == []


@at_leisure
@given(routes, splits, st.integers(0, 100), st.booleans())
def test_a_destination_that_others_add_stays_theirs(
    written: Written, weights: dict[str, float], weight: int, of_an_arm: bool
) -> None:
    """One more of an arm's is told, since the next step would take its weight away; a stranger's is nobody's affair."""
    body = laid(written, weights)
    first = written.read(body).lists[0]
    rule: Object = at(body, first.path)[0]
    new = copy.deepcopy(rule) | {"weight": weight}
    name = written.names()[0] if of_an_arm else "theirs"
    match written.resource.kind:
        case "VirtualService":
            new["destination"] = {"host": "reviews", "subset": name}
        case "TrafficSplit":
            new["service"] = name
        case _:
            new = {"name": name, "port": 80, "weight": weight}
    edited = patched(body, [{"op": "add", "path": f"{first.path}/-", "value": new}])
    assert (first.key in written.foreign(edited)) is of_an_arm
    after, notes = written.restore(edited)
    assert any(f"{name} {weight}" in note for note in notes) is of_an_arm
    assert at(after, first.path) == [*at(written.body, first.path), new]


@at_leisure
@given(routes, splits)
def test_a_rule_that_is_led_elsewhere_is_told_of_and_the_mark_goes(written: Written, weights: dict[str, float]) -> None:
    body = laid(written, weights)
    for rule in written.rules(body):
        match written.resource.kind:
            case "VirtualService":
                rule["route"] = [{"destination": {"host": "x.other"}}]
            case "TrafficSplit":
                rule["backends"] = [{"service": "another", "weight": 1}]
            case _:
                rule["backendRefs"] = [{"name": "x", "namespace": "other"}]
    before = copy.deepcopy(body["spec"])
    assert written.foreign(body) == [one.key for one in written.read().lists]
    after, notes = written.restore(body)
    assert len(notes) == len(written.read().lists)
    assert after["spec"] == before
    assert weight_patch.marks_of(after) == []


@at_leisure
@given(routes, splits)
def test_what_a_gitops_tool_writes_back_is_known_as_such(written: Written, weights: dict[str, float]) -> None:
    body = laid(written, weights)
    changed = body["spec"] != written.body["spec"]
    body["spec"] = copy.deepcopy(written.body["spec"])
    mark = weight_patch.mark_of(body, TARGET.service)
    assert mark is not None
    assert weight_patch.reapplied(written.read(body).lists, mark) == changed
    assert written.foreign(body) == []
    assert laid(written, weights, body) == laid(written, weights)
    assert written.restore(body) == (written.body, [])


@at_leisure
@given(routes, st.randoms(use_true_random=False))
def test_keys_do_not_depend_on_the_order_of_what_is_written(written: Written, random: Any) -> None:
    """Maps are written in any order by others, and come back in another."""
    again = json.loads(json.dumps(written.body), object_pairs_hook=lambda pairs: dict(random.sample(pairs, len(pairs))))
    assert [one.key for one in written.read(again).lists] == [one.key for one in written.read().lists]


# Two targets in one object


def two(own: bool) -> Written:
    hosts = ["reviews", "ratings"] if own else ["shop.example.com"]
    rules = [
        {
            "match": [{"uri": {"prefix": f"/{name}"}}],
            "route": [{"destination": {"host": name, "subset": arm}, "weight": 50} for arm in ("v1", "v2")],
        }
        for name in ("reviews", "ratings")
    ]
    body = {"metadata": {"name": "front", "namespace": "shop", "resourceVersion": "1"}}
    return Written(IstioRoutes(NoCluster()), VIRTUAL_SERVICE, body | {"spec": {"hosts": hosts, "http": rules}})


def two_of_services() -> Written:
    rules = [
        {"route": [{"destination": {"host": f"{name}-{arm}"}, "weight": 50} for arm in ("v1", "v2")]}
        for name in ("reviews", "ratings")
    ]
    body = {"metadata": {"name": "front", "namespace": "shop", "resourceVersion": "1"}}
    spec = {"hosts": ["reviews", "ratings"], "http": rules}
    return Written(IstioRoutes(NoCluster()), VIRTUAL_SERVICE, body | {"spec": spec}, ("{}-v1", "{}-v2"))


def two_on_a_gateway() -> Written:
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": f"/{name}"}}],
            "backendRefs": [{"name": arm, "port": 80, "weight": 50} for arm in (name, f"{name}-canary")],
        }
        for name in ("reviews", "ratings")
    ]
    body = {"metadata": {"name": "front", "namespace": "shop", "resourceVersion": "1"}}
    spec = {"parentRefs": [{"name": "gw"}], "rules": rules}
    return Written(GatewayRoutes(NoCluster()), HTTP_ROUTE, body | {"spec": spec}, ("{}", "{}-canary"))


@pytest.mark.parametrize(
    "written",
    [two(own=True), two(own=False), two_of_services(), two_on_a_gateway()],
    ids=["subsets", "on a gateway", "services", "an HTTPRoute"],
)
@at_leisure
@given(data=st.data())
def test_two_targets_in_one_object_do_not_disturb_each_other(written: Written, data: st.DataObject) -> None:
    body, standing = written.body, {TARGET: 0, OTHER: 0}
    for _ in range(data.draw(st.integers(1, 6))):
        target = data.draw(st.sampled_from([TARGET, OTHER]))
        weight = data.draw(st.integers(0, 100) | st.none())
        if weight is not None:
            body = written.lay({"stable": 100 - weight, "canary": weight}, body, target)
        elif weight_patch.mark_of(body, target.service):
            body, notes = written.restore(body, target)
            assert notes == []
            weight = 50
        else:
            weight = 50
        standing[target] = weight
        for one in (TARGET, OTHER):
            if weight_patch.mark_of(body, one.service) is None:
                standing[one] = 50
            rule = written.rules(body)[(TARGET, OTHER).index(one)]
            assert [item["weight"] for item in written.destinations(rule)] == [100 - standing[one], standing[one]]
    for target in (TARGET, OTHER):
        if weight_patch.mark_of(body, target.service):
            body, _ = written.restore(body, target)
    assert body == written.body


# Numbers


@at_leisure
@given(st.lists(st.sampled_from("abcde"), min_size=1, unique=True).flatmap(shares))
def test_whole_numbers_add_up_and_are_within_one_unit_of_what_was_asked(weights: dict[str, float]) -> None:
    found = weight_patch.integers(weights)
    total = sum(found.values())
    assert total in (100, 1000, 10_000)
    assert found.keys() == weights.keys()
    for arm, weight in weights.items():
        assert abs(found[arm] - weight * total / 100) < 1 + 1e-6


@at_leisure
@given(st.lists(st.sampled_from("abcde"), min_size=1, unique=True).flatmap(shares), st.integers(0, 20_000))
def test_any_number_of_parts_is_given_out_whole(weights: dict[str, float], total: int) -> None:
    found = weight_patch.apportioned(weights, total)
    assert sum(found.values()) == total
    for arm, weight in weights.items():
        assert abs(found[arm] - weight * total / 100) < 1 + 1e-6


@pytest.mark.parametrize(
    ("weights", "written"),
    [
        ({"a": 100.0}, {"a": 100}),
        ({"a": 95.0, "b": 5.0}, {"a": 95, "b": 5}),
        ({"a": 99.9, "b": 0.1}, {"a": 999, "b": 1}),
        ({"a": 99.99, "b": 0.01}, {"a": 9999, "b": 1}),
        ({"a": 100 / 3, "b": 100 / 3, "c": 100 / 3}, {"a": 3334, "b": 3333, "c": 3333}),
    ],
)
def test_the_coarsest_scale_that_is_exact_is_written(weights: dict[str, float], written: dict[str, int]) -> None:
    assert weight_patch.integers(weights) == written


def listed(*destinations: tuple[str, int | None], implied: int) -> WeightList:
    found = tuple(Destination(arm, weight) for arm, weight in destinations)
    return WeightList(key="", path="", destinations=found, implied=implied)


@pytest.mark.parametrize(
    ("one", "shared"),
    [
        (listed(("a", None), implied=0), {"a": 100.0}),
        (listed(("a", 0), implied=0), {"a": 100.0}),
        (listed(("a", None), implied=1), {"a": 100.0}),
        (listed(("a", 0), implied=1), {}),
        (listed(("a", 30), implied=1), {"a": 100.0}),
        (listed(("a", None), ("b", None), implied=1), {"a": 50.0, "b": 50.0}),
        (listed(("a", None), ("b", 3), implied=1), {"a": 25.0, "b": 75.0}),
        (listed(("a", None), ("b", 100), implied=0), {"a": 0.0, "b": 100.0}),
        (listed(("a", 1), ("a", 1), ("b", 2), implied=0), {"a": 50.0, "b": 50.0}),
        (listed(("a", 60), ("", 40), implied=0), {"a": 60.0, "": 40.0}),
        (listed(("a", None), ("b", None), implied=0), {}),
        (listed(implied=0), {}),
    ],
)
def test_shares_are_what_proxies_make_of_weights(one: WeightList, shared: dict[str, float]) -> None:
    assert one.shares == shared


# Keys


@at_leisure
@given(st.lists(st.sampled_from(["a", "a#2", "a#3", "b", "", "#2"]), max_size=8))
def test_told_apart_keys_are_told_apart_and_known_again(keys: list[str]) -> None:
    found = weight_patch.told_apart(keys)
    assert len(set(found)) == len(keys)
    assert all(name.startswith(key) for name, key in zip(found, keys, strict=True))
    for index, key in enumerate(keys):
        if keys.index(key) == index:
            assert found[index] == key
    assert weight_patch.told_apart([*keys, "another"]) == [*found, "another"]


def test_nobodys_name_is_taken_for_a_rule_without_one() -> None:
    matched = rule_key(None, [{"uri": {"exact": "/"}}])
    names = ["default", matched, f"name {matched}", "name default", "name name default", "everybody"]
    keys = [rule_key(name, None) for name in names]
    assert len({*keys, rule_key(None, None), matched}) == len(keys) + 2
    assert rule_key("everybody", [{"uri": {"exact": "/"}}]) == "everybody"


# Particular routes


def test_what_is_shared_with_others_is_refused_where_it_is_too_coarse() -> None:
    rule = {"route": [{"destination": {"host": "reviews", "subset": "v1"}, "weight": 3}]}
    rule["route"].append({"destination": {"host": "x.other"}, "weight": 1})
    body = {"metadata": {"name": "front", "namespace": "shop", "resourceVersion": "1"}}
    spec = {"hosts": ["shop.example.com"], "http": [rule]}
    written = Written(IstioRoutes(NoCluster()), VIRTUAL_SERVICE, body | {"spec": spec})
    with pytest.raises(InvalidChange, match=r"v2 cannot get such a small share of the 3 parts .* by 100"):
        written.lay({"stable": 95, "canary": 5})
    (one,) = written.read(written.lay({"stable": 0, "canary": 100})).lists
    assert [(item.arm, item.weight) for item in one.destinations] == [("v1", 0), ("", 1), ("v2", 3)]


def test_a_route_on_another_namespaces_service_is_not_ours() -> None:
    parent = {"kind": "Service", "group": "", "name": "reviews", "namespace": "other"}
    rules = [{"backendRefs": [{"name": "x", "port": 80}, {"name": "y", "port": 80}]}]
    body = {"metadata": {"name": "r", "namespace": "shop"}, "spec": {"parentRefs": [parent], "rules": rules}}
    assert route_to(GatewayRoutes(NoCluster()), TARGET, HTTP_ROUTE, body) is None


def one_rule(kind: str, **weights: int) -> Written:
    """A route with one rule that takes whatever comes."""
    metadata = {"name": "reviews", "namespace": "shop", "resourceVersion": "1"}
    if kind == "istio":
        found = [
            {"destination": {"host": "reviews", "subset": arm}, "weight": weight} for arm, weight in weights.items()
        ]
        spec: Object = {"hosts": ["reviews"], "http": [{"name": "all", "route": found}]}
        return Written(IstioRoutes(NoCluster()), VIRTUAL_SERVICE, {"metadata": metadata, "spec": spec})
    backends = [{"name": arm, "port": 80, "weight": weight} for arm, weight in weights.items()]
    parents = [{"group": "", "kind": "Service", "name": "reviews"}]
    spec = {"parentRefs": parents, "rules": [{"name": "all", "backendRefs": backends}]}
    return Written(GatewayRoutes(NoCluster()), HTTP_ROUTE, {"metadata": metadata, "spec": spec}, ("v1", "v2"))


KINDS = pytest.mark.parametrize("kind", ["istio", "gateway_api"])


@KINDS
def test_a_laid_rule_is_found_again_though_others_share_traffic_elsewhere_now(kind: str) -> None:
    written = one_rule(kind, v1=7)
    body = written.lay({"stable": 100, "canary": 0})
    theirs = copy.deepcopy(written.rules(one_rule(kind, v1=60, v2=40).body)[0]) | {"name": "theirs"}
    written.rules(body).insert(0, theirs)
    after, notes = written.restore(body)
    assert notes == []
    assert written.rules(after) == [theirs, *written.rules(written.body)]


@KINDS
def test_a_route_whose_every_rule_was_replaced_is_still_rid_of_the_mark(kind: str) -> None:
    written = one_rule(kind, v1=100, v2=0)
    body = written.lay({"stable": 90, "canary": 10})
    (rule,) = written.rules(body)
    rule["name"] = "another"
    rule["route" if kind == "istio" else "backendRefs"] = []
    assert written.foreign(body) == ["all"]
    after, notes = written.restore(body)
    assert notes == ["rule all is gone or leads elsewhere now, so nothing was restored in it"]
    assert (after["spec"], weight_patch.marks_of(after)) == (body["spec"], [])


@KINDS
def test_half_of_what_was_there_before_is_not_what_was_there_before(kind: str) -> None:
    written = one_rule(kind, v1=100)
    body = written.lay({"stable": 90, "canary": 10})
    written.destinations(written.rules(body)[0])[0]["weight"] = 100
    assert written.foreign(body) == ["all"]
    after, notes = written.restore(body)
    assert notes == ["rule all has weights that somebody else set (v1 100, v2 10); they were kept"]
    assert after["spec"] == body["spec"]


def test_marks_that_were_edited_by_hand_are_left_out() -> None:
    good = Mark(service="reviews", operation="o", fencing=1)
    notes = {
        weight_patch.PREFIX + "reviews": good.model_dump_json(),
        weight_patch.PREFIX + "x": "{",
        "example.com/x": "{}",
    }
    assert weight_patch.marks_of({"metadata": {"annotations": notes}}) == [good]
    assert weight_patch.marks_of({}) == []


def at(body: Object, pointer: str) -> list[Object]:
    """What a JSON pointer points to."""
    place: Any = body
    for part in pointer.strip("/").split("/"):
        place = place[int(part)] if isinstance(place, list) else place[part]
    found: list[Object] = place
    return found
