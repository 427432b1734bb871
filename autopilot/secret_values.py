"""Values of secrets: how they are read, why they cannot be sent, and how they are kept out of what is said.

For whatever sends secrets: probes, and the source that asks a store. Values stay in the memory of one process.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

LONGEST: Final = 16_384
"""Bytes of a secret in a header; servers take no longer headers."""
_SHORTEST: Final = 4
"""Characters: anything shorter also stands in other text, and could not be removed from it."""
_RUN: Final = 8
"""Characters of a secret in a row that nothing may have that is said."""


def content(path: Path, longest: int = LONGEST) -> bytes | None:
    """What is in a file; None where there is none. Only of a plain file: others may be endless, or never answer.

    Raises:
        OSError: it cannot be read.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(0, "it is no plain file")
        return file.read(longest + 1)


def unusable(value: bytes) -> str:
    """Why a value cannot be sent; never with the value."""
    if len(value) > LONGEST:
        return f"is longer than {LONGEST:,} bytes"
    try:
        text = value.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    if len(text) < _SHORTEST:
        return f"is empty or shorter than {_SHORTEST} characters"
    return "has line ends or control characters in it" if not text.isprintable() else ""


def forms(secret: str) -> Iterator[str]:
    """The secret, and how servers may write it: quoted, escaped, encoded, and decoded where it is base64 itself."""
    plain = {secret, secret.strip()}
    with suppress(ValueError, binascii.Error):
        # The password of `Basic …` is known to the server as it was before it was encoded.
        decoded = base64.b64decode(secret, validate=True).decode()
        plain |= {part for part in (decoded, *decoded.split(":", 1)[1:]) if decoded.isprintable()}
    found = set()
    for each in plain:
        encoded = base64.b64encode(each.encode()).decode()
        found |= {each, quote(each, safe=""), quote_plus(each), quote(each), json.dumps(each)[1:-1], escape(each)}
        found |= {json.dumps(each, ensure_ascii=False)[1:-1], encoded.rstrip("="), repr(each)[1:-1]}
        found.add(base64.urlsafe_b64encode(each.encode()).decode().rstrip("="))
    # The longest first: what stands in another form must not be replaced within it.
    yield from sorted((form for form in found if len(form) >= _SHORTEST), key=len, reverse=True)


def hidden(text: str, known: Mapping[str, Iterable[str]]) -> str:
    """The text without secrets, and without parts of them of eight characters and more.

    Args:
        text: what would be said.
        known: by the name that stands in their place, what `forms` gives of each secret.
    """
    for name, written in known.items():
        for form in written:
            text = without(text, form, name)
    return text


def without(text: str, form: str, name: str) -> str:
    """The text with every run of the form's characters, whole or a part of `_RUN` and more, replaced by a name."""
    run = min(_RUN, len(form))
    secret = [False] * len(text)
    for start in range(len(text) - run + 1):
        if text[start : start + run] in form:
            secret[start : start + run] = [True] * run
    if not any(secret):
        return text
    said: list[str] = []
    for index, letter in enumerate(text):
        if not secret[index]:
            said.append(letter)
        elif index == 0 or not secret[index - 1]:
            said.append(name)
    return "".join(said)
