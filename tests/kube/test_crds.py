"""A real API server takes our CRDs as structural, takes what the loader takes, and refuses the rest with good words."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from autopilot.mesh.kube.api import KubeApi, Refused
from autopilot.mesh.kube.resources import CRD, Resource
from autopilot.spec.crd import GROUP, RESOURCES, VERSION, crd

EXAMPLES = Path(__file__).parents[2] / "examples"
CANARY = Resource(GROUP, VERSION, "meshcanaries", "MeshCanary")
NAMES = (f"crds-{number}" for number in itertools.count())
Object = dict[str, Any]


def condition(definition: Object, kind: str) -> str:
    conditions = definition.get("status", {}).get("conditions") or []
    return next((f"{each['status']}: {each['message']}" for each in conditions if each["type"] == kind), "")


@pytest.fixture(scope="module")
def installed(api: KubeApi) -> dict[str, Object]:
    """The definitions as the API server has them, once it serves their kinds."""
    found = {}
    for resource in RESOURCES:
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
    """Creates a MeshCanary from its spec, and deletes it afterwards."""
    names = []

    def create(spec: Object, name: str = "", **more: Any) -> Object:
        names.append(name or next(NAMES))
        body = {"apiVersion": CANARY.api_version, "kind": CANARY.kind, "spec": spec} | more
        return api.create(CANARY, body | {"metadata": {"name": names[-1], "namespace": "default"}})

    yield create
    for name in names:
        api.delete(CANARY, name, "default")


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
    for resource in RESOURCES:
        definition = installed[resource.kind]
        assert condition(definition, "NonStructuralSchema") == ""
        assert condition(definition, "NamesAccepted").startswith("True")
        assert definition["status"]["acceptedNames"]["shortNames"] == [resource.short]
        assert definition["status"]["storedVersions"] == [VERSION]


def test_nothing_of_the_schema_is_dropped(installed: dict[str, Object]) -> None:
    for resource in RESOURCES:
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
        (metrics({"type": "promql", "name": "a", "query": "up", "max": 1, "weight": 2}), "promql takes no weight"),
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
