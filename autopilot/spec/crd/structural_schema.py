"""Structural schemas: pydantic's JSON schema as Kubernetes wants it, accepting what the loader accepts.

Kubernetes knows no references, no unions and no null, and estimates what rules cost by declared sizes. What cannot be
said is an error of whoever writes the model (`NotStructural`), never a schema that says something else. Defaults stay
in
code: one in a CRD is written into objects, and old and new ones would differ for ever once it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from autopilot.spec.crd.descriptions import described, field_docs, spoken
from autopilot.spec.crd.lengths import longest
from autopilot.spec.crd.mixed_values import KINDS, READERS, RULES, UNTYPED, hidden, only, text_or_fields
from autopilot.spec.crd.unions import NotStructural, flattened

Schema = dict[str, Any]
Rule = Mapping[str, str]
"""One entry of `x-kubernetes-validations`: rule, message, and a fieldPath where one field is at fault."""
Rules = Mapping[type[BaseModel], tuple[Rule, ...]]
Needs = Mapping[type[BaseModel], tuple[str, ...]]
"""Fields of which one must be there at least, where rules cannot see all of them."""

_READER: Final = "x-reader"
_SCALARS: Final = "x-scalars"
_LIMITS: Final = ("pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_KEPT: Final = (*_LIMITS, RULES, "allOf")
_DROPPED: Final = frozenset({"title", "default", "discriminator", "deprecated", "examples", "readOnly"})
_READ: Final = frozenset(
    {"type", "format", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "items"}
    | {"oneOf", "uniqueItems", "propertyNames", "description", _READER, _SCALARS}
    | {"ge", "gt", "le", "lt", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
)
_SIZES: Final = {"string": "maxLength", "array": "maxItems", "map": "maxProperties"}


def structural(model: type[BaseModel], rules: Rules, needs: Needs | None = None) -> Schema:
    """The structural schema of a model.

    Args:
        model: what users write.
        rules: CEL rules of this model and of those below it.
        needs: fields of this model and of those below it, of which at least one must be there.

    Raises:
        Unsayable: Kubernetes has no words for a part of it.
    """

    class Generator(_Generator):
        known, wanted = rules, needs or {}

    raw = model.model_json_schema(schema_generator=Generator, mode="validation")
    return spoken(_Converter(raw.pop("$defs", {})).schema(raw, model.__name__))


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, which also keeps what validators read, what fields mean, and our rules."""

    known: Rules = {}  # noqa: RUF012 - replaced by subclasses, never changed
    wanted: Needs = {}  # noqa: RUF012 - as well

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> Schema:
        found = super().function_before_schema(schema)
        name = getattr(schema["function"]["function"], "__name__", "")
        return {**found, _READER: (*found.get(_READER, ()), name)}

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        found = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, said in field_docs(model).items():
            info = model.model_fields.get(name)
            if info is not None:
                found["properties"][info.alias or name]["description"] = said
        if rules := self.known.get(model):
            found[RULES] = [dict(rule) for rule in rules]
        if needed := self.wanted.get(model):
            found["allOf"] = [{"anyOf": [{"required": [name]} for name in needed]}]
        return found


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def schema(self, raw: Schema, at: str, above: frozenset[str] = frozenset()) -> Schema:
        """The structural form; `at` is its place for messages, `above` the definitions it stands in."""
        node, above, endless = self._resolved(raw, at, above)
        if endless:
            return described({"type": "object", UNTYPED: True}, node)
        if unknown := node.keys() - _READ - _DROPPED - set(_KEPT):
            raise NotStructural(f"{at}: a structural schema has no {', '.join(sorted(unknown))}")
        if "oneOf" in node and "discriminator" not in node:
            return described(self._text_or_fields(node["oneOf"], at, above), node)
        if "oneOf" in node:
            tag = node["discriminator"]["propertyName"]
            return described(flattened(tag, [self.schema(each, at, above) for each in node["oneOf"]], at), node)
        found = self._typed(node, at, above) | {key: node[key] for key in _KEPT if key in node}
        for reader in node.get(_READER, ()):
            if reader not in READERS:
                raise NotStructural(f"{at}: say in READERS what the validator {reader!r} reads")
            found = READERS[reader](found)
        return described(found, node, node.get(_READER, ()))

    def _text_or_fields(self, members: list[Schema], at: str, above: frozenset[str]) -> Schema:
        """A value that is one of two, which a function tells apart: no tag says which."""
        found = [self.schema(each, at, above) for each in members]
        if [each.get("type") for each in found] != ["string", "object"]:
            raise NotStructural(f"{at}: may be one of several types; only text or fields can be said, in this order")
        return text_or_fields(*found)

    def _resolved(self, raw: Schema, at: str, above: frozenset[str]) -> tuple[Schema, frozenset[str], bool]:
        """The node without references and without null, and whether it stands within itself."""
        node = dict(raw)
        while True:
            if "$ref" in node:
                name = str(node.pop("$ref")).rpartition("/")[2]
                if name in above:
                    return node, above, True
                above |= {name}
                node = {**self._definitions[name], **node}
            elif "anyOf" in node:
                members = [each for each in node.pop("anyOf") if each != {"type": "null"}]
                if len(members) > 1 and all(
                    each.keys() <= {"type", _READER} and each["type"] in KINDS for each in members
                ):
                    return node | {_SCALARS: [KINDS[each["type"]] for each in members]}, above, False
                if len(members) != 1:
                    raise NotStructural(f"{at}: may be one of several types; say which in a validator of its own")
                readers = (*members[0].get(_READER, ()), *node.pop(_READER, ()))
                node = {**members[0], **node} | ({_READER: readers} if readers else {})
            else:
                return node, above, False

    def _typed(self, node: Schema, at: str, above: frozenset[str]) -> Schema:
        found: Schema = {"type": node.get("type")}
        match found["type"]:
            case None if _SCALARS in node:
                return only(*node[_SCALARS])
            case None:
                return {UNTYPED: True}
            case "object" if "properties" in node:
                found |= {"required": node["required"]} if node.get("required") else {}
                fields = {name: self.schema(each, f"{at}.{name}", above) for name, each in node["properties"].items()}
                found["properties"] = fields
            case "object":
                found |= self._map(node, at, above)
            case "array":
                found["items"] = self.schema(node["items"], f"{at}[]", above)
                found |= {"x-kubernetes-list-type": "set"} if node.get("uniqueItems") else {}
                _sized(found, node, "array", at)
            case "string":
                found |= _text(node, at)
            case "boolean" if "const" in node:
                found["enum"] = [node["const"]]
            case "integer" | "number":
                found |= {"format": "int64"} if node["type"] == "integer" else {}
                found |= _limits(node)
        return found

    def _map(self, node: Schema, at: str, above: frozenset[str]) -> Schema:
        """Fields of any name; where names have a pattern, a rule holds them to it."""
        patterns = node.get("patternProperties") or {"": node.get("additionalProperties") or {}}
        if len(patterns) != 1:
            raise NotStructural(f"{at}: names of fields have several patterns")
        ((pattern, values),) = patterns.items()
        may_be_null = {"nullable": True} if {"type": "null"} in values.get("anyOf", ()) else {}
        found: Schema = {"type": "object", "additionalProperties": self.schema(values, f"{at}.*", above) | may_be_null}
        if pattern and not hidden(found):
            found[RULES] = [{"rule": f"self.all(key, key.matches({pattern!r}))", "message": f"names match {pattern}"}]
        return _sized(found, node, "map", at)


