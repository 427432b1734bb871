"""Faults over rules as pure functions: whatever a VirtualService says, what is laid over it can be taken back exactly.

What a request meets is decided by Istio's own reading of the rules (the first that matches), played here by `Mesh`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import VIRTUAL_SERVICE
from autopilot.mesh.kube.faults import rule_patch
from autopilot.mesh.kube.faults.istio_fields import Wish, cookie_pattern, duration, wish
from autopilot.mesh.kube.faults.rule_patch import FIELDS
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.base import route_to
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.model import Holder, Target
from autopilot.spec.chaos.faults import Abort, Delay, Fault, GrpcAbort, Retries, Timeout
from autopilot.spec.chaos.scope import Cookie, HeaderMatch, PathMatch, Scope, Source, Users
from tests.mesh.kube.test_weight_patch import patched

TARGET = Target(mesh="m", namespace="shop", service="ratings")
HOLDER = Holder(operation="chaos/m/shop/x", fencing=3)
LATER = Holder(operation="chaos/m/shop/y", fencing=4)
ROUTES = IstioRoutes(KubeApi())
JASON = Scope(headers={"end-user": HeaderMatch(exact="jason")})
EVERYBODY = Scope(percentage=100)
at_leisure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
"""Machines that run many tests at a time are slow at times."""


# VirtualServices as users write them

NAMES = ("end-user", "x-a", "x-b")
VALUES = ("jason", "jas", "other")
matchers: st.SearchStrategy[Object] = (
    st.sampled_from(VALUES).map(lambda value: {"exact": value})
    | st.sampled_from(VALUES).map(lambda value: {"prefix": value})
    | st.just({})
)
matches = st.fixed_dictionaries(
    {},
    optional={
        "uri": st.sampled_from(
            [{"prefix": "/a"}, {"prefix": "/A/c"}, {"exact": "/b"}, {"exact": "/a/c"}, {"regex": "/a|/b"}]
        ),
        "ignoreUriCase": st.booleans(),
        "method": st.sampled_from([{"exact": "GET"}, {"prefix": "P"}, {"regex": "(GET|POST)"}]),
        "headers": st.dictionaries(st.sampled_from(NAMES), matchers, min_size=1, max_size=2),
        "sourceLabels": st.just({"app": "web"}),
        "sourceNamespace": st.sampled_from(["shop", "other"]),
    },
).filter(bool)
own_faults = st.sampled_from(
    [{"delay": {"fixedDelay": "1s", "percentage": {"value": 5}}}, {"abort": {"httpStatus": 418}}]
)


def destination(host: str, subset: str | None = None, weight: int | None = None) -> Object:
    found: Object = {"destination": {"host": host, **({"subset": subset} if subset else {})}}
    return {**found, **({} if weight is None else {"weight": weight})}


routes = st.sampled_from(
    [
        [destination("ratings", "v1")],
        [destination("ratings", "v1", 90), destination("ratings", "v2", 10)],
        [destination("ratings.shop.svc.cluster.local", "v1", 100), destination("ratings", "v2", 0)],
        [destination("details")],
    ]
)
rules = st.fixed_dictionaries(
    {"route": routes},
    optional={
        "name": st.sampled_from(["one", "two", "one"]),
        "match": st.lists(matches, min_size=1, max_size=2),
        "retries": st.sampled_from([{"attempts": 3, "retryOn": "5xx"}, {"attempts": 1}]),
        "timeout": st.just("7s"),
        "headers": st.just({"request": {"set": {"a": "b"}}}),
    },
).map(copy.deepcopy)
some_annotations = st.none() | st.dictionaries(
    st.sampled_from(["team", "example.com/x"]), st.text(max_size=5), min_size=1
)


@st.composite
def virtual_services(draw: st.DrawFn, own: bool = False) -> Object:
    http = draw(st.lists(rules, min_size=1, max_size=4))
    if own:
        for rule in http:
            if draw(st.booleans()):
                rule["fault"] = copy.deepcopy(draw(own_faults))
    meta: Object = {"name": "ratings", "namespace": "shop", "resourceVersion": "7"}
    if (said := draw(some_annotations)) is not None:
        meta["annotations"] = said
    return {"metadata": meta, "spec": {"hosts": ["ratings"], "http": http}}


scopes = st.one_of(
    st.just(EVERYBODY),
    st.sampled_from([0.5, 10.0, 50.0]).map(lambda share: Scope(percentage=share)),
    st.builds(
        lambda name, value, share: Scope(headers={name: HeaderMatch(exact=value)}, percentage=share),
        st.sampled_from(NAMES),
        st.sampled_from(VALUES),
        st.sampled_from([None, 20.0]),
    ),
    st.sampled_from(NAMES).map(lambda name: Scope(headers={name: HeaderMatch(present=True)})),
    st.just(Scope(cookie=Cookie(name="session", value="abc"))),
    st.builds(
        lambda path, method: Scope(path=path, method=method),
        st.sampled_from(
            [PathMatch(prefix="/a"), PathMatch(prefix="/a/c"), PathMatch(exact="/a/c"), PathMatch(regex="/b|/a/c")]
        ),
        st.sampled_from([None, "GET", "POST"]),
    ),
    st.just(Scope(method="POST")),
    st.sampled_from(["one", "two"]).map(lambda name: Scope(rule=name)),
    st.just(Scope(rule="one", path=PathMatch(prefix="/a/"))),
)
faults_of_routes: st.SearchStrategy[Fault] = st.one_of(
    st.sampled_from([0.1, 2.5, 7.0]).map(lambda delay: Delay(delay=delay)),
    st.sampled_from([500, 503]).map(lambda status: Abort(status=status)),
    st.just(GrpcAbort(code=14)),
    st.sampled_from([0, 4]).map(lambda retries: Retries(retries=retries)),
    st.just(Timeout(timeout=0.5)),
)


@st.composite
def wishes(draw: st.DrawFn) -> list[Wish]:
    found = []
    for fault, scope in draw(st.lists(st.tuples(faults_of_routes, scopes), min_size=1, max_size=3)):
        whole = isinstance(fault, Retries | Timeout) and scope.percentage not in {None, 100}
        assume(not whole)
        found.append(wish(fault, scope))
    return found


def laid(body: Object, said: Sequence[Wish], holder: Holder = HOLDER) -> Object:
    shares = ROUTES.shares(TARGET, body)
    operations, _ = rule_patch.lay(body, said, shares, service="ratings", holder=holder)
    return patched(body, operations)


def attempted(body: Object, said: Sequence[Wish], holder: Holder = HOLDER) -> Object:
    """Laid; what cannot be said is another test's."""
    try:
        return laid(body, said, holder)
    except InvalidChange:
        assume(False)
        raise


