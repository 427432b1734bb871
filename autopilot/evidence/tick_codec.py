"""Ticks as they were judged, packed: small enough to travel with every heartbeat, exact enough to judge again.

Columns, compressed: counts of one tick resemble those of the next. Times are whole milliseconds, so that a tick comes
back equal to the one that was judged; `rounded` makes it so before it is judged.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise

from pydantic import ValidationError

from autopilot.evidence.model import ArmTick, Tick

_MILLI = 1000
_SEGMENT = 120
_BETWEEN = "."


class Recorder:
    """Packs ticks as they come; what was packed before is not packed again."""

    def __init__(self, packed: str = "") -> None:
        """Goes on from what another recorder had packed."""
        self.count = len(unpack(packed))
        """Ticks recorded."""
        self._done = [packed] if packed else []
        self._size = len(packed)
        self._tail: list[Tick] = []

    def add(self, tick: Tick) -> None:
        """Records a tick that is `rounded`."""
        self.count += 1
        self._tail.append(tick)
        if len(self._tail) >= _SEGMENT:
            self._done.append(pack(self._tail))
            self._size += len(self._done[-1])
            self._tail = []

    def full(self, ticks: int, size: int) -> bool:
        """Whether there are so many ticks, or so many characters of them packed; a segment counts when it is whole."""
        return self.count >= ticks or self._size >= size

    def text(self) -> str:
        """Everything so far; `unpack` reads it."""
        return _BETWEEN.join([*self._done, pack(self._tail)] if self._tail else self._done)


def rounded(tick: Tick) -> Tick:
    """The tick with its times in whole milliseconds, as a record keeps them."""
    return tick.model_copy(update={"time": round(tick.time, 3), "seconds": round(tick.seconds, 3)})


def pack(ticks: Sequence[Tick]) -> str:
    """Packs ticks that are `rounded`; `unpack` gives them back equal."""
    if not ticks:
        return ""
    times = [round(tick.time * _MILLI) for tick in ticks]
    rows = [tick.model_dump(mode="json", include={"canary", "stable"}) for tick in ticks]
    beside = {str(number): _row(tick.baseline) for number, tick in enumerate(ticks) if tick.baseline is not None}
    columns = {
        "times": [times[0], *(after - before for before, after in pairwise(times))],
        "seconds": [round(tick.seconds * _MILLI) for tick in ticks],
        "arms": {arm: _columns([row[arm] for row in rows]) for arm in rows[0]},
        "readings": {str(number): tick.readings for number, tick in enumerate(ticks) if tick.readings},
    }
    if beside:
        columns["baseline"] = beside
    text = json.dumps(columns, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(packed: str) -> list[Tick]:
    """The ticks that were packed.

    Raises:
        ValueError: the text is no record of ticks.
    """
    return [tick for segment in packed.split(_BETWEEN) if segment for tick in _segment(segment)]


def _segment(packed: str) -> list[Tick]:
    try:
        columns = json.loads(zlib.decompress(base64.b64decode(packed, validate=True)))
        arms = columns["arms"]
        return [
            Tick.model_validate(
                {
                    "time": time / _MILLI,
                    "seconds": columns["seconds"][number] / _MILLI,
                    "readings": columns["readings"].get(str(number), {}),
                    "baseline": _arm(columns.get("baseline", {}).get(str(number))),
                    **{arm: {name: column[number] for name, column in arms[arm].items()} for arm in arms},
                }
            )
            for number, time in enumerate(accumulate(columns["times"]))
        ]
    except (KeyError, IndexError, TypeError, AttributeError, zlib.error, ValidationError, ValueError) as error:
        raise ValueError(f"the recorded ticks cannot be read: {error}") from error


_SPARSE = {name: ArmTick.model_fields[name].default for name in ("client_errors", "aborts")}
"""Columns that many sources have nothing for."""


def _columns(rows: Sequence[dict[str, object]]) -> dict[str, list[object]]:
    """The columns of one arm, without those that say nothing."""
    found = {name: [_short(row[name]) for row in rows] for name in rows[0]}
    return {name: column for name, column in found.items() if any(one != _SPARSE.get(name, ...) for one in column)}


def _row(arm: ArmTick) -> list[object]:
    """An arm by position: of many ticks in a row there are many alike."""
    return [_short(value) for value in arm.model_dump(mode="json").values()]


def _arm(row: list[object] | None) -> dict[str, object] | None:
    """The way back; earlier versions had fewer fields."""
    return None if row is None else dict(zip(ArmTick.model_fields, row, strict=False))


def _short(value: object) -> object:
    """Whole counts without a decimal point."""
    if isinstance(value, list):
        return [_short(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
