"""Istio's and Linkerd's metrics: sums are what was put in, in any order, and nobody is counted twice."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.telemetry.arms import ArmSelector
from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.dialects.dialect import Dialect, Matrix, Reading
from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.dialects.linkerd import ROUTE, Linkerd
from autopilot.telemetry.model import Observation, Subject
from autopilot.telemetry.prometheus.history import observations, ticks
from autopilot.telemetry.ticks import HubTick
from tests.telemetry.fakes import REVIEWS
from tests.telemetry.meshes import (
    ROUTE_BEGUN,
    ROUTE_BUCKET,
    Series,
    endpoint,
    istio,
    istio_bucket,
    matrix,
    route,
)

OTHERS = Subject(mesh="m", namespace="bank", service="ratings", arms=("v1",))
Put = tuple[str, str, str, int]
"""(arm, teller, pod, what became of it)."""

counts = st.integers(0, 10**6)
arms, pods, outcomes = st.sampled_from(REVIEWS.arms), st.sampled_from(["web-1", "web-2"]), st.integers(0, 3)
BAD = (False, True, False, True)

ISTIO_OUTCOMES: list[dict[str, str]] = [
    {"code": "200"},
    {"code": "503", "response_flags": "UF"},
    {"code": "404"},
    {"code": "200", "request_protocol": "grpc", "grpc_response_status": "14"},
]
ROUTE_OUTCOMES: list[dict[str, str]] = [
    {"status": "200"},
    {"status": "", "error": "REQUEST_TIMEOUT"},
    {"status": "404"},
    {"status": "500"},
]


def istio_put(put: Put, value: float) -> Series:
    arm, reporter, pod, outcome = put
    return istio(arm, value, reporter=reporter, pod=pod, **ISTIO_OUTCOMES[outcome])


def linkerd_put(put: Put, value: float) -> Series:
    arm, teller, pod, outcome = put
    if teller == ROUTE:
        return route(arm, value, pod=pod, **ROUTE_OUTCOMES[outcome])
    failed = "failure" if BAD[outcome] else "success"
    return endpoint(arm, value, pod=pod, classification=failed, status_code=str(outcome))


MESHES = [
    pytest.param(Istio(), istio_put, ("waypoint", "source", "destination"), id="istio"),
    pytest.param(Linkerd(), linkerd_put, ("route", "endpoint"), id="linkerd"),
]


def totals(reading: Reading, arm: str) -> tuple[float, float]:
    found = [sample.user for sample in reading.samples if sample.arm == arm]
    return sum(one.requests for one in found), sum(one.errors for one in found)


def read(dialect: Dialect, result: Matrix, subject: Subject = REVIEWS) -> Reading:
    return dialect.newest(result, [subject])[0]


@pytest.mark.parametrize(("dialect", "write", "tellers"), MESHES)
@given(data=st.data())
def test_sums_are_what_the_believed_teller_was_given(
    dialect: Dialect, write: Any, tellers: Sequence[str], data: st.DataObject
):
    """For each arm, whatever pods and outcomes: the first teller with any word, alone; in any order."""
    puts = data.draw(st.dictionaries(st.tuples(arms, st.sampled_from(tellers), pods, outcomes), counts, max_size=30))
    result = matrix(data.draw(st.permutations([write(put, value) for put, value in puts.items()])))
    reading = read(dialect, result)
    for arm in REVIEWS.arms:
        mine = {put: value for put, value in puts.items() if put[0] == arm}
        believed = next((teller for teller in tellers if any(put[1] == teller for put in mine)), None)
        told = {put: value for put, value in mine.items() if put[1] == believed}
        assert totals(reading, arm) == (sum(told.values()), sum(value for put, value in told.items() if BAD[put[3]]))
        samples = [sample for sample in reading.samples if sample.arm == arm]
        assert {sample.told_by for sample in samples} == ({believed} if told else set())
        assert len(samples) == len({(put[2], write(put, 0)[0].get("request_protocol")) for put in told})
        assert all(sample.attempt == sample.user for sample in samples)
    assert reading == read(dialect, data.draw(st.permutations(result)))
    newest = {sample.series: (sample.time, sample.user) for sample in reading.samples}
    kept = dialect.history(result, REVIEWS)
    assert {series: (looks[-1].time, looks[-1].user) for series, looks in kept.items()} == newest
    assert all([look.time for look in looks] == [985, 1000] for looks in kept.values())


@pytest.mark.parametrize(("dialect", "write", "tellers"), MESHES)
@given(data=st.data())
def test_two_tellers_never_add_up(dialect: Dialect, write: Any, tellers: Sequence[str], data: st.DataObject):
    """The same requests told twice are the same requests."""
    puts = data.draw(st.dictionaries(st.tuples(arms, pods, outcomes), counts, min_size=1))
    teller, *rest = data.draw(st.permutations(tellers))
    once = matrix([write((arm, teller, pod, outcome), value) for (arm, pod, outcome), value in puts.items()])
    more = [write((arm, other, pod, outcome), value) for other in rest for (arm, pod, outcome), value in puts.items()]
    alone, both = read(dialect, once), read(dialect, once + matrix(more))
    for arm in REVIEWS.arms:
        assert totals(both, arm) == totals(alone, arm)


@pytest.mark.parametrize(("dialect", "write", "tellers"), MESHES)
@given(data=st.data())
def test_one_proxy_that_two_jobs_scrape_is_one(
    dialect: Dialect, write: Any, tellers: Sequence[str], data: st.DataObject
):
    puts = data.draw(st.dictionaries(st.tuples(arms, st.just(tellers[0]), pods, outcomes), counts, min_size=1))
    series = [write(put, value) for put, value in puts.items()]
    again = [({**labels, "job": "pods", "instance": "10.0.0.7:15090", "app": "web"}, value) for labels, value in series]
    alone = read(dialect, matrix(series))
    both = read(dialect, data.draw(st.permutations(matrix(series) + matrix(again, at=999))))
    assert both == alone


@pytest.mark.parametrize(("dialect", "write", "tellers"), MESHES)
def test_numbers_that_are_none_stay_so(dialect: Dialect, write: Any, tellers: Sequence[str]):
    """The differencer leaves such a sample out, and says so."""
    result = matrix([write(("v1", tellers[0], "web-1", 0), math.nan), write(("v2", tellers[0], "web-1", 0), 3.0)])
    requests = {sample.arm: sample.user.requests for sample in read(dialect, result).samples}
    assert math.isnan(requests["v1"])
    assert requests["v2"] == 3


@pytest.mark.parametrize(("dialect", "write", "tellers"), MESHES)
def test_no_word_is_no_sample(dialect: Dialect, write: Any, tellers: Sequence[str]):
    assert read(dialect, []) == Reading()
    assert read(dialect, matrix([write(("v3", tellers[0], "web-1", 0), 3.0)])) == Reading()
    assert dialect.history([], REVIEWS) == {}


@pytest.mark.parametrize("dialect", [Istio(), Linkerd()])
@pytest.mark.parametrize(
    "result",
    [
        [{"metric": {}, "values": [[1, "1"]]}],
        [{"metric": {"__name__": "istio_requests_total"}, "values": []}],
        [{"metric": {"__name__": "response_total"}, "values": [[1, "x"]]}],
        [{"values": [[1, "1"]]}],
        [7],
    ],
)
def test_what_is_no_matrix_is_refused(dialect: Dialect, result: list[Any]):
    for ask in (lambda: dialect.newest(result, [REVIEWS]), lambda: dialect.history(result, REVIEWS)):
        with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
            ask()


@pytest.mark.parametrize(
    ("labels", "failed"),
    [
        ({"code": "200"}, 0),
        ({"code": "301"}, 0),
        ({"code": "429"}, 0),
        ({"code": "500"}, 1),
        ({"code": "503", "response_flags": "UH"}, 1),
        ({"code": "0", "response_flags": "DC"}, 1),
        *(({"grpc_response_status": str(status), "request_protocol": "grpc"}, 1) for status in (2, 4, 12, 13, 14, 15)),
        *(({"grpc_response_status": str(status), "request_protocol": "grpc"}, 0) for status in (0, 1, 5, 8, 10, 16)),
        ({"grpc_response_status": "", "request_protocol": "grpc"}, 0),
        ({"grpc_response_status": "14", "request_protocol": "http"}, 0),
        ({"code": "0", "grpc_response_status": "", "request_protocol": "grpc"}, 1),
    ],
)
def test_what_is_an_error_in_istio(labels: dict[str, str], failed: float):
    assert totals(read(Istio(), matrix([istio("v1", 1, **labels)])), "v1") == (1, failed)


def test_a_host_outside_the_cluster_is_read_by_its_name() -> None:
    """Its ServiceEntry's namespace is its own; it has no workload and no version."""
    host = "api.payments.example"
    subject = Subject(mesh="m", namespace="shop", service=host, arms=(host, f"{host}~baseline"))
    unknown = {"destination_workload": "unknown", "destination_version": "unknown"}
    series = [
        istio("v1", 7, service=host, **unknown),
        istio("v1", 2, service=host, code="500", **unknown),
        istio("v1", 5, service="b.example", **unknown),
        istio("v1", 3, service=host, namespace="edge", **unknown),
    ]
    found = read(Istio(), matrix(series), subject)
    assert totals(found, host) == (9, 2)
    assert totals(found, f"{host}~baseline") == (0, 0)