def _text(node: Schema, at: str) -> Schema:
    values = node.get("enum") or ([node["const"]] if "const" in node else None)
    if values:
        return {"type": "string", "enum": values}
    if "format" in node:
        return {"type": "string", "format": node["format"]}
    length = longest(node.get("pattern", ""))
    return _sized({"type": "string"} | ({"maxLength": length} if length else {}), node, "string", at)


def _sized(found: Schema, node: Schema, kind: str, at: str) -> Schema:
    """Refuses what may be of any size: the API server could not tell what a rule over it costs."""
    if _SIZES[kind] not in {*node, *found}:
        raise NotStructural(f"{at}: may be of any size; give it a largest one ({_SIZES[kind]})")
    return found


def _limits(node: Schema) -> Schema:
    """The narrowest of all limits, with `exclusive…` as the truth value that OpenAPI 3.0 wants."""
    found: Schema = {}
    lower = [(node[key], strict) for key, strict in _LOWER.items() if key in node]
    upper = [(node[key], not strict) for key, strict in _UPPER.items() if key in node]
    if lower:
        found["minimum"], strict = max(lower)
        found |= {"exclusiveMinimum": True} if strict else {}
    if upper:
        found["maximum"], loose = min(upper)
        found |= {} if loose else {"exclusiveMaximum": True}
    return found


_LOWER: Final = {"minimum": False, "ge": False, "exclusiveMinimum": True, "gt": True}
_UPPER: Final = {"maximum": False, "le": False, "exclusiveMaximum": True, "lt": True}
