"""What the loader takes, the schema takes, and drops nothing of it: examples, and whatever hypothesis thinks of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from autopilot.spec.base import SpecModel
from autopilot.spec.canary import CanarySpec, MeshCanary
from autopilot.spec.chaos.experiment import ExperimentSpec, MeshExperiment
from autopilot.spec.crd.mixed_values import FRACTION, PERCENT, SECONDS, Unit, number_or_text
from autopilot.spec.crd.rules import RULES, SOME
from autopilot.spec.crd.structural_schema import structural
from autopilot.spec.values.units import parse_fraction, parse_percent, parse_seconds

Schema = dict[str, Any]

SPEC = structural(CanarySpec, RULES, SOME)
EXPERIMENT = structural(ExperimentSpec, RULES, SOME)
EXAMPLES = Path(__file__).parents[2] / "examples"


def pruned(schema: Schema, value: Any) -> Any:
    """The value as the API server keeps it: without null, and without fields that no schema knows."""
    if isinstance(value, dict) and "properties" in schema:
        known, open_ = schema["properties"], schema.get("x-kubernetes-preserve-unknown-fields")
        kept = {name: each for name, each in value.items() if each is not None and (open_ or name in known)}
        return {name: pruned(known.get(name, {}), each) for name, each in kept.items()}
    if isinstance(value, dict) and "additionalProperties" in schema:
        below = schema["additionalProperties"]
        return {name: pruned(below, each) for name, each in value.items() if each is not None or "nullable" in below}
    if isinstance(value, list) and "items" in schema:
        return [pruned(schema["items"], each) for each in value]
    return value


def kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def complaints(schema: Schema, value: Any, at: str = "spec") -> list[str]:
    """What the API server would say, but for rules in CEL."""
    is_, found = kind(value), []
    wanted = schema.get("type")
    if wanted and is_ != wanted and not (wanted == "number" and is_ == "integer"):
        return [f"{at}: is {is_}, must be {wanted}"]
    if "enum" in schema and not any(kind(each) == is_ and each == value for each in schema["enum"]):
        found.append(f"{at}: is none of {schema['enum']}")
    match is_:
        case "string":
            found += sized(schema, "Length", len(value), at)
            if "pattern" in schema and not re.search(schema["pattern"], value):
                found.append(f"{at}: does not match")
        case "integer" | "number":
            found += limited(schema, value, at)
        case "array":
            found += sized(schema, "Items", len(value), at)
            for index, each in enumerate(value if "items" in schema else ()):
                found += complaints(schema["items"], each, f"{at}[{index}]")
        case "object":
            found += sized(schema, "Properties", len(value), at)
            found += fields_complaints(schema, value, at)
        case _:
            pass
    if "not" in schema and not complaints(schema["not"], value, at):
        found.append(f"{at}: must not be that")
    if "anyOf" in schema and all(complaints(each, value, at) for each in schema["anyOf"]):
        found.append(f"{at}: is none of several")
    return found + [said for each in schema.get("allOf", ()) for said in complaints(each, value, at)]


def fields_complaints(schema: Schema, value: dict[str, Any], at: str) -> list[str]:
    found = [f"{at}.{name}: is missing" for name in schema.get("required", ()) if name not in value]
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, each in value.items():
        below = known.get(name) or others
        if below and not (each is None and "nullable" in below):
            found += complaints(below, each, f"{at}.{name}")
    return found


def limited(schema: Schema, value: float, at: str) -> list[str]:
    low, high = schema.get("minimum", value - 1), schema.get("maximum", value + 1)
    below = value < low or (value == low and "exclusiveMinimum" in schema)
    above = value > high or (value == high and "exclusiveMaximum" in schema)
    return [f"{at}: is below {low}"] * below + [f"{at}: is above {high}"] * above


def sized(schema: Schema, what: str, size: int, at: str) -> list[str]:
    low, high = schema.get(f"min{what}", 0), schema.get(f"max{what}", size)
    return [] if low <= size <= high else [f"{at}: has a size of {size}"]


def test_the_checker_finds_what_is_wrong() -> None:
    good = {"target": {"service": "a"}, "arms": {"stable": "a", "canary": "b"}}
    assert complaints(SPEC, good) == []
    assert complaints(SPEC, good | {"arms": {}}) == ["spec.arms.stable: is missing", "spec.arms.canary: is missing"]
    assert complaints(SPEC, good | {"steps": []}) == ["spec.steps: has a size of 0"]
    assert complaints(SPEC, good | {"deadline": 0}) == ["spec.deadline: is below 0"]
    assert complaints(SPEC, good | {"deadline": True}) == ["spec.deadline: must not be that"]
    assert complaints(SPEC, good | {"onInconclusive": "hope"}) == [
        "spec.onInconclusive: is none of ['pause', 'rollback']"
    ]
    metric = good | {"analysis": {"metrics": [{"type": "latencyObjective"}]}}
    assert complaints(SPEC, metric) == ["spec.analysis.metrics[0]: is none of several"]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("**/*.yaml")), ids=lambda file: file.name)
def test_examples_are_taken_whole(file: Path) -> None:
    for document in YAML(typ="safe", pure=True).load_all(file):
        if schema := {"MeshCanary": SPEC, "MeshExperiment": EXPERIMENT}.get(document["kind"]):
            assert pruned(schema, document["spec"]) == document["spec"]
            assert complaints(schema, document["spec"]) == []


# Specs as people write them

numbers = st.integers(0, 400) | st.floats(0, 400, allow_nan=False) | st.sampled_from([0, 0.5, 1, 1.0, 1e-3, 5, 99.9])
names = st.sampled_from(["a", "b", "v-1", "x" * 63])
durations = numbers | st.sampled_from(["250ms", "30s", "1m30s", "2h", "366d", "60", " 1.5s ", "0s", "1d2h3m4s5ms"])
shares = st.floats(0, 1) | st.sampled_from(
    [0.1, 0.05, "0.1%", "5 %", "99.5%", "0.995", ".5", "+1%", "100%", "1", "00.5"]
)
percents = st.integers(0, 100) | st.floats(0, 100) | st.sampled_from(["10%", " 12.5 % ", "100", ".5%", "7.", "100.0%"])
small = st.floats(0.001, 0.2) | st.sampled_from([0.2, "0.1%", "20%", "0.05"])
ratios = st.floats(1.01, 100) | st.integers(2, 100)
truths = st.booleans()


def fields(needed: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Fields as written; what is optional may be left out, or be there with nothing behind it."""
    return st.fixed_dictionaries(needed, optional={name: st.none() | each for name, each in optional.items()})