def restored(body: Object) -> tuple[Object, list[str]]:
    mark = fault_marks.mark_of(body, "ratings")
    if mark is None:
        return body, []
    operations, notes = rule_patch.restore(body, mark)
    return patched(body, operations), notes


# What is laid can be taken back


@at_leisure
@given(virtual_services(), wishes())
def test_what_is_laid_can_be_taken_back_exactly(body: Object, said: list[Wish]) -> None:
    assert restored(attempted(body, said)) == (body, [])


@at_leisure
@given(virtual_services(), wishes())
def test_laying_twice_is_laying_once(body: Object, said: list[Wish]) -> None:
    once = attempted(body, said)
    operations, _ = rule_patch.lay(once, said, ROUTES.shares(TARGET, once), service="ratings", holder=HOLDER)
    assert [one for one in operations if one["op"] != "test"] == []


@at_leisure
@given(virtual_services(), wishes(), wishes())
def test_another_step_stands_in_place_of_the_one_before(body: Object, said: list[Wish], then: list[Wish]) -> None:
    one = attempted(body, said)
    assert fault_marks.rules_of(attempted(one, then)) == fault_marks.rules_of(attempted(body, then))
    assert restored(attempted(one, then, LATER)) == (body, [])


@at_leisure
@given(virtual_services(own=True), wishes())
def test_a_fault_of_the_users_is_never_lost(body: Object, said: list[Wish]) -> None:
    try:
        after = laid(body, said)
    except InvalidChange:
        return  # refused, and nothing was written
    theirs = [rule["fault"] for rule in fault_marks.rules_of(body) if "fault" in rule]
    still = [rule.get("fault") for rule in fault_marks.rules_of(after)]
    assert all(one in still for one in theirs)
    assert restored(after) == (body, [])


