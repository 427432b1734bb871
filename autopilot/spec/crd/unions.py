"""One of several kinds of fields, told apart by a tag: one flat object for Kubernetes, and rules for each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from autopilot.spec.crd.descriptions import DEFAULT, LONGEST
from autopilot.spec.crd.mixed_values import RULES, hidden

Schema = dict[str, Any]

_LONGEST: Final = 3 * LONGEST
"""Characters of what is said of all kinds together."""
_RESERVED: Final = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)
"""Words of CEL that are no names of fields."""


class NotStructural(TypeError):
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
    if len(said) > _LONGEST:
        said = " ".join(_firsts(kinds))
    properties: Schema = {tag: {"description": said, "type": "string", "enum": list(kinds)}}
    properties |= {
        name: _merged({kind: kinds[kind]["properties"][name] for kind in having}, len(having) < len(kinds), at, name)
        for name, having in owners.items()
    }
    unseen = {name for name, schema in properties.items() if hidden(schema)}
    everywhere = [name for name in owners if all(name in member.get("required", ()) for member in members)]
    if any("allOf" in member for member in members):
        raise NotStructural(f"{at}: a kind among others needs one of several fields; say so in rules")
    return {
        "type": "object",
        "required": [tag, *everywhere],
        "properties": properties,
        "allOf": [implied for name in sorted(unseen) for implied in _implied(tag, name, owners[name], kinds)],
        RULES: [
            *_belongings(tag, {name: having for name, having in owners.items() if name not in unseen}, list(kinds)),
            *_needs(
                tag, {name: having for name, having in owners.items() if name not in {*unseen, *everywhere}}, kinds
            ),
            *(rule for kind, member in kinds.items() for rule in _own(tag, kind, member)),
        ],
    }


def _firsts(kinds: Mapping[str, Schema]) -> Iterator[str]:
    """Each kind's first sentence."""
    for kind, member in kinds.items():
        if said := member.get("description", "").partition(". ")[0]:
            yield f"{kind}: {said.removesuffix('.')}."


def _merged(schemas: Mapping[str, Schema], some: bool, at: str, name: str) -> Schema:
    """One field of several members; `some`: others do not have it."""
    plain = [{k: v for k, v in schema.items() if k not in {"description", DEFAULT}} for schema in schemas.values()]
    if any(schema != plain[0] for schema in plain):
        raise NotStructural(f"{at}.{name}: means different things in {', '.join(schemas)}")
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
    by_text: dict[str, list[str]] = {}
    for kind, text in texts.items():
        by_text.setdefault(text, []).append(kind)
    return between.join(f"{text} ({', '.join(those)})" for text, those in by_text.items())


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
        said = (
            f"{' and '.join(lacking)} does not take {name}"
            if few
            else f"{name} belongs to {' and '.join(having)} alone"
        )
        if lacking:
            rule = f"!has({_self(name)}) || self.{tag} in {having!r}"
            found.append({"rule": rule, "message": said, "fieldPath": f".{name}"})
    return found


def _needs(tag: str, owners: Mapping[str, list[str]], kinds: Mapping[str, Schema]) -> Iterator[Schema]:
    for name, having in owners.items():
        if needing := [kind for kind in having if name in kinds[kind].get("required", ())]:
            said = f"{' and '.join(needing)} {'need' if len(needing) > 1 else 'needs'} {name}"
            other = f"!(self.{tag} in {needing!r})" if len(needing) > 1 else f"self.{tag} != '{needing[0]}'"
            yield {"rule": f"{other} || has({_self(name)})", "message": said}


def _own(tag: str, kind: str, member: Schema) -> list[Schema]:
    return [{**rule, "rule": f"self.{tag} != '{kind}' || ({rule['rule']})"} for rule in member.get(RULES, ())]


def _self(name: str) -> str:
    """A field in CEL, which keeps some words for itself."""
    return f"self.__{name}__" if name in _RESERVED else f"self.{name}"