def test_which_grpc_statuses_are_errors_can_be_said():
    quota = [istio("v1", 5, request_protocol="grpc", grpc_response_status="8")]
    assert totals(read(Istio(grpc_failures={8}), matrix(quota)), "v1") == (5, 5)
    name = "outbound_grpc_route_backend_response_statuses_total"
    quota = [route("v1", 5, name=name, grpc_status="RESOURCE_EXHAUSTED", error="")]
    assert totals(read(Linkerd(), matrix(quota)), "v1") == (5, 0)
    assert totals(read(Linkerd(grpc_failures={8}), matrix(quota)), "v1") == (5, 5)


@pytest.mark.parametrize(
    ("dialect", "series"),
    [
        (Istio(), istio("v1", 9, code=None)),
        (Istio(), istio("v1", 9, reporter=None)),
        (Linkerd(), route("v1", 9, status="", error="")),
        (Linkerd(), endpoint("v1", 9, classification=None)),
        (Linkerd(), endpoint("v1", 9, direction="inbound")),
    ],
)
def test_a_count_without_its_outcome_is_neither_success_nor_failure(dialect: Dialect, series: Series):
    assert read(dialect, matrix([series])) == Reading()


def test_latency_in_seconds_summed_over_outcomes():
    series = [
        istio("v1", 10),
        istio("v1", 2, code="500"),
        *(istio_bucket("v1", le, count) for le, count in (("100", 6), ("2500", 9), ("+Inf", 10))),
        *(istio_bucket("v1", le, count, code="500") for le, count in (("100", 0), ("2500", 1), ("+Inf", 2))),
        *(istio_bucket("v1", le, 99, reporter="destination") for le in ("100", "+Inf")),
    ]
    (sample,) = read(Istio(), matrix(series)).samples
    assert (sample.user.timed, sample.user.buckets) == (12, ((0.1, 6), (2.5, 10)))
    places = [
        route("v1", 10),
        *(route("v1", count, name=ROUTE_BUCKET, le=le) for le, count in (("0.1", 6), ("2.5", 9), ("+Inf", 10))),
    ]
    (sample,) = read(Linkerd(), matrix(places)).samples
    assert (sample.user.timed, sample.user.buckets) == (10, ((0.1, 6), (2.5, 9)))
    ends = [endpoint("v1", count, name="response_latency_ms_bucket", le=le) for le, count in (("50", 1), ("+Inf", 2))]
    (sample,) = read(Linkerd(), matrix([endpoint("v1", 2), *ends])).samples
    assert (sample.user.timed, sample.user.buckets) == (2, ((0.05, 1),))