@st.composite
def edits(draw: st.DrawFn) -> Mapping[str, Any]:
    return {
        "weight": draw(st.booleans()),
        "insert": draw(st.booleans()),
        "timeout": draw(st.booleans()),
        "label": draw(st.booleans()),
    }


@at_leisure
@given(virtual_services(), wishes(), edits(), st.integers(0, 3))
def test_edits_of_others_are_kept(body: Object, said: list[Wish], edit: Mapping[str, Any], at: int) -> None:
    after = attempted(body, said)
    expected = copy.deepcopy(body)
    index = at % len(fault_marks.rules_of(body))
    for one in (after, expected):
        theirs = [rule for rule in fault_marks.rules_of(one) if not fault_marks.is_copy(rule)][index]
        if edit["weight"]:
            theirs["route"] = [destination("ratings", "v1", 33), destination("ratings", "v2", 67)]
        if edit["insert"]:
            fault_marks.rules_of(one).append({"name": "theirs", "route": [destination("details")]})
        if edit["label"]:
            one["metadata"]["labels"] = {"team": "shop"}
    back, notes = restored(after)
    assert back == expected
    assert notes == []


@at_leisure
@given(virtual_services(), wishes(), st.integers(0, 3), st.sampled_from(FIELDS))
def test_a_field_that_somebody_else_set_is_theirs(body: Object, said: list[Wish], at: int, name: str) -> None:
    after = attempted(body, said)
    mark = fault_marks.mark_of(after, "ratings")
    rule = [rule for rule in fault_marks.rules_of(after) if not fault_marks.is_copy(rule)][
        at % len(fault_marks.rules_of(body))
    ]
    theirs: Any = "99s" if name == "timeout" else {"theirs": 1}
    rule[name] = theirs
    back, notes = restored(after)
    assert [one.get(name) for one in fault_marks.rules_of(back)].count(theirs) >= 1
    assert not any(fault_marks.is_copy(one) for one in fault_marks.rules_of(back))
    if mark is not None and any(
        name in one.laid for one in mark.rules if len(mark.rules) == len(fault_marks.rules_of(body))
    ):
        assert any("changed by somebody else" in note for note in notes)


@at_leisure
@given(virtual_services(), wishes())
def test_what_a_gitops_tool_wrote_back_is_laid_again(body: Object, said: list[Wish]) -> None:
    after = attempted(body, said)
    mark = fault_marks.mark_of(after, "ratings")
    assume(mark is not None)
    assert mark is not None
    assert not rule_patch.reapplied(after, mark)
    written_back = {**after, "spec": copy.deepcopy(body["spec"])}
    assert rule_patch.foreign(written_back, mark) == []
    assert rule_patch.reapplied(written_back, mark) == any(one.laid != one.before for one in mark.rules)
    assert laid(written_back, said) == after
    assert restored(written_back) == (body, [])


def test_a_mark_that_somebody_took_away_is_written_again() -> None:
    body = service({"route": [destination("ratings")]})
    after = laid(body, [wish(Abort(), EVERYBODY)])
    del after["metadata"]["annotations"]
    with pytest.raises(InvalidChange, match="already has a fault"):
        laid(after, [wish(Abort(), EVERYBODY)])
    operations, _ = rule_patch.lay(
        after,
        [wish(Abort(), EVERYBODY)],
        ROUTES.shares(TARGET, after),
        service="ratings",
        holder=HOLDER,
        adopt=True,
    )
    assert restored(patched(after, operations)) == (body, [])


# Who meets what


@dataclass(frozen=True)
class Request:
    headers: Mapping[str, str]
    path: str = "/a"
    method: str = "GET"
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "shop"


