"""What no document may hold in any field, known or unknown: credentials, and characters that nobody sees.

Looked for at the door, where files are read: past it specs travel into workflow histories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autopilot.spec.characters import complaint, unseen
from autopilot.spec.credentials import WHERE_INSTEAD, credential, names_a_credential
from autopilot.spec.errors import Path, Problem
from autopilot.spec.text import Source


def unclean(source: Source) -> list[Problem]:
    """A problem for each value, and each field's name, that holds what it must not."""
    return [problem for path, text, at in _texts(source.data, ()) for problem in _problems(source, path, text, at)]


def _problems(source: Source, path: Path, text: str, at: str) -> Iterator[Problem]:
    secret = credential(text)
    key = path[-1] if path else ""
    if not secret and at == "value" and text and isinstance(key, str) and names_a_credential(key):
        secret = "a credential"  # noqa: S105 - the word for one
    if secret:
        yield source.problem(path, f"looks like {secret}", hint=WHERE_INSTEAD, at=at)
    if found := unseen(text):
        yield source.problem(path, complaint(found.group()), hint="remove it", at=at)


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str, str]]:
    """Every text with its path, and whether it is a `value` or the name of a field (`key`)."""
    match value:
        case str():
            yield path, value, "value"
        case dict():
            for key, item in value.items():
                yield (*path, key), key, "key"
                yield from _texts(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _texts(item, (*path, index))
        case _:
            pass
