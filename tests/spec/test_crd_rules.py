"""A schema checker that knows what the API server knows, and what may stand in a schema at all."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from autopilot.operations.common import Outcome, Phase
from autopilot.spec.crd.descriptions import LONGEST
from autopilot.spec.crd.emit import CATEGORY, GROUP, crd
from autopilot.spec.crd.resources import ResourceKind, resources
from autopilot.spec.crd.rules import RULES, SOME, UNSAID
from autopilot.spec.crd.status import CanaryResourceStatus
from autopilot.spec.load import models as documents
from autopilot.spec.mesh import Mesh

Schema = dict[str, Any]

BUDGET = 76_000
"""Characters of one definition as compact JSON: every client that discovers kinds reads it. The largest says twice
what a probe is, and twice what a scope is, for definitions know no references."""
TYPES = {"object", "array", "string", "integer", "number", "boolean"}
VALUES = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern", "minLength", "maxLength", "minItems",
    "maxItems", "minProperties", "maxProperties", "enum", "required", "format", "not", "anyOf", "allOf", "oneOf",
}  # fmt: skip
"""Keywords that may stand under `not`, `anyOf` and `allOf` too."""
STRUCTURE = {"type", "description", "properties", "items", "additionalProperties"}
EXTENSIONS = {
    "x-kubernetes-validations",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "nullable",
}


def root(resource: ResourceKind) -> Schema:
    (version,) = crd(resource)["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Schema, at: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema of the structure with its place."""
    yield at, schema
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{at}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{at}[]")


def nested(schema: Schema, at: str) -> Iterator[tuple[str, Schema]]:
    """Every schema under a junctor, with its place."""
    below = [("not", schema["not"])] if "not" in schema else []
    below += [(key, each) for key in ("anyOf", "allOf", "oneOf") for each in schema.get(key, ())]
    for key, each in below:
        yield f"{at}/{key}", each
        yield from nested(each, f"{at}/{key}")
    if "/" in at:
        for name, each in schema.get("properties", {}).items():
            yield f"{at}.{name}", each
            yield from nested(each, f"{at}.{name}")


ALL = [
    pytest.param(schema, id=f"{resource.kind}{at}")
    for resource in resources()
    for at, schema in nodes(root(resource))
    if schema
]


@pytest.mark.parametrize("schema", ALL)
def test_every_part_is_structural(schema: Schema) -> None:
    assert schema.keys() <= VALUES | STRUCTURE | EXTENSIONS
    open_, typed = schema.get("x-kubernetes-preserve-unknown-fields"), schema.get("type")
    assert typed in TYPES if typed else open_ is True
    assert not ("properties" in schema and "additionalProperties" in schema)
    if typed == "object":
        assert "properties" in schema or "additionalProperties" in schema or open_
    if typed == "array":
        assert "items" in schema
    assert set(schema.get("required", ())) <= schema.get("properties", {}).keys()
    for key in ("exclusiveMinimum", "exclusiveMaximum"):
        assert schema.get(key, True) is True
        assert key not in schema or key.removeprefix("exclusive").lower() in schema
    if "x-kubernetes-list-map-keys" in schema:
        assert set(schema["x-kubernetes-list-map-keys"]) <= schema["items"]["properties"].keys()


@pytest.mark.parametrize("schema", ALL)
def test_under_junctors_only_values_are_spoken_of(schema: Schema) -> None:
    for _at, below in nested(schema, ""):
        assert below.keys() <= VALUES | {"properties"}
        assert below.get("properties", {}).keys() <= schema.get("properties", {}).keys()


@pytest.mark.parametrize("schema", ALL)
def test_everything_has_a_size(schema: Schema) -> None:
    match schema.get("type"):
        case "string":
            assert {"maxLength", "enum", "format"} & schema.keys()
        case "array":
            assert "maxItems" in schema
        case "object" if "additionalProperties" in schema:
            assert "maxProperties" in schema
        case None if "pattern" in schema:
            assert "maxLength" in schema
        case _:
            pass
    assert len(schema.get("description", "")) <= 3 * LONGEST