def takes(rule: Object, request: Request) -> bool:
    """Whether Istio's proxies would let this rule decide of the request."""
    return any(
        _text(match.get("uri"), request.path.partition("?")[0], folds=match.get("ignoreUriCase", False))
        and _text(match.get("method"), request.method)
        and all(
            name in request.headers and _text(matcher, request.headers[name])
            for name, matcher in (match.get("headers") or {}).items()
        )
        and (match.get("sourceLabels") or {}).items() <= request.labels.items()
        and match.get("sourceNamespace") in {None, "", request.namespace}
        for match in rule.get("match") or [{}]
    )


def _text(matcher: Mapping[str, str] | None, text: str, *, folds: bool = False) -> bool:
    for kind, given_ in (matcher or {}).items():
        wanted = given_
        if folds and kind != "regex":
            text, wanted = text.lower(), wanted.lower()
        if kind == "exact" and text != wanted:
            return False
        if kind == "prefix" and not text.startswith(wanted):
            return False
        if kind == "regex" and not re.fullmatch(wanted, text):
            return False
    return True


def decides(body: Object, request: Request) -> Object | None:
    return next((rule for rule in fault_marks.rules_of(body) if takes(rule, request)), None)


requests = st.builds(
    Request,
    headers=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=3)
    | st.just({"cookie": "a=b; session=abc"}),
    path=st.sampled_from(["/a", "/b", "/c", "/a/c", "/a/c?x=1", "/A/C", "/a/cd", "/a/d?y"]),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    labels=st.sampled_from([{"app": "web"}, {"app": "web", "version": "v1"}, {"app": "other"}]),
    namespace=st.sampled_from(["shop", "other"]),
)


@at_leisure
@given(virtual_services(), wishes(), requests)
def test_each_request_meets_what_means_it_and_nothing_else(body: Object, said: list[Wish], request_: Request) -> None:
    """And goes where it went before."""
    before, after = decides(body, request_), decides(attempted(body, said), request_)
    if before is None or after is None:
        assert before is after
        return
    assert after["route"] == before["route"]
    mine = any(share for arm, share in ROUTES.shares(TARGET, body)(before).items() if arm)
    called = before.get("name", "")
    met = [one for one in said if mine and one.rule in {"", called} and meant(one, request_)]
    for name in FIELDS:
        values = [one.fields[name] for one in met if name in one.fields]
        if not values:
            assert after.get(name) == before.get(name)
        elif name == "fault":
            assert after[name] == {kind: value for one in values for kind, value in one.items()}  # type: ignore[union-attr]
        elif name == "timeout":
            assert after[name] == values[0]
        else:
            (value,) = values
            assert isinstance(value, dict)
            assert {key: after[name].get(key) for key in value} == value


def meant(one: Wish, request_: Request) -> bool:
    narrowing = one.narrowing
    match = {
        "headers": dict(narrowing.headers),
        "uri": dict(narrowing.path),
        "method": dict(narrowing.method),
        "sourceLabels": dict(narrowing.labels),
        "sourceNamespace": narrowing.namespace,
    }
    return takes({"match": [match]}, request_)


def test_istios_own_example_reads_as_its_users_know_it() -> None:
    """`ratings` of the bookinfo sample, for jason: as in Istio's own documentation, in the user's route."""
    body = service({"route": [destination("ratings", "v1")]})
    after = laid(body, [wish(Delay(delay=7), JASON)])
    first, second = fault_marks.rules_of(after)
    assert first == {
        "name": "autopilot.ratings.3.0",
        "match": [{"headers": {"end-user": {"exact": "jason"}}}],
        "fault": {"delay": {"fixedDelay": "7s", "percentage": {"value": 100}}},
        "route": [destination("ratings", "v1")],
    }
    assert second == {"route": [destination("ratings", "v1")]}
    (mark,) = fault_marks.marks_of(after)
    assert (mark.operation, mark.fencing) == (HOLDER.operation, 3)


