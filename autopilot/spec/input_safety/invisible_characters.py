"""Characters that nobody sees and that change what people or programs read: none of them belongs into a file of ours.

Control characters end lines and strings for programs further down; marks of direction make a reviewer read another
order than the parser does ("Trojan Source", CVE-2021-42574); characters without width make two names look like one.
"""

from __future__ import annotations

import re
import unicodedata

_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_WIDTHLESS = "\u00ad\u180e\u200b\u2060-\u2064\ufeff"
_LINES = "\u0085\u2028\u2029"
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f"

_IN_VALUES = re.compile(f"[{_CONTROL}{_LINES}{_DIRECTION}{_WIDTHLESS}\ud800-\udfff]")
_IN_FILES = re.compile(f"(?!\r\n)[{_CONTROL}{_LINES}{_DIRECTION}{_WIDTHLESS}\ud800-\udfff]")
_UNSEEN = re.compile(f"[\t\n{_CONTROL}{_LINES}{_DIRECTION}{_WIDTHLESS}\ud800-\udfff]")


def unseen(text: str, *, whole_file: bool = False) -> re.Match[str] | None:
    """The first character that must not stand there; tabs and line feeds may.

    Args:
        text: a value, or a file as it was read.
        whole_file: allows the line ends of other systems (CR LF).
    """
    return (_IN_FILES if whole_file else _IN_VALUES).search(text)


def visible(text: str) -> str:
    """The text with what nobody sees written out, for terminals and logs: `\\x1b`, `\\u202e`."""
    return _UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def complaint(character: str) -> str:
    """What is wrong with a value, or a file, that has it."""
    return f"has an invisible character that is not allowed here: {named(character)}"


def named(character: str) -> str:
    """The character as people can look it up: `U+0435 CYRILLIC SMALL LETTER IE`."""
    fallback = "a control character" if unicodedata.category(character) == "Cc" else "a character without a name"
    return f"U+{ord(character):04X} {unicodedata.name(character, fallback)}"
