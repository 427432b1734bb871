"""Says in the user's words what pydantic found: paths as written, no types of ours, and what to write instead."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails

from autopilot.spec.base import Misplaced
from autopilot.spec.errors import Path, Problem
from autopilot.spec.input_safety.invisible_characters import named
from autopilot.spec.values.units import EXPLAINED, listed, shown
from autopilot.spec.yaml_source import Source

_LONGEST_WORD = 100
"""Longer words get no suggestion: the comparison takes quadratic time."""
Wording = Callable[[Any, dict[str, Any]], str]

_WORDS: dict[str, Wording] = {
    "missing": lambda _value, _ctx: "is missing",
    "extra_forbidden": lambda _value, _ctx: "unknown field",
    "string_type": lambda value, _ctx: f"expects text, got {_got(value)}",
    "string_pattern_mismatch": lambda value, ctx: (
        f"{shown(value)} is not {EXPLAINED.get(ctx['pattern'], 'of the form ' + ctx['pattern'])}"
    ),
    "string_too_short": lambda _value, _ctx: "must not be empty",
    "greater_than_equal": lambda value, ctx: f"must be at least {ctx['ge']:g}, is {shown(value)}",
    "greater_than": lambda value, ctx: f"must be above {ctx['gt']:g}, is {shown(value)}",
    "less_than_equal": lambda value, ctx: f"must be at most {ctx['le']:g}, is {shown(value)}",
    "less_than": lambda value, ctx: f"must be below {ctx['lt']:g}, is {shown(value)}",
    "finite_number": lambda _value, _ctx: "must be a finite number",
    "int_from_float": lambda value, _ctx: f"expects a whole number, got {shown(value)}",
    "literal_error": lambda value, ctx: f"{shown(value)} is not known; write {ctx['expected'].replace(chr(39), '')}",
    "union_tag_not_found": lambda _value, ctx: f"needs {ctx['discriminator'].strip(chr(39))}",
    "string_too_long": lambda value, ctx: f"has {len(value):,} characters, may have {ctx['max_length']:,}",
    "string_unicode": lambda _value, _ctx: "is not valid text: it has half of a character",
    "too_short": lambda _value, ctx: f"needs at least {ctx['min_length']} {_entries(ctx['min_length'])}",
    "too_long": lambda _value, ctx: f"takes at most {ctx['max_length']} {_entries(ctx['max_length'])}",
}

_EXPECTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "tuple": "a list (`- …`)",
    "list": "a list (`- …`)",
    "dict": "fields (`name: value`)",
    "model": "fields (`name: value`)",
}
"""By the first word of pydantic's error types (`float_parsing`, `tuple_type`, …)."""


def explain(model: type[BaseModel], errors: list[ErrorDetails], source: Source) -> list[Problem]:
    """One problem for each of pydantic's errors that has a cause of its own."""
    places = [(error, _walk(model, error["loc"])) for error in errors]
    above = {place.path[:length] for _, place in places for length in range(len(place.path))}
    problems = []
    for error, place in places:
        if error["type"] == "too_short" and place.path in above:
            continue  # pydantic counts only the good entries: what is wrong with the others is said there
        problems.append(_problem(error, place, source))
    return problems


def nearest(word: str, known: list[str]) -> str:
    """`did you mean …?` where a known word is near, else what is known."""
    folded = {_fold(name): name for name in known}
    if len(word) <= _LONGEST_WORD and (near := get_close_matches(_fold(word), folded, n=1, cutoff=0.6)):
        return f"did you mean {folded[near[0]]}?"
    return f"known: {listed(known)}" if known else ""


def _problem(error: ErrorDetails, place: _Place, source: Source) -> Problem:
    path = place.path
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if isinstance(cause := context.get("error"), Misplaced):
        return source.problem((*path, *cause.at), cause.message, hint=cause.hint)
    if kind == "union_tag_invalid":
        field = context["discriminator"].strip("'")
        known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        return source.problem(
            (*path, field), f"{shown(context['tag'])} is not known", hint=nearest(context["tag"], known)
        )
    hint, at = "", "value"
    if kind == "extra_forbidden":
        at, hint = "key", nearest(str(path[-1]), _fields(place.owner))
    elif kind == "union_tag_not_found":
        hint = f"one of {', '.join(place.tags)}"
    elif kind == "missing":
        at = "key"
    elif kind == "string_type" and isinstance(value, bool | int | float):
        hint = f'write "{str(value).lower() if isinstance(value, bool) else value}", in quotes'
    if error["loc"][-1:] == ("[key]",):
        at = "key"
    if kind == "string_pattern_mismatch" and (alien := _alien(value)):
        hint = f"it has {named(alien)}"
    return source.problem(path, _message(kind, value, context, error["msg"]), hint=hint, at=at)


def _message(kind: str, value: object, context: dict[str, Any], said: str) -> str:
    if kind == "value_error":
        return str(context.get("error", said))
    if wording := _WORDS.get(kind):
        return wording(value, context)
    if expected := _EXPECTED.get(kind.partition("_")[0]):
        return f"expects {expected}, got {_got(value)}"
    return said.replace("Input should", "should").replace("Input", "input")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error belongs, in the user's terms."""

    path: Path
    owner: type[BaseModel] | None
    """The model that has, or would have, the path's last field."""
    tags: list[str]
    """Where one of several models may stand: what tells them apart."""


def _walk(model: type[BaseModel], loc: tuple[str | int, ...]) -> _Place:
    """Pydantic's location without its inner names."""
    path: list[str | int] = []
    here: Any = model
    owner: type[BaseModel] | None = None
    for part in loc:
        here = _plain(here)
        if part == "[key]":
            break
        if isinstance(here, tuple):  # a union: the element is its tag, no field
            here = next((each for each in here if part in _tags(each)), None)
            continue
        path.append(part)
        if isinstance(here, type) and issubclass(here, BaseModel):
            owner = here
            here = next(
                (info.annotation for name, info in here.model_fields.items() if part in {name, info.alias}), None
            )
        elif isinstance(part, int):
            here = next(iter(get_args(here)), None)
        else:
            here = (get_args(here) or (None,))[-1]
    here = _plain(here)
    tags = [tag for each in here for tag in _tags(each)] if isinstance(here, tuple) else []
    return _Place(tuple(path), owner, tags)


def _plain(annotation: Any) -> Any:
    """The annotation without `Annotated` and `None`; a tuple of models where it is a union of several."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in {Union, types.UnionType}:
        members = [item for item in get_args(annotation) if item is not type(None)]
        return _plain(members[0]) if len(members) == 1 else tuple(members)
    return annotation


def _tags(model: Any) -> list[str]:
    """The values of the field that tells a model from others; or the tag, where a function tells them apart."""
    if get_origin(model) is Annotated and (named_ := [each.tag for each in get_args(model) if isinstance(each, Tag)]):
        return named_
    fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
    tags = [info for name, info in fields.items() if name == "type" and get_origin(info.annotation) is Literal]
    return [tag for info in tags for tag in get_args(info.annotation)]


def _fields(owner: type[BaseModel] | None) -> list[str]:
    return [info.alias or name for name, info in owner.model_fields.items()] if owner else []


def _fold(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def _alien(value: object) -> str:
    """The first letter beyond ASCII: it may look like one that is allowed."""
    return next((letter for letter in value if not letter.isascii()), "") if isinstance(value, str) else ""


def _got(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "fields"
        case list():
            return "a list"
        case bool():
            return str(value).lower()
        case _:
            return shown(value)


def _entries(count: int) -> str:
    return "entry" if count == 1 else "entries"
