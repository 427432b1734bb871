"""What clients were answered, read from the traffic's log as it grows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was sent (seconds since the epoch), and the version that answered or what went wrong."""

    sent: float
    said: str

    @property
    def canary(self) -> bool:
        """Whether the version on trial answered, well or not."""
        return self.said.startswith("v2")

    @property
    def failed(self) -> bool:
        """Whether a client met a failure that nobody told the version on trial to make."""
        return self.said not in ("v1", "v2", "v2!")


class Answers:
    """By service, since it was last told to forget."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0
        self._found: defaultdict[str, list[Answer]] = defaultdict(list)

    def of(self, service: str, since: float = 0.0) -> list[Answer]:
        """The answers to requests sent since then, the oldest first."""
        self._look()
        return sorted((item for item in self._found[service] if item.sent >= since), key=lambda item: item.sent)

    def forget(self) -> None:
        """Lets go of what was seen."""
        self._look()
        self._found.clear()

    def _look(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode("utf-8").splitlines():
            sent, service, said = line.split(" ", 2)
            self._found[service].append(Answer(float(sent), said))
