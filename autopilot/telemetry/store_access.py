"""How a store is asked: credentials and certificates, read when they are needed, and kept out of what is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autopilot.secret_values import hidden


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes with one query."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """By the name that stands in their place, all forms of the secrets in the headers."""

    def hidden(self, text: str) -> str:
        """The text without those secrets, whatever a server repeats of them."""
        return hidden(text, self.known)