def kept(needed: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(needed, optional=optional)


pauses = truths | fields({}, timeout=durations).flatmap(
    lambda some: kept({}, onTimeout=st.sampled_from(["rollback", "promote"])).map(lambda more: some | more)
)
steps = kept(
    {"weight": percents, "allowDecrease": st.just(True)}, hold=durations, minRequests=st.integers(0, 10**6)
).flatmap(lambda some: fields({}, timeout=durations, pause=pauses).map(lambda more: some | more))
metrics = st.one_of(
    kept({"type": st.just("errorRate")}, name=names, weight=ratios),
    kept({"type": st.just("latency")}, name=names, boundaries=st.lists(durations, min_size=1, max_size=12)),
    kept({"type": st.just("successRate"), "objective": shares}, name=names, weight=ratios),
    kept({"type": st.just("latencyObjective"), "within": durations}, name=names, objective=shares),
    kept(
        {"type": st.just("promql"), "name": names, "query": st.sampled_from(["up", "x" * 4096]), "max": numbers},
        interval=durations,
        failures=st.integers(1, 1000),
    ).flatmap(lambda some: fields({}, min=st.floats(-400, 0)).map(lambda more: some | more)),
)
analyses = kept(
    {},
    source=st.sampled_from(["mesh", "prometheus"]),
    tick=st.floats(0.5, 300) | st.sampled_from([1, "500ms", "5m"]),
    alpha=small,
    beta=small,
    goodRatio=ratios,
    margin=kept({}, ratio=ratios, absolute=shares),
    warmup=durations,
    detect=ratios,
    detectAbsolute=small,
    missBudget=small,
    dispersion=st.none() | ratios,
    metrics=st.lists(metrics, min_size=1, max_size=4),
    noData=kept({}, after=durations, then=st.sampled_from(["pause", "rollback"])),
    baseline=st.sampled_from(["none", "virtual"]),
)
specs = kept(
    {
        "target": fields({"service": names}, mesh=names),
        "arms": st.just({"stable": "v1", "canary": "v2"}),
    },
    steps=st.lists(steps, min_size=1, max_size=5),
    analysis=analyses,
    onInconclusive=st.sampled_from(["pause", "rollback"]),
    onLeaseLost=st.sampled_from(["resume", "hold", "rollback"]),
    deadline=durations,
)


def loads(spec: Any, model: type[SpecModel] = CanarySpec) -> SpecModel | None:
    try:
        return model.model_validate(spec, by_alias=True, by_name=False)
    except ValidationError:
        return None


@given(specs)
def test_what_the_loader_takes_is_taken_whole(spec: dict[str, Any]) -> None:
    model = loads(spec)
    assume(model is not None)
    as_kept = pruned(SPEC, spec)
    assert complaints(SPEC, as_kept) == []
    assert loads(as_kept) == model


@given(specs)
def test_what_was_read_can_be_written_as_a_resource(spec: dict[str, Any]) -> None:
    model = loads(spec)
    assume(model is not None)
    document = MeshCanary(metadata={"name": "a"}, spec=model).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert complaints(SPEC, document["spec"]) == []
    assert loads(document["spec"]) == model


@given(specs, st.sampled_from(["unknown", "minReqests"]))
def test_fields_that_nobody_knows_are_gone(spec: dict[str, Any], name: str) -> None:
    assert pruned(SPEC, spec | {name: 1}) == pruned(SPEC, spec)


# Experiments as people write them

words = st.sampled_from(["a", "End-User", "x" * 100])
seconds = st.sampled_from([1, 1.5, "1s", "250ms", "1m30s", "2"])
more_than_none = st.floats(0.001, 100) | st.sampled_from([5, "10%", " 12.5 % ", ".5"])
places = st.lists(st.sampled_from(["h:1", "10.0.0.1:80", "a.b:65535"]), min_size=1, max_size=3)
matches = st.sampled_from([{"exact": "a"}, {"prefix": "a b"}, {"regex": "^a.*$"}, {"present": True}])
scopes = kept(
    {"percentage": more_than_none},
    headers=st.dictionaries(words, matches, max_size=2),
    cookie=kept({"name": st.just("id")}, value=st.just("a-b.c=")),
    path=st.sampled_from([{"exact": "/"}, {"exact": "/a%20b"}, {"prefix": "/api/"}, {"regex": "^/[0-9]+$"}]),
    method=st.sampled_from(["GET", "M-SEARCH"]),
    rule=words,
    users=st.fixed_dictionaries({"percentage": more_than_none, "header": words})
    | st.fixed_dictionaries({"percentage": more_than_none, "cookie": st.just("id")}),
    source=kept({"service": st.sampled_from(["web", "shop/web"])}, arm=names) | kept({"proxy": names}),
    arm=names,
    view=st.sampled_from(["app", "policy"]),
)
faults = st.one_of(
    kept({"type": st.just("delay"), "delay": seconds}, jitter=st.sampled_from([0, 0.1, "5ms"])),
    kept({"type": st.just("abort")}, status=st.integers(400, 599)),
    kept({"type": st.just("grpcAbort")}, code=st.integers(1, 16) | st.sampled_from(["UNAVAILABLE", "internal"])),
    kept({"type": st.just("bandwidth"), "limit": st.integers(1, 10**6)}),
    kept({"type": st.sampled_from(["blackhole", "eject"])}, endpoints=places),
    kept({"type": st.sampled_from(["blackhole", "eject"])}, zone=names),
    kept({"type": st.just("overflow"), "pending": st.integers(0, 65536)}, requests=st.none() | st.just(0)),
    kept({"type": st.just("retries"), "retries": st.integers(0, 10)}, perTryTimeout=st.none() | seconds),
    kept({"type": st.just("timeout"), "timeout": seconds}),
    kept({"type": st.just("partition")}, direction=st.sampled_from(["ingress", "egress", "both"])),
)
actions = st.one_of(
    kept({"type": st.just("podKill")}, reversible=st.just(False), count=st.integers(1, 1000), arm=names, grace=seconds),
    kept({"type": st.just("scale"), "workload": st.just("deployment/web"), "replicas": st.integers(0, 9)}),
    kept({"type": st.sampled_from(["cordon", "drain"]), "node": words}),
)
atoms = st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5)
tolerances = kept(
    {"max": numbers},
    equals=atoms | truths,
    oneOf=st.lists(atoms, max_size=3),
    min=st.floats(-9, 0),
    regex=st.just("^[a-z]+$"),
    contains=st.just("a"),
    jsonpath=st.sampled_from(["status.phase", "items[0].name", "a['b c'][x=y].z"]),
)
looked = {"mode": st.sampled_from(["before", "during"]), "interval": seconds, "failures": st.integers(1, 9)}
probes = st.one_of(
    kept(
        {"type": st.just("http"), "url": st.just("https://a/b?c")},
        headers=st.dictionaries(words, st.just("a b"), max_size=2),
        verifyTls=truths,
        body=tolerances,
        **looked,
    ),
    kept({"type": st.just("tcp"), "address": st.just("h:1")}, **looked),
    kept({"type": st.just("mesh"), "tolerance": tolerances}, service=st.none() | st.just("shop/web"), window=seconds),
    kept(
        {"type": st.just("kubernetes"), "apiVersion": st.just("apps/v1"), "kind": st.just("Pod"), "selector": words},
        namespace=names,
        absent=truths,
    ),
    kept({"type": st.just("process"), "command": st.lists(words, min_size=1, max_size=2)}, output=tolerances),
    kept(
        {"type": st.just("python"), "function": st.just("a.b:c"), "tolerance": tolerances},
        arguments=st.dictionaries(st.just("a"), atoms | truths | st.none(), max_size=1),
    ),
)
named_probes = st.lists(probes, min_size=1, max_size=3).map(
    lambda found: [each | {"name": f"p{number}"} for number, each in enumerate(found)]
)
experiments = kept(
    {
        "target": kept({"service": names | st.just("api.payments.example")}, mesh=st.none() | names),
        "hypothesis": st.fixed_dictionaries({"probes": named_probes}),
        "method": st.lists(
            kept(
                {},
                name=words,
                faults=st.lists(kept({"fault": faults}, scope=scopes), min_size=1, max_size=2),
                actions=st.lists(actions, max_size=2),
                hold=seconds,
            ),
            min_size=1,
            max_size=3,
        ),
        "scope": st.just({"percentage": 5}),
    },
    safety=kept({}, maxTraffic=more_than_none, maxFailures=st.integers(0, 9), service=st.none() | st.just("a/b")),
    tick=st.sampled_from([0.25, "500ms", "10s"]),
    deadline=st.sampled_from([7200, "2h"]),
    schedule=kept(
        {"cron": st.just("0 10 * * mon-fri")},
        timeZone=st.just("Europe/Berlin"),
        windows=st.lists(kept({}, days=st.just(["mon"]), start=st.just("08:00"), end=st.just("24:00")), max_size=2),
        freeze=st.just([{"start": "2026-12-24", "end": "2026-12-26"}]),
        jitter=seconds,
    ),
)


