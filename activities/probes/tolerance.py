"""What a look found, and whether it is what was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Final, NamedTuple

from activities.probes.subprocesses import run
from autopilot.evidence.chaos.tolerance import Nothing, found, holds, may_backtrack, text_of
from autopilot.spec.chaos.tolerance import Tolerance

Judgement = tuple[bool | None, str]
"""Whether the tolerance holds (None: nothing to judge), and the reason if not."""


class Seen(NamedTuple):
    """What one look found."""

    ok: bool | None
    value: str = ""
    note: str = ""


_SEARCH: Final = """
import json, re, signal, sys
given = json.load(sys.stdin)
signal.alarm(90)
print(int(re.search(given["pattern"], given["text"]) is not None))
"""


async def judged(tolerance: Tolerance, value: object, what: str = "") -> Judgement:
    """Judges one value; `what` it is of begins the note.

    An expression that repeats or chooses is searched in a process of its own: Python cannot be stopped within a
    search, and some searches take for ever. Whoever gives up waiting kills it.
    """
    matched: bool | None = None
    if tolerance.regex is not None and may_backtrack(tolerance.regex):
        there = found(tolerance, value)
        if not isinstance(there, Nothing):
            given = json.dumps({"pattern": tolerance.regex, "text": text_of(there)})
            ended = await run((sys.executable, "-I", "-S", "-c", _SEARCH), given.encode())
            if ended.code != 0:
                return None, f"{what}the search for the regular expression failed: {ended.err[-200:].strip()}"
            matched = ended.out.strip() == b"1"
    ok, note = holds(tolerance, value, matched=matched)
    return ok, f"{what}{note}" if note else ""


def together(judgements: Iterable[Judgement]) -> Judgement:
    """All of them: one that does not hold decides, then one without anything to judge."""
    told = list(judgements)
    for decisive in (False, None):
        if notes := [note for ok, note in told if ok is decisive]:
            return decisive, "; ".join(notes)
    return True, ""