def test_a_histogram_alone_is_no_count():
    assert read(Istio(), matrix([istio_bucket("v1", "+Inf", 5)])) == Reading()


def test_linkerd_tells_what_is_under_way():
    (sample,) = read(Linkerd(), matrix([route("v1", 10), route("v1", 14, name=ROUTE_BEGUN)])).samples
    assert (sample.begun, sample.active, sample.user.requests) == (14, 4, 10)
    (hanging,) = read(Linkerd(), matrix([endpoint("v1", 3, name="request_total")])).samples
    assert (hanging.begun, hanging.active, hanging.user.requests) == (3, 3, 0)
    (unknown,) = read(Linkerd(), matrix([endpoint("v1", 3)])).samples
    assert (unknown.begun, unknown.active) == (None, 0)


def test_a_version_s_first_requests_count_where_its_caller_was_scraped_before():
    """A series that the scrape before had not began since; one that may be older did not."""
    (stable, _), (canary, _), (late, _) = istio("v1", 0), istio("v2", 0), istio("v2", 0, pod="web-2")
    failed = canary | {"response_code": "503"}
    for number, labels in enumerate((stable, canary, failed, late)):
        labels["left_by_relabelling"] = str(number)  # says nothing of who was scraped

    def answer(*, upto: float) -> list[dict[str, Any]]:
        rows = {
            0: (stable, {0: 100, 30: 200, 60: 300, 90: 400}),
            1: (canary, {60: 10, 90: 30}),
            2: (failed, {60: 4, 90: 5}),
            3: (late, {60: 7, 90: 9}),
        }
        cut = {
            key: {at: value for at, value in row.items() if upto - 75 <= at <= upto} for key, (_, row) in rows.items()
        }
        return [
            {"metric": rows[key][0], "values": [[at, str(value)] for at, value in row.items()]}
            for key, row in cut.items()
            if row
        ]

    differencer = Differencer("v2", "v1")
    counted = []
    for now in (30, 60, 90):
        reading = read(Istio(), answer(upto=now))
        item = differencer.fold(Observation(subject=REVIEWS, time=now, samples=reading.samples))
        if isinstance(item, HubTick):
            counted.append((item.tick.stable.requests, item.tick.canary.requests, item.tick.canary.errors))
    assert counted == [(100, 14, 4), (100, 23, 1)]
    past = observations(REVIEWS, Istio().history(answer(upto=90), REVIEWS))
    told = [tick.canary.requests for tick in ticks(Differencer("v2", "v1"), past)]
    assert told == [14, 23]