@given(experiments)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_experiments_that_the_loader_takes_are_taken_whole(spec: dict[str, Any]) -> None:
    model = loads(spec, ExperimentSpec)
    assume(model is not None)
    as_kept = pruned(EXPERIMENT, spec)
    assert complaints(EXPERIMENT, as_kept) == []
    assert loads(as_kept, ExperimentSpec) == model
    written = MeshExperiment(metadata={"name": "a"}, spec=model).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    assert complaints(EXPERIMENT, written["spec"]) == []


UNITS = [(SECONDS, parse_seconds, 366 * 86400), (FRACTION, parse_fraction, 1), (PERCENT, parse_percent, 100)]
texts = st.text(alphabet="0123456789.%+-eE msdh", max_size=8)


@pytest.mark.parametrize(("unit", "parse", "top"), UNITS, ids=["seconds", "fraction", "percent"])
class TestNumbersOrText:
    @given(data=st.data())
    def test_text_that_matches_is_read_and_within_bounds(self, unit: Unit, parse: Any, top: float, data: Any) -> None:
        text = data.draw(st.from_regex(unit.pattern, fullmatch=True).filter(lambda text: len(text) <= 64))
        read = parse(text)
        assert read >= 0
        assert read <= top or unit is SECONDS  # no pattern has 366d and not 367d

    @given(data=st.data())
    def test_text_that_is_read_matches(self, unit: Unit, parse: Any, top: float, data: Any) -> None:
        text = data.draw(texts)
        try:
            within = 0 <= parse(text) <= top
        except ValueError:
            within = False
        plain = "e" not in text.lower() and "-" not in text  # "1e-3%" and "-0": the command line alone takes them
        if within and plain:
            assert not complaints(number_or_text(unit, {}), text)

    @pytest.mark.parametrize("value", [True, False, {}, [], {"a": 1}, [1], -0.1, 31622401, "", "soon", "-1"])
    def test_anything_else_is_refused(self, unit: Unit, parse: Any, top: float, value: Any) -> None:
        assert complaints(number_or_text(unit, {"minimum": 0, "maximum": top}), value)

    @pytest.mark.parametrize("value", [0, 0.5, 1, 1.0, "1", "0.5", " 1 "])
    def test_numbers_and_their_text_are_taken(self, unit: Unit, parse: Any, top: float, value: Any) -> None:
        assert not complaints(number_or_text(unit, {"minimum": 0, "maximum": top}), value)
