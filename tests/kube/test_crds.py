"""A real API server takes our CRDs as structural, takes what the loader takes, and refuses the rest with good words."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from autopilot.mesh.kube.client.api_errors import Refused
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import CRD, Resource
from autopilot.spec.chaos.experiment import ExperimentSpec
from autopilot.spec.crd.emit import GROUP, VERSION, crd
from autopilot.spec.crd.resources import resources

EXAMPLES = Path(__file__).parents[2] / "examples"
CANARY = Resource(GROUP, VERSION, "meshcanaries", "MeshCanary")
EXPERIMENT = Resource(GROUP, VERSION, "meshexperiments", "MeshExperiment")
NAMES = (f"crds-{number}" for number in itertools.count())
Object = dict[str, Any]


def condition(definition: Object, kind: str) -> str:
    conditions = definition.get("status", {}).get("conditions") or []
    return next((f"{each['status']}: {each['message']}" for each in conditions if each["type"] == kind), "")


@pytest.fixture(scope="module")
def installed(api: KubeApi) -> dict[str, Object]:
    """The definitions as the API server has them, once it serves their kinds."""
    found = {}
    for resource in resources():
        body = crd(resource)
        name = body["metadata"]["name"]
        api.apply(CRD, body)
        deadline = time.monotonic() + 20
        while not condition(api.get(CRD, name) or {}, "Established").startswith("True"):
            assert time.monotonic() < deadline, f"{name} is not served"
            time.sleep(0.2)
        found[resource.kind] = api.get(CRD, name) or {}
    time.sleep(1)  # served and discoverable are not the same moment
    return found


@pytest.fixture
def made(api: KubeApi, installed: dict[str, Object]) -> Iterator[Any]:
    """Creates a MeshCanary, or another resource, from its spec, and deletes it afterwards."""
    names = []

    def create(spec: Object, name: str = "", of: Resource = CANARY, **more: Any) -> Object:
        names.append((of, name or next(NAMES)))
        body = {"apiVersion": of.api_version, "kind": of.kind, "spec": spec} | more
        return api.create(of, body | {"metadata": {"name": names[-1][1], "namespace": "default"}})

    yield create
    for of, name in names:
        api.delete(of, name, "default")


def spec(**fields: Any) -> Object:
    return {"target": {"service": "reviews"}, "arms": {"stable": "v1", "canary": "v2"}} | fields


def step(**fields: Any) -> Object:
    return spec(steps=[{"weight": 10} | fields])


def metrics(*given: Object) -> Object:
    return spec(analysis={"metrics": list(given)})


def told(value: Object | str) -> str:
    """What is special about a spec."""
    return str({key: each for key, each in value.items() if key != "target"} if isinstance(value, dict) else value)


def test_the_schema_is_structural_and_served(installed: dict[str, Object]) -> None:
    for resource in resources():
        definition = installed[resource.kind]
        assert condition(definition, "NonStructuralSchema") == ""
        assert condition(definition, "NamesAccepted").startswith("True")
        assert definition["status"]["acceptedNames"]["shortNames"] == [resource.short]
        assert definition["status"]["storedVersions"] == [VERSION]


def test_nothing_of_the_schema_is_dropped(installed: dict[str, Object]) -> None:
    for resource in resources():
        (sent,), (kept,) = crd(resource)["spec"]["versions"], installed[resource.kind]["spec"]["versions"]
        assert kept["schema"] == sent["schema"]
        assert kept["additionalPrinterColumns"] == sent["additionalPrinterColumns"]


@pytest.mark.parametrize("file", ["canary.yaml", "canary-full.yaml"])
def test_examples_are_taken_whole(made: Any, file: str) -> None:
    document = YAML(typ="safe", pure=True).load(EXAMPLES / file)
    assert made(document["spec"])["spec"] == document["spec"]


@pytest.mark.parametrize(
    "good",
    [
        spec(),
        step(weight=0.5),
        step(weight="10%"),
        step(weight=" 12.5 % "),
        step(weight=100, hold=0),
        step(hold="1m30s"),
        step(hold=1.5, timeout="250ms"),
        step(hold="60"),
        step(pause=True),
        step(pause=False),
        step(pause={}),
        step(pause={"timeout": "1h", "onTimeout": "promote"}),
        step(minRequests=0, allowDecrease=True),
        spec(analysis={"alpha": "0.1%", "beta": 0.05, "tick": 0.5, "goodRatio": 2, "dispersion": 1}),
        spec(deadline="3h", onInconclusive="rollback"),
        metrics({"type": "errorRate"}, {"type": "latency", "boundaries": ["100ms", 0.5, 1]}),
        metrics({"type": "successRate", "objective": "99.5%"}),
        metrics({"type": "latencyObjective", "within": "500ms"}),
        metrics({"type": "promql", "name": "a", "query": "up", "max": 1, "min": 0.5, "interval": "10s"}),
        metrics({"type": "latency"}, {"type": "latency", "name": "again"}),
    ],
    ids=told,
)
def test_what_the_loader_takes_is_taken_as_it_is(made: Any, good: Object) -> None:
    assert made(good)["spec"] == good


def test_null_is_as_if_it_was_not_there(made: Any) -> None:
    assert made(step(timeout=None, pause=None))["spec"] == step()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"target": {"service": "reviews"}}, "spec.arms: Required value"),
        (spec(arms={"stable": "v1", "canary": "v1"}), "is the same as stable; name two versions"),
        (spec(target={"service": "Reviews"}), "spec.target.service"),
        (spec(steps=[]), "spec.steps in body should have at least 1 items"),
        (spec(steps=[{"weight": 1}] * 101), "spec.steps: Too many: 101: must have at most 100 items"),
        (spec(steps=[{}]), "spec.steps[0].weight: Required value"),
        (step(weight=101), "spec.steps[0].weight in body should be less than or equal to 100"),
        (step(weight=-1), "spec.steps[0].weight in body should be greater than or equal to 0"),
        (step(weight="150%"), "spec.steps[0].weight in body should match"),
        (step(weight=True), "spec.steps[0].weight"),
        (step(weight=[]), "spec.steps[0].weight"),
        (step(weight={}), "spec.steps[0].weight"),
        (step(weight={"percent": 1}), "spec.steps[0].weight"),
        (step(hold="soon"), "spec.steps[0].hold in body should match"),
        (step(hold="1" * 81), "spec.steps[0].hold: Too long"),
        (step(minRequests=1.5), "spec.steps[0].minRequests"),
        (step(minRequests=-1), "spec.steps[0].minRequests in body should be greater than or equal to 0"),
        (step(pause="later"), "spec.steps[0].pause"),
        (step(pause=""), "spec.steps[0].pause"),
        (step(pause=5), "spec.steps[0].pause"),
        (step(pause=[]), "spec.steps[0].pause"),
        (step(pause={"timeout": "never"}), "spec.steps[0].pause.timeout in body should match"),
        (step(pause={"onTimeout": "wait"}), 'Unsupported value: "wait": supported values: "rollback", "promote"'),
        (spec(analysis={"alpha": 0}), "spec.analysis.alpha in body should be greater than 0"),
        (spec(analysis={"alpha": 0.3}), "spec.analysis.alpha in body should be less than or equal to 0.2"),
        (spec(analysis={"tick": 0.1}), "spec.analysis.tick in body should be greater than or equal to 0.5"),
        (spec(analysis={"source": "logs"}), 'supported values: "mesh", "prometheus"'),
        (spec(deadline=0), "spec.deadline in body should be greater than 0"),
        (metrics(), "spec.analysis.metrics in body should have at least 1 items"),
        (metrics({"name": "a"}), "spec.analysis.metrics[0].type: Required value"),
        (metrics({"type": "guess"}), 'spec.analysis.metrics[0].type: Unsupported value: "guess"'),
        (metrics({"type": "errorRate"}, {"type": "errorRate"}), "two metrics have the same name"),
        (metrics({"type": "errorRate"}, {"type": "latency", "name": "errors"}), "two metrics have the same name"),
        (metrics({"type": "errorRate", "query": "up"}), "query belongs to promql alone"),
        (metrics({"type": "errorRate", "max": 1}), "max belongs to promql alone"),
        (metrics({"type": "errorRate", "within": "1s"}), '"spec.analysis.metrics[0].within" must not'),
        (metrics({"type": "latencyObjective"}), "spec.analysis.metrics[0].within: Required value"),
        (metrics({"type": "successRate"}), "spec.analysis.metrics[0].objective: Required value"),
        (metrics({"type": "promql", "name": "a", "query": "up"}), "a threshold needs max, min or both"),
        (metrics({"type": "promql", "name": "a", "max": 1}), "promql needs query"),
        (metrics({"type": "promql", "query": "up", "max": 1}), "promql needs name"),
        (metrics({"type": "promql", "name": "a", "query": "up", "max": 1, "min": 2}), "min is above max"),
        (metrics({"type": "promql", "name": "a", "query": "up", "max": 1, "weight": 2}), "promql does not take weight"),
    ],
    ids=told,
)
def test_what_the_loader_refuses_is_refused_with_its_place(made: Any, bad: Object, said: str) -> None:
    with pytest.raises(Refused) as refused:
        made(bad)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["a.b", "a" * 64])
def test_names_are_labels(made: Any, name: str) -> None:
    with pytest.raises(Refused, match=r"metadata\.name: lower-case letters, digits and dashes, at most 63"):
        made(spec(), name)


def test_status_is_written_apart(api: KubeApi, made: Any) -> None:
    created = made(spec(), status={"phase": "Ended"})
    assert "status" not in created
    now = "2030-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "Walking", "message": "", "lastTransitionTime": now}
    status = {
        "phase": "Progressing",
        "weight": 12.5,
        "step": 1,
        "steps": [12.5, 100],
        "startedAt": now,
        "observedGeneration": 1,
        "exposure": {"requests": 10, "failures": 0.5, "seconds": 3},
        "conditions": [ready],
    }
    path = f"{CANARY.path('default', created['metadata']['name'])}/status"
    written = api._call("PUT", CANARY, path, body=created | {"status": status}) or {}
    assert written["status"] == status
    assert written["metadata"]["generation"] == 1
    with pytest.raises(Refused, match=r"Duplicate value"):
        api._call("PUT", CANARY, path, body=written | {"status": status | {"conditions": [ready, ready]}})


# Experiments


def wanted(**fields: Any) -> Object:
    """A good experiment's spec with some fields written otherwise; what is None is left out."""
    known: Object = {
        "target": {"service": "ratings"},
        "scope": {"percentage": 5},
        "hypothesis": {"probes": [{"type": "mesh", "name": "web", "tolerance": {"min": 0.99}}]},
        "method": [{"faults": [{"fault": {"type": "abort"}}], "hold": "30s"}],
    }
    return {name: value for name, value in (known | fields).items() if value is not None}