def test_another_teller_begins_an_arm_anew():
    """Whatever one of them told of is not counted again when the other comes back."""
    sent, arrived = istio("v2", 0)[0], istio("v2", 0, reporter="destination", pod="reviews-1")[0]
    looks = [(0, 100, 100), (15, None, 120), (30, 150, 140), (45, None, 190), (60, None, 210), (75, 300, 300)]
    differencer, counted, notes = Differencer("v2", "v1"), 0.0, []
    for at, source, destination in looks:
        rows = [(sent, source), (arrived, destination)]
        result = [{"metric": labels, "values": [[at, str(value)]]} for labels, value in rows if value is not None]
        item = differencer.fold(Observation(subject=REVIEWS, time=at, samples=read(Istio(), result).samples))
        if isinstance(item, HubTick):
            counted += item.tick.canary.requests
            notes += item.notes
        else:
            notes.append(item.reason)
    assert counted == 20
    assert sum("v2 is now reported by destination instead of source" in note for note in notes) == 2
    assert sum("v2 is now reported by source instead of destination" in note for note in notes) == 2


def test_callers_without_sidecars_are_seen_where_there_are_no_others():
    arrived = istio("v1", 100, reporter="destination", source_workload="unknown", pod="reviews-1")
    assert totals(read(Istio(), matrix([arrived])), "v1") == (100, 0)
    mixed = read(Istio(), matrix([arrived, istio("v1", 20)]))
    assert totals(mixed, "v1") == (20, 0)
    assert mixed.missing == {
        "a part of v1": "destination counts more requests than source; only the latter are judged "
        "(from callers without a sidecar, or retries)"
    }
    turned = Istio(reporters=("destination", "source"))
    assert totals(read(turned, matrix([arrived, istio("v1", 20)])), "v1") == (100, 0)