def test_only_one_path_is_slow() -> None:
    """Of a rule that takes more, and with its rewrite: requests arrive where they did."""
    body = service(
        {
            "name": "api",
            "match": [{"uri": {"prefix": "/api"}, "method": {"regex": "GET|POST"}}, {"uri": {"exact": "/old"}}],
            "rewrite": {"uri": "/v2", "authority": "x"},
            "route": [destination("ratings", "v1")],
        },
        {"name": "rest", "route": [destination("ratings", "v1")]},
    )
    checkout = Scope(path=PathMatch(prefix="/api/checkout"), method="POST")
    api, *kept = fault_marks.rules_of(laid(body, [wish(Delay(delay=2), checkout)]))
    assert api["match"] == [{"uri": {"prefix": "/api/checkout"}, "method": {"exact": "POST"}}]
    assert api["rewrite"] == {"uri": "/v2/checkout", "authority": "x"}
    rest = kept.pop(1)
    assert kept == fault_marks.rules_of(body)
    assert rest["match"] == [{"uri": {"prefix": "/api/checkout"}, "method": {"exact": "POST"}}]


def test_only_one_rule_is_slow() -> None:
    body = service(
        {"name": "api", "match": [{"uri": {"prefix": "/api"}}], "route": [destination("ratings", "v1")]},
        {"name": "rest", "route": [destination("ratings", "v1"), destination("details")]},
    )
    after = laid(body, [wish(Delay(delay=2), Scope(rule="api", percentage=20))])
    api, rest = fault_marks.rules_of(after)
    assert api["fault"]["delay"]["percentage"] == {"value": 20}
    assert rest == fault_marks.rules_of(body)[1], "also that it leads elsewhere is no reason to refuse"


paths = st.lists(st.sampled_from(["a", "/", "b"]), max_size=6).map(lambda parts: "/" + "".join(parts))


@at_leisure
@given(
    st.none() | st.builds(lambda kind, path: {kind: path}, st.sampled_from(["exact", "prefix"]), paths),
    st.sampled_from(["/", "/v2", "/v2/"]),
    st.builds(lambda path: PathMatch(exact=path), paths)
    | st.builds(lambda path: PathMatch(prefix=path), paths.filter(lambda path: path != "/")),
    paths,
)
def test_a_request_arrives_at_the_path_it_arrived_at_before(
    uri: Object | None, rewrite: str, scope: PathMatch, path: str
) -> None:
    match = {"match": [{"uri": uri}]} if uri else {}
    body = service({**match, "rewrite": {"uri": rewrite}, "route": [destination("ratings", "v1")]})
    after = attempted(body, [wish(Abort(), Scope(path=scope))])
    request_ = Request(headers={}, path=path)
    assert arrives(decides(after, request_), path) == arrives(decides(body, request_), path)


def arrives(rule: Object | None, path: str) -> str | None:
    """Where Envoy's `prefix_rewrite` leads: in place of the prefix that matched, else of the whole path."""
    if rule is None:
        return None
    (match,) = rule.get("match") or [{}]
    ((kind, text),) = (match.get("uri") or {"prefix": "/"}).items()
    return str(rule["rewrite"]["uri"]) + (path[len(text) :] if kind == "prefix" else "")


def test_two_scopes_at_a_time_meet_where_both_are_meant() -> None:
    body = service({"route": [destination("ratings", "v1")]})
    scope = Scope(headers={"x-a": HeaderMatch(present=True)})
    after = laid(body, [wish(Delay(delay=7), JASON), wish(Abort(status=500), scope)])
    both, *_ = fault_marks.rules_of(after)
    assert both["match"] == [{"headers": {"end-user": {"exact": "jason"}, "x-a": {}}}]
    assert both["fault"].keys() == {"delay", "abort"}
    assert len(fault_marks.rules_of(after)) == 4


def test_a_copy_follows_its_rule() -> None:
    said = [wish(Abort(), JASON)]
    after = laid(service({"route": [destination("ratings", "v1", 90), destination("ratings", "v2", 10)]}), said)
    after["spec"]["http"][1]["route"][0]["weight"] = 40
    after["spec"]["http"][1]["route"][1]["weight"] = 60
    copied, rule = fault_marks.rules_of(laid(after, said))
    assert copied["route"] == rule["route"]
    assert [one["weight"] for one in copied["route"]] == [40, 60]