def fault(kind: str, scope: Object | None = None, **fields: Any) -> Object:
    return wanted(method=[{"faults": [{"fault": {"type": kind} | fields} | ({"scope": scope} if scope else {})]}])


def scoped(**fields: Any) -> Object:
    return wanted(scope=fields)


def probes(*given: Object) -> Object:
    return wanted(hypothesis={"probes": list(given)})


def tolerance(**fields: Any) -> Object:
    return probes({"type": "mesh", "name": "web", "tolerance": fields})


def scheduled(**fields: Any) -> Object:
    return wanted(schedule={"cron": "0 10 * * mon-fri"} | fields)


def kept(**fields: Any) -> Object:
    return {"type": "kubernetes", "name": "k", "apiVersion": "apps/v1", "kind": "Deployment"} | fields


def login(token: Any, **headers: str) -> Object:
    return {"type": "http", "name": "h", "url": "https://h/p", "headers": {"x-token": token, **headers}}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("chaos-*.yaml")), ids=lambda file: file.name)
def test_examples_of_experiments_are_taken_whole(made: Any, file: Path) -> None:
    document = YAML(typ="safe", pure=True).load(file)
    assert made(document["spec"], of=EXPERIMENT)["spec"] == document["spec"]


@pytest.mark.parametrize(
    "good",
    [
        wanted(),
        wanted(scope=None, method=[{"faults": [{"fault": {"type": "partition", "direction": "both"}}]}]),
        wanted(method=[{"actions": [{"type": "podKill", "reversible": False, "count": 2, "grace": "30s"}]}]),
        wanted(method=[{}, {"actions": [{"type": "scale", "workload": "deployment/web", "replicas": 0}], "hold": 5}]),
        wanted(method=[{"actions": [{"type": "cordon", "node": "n"}, {"type": "drain", "node": "n"}]}]),
        fault("delay", delay="2s", jitter=0.5),
        fault("grpcAbort", code=14),
        fault("grpcAbort", code="UNAVAILABLE"),
        fault("grpcAbort", code="Deadline_Exceeded"),
        fault("blackhole"),
        fault("eject", endpoints=["h:1"]),
        fault("overflow", pending=0),
        fault("retries", retries=0, perTryTimeout="250ms"),
        fault("timeout", scope={"percentage": 5, "view": "app"}, timeout=1),
        fault("reset", scope={"arm": "v2", "view": "policy"}),
        scoped(headers={"End-User": {"exact": "user-7"}, "x": {"present": True}}),
        scoped(users={"percentage": "0.1%", "cookie": "id"}, source={"service": "shop/web", "arm": "v1"}),
        scoped(cookie={"name": "beta", "value": "yes"}),
        tolerance(equals=True),
        tolerance(equals="ok", jsonpath="status.conditions[type=Ready].status"),
        tolerance(oneOf=["a", 1, 0.5]),
        probes({"type": "http", "name": "h", "url": "https://h/p", "headers": {"Host": "a"}, "latency": {"max": 1}}),
        probes(login({"secretRef": {"env": "TOKEN"}}, accept="text/plain")),
        probes(login({"prefix": "Bearer ", "secretRef": {"kubernetes": {"name": "a", "key": "b", "namespace": "c"}}})),
        probes(login({"prefix": "", "secretRef": {"file": "/run/secrets/token"}})),
        probes({"type": "python", "name": "p", "function": "a.b:c", "tolerance": {"equals": 0},
                "arguments": {"a": None, "b": True, "c": 1, "d": "x"}}),
        probes(kept(object="web", namespace="shop", tolerance={"jsonpath": "spec.replicas", "min": 2})),
        probes(kept(selector="app=web", absent=True)),
        wanted(safety={"maxTraffic": "50%", "errorBudget": {"objective": "99.9%", "window": "1m"}}, deadline="2h"),
        scheduled(timeZone="Europe/Berlin", windows=[{"days": ["mon"], "end": "12:00"}], jitter="5m"),
        scheduled(freeze=[{"start": "2026-12-24", "end": "2026-12-24", "reason": "holidays"}]),
    ],
    ids=told,
)  # fmt: skip
def test_experiments_that_the_loader_takes_are_taken_as_they_are(made: Any, good: Object) -> None:
    ExperimentSpec.model_validate(good, by_alias=True, by_name=False)
    assert made(good, of=EXPERIMENT)["spec"] == good


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (wanted(hypothesis=None), "spec.hypothesis: Required value"),
        (wanted(hypothesis={"probes": []}), "spec.hypothesis.probes in body should have at least 1 items"),
        (wanted(scope=None), "a fault has no scope; write scope beside it, or spec.scope for all"),
        (wanted(method=[{"hold": 10}]), "has no effect: it has no fault and no action"),
        (wanted(deadline=0), "spec.deadline in body should be greater than 0"),
        (wanted(abort=[{"type": "tcp", "name": "web", "address": "h:1"}]), "two probes have the same name"),
        (wanted(safety={"maxConcurrent": 0}), "spec.safety.maxConcurrent in body should be greater than or equal to 1"),
        (fault("sleep"), 'spec.method[0].faults[0].fault.type: Unsupported value: "sleep"'),
        (fault("delay"), "spec.method[0].faults[0].fault.delay: Required value"),
        (fault("abort", delay="1s"), '"spec.method[0].faults[0].fault.delay" must not'),
        (fault("abort", status=200), "fault.status in body should be greater than or equal to 400"),
        (fault("grpcAbort", code=0), "fault.code in body should be greater than or equal to 1"),
        (fault("grpcAbort", code="OK"), "fault.code in body should match"),
        (fault("eject"), "needs endpoints or zone"),
        (fault("blackhole", endpoints=["h:1"], zone="b"), "zone cannot be combined with endpoints; write one of them"),
        (fault("overflow"), "has no limit; write requests, connections or pending"),
        (fault("retries", scope={"arm": "v1"}, retries=3), "before a version is chosen; leave out arm and view"),
        (scoped(), "spec.scope.percentage: Required value"),
        (scoped(view="policy"), "spec.scope.percentage: Required value"),
        (scoped(percentage=0), "spec.scope.percentage in body should be greater than 0"),
        (scoped(headers={"x": {"exact": "a", "prefix": "b"}}), "write one of exact, prefix, regex and present"),
        (scoped(headers={"x": {"present": False}}), "spec.scope.headers.x.present: Unsupported value: false"),
        (scoped(headers={"a b": {"exact": "a"}}), "names match"),
        (scoped(cookie={"name": "a", "value": "b;c"}), "spec.scope.cookie.value in body should match"),
        (scoped(users={"percentage": 5}), "write what tells users apart: header or cookie"),
        (scoped(source={"arm": "v1"}), "names no caller, or two; write service"),
        (tolerance(), "spec.hypothesis.probes[0].tolerance.equals: Required value"),
        (tolerance(min=2, max=1), "min is above max, so no value could pass"),
        (tolerance(equals=[1]), "spec.hypothesis.probes[0].tolerance.equals"),
        (tolerance(oneOf=[True]), "spec.hypothesis.probes[0].tolerance.oneOf[0]"),
        (probes({"type": "http", "name": "a"}), "http needs url"),
        (
            probes({"type": "tcp", "name": "a", "address": "h"}),
            "spec.hypothesis.probes[0].address in body should match",
        ),
        (
            probes({"type": "tcp", "name": "a", "address": "h:1", "tolerance": {"min": 1}}),
            "tcp does not take tolerance",
        ),
        (probes(login({"secretRef": {}})), "headers.x-token.secretRef in body should have at least 1 properties"),
        (
            probes(login({"secretRef": {"env": "A", "file": "/b"}})),
            "headers.x-token.secretRef: Too many: 2: must have at most 1",
        ),
        (probes(login({"prefix": "Bearer "})), "headers.x-token.secretRef: Required value"),
        (probes(login({"secretRef": {"kubernetes": {"name": "a"}}})), "secretRef.kubernetes.key: Required value"),
        (probes(login(["a"])), "headers.x-token"),
        (probes(login(3)), "headers.x-token"),
        (probes({"type": "tcp", "name": "a", "address": "h:1", "headers": {"a": "b"}}), "headers"),
        (probes(kept()), "needs object (its name) or selector"),
        (probes(kept(object="a", absent=True, tolerance={"min": 1})), "checks an object that must not exist"),
        (wanted(method=[{"actions": [{"type": "podKill", "reversible": True}]}]), "Unsupported value: true"),
        (wanted(method=[{"actions": [{"type": "scale", "replicas": 1}]}]), "scale needs workload"),
        (scheduled(windows=[{"start": "17:00", "end": "09:00"}]), "end is not after start; split it at midnight"),
        (scheduled(windows=[{"start": "18:00"}]), "end is not after start; split it at midnight"),
        (scheduled(freeze=[{"start": "2026-12-26", "end": "2026-12-24"}]), "end is before start"),
        (scheduled(freeze=[{"start": "christmas", "end": "2026-12-24"}]), "spec.schedule.freeze[0].start"),
    ],
    ids=told,
)
def test_experiments_that_the_loader_refuses_are_refused_with_their_place(made: Any, bad: Object, said: str) -> None:
    with pytest.raises(ValidationError):
        ExperimentSpec.model_validate(bad, by_alias=True, by_name=False)
    with pytest.raises(Refused) as refused:
        made(bad, of=EXPERIMENT)
    assert said in str(refused.value)


def test_the_status_of_an_experiment_is_kept(api: KubeApi, made: Any) -> None:
    created = made(wanted(), of=EXPERIMENT)
    status = {
        "phase": "Ended",
        "outcome": "Refuted",
        "verdict": "fail",
        "step": 1,
        "steps": ["abort with 503, 5 % of requests"],
        "exposure": {"requests": 10, "failures": 3, "seconds": 30},
    }
    path = f"{EXPERIMENT.path('default', created['metadata']['name'])}/status"
    assert (api._call("PUT", EXPERIMENT, path, body=created | {"status": status}) or {})["status"] == status
