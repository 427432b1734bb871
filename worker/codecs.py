"""Finds the payload codec that an operator names: one that encrypts what Temporal stores, and decrypts what comes back.

Autopilot ships none. Workers and every client need the same one, so its name is read in one place.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from temporalio.converter import PayloadCodec

VARIABLE: Final = "AUTOPILOT_CODEC"
"""Environment variable with the name of the codec, for workers and for every command."""
GROUP: Final = "meshautopilot.payload_codecs"
"""Group of entry points: name → a function without arguments, or a class, that makes a `PayloadCodec`."""


class CodecError(Exception):
    """A codec was named and cannot be used; the message says what to do. Nothing is sent without it."""


def named_codec(name: str | None = None) -> PayloadCodec | None:
    """The codec of this process; None where none is named.

    Args:
        name: of an installed entry point, or `module:attribute`; by default what `AUTOPILOT_CODEC` says.

    Raises:
        CodecError: there is no such codec, or it cannot be made.
    """
    wanted = (os.environ.get(VARIABLE) if name is None else name) or ""
    return _made(wanted) if wanted else None


def _made(name: str) -> PayloadCodec:
    from temporalio.converter import PayloadCodec  # noqa: PLC0415 - not needed without a codec

    try:
        factory = _attribute(name) if ":" in name else _installed(name)
        made = factory()
    except CodecError:
        raise
    except Exception as error:
        # Its own code: anything may be wrong with it, a missing key among others.
        raise CodecError(f"payload codec {name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, PayloadCodec):
        raise CodecError(
            f"payload codec {name} makes a {type(made).__name__}, not a temporalio.converter.PayloadCodec: name a "
            "function without arguments, or a class"
        )
    return made


def _attribute(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise CodecError(
            f"payload codec {name} was not found ({error}): write module:attribute, of a module that is installed "
            "where this process runs"
        ) from error
    return found


def _installed(name: str) -> Any:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to load

    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in known:
        there = f"installed: {', '.join(sorted(known))}" if known else "none is installed"
        raise CodecError(
            f"there is no payload codec {name!r} ({there}): install the package that has it (entry point group "
            f"{GROUP}), or write module:attribute"
        )
    return known[name].load()