def test_copies_without_a_mark_are_known_by_their_names() -> None:
    body = service({"route": [destination("ratings", "v1")]})
    after = laid(body, [wish(Abort(), JASON)])
    del after["metadata"]["annotations"]
    (mark,) = fault_marks.marks_of(after)
    assert (mark.service, mark.fencing) == ("ratings", 3)
    assert restored(after) == (body, [])


def test_two_targets_of_one_object_do_not_meet() -> None:
    other = Target(mesh="m", namespace="shop", service="details")
    body = service({"name": "r", "route": [destination("ratings")]}, {"name": "d", "route": [destination("details")]})
    body["spec"]["hosts"] = ["shop.example.com"]
    one = laid(body, [wish(Abort(), JASON)])
    operations, _ = rule_patch.lay(
        one, [wish(Delay(delay=1), JASON)], ROUTES.shares(other, one), service="details", holder=LATER
    )
    both = patched(one, operations)
    assert [rule["name"] for rule in fault_marks.rules_of(both)] == [
        "autopilot.ratings.3.0",
        "r",
        "autopilot.details.4.0",
        "d",
    ]
    assert {mark.service for mark in fault_marks.marks_of(both)} == {"ratings", "details"}
    back, _ = restored(both)
    assert [rule["name"] for rule in fault_marks.rules_of(back)] == ["r", "autopilot.details.4.0", "d"]


def test_splits_do_not_see_copies() -> None:
    body = service({"route": [destination("ratings", "v1", 90), destination("ratings", "v2", 10)]})
    after = laid(body, [wish(Abort(), JASON)])
    route = route_to(ROUTES, TARGET, VIRTUAL_SERVICE, after)
    assert route is not None
    assert [one.path for one in route.lists] == ["/spec/http/1/route"]


# What cannot be said


@pytest.mark.parametrize(
    ("fault", "scope", "said"),
    [
        (Delay(delay=1, jitter=0.5), EVERYBODY, "nearest: a fixed delay"),
        (Abort(), Scope(users=Users(percentage=5, header="end-user")), "nearest: percentage"),
        (Abort(), Scope(percentage=5, view="policy"), "nearest: view app"),
        (Timeout(timeout=1), Scope(percentage=5), "nearest: percentage 100, or headers"),
        (Retries(retries=1), Scope(percentage=5), "nearest: percentage 100, or headers"),
        (Abort(), Scope(headers={"method": HeaderMatch(exact="GET")}), "use scope.method"),
        (Abort(), Scope(headers={"uri": HeaderMatch(prefix="/api")}), "use scope.path"),
        (Abort(), Scope(headers={"scheme": HeaderMatch(exact="http")}), "use another header"),
        (
            Abort(),
            Scope(headers={"cookie": HeaderMatch(present=True)}, cookie=Cookie(name="a")),
            "write one of them",
        ),
    ],
)
def test_what_istio_cannot_say_is_refused_and_the_nearest_named(fault: Fault, scope: Scope, said: str) -> None:
    with pytest.raises(InvalidChange, match=said):
        wish(fault, scope)


