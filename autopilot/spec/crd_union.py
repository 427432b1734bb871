"""One of several kinds of fields, told apart by a tag: one flat object for Kubernetes, and rules for each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autopilot.spec.crd_values import RULES, hidden
from autopilot.spec.crd_words import DEFAULT

Schema = dict[str, Any]


class Unsayable(TypeError):
    """A structural schema has no words for a part of a model; the message names it."""


def flattened(tag: str, members: list[Schema], at: str) -> Schema:
    """The object that has the fields of all members.

    Args:
        tag: the field that tells members apart, a text with one value in each.
        members: structural schemas.
        at: the place, for messages.

    Raises:
        Unsayable: two members mean different things by one field.
    """
    kinds = {member["properties"][tag]["enum"][0]: member for member in members}
    owners: dict[str, list[str]] = {}
    for kind, member in kinds.items():
        for name in member["properties"]:
            owners.setdefault(name, []).append(kind)
    owners.pop(tag)
    said = " ".join(f"{kind}: {member['description']}" for kind, member in kinds.items() if "description" in member)
    properties: Schema = {tag: {"description": said, "type": "string", "enum": list(kinds)}}
    properties |= {
        name: _merged({kind: kinds[kind]["properties"][name] for kind in having}, len(having) < len(kinds), at, name)
        for name, having in owners.items()
    }
    unseen = {name for name, schema in properties.items() if hidden(schema)}
    return {
        "type": "object",
        "required": [tag],
        "properties": properties,
        "allOf": [implied for name in sorted(unseen) for implied in _implied(tag, name, owners[name], kinds)],
        RULES: [
            *_belongings(tag, {name: having for name, having in owners.items() if name not in unseen}, list(kinds)),
            *(rule for kind, member in kinds.items() for rule in _needs(tag, kind, member, unseen)),
            *(rule for kind, member in kinds.items() for rule in _own(tag, kind, member)),
        ],
    }


def _merged(schemas: Mapping[str, Schema], some: bool, at: str, name: str) -> Schema:
    """One field of several members; `some`: others do not have it."""
    plain = [{k: v for k, v in schema.items() if k not in {"description", DEFAULT}} for schema in schemas.values()]
    if any(schema != plain[0] for schema in plain):
        raise Unsayable(f"{at}.{name}: means different things in {', '.join(schemas)}")
    said = _told("description", schemas, " ")
    if some:
        said = f"Of {', '.join(schemas)}: {said}" if said else f"Of {', '.join(schemas)}."
    default = _told(DEFAULT, schemas, ", ")
    return ({"description": said} if said else {}) | ({DEFAULT: default} if default else {}) | plain[0]


def _told(key: str, schemas: Mapping[str, Schema], between: str) -> str:
    """What is the same in all is told once, else by kind."""
    texts = {kind: schema[key] for kind, schema in schemas.items() if key in schema}
    if len(texts) == len(schemas) and len(set(texts.values())) == 1:
        return str(next(iter(texts.values())))
    return between.join(f"{text} ({kind})" for kind, text in texts.items())


def _implied(tag: str, name: str, having: list[str], kinds: Mapping[str, Schema]) -> Iterator[Schema]:
    """Who has, and who needs, a field that rules cannot see.

    The API server reports the first way out, so it is the one that names the field.
    """
    if len(having) < len(kinds):
        yield {"anyOf": [{"properties": {name: {"not": {}}}}, {"properties": {tag: {"enum": having}}}]}
    if needing := [kind for kind in having if name in kinds[kind].get("required", ())]:
        yield {"anyOf": [{"required": [name]}, {"not": {"properties": {tag: {"enum": needing}}}}]}


def _belongings(tag: str, owners: Mapping[str, list[str]], kinds: list[str]) -> list[Schema]:
    found = []
    for name, having in owners.items():
        lacking = [kind for kind in kinds if kind not in having]
        few = len(lacking) < len(having)
        said = f"{' and '.join(lacking)} takes no {name}" if few else f"{name} belongs to {' and '.join(having)} alone"
        if lacking:
            rule = f"!has(self.{name}) || self.{tag} in {having!r}"
            found.append({"rule": rule, "message": said, "fieldPath": f".{name}"})
    return found


def _needs(tag: str, kind: str, member: Schema, unseen: set[str]) -> list[Schema]:
    return [
        {"rule": f"self.{tag} != '{kind}' || has(self.{name})", "message": f"{kind} needs {name}"}
        for name in member.get("required", ())
        if name not in unseen and name != tag
    ]


def _own(tag: str, kind: str, member: Schema) -> list[Schema]:
    return [{**rule, "rule": f"self.{tag} != '{kind}' || ({rule['rule']})"} for rule in member.get(RULES, ())]