@pytest.mark.parametrize("schema", ALL)
def test_rules_stand_where_they_can_be_read_and_say_what_is_wrong(schema: Schema) -> None:
    for rule in schema.get("x-kubernetes-validations", ()):
        assert rule.keys() - {"fieldPath"} == {"rule", "message"}
        assert schema.get("type") in {"object", "array"}
        assert "\n" not in rule["rule"] + rule["message"]
        assert "oldSelf" not in rule["rule"]
        fields = set(re.findall(r"self\.([a-zA-Z]+)", rule["rule"])) - {"metadata", "all"}
        assert all("type" in schema["properties"][field] for field in fields)
        assert rule.get("fieldPath", ".").removeprefix(".") in {"", *schema.get("properties", ())}


@pytest.mark.parametrize("resource", resources(), ids=lambda resource: resource.kind)
def test_what_every_definition_has(resource: ResourceKind) -> None:
    definition = crd(resource)
    names, (version,) = definition["spec"]["names"], definition["spec"]["versions"]
    assert definition["metadata"] == {"name": f"{names['plural']}.{GROUP}"}
    assert names["categories"] == [CATEGORY]
    assert (version["served"], version["storage"], version["subresources"]) == (True, True, {"status": {}})
    schema = root(resource)
    assert schema["properties"].keys() == {"spec", "status"}
    assert schema["required"] == ["spec"]
    status = schema["properties"]["status"]["properties"]
    assert {"phase", "outcome", "message", "workflowId", "startedAt", "observedGeneration", "exposure"} <= status.keys()
    assert status["conditions"]["x-kubernetes-list-type"] == "map"
    assert set(status["conditions"]["items"]["required"]) == {
        "type", "status", "reason", "message", "lastTransitionTime",
    }  # fmt: skip
    for column in version["additionalPrinterColumns"]:
        assert column["jsonPath"] == ".metadata.creationTimestamp" or leads_somewhere(schema, column)
    assert version["additionalPrinterColumns"][0]["name"] == "Phase"
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"


def leads_somewhere(schema: Schema, column: dict[str, Any]) -> bool:
    for part in column["jsonPath"].strip(".").split("."):
        schema = schema["properties"][part]
    return bool(schema["type"] == column["type"])


@pytest.mark.parametrize("resource", resources(), ids=lambda resource: resource.kind)
def test_a_definition_keeps_its_budget(resource: ResourceKind) -> None:
    assert len(str(crd(resource))) < BUDGET


def test_names_are_our_own_and_nobody_shares_them() -> None:
    for one, other in itertools.combinations(resources(), 2):
        assert {one.plural, one.singular, one.short}.isdisjoint({other.plural, other.singular, other.short})
    assert {resource.plural: resource.short for resource in resources()}["meshcanaries"] == "mc"


def test_every_kind_of_document_is_a_resource_or_says_why_not() -> None:
    assert {resource.model for resource in resources()} == set(documents().values()) - {Mesh}


def models(model: Any) -> Iterator[type[BaseModel]]:
    """The model, and every one below."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        yield model
        for info in model.model_fields.values():
            yield from models(info.annotation)
    for each in get_args(model):
        yield from models(each)


def test_whatever_models_check_over_several_fields_is_a_rule_or_said_to_be_none() -> None:
    below = {model for resource in resources() for model in models(resource.model.model_fields["spec"].annotation)}
    checking = {model for model in below if model.__pydantic_decorators__.model_validators}
    assert checking == RULES.keys() | SOME.keys() | UNSAID.keys()


def test_the_status_names_every_phase_and_outcome() -> None:
    fields = root(resources()[0])["properties"]["status"]["properties"]
    assert all(phase.value in fields["phase"]["description"] for phase in Phase)
    assert all(outcome.value in fields["outcome"]["description"] for outcome in Outcome)


def test_a_status_of_a_newer_controller_is_read() -> None:
    status = CanaryResourceStatus.model_validate({"phase": "Dancing", "tempo": 3})
    assert status.phase == "Dancing"
