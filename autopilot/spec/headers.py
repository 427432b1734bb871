"""Headers of HTTP as documents hold them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag

from autopilot.spec.base import Misplaced
from autopilot.spec.secret_ref import SecretText
from autopilot.spec.values.units import explained


def _small(name: object) -> object:
    return name.lower() if isinstance(name, str) else name


HeaderName = Annotated[
    str,
    Field(pattern=explained(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$", "the name of a header, without a colon")),
    BeforeValidator(_small),
]
"""Lower case, as proxies see it."""


def _once(headers: object) -> object:
    """Refuses names that differ in capitals alone: proxies would see one of them."""
    told: set[str] = set()
    for name in headers if isinstance(headers, dict) else ():
        if isinstance(name, str) and name.lower() in told:
            raise Misplaced("is written twice: capitals make no difference", at=(name,), hint="write it once")
        told.add(str(name).lower())
    return headers


HeadersOnce = BeforeValidator(_once)


_ONE_LINE = explained(r"^[^\x00-\x1f\x7f]*$", "text on one line")


HeaderText = Annotated[str, Field(min_length=1, max_length=1024, pattern=_ONE_LINE)]


def _text_or_secret(value: object) -> str:
    """Which of both a value is meant to be, so that a message is about that one alone."""
    return "secret" if isinstance(value, dict | SecretText) else "text"


HeaderValue = Annotated[
    Annotated[HeaderText, Tag("text")] | Annotated[SecretText, Tag("secret")], Discriminator(_text_or_secret)
]
"""Text; or, for what must not be written down, where a worker finds it."""
