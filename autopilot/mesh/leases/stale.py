"""Finds expired leases: by how long their records have not changed, on this process's monotonic clock.

Wall clocks may differ or jump; a record that changes proves a renewal, whatever its time stamp says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from autopilot.mesh.leases.records import LeaseRecord
from autopilot.mesh.model import Holder


class StaleLeases:
    """Remembers when each lease record last changed. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, Holder], tuple[int, float]] = {}

    def silent(self, records: Iterable[LeaseRecord]) -> list[tuple[LeaseRecord, float]]:
        """The leases without a renewal for longer than their time to live, and for how many seconds."""
        now = self._clock()
        current = {(str(record.lease.target), record.lease.holder): record for record in records}
        self._seen = {key: value for key, value in self._seen.items() if key in current}
        found = []
        for key, record in current.items():
            beats, since = self._seen.get(key, (-1, now))
            if beats != record.beats:
                since = now
            self._seen[key] = (record.beats, since)
            if now - since > record.lease.ttl:
                found.append((record, now - since))
        return found
