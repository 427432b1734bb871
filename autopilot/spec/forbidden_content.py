"""What no document may hold in any field, known or unknown: credentials, and characters that nobody sees.

Looked for at the door, where files are read: past it specs travel into workflow histories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autopilot.spec.errors import Path, Problem
from autopilot.spec.input_safety.credentials import (
    WHERE_INSTEAD,
    carries_a_credential,
    credential,
    credential_in_url,
    names_a_credential,
    proves_identity,
)
from autopilot.spec.input_safety.invisible_characters import complaint, unseen
from autopilot.spec.yaml_source import Source


def unclean(source: Source) -> list[Problem]:
    """A problem for each value, and each field's name, that holds what it must not."""
    return [problem for path, text, at in _texts(source.data, ()) for problem in _problems(source, path, text, at)]


def _problems(source: Source, path: Path, text: str, at: str) -> Iterator[Problem]:
    secret = credential(text)
    key = path[-1] if path else ""
    if at == "value" and (sent := _sent(path, text)):
        yield source.problem(path, sent, hint=_reference(path))
        secret, key = "", ""  # said once
    if not secret and at == "value" and text and isinstance(key, str) and names_a_credential(key):
        secret = "a credential"  # noqa: S105 - the word for one
    if secret:
        yield source.problem(path, f"looks like {secret}", hint=WHERE_INSTEAD, at=at)
    if found := unseen(text):
        yield source.problem(path, complaint(found.group()), hint="remove it", at=at)


def _sent(path: Path, text: str) -> str:
    """What is wrong with a text that probes send as a header, or ask as a URL; empty where nothing is."""
    match path:
        case (*_, "headers", str() as name):
            if text and carries_a_credential(name):
                return "must not be written here: a header of this name carries a credential"
            return "looks like a credential" if proves_identity(text) else ""
        case (*_, "headers", str(), "prefix"):
            return "looks like a credential" if proves_identity(text) else ""
        case ("spec", *_, "url"):
            part = credential_in_url(text)
            return f"holds a credential: {part}" if part else ""
        case _:
            return ""


def _reference(path: Path) -> str:
    """What to write instead of a credential that a probe sends."""
    example = '{prefix: "Bearer ", secretRef: {env: NAME}}'
    if path[-1] == "url":
        example = f"headers: {{authorization: {example}}}"
    return (
        f"write a reference, which the worker resolves: {example}, or secretRef: {{file: /PATH}}, or secretRef: "
        "{kubernetes: {name: SECRET, key: KEY}}; withdraw this credential if it was ever sent"
    )


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