@pytest.mark.parametrize(
    ("rule", "one", "said"),
    [
        ({"fault": {"abort": {"httpStatus": 418}}}, wish(Abort(), JASON), "already has a fault .abort."),
        ({"fault": {"abort": {"httpStatus": 418}}}, wish(Delay(delay=1), EVERYBODY), "never overwritten"),
        (
            {"match": [{"headers": {"end-user": {"regex": "j.*"}}}]},
            wish(Abort(), JASON),
            "allows one match of each header",
        ),
        (
            {"match": [{"uri": {"regex": "/api/v[0-9]"}}]},
            wish(Abort(), Scope(path=PathMatch(exact="/api/v1"))),
            "one match of the path; nearest: scope.rule",
        ),
        (
            {"match": [{"uri": {"prefix": "/api/V1"}, "ignoreUriCase": True}]},
            wish(Abort(), Scope(path=PathMatch(prefix="/api"))),
            "ignores the capitals of paths",
        ),
        (
            {"match": [{"method": {"regex": "P.*"}}]},
            wish(Abort(), Scope(method="PUT")),
            "one match of the method; nearest: scope.rule",
        ),
        (
            {"rewrite": {"uri": "/v2/"}},
            wish(Abort(), Scope(path=PathMatch(regex="/api/[0-9]+"))),
            "rewrites the prefix '/'.* nearest: scope.path by exact or prefix",
        ),
        (
            {"match": [{"uri": {"prefix": "/api"}}, {"uri": {"prefix": "/api/v1"}}], "rewrite": {"uri": "/"}},
            wish(Abort(), Scope(path=PathMatch(prefix="/api/v1/pay"))),
            "rewrites paths of several matches",
        ),
        (
            {"match": [{"gateways": ["mesh"]}]},
            wish(Abort(), Scope(source=Source(service="web")), labels={"app": "web"}, namespace="shop"),
            "nearest: a header",
        ),
        (
            {"route": [destination("ratings", "v1", 50), destination("elsewhere.other.svc.cluster.local", None, 50)]},
            wish(Abort(), EVERYBODY),
            "also leads to other services",
        ),
        (
            {"route": [destination("ratings", "v1", 90), destination("ratings", "v2", 10)]},
            wish(Abort(), Scope(arm="v2")),
            "gives v2 10 %",
        ),
    ],
)
def test_rules_that_cannot_say_it_are_named(rule: Object, one: Wish, said: str) -> None:
    with pytest.raises(InvalidChange, match=said):
        laid(service({"route": [destination("ratings", "v1")], **rule}), [one])


def test_a_version_that_has_a_rule_of_its_own_can_be_meant() -> None:
    body = service(
        {"match": [{"headers": {"x-tester": {"exact": "yes"}}}], "route": [destination("ratings", "v2")]},
        {"route": [destination("ratings", "v1", 100), destination("ratings", "v2", 0)]},
    )
    testers, everybody = fault_marks.rules_of(laid(body, [wish(Abort(), Scope(arm="v2"))]))
    assert "fault" in testers
    assert "fault" not in everybody


def test_two_faults_of_one_kind_for_the_same_requests_are_refused() -> None:
    body = service({"route": [destination("ratings", "v1")]})
    with pytest.raises(InvalidChange, match="another fault of its kind"):
        laid(body, [wish(Delay(delay=1), EVERYBODY), wish(Delay(delay=2), JASON)])
    other = Scope(headers={"end-user": HeaderMatch(exact="ann")})
    after = laid(body, [wish(Delay(delay=1), JASON), wish(Delay(delay=2), other)])
    assert [rule.get("fault", {}).get("delay", {}).get("fixedDelay") for rule in fault_marks.rules_of(after)] == [
        "1s",
        "2s",
        None,
    ]


def test_too_many_scopes_are_refused() -> None:
    scopes_ = [Scope(headers={f"x-{number}": HeaderMatch(present=True)}) for number in range(4)]
    with pytest.raises(InvalidChange, match="at most 3"):
        laid(service({"route": [destination("ratings")]}), [wish(Abort(), scope) for scope in scopes_])


@pytest.mark.parametrize(
    ("header", "met"),
    [
        ("session=abc", True),
        ("a=b; session=abc; c=d", True),
        ("a=b;session=abc", True),
        ("session=abcd", False),
        ("mysession=abc", False),
        ("session=ab", False),
        ("a=session=abc", False),
    ],
)
def test_cookies_are_told_apart(header: str, met: bool) -> None:
    assert bool(re.fullmatch(cookie_pattern(Cookie(name="session", value="abc")), header)) == met


def test_durations_are_written_as_istio_reads_them() -> None:
    assert [duration(one) for one in (7, 0.001, 2.5, 3600, 1234.567)] == ["7s", "0.001s", "2.5s", "3600s", "1234.567s"]


def service(*http: Object) -> Object:
    return {
        "metadata": {"name": "ratings", "namespace": "shop", "resourceVersion": "7"},
        "spec": {"hosts": ["ratings"], "http": copy.deepcopy(list(http))},
    }
