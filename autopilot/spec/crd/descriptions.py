"""What a schema says to people: `kubectl explain` shows the meaning of fields, their units, and defaults.

Texts come from where models have them, under their classes and fields, so that nobody writes them twice.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel

from autopilot.spec.crd.mixed_values import UNITS, Unit
from autopilot.spec.values.units import EXPLAINED

Schema = dict[str, Any]

LONGEST: Final = 320
"""Characters of one description: a CRD is sent whole to everybody who asks what there is."""
DEFAULT: Final = "x-default"
"""Where a default waits, as people would write it, for the description to tell it."""


def described(found: Schema, node: Schema, readers: tuple[str, ...] = ()) -> Schema:
    """The schema with what `kubectl explain` shows: the meaning, the unit, and the default, which code applies.

    Args:
        found: the schema.
        node: pydantic's.
        readers: the validators that read the value before pydantic does.
    """
    unit = next((UNITS[reader] for reader in readers if reader in UNITS), None)
    said = node.get("description") or _sentence(EXPLAINED.get(node.get("pattern", ""), ""))
    said = " ".join(part for part in (_short(said), unit.note if unit else "") if part)
    default = _written(node.get("default"), unit) if "const" not in node else ""
    return (
        ({"description": said} if said else {})
        | ({DEFAULT: default} if default else {})
        | {key: value for key, value in found.items() if key != "description"}
    )


def _written(default: object, unit: Unit | None) -> str:
    """A default as people would write it; empty for what is no single value."""
    match default:
        case bool():
            return str(default).lower()
        case int() | float():
            return unit.written(default) if unit else f"{default:g}"
        case str():
            return default
        case _:
            return ""


def spoken(schema: Schema) -> Schema:
    """The schema with its defaults told in descriptions."""
    found: Schema = {}
    if DEFAULT in schema:
        said = f"{schema.get('description', '')} Default: {schema[DEFAULT]}."
        found["description"] = said.strip()
    for key, value in schema.items():
        match key:
            case "properties":
                found[key] = {name: spoken(each) for name, each in value.items()}
            case "items" | "additionalProperties":
                found[key] = spoken(value)
            case _ if key != DEFAULT:
                found.setdefault(key, value)
    return found


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _short(text: str) -> str:
    """One line, cut after a sentence where it is long."""
    line = " ".join(text.split())
    if len(line) <= LONGEST:
        return line
    whole = line[:LONGEST].rpartition(". ")[0]
    return f"{whole}." if whole else f"{line[: LONGEST - 1]}…"


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The texts that stand under a model's fields, by field; of its parents too. Empty where there is no source."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        definition = _classes(each.__module__).get(each.__qualname__)
        for field, text in pairwise(definition.body if definition else []):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[field.target.id] = inspect.cleandoc(text.value.value)
    return found


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by qualified name, from its source, parsed once; empty where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError):
        return {}
    return dict(_nested(tree.body, ""))


def _nested(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from _nested(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _nested(node.body, f"{prefix}{node.name}.<locals>.")