def test_each_arm_has_a_teller_of_its_own():
    reading = read(Istio(), matrix([istio("v1", 5), istio("v2", 7, reporter="destination")]))
    assert {sample.arm: sample.told_by for sample in reading.samples} == {"v1": "source", "v2": "destination"}


@pytest.mark.parametrize(
    "labels",
    [
        {"destination_workload": "reviews-v2", "destination_version": "unknown"},
        {"destination_workload": "v2", "destination_version": "unknown"},
        {"destination_workload": "reviews-5d4f", "destination_version": "v2"},
    ],
)
def test_arms_by_their_names(labels: dict[str, str]):
    assert totals(read(Istio(), matrix([istio("v2", 5, **labels)])), "v2") == (5, 0)
    stranger = {"destination_workload": "x", "destination_version": "v2", "destination_service_name": "cart"}
    for other in (stranger, {**labels, "destination_service_namespace": "bank"}):
        assert read(Istio(), matrix([istio("v2", 5, **other)])) == Reading()


def test_what_two_arms_claim_is_nobodys():
    torn = read(Istio(), matrix([istio("v1", 5, destination_version="v2"), istio("v1", 3, code="500")]))
    assert totals(torn, "v1") == (3, 3)
    assert totals(torn, "v2") == (0, 0)
    assert torn.missing == {
        "series that match v1 and v2": "their labels match several arms, so they are counted for none"
    }


def by_workload(subject: Subject) -> dict[str, ArmSelector]:
    """What a provider that knows its Deployments gives."""
    return {
        arm: ArmSelector.of(
            {"destination_workload": f"{subject.service}-{arm}", "destination_workload_namespace": subject.namespace}
        )
        for arm in subject.arms
    }


def matchers(query: str) -> dict[str, re.Pattern[str]]:
    found = re.findall(r'(\w+)=~"((?:[^"\\]|\\.)*)"', query)
    return {name: re.compile(re.sub(r"\\(.)", r"\1", pattern)) for name, pattern in found}


def asked(query: str, labels: dict[str, str]) -> bool:
    return all(pattern.fullmatch(labels.get(name, "")) for name, pattern in matchers(query).items())


def test_a_selector_asks_for_no_more_than_it_must():
    query = Istio(by_workload).selector([REVIEWS, OTHERS], 37.5)
    assert query == (
        '{__name__=~"istio_request_duration_milliseconds_bucket|istio_requests_total",'
        'reporter=~"destination|source|waypoint",'
        'destination_workload=~"ratings\\\\-v1|reviews\\\\-v1|reviews\\\\-v2",'
        'destination_workload_namespace=~"bank|shop"}[38s]'
    )
    assert "bucket" not in Istio(by_workload).selector([REVIEWS], 1800, latency=False, strict=True)
    assert "bucket" not in Linkerd().selector([REVIEWS], 1800, latency=False, strict=True)


@pytest.mark.parametrize("dialect", [Istio(), Istio(by_workload), Linkerd()])
@pytest.mark.parametrize("number", [1, 200])
def test_one_selector_finds_all_that_is_read(dialect: Dialect, number: int):
    subjects = [REVIEWS, *(Subject("m", "shop", f"s-{n}", ("v1",)) for n in range(number))]
    query = dialect.selector(subjects, 15)
    assert len(query) < 6000
    rows = [istio("v1", 1), istio_bucket("v2", "100", 1, reporter="destination")]
    if isinstance(dialect, Linkerd):
        rows = [route("v1", 1), endpoint("v2", 1), route("v1", 1, name=ROUTE_BUCKET, le="1")]
        assert not asked(query, endpoint("v1", 1, direction="inbound")[0])
    assert all(asked(query, labels) for labels, _ in rows)
    if number == 1:
        assert not asked(query, istio("v1", 1, namespace="bank")[0])
        assert not asked(query, route("v1", 1, backend_namespace="bank")[0])


def test_an_arm_needs_labels():
    for nothing in ((), ({},)):
        with pytest.raises(ValueError, match="give at least one"):
            ArmSelector.of(*nothing)
    assert hash(ArmSelector.of({"a": "1", "b": "2"})) == hash(ArmSelector.of({"b": "2", "a": "1"}))
    assert not ArmSelector.of({"a": "."}).matches({"a": "x"})
