"""Which of a mesh's series are an arm's: providers know it, metrics only carry labels.

An arm is a word of ours; a mesh calls it a subset, a workload or a Service. Whoever drives a mesh says which, and what
is read stays the same. Labels are compared for equality alone, so that no name can be read as a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from autopilot.telemetry.model import Subject

Alternative = tuple[tuple[str, str], ...]
"""Labels and their values, all of which must fit."""

_MANY = 60
"""Values above which a pattern naming each gets too long for a URL."""


@dataclass(frozen=True, slots=True)
class ArmSelector:
    """An arm's series: those that fit any of the alternatives."""

    alternatives: tuple[Alternative, ...]

    @classmethod
    def of(cls, *alternatives: Mapping[str, str]) -> Self:
        """From one mapping of labels to values for each alternative.

        Raises:
            ValueError: no alternative, or one without labels: it would be everybody's.
        """
        if not alternatives or not all(alternatives):
            raise ValueError("an arm needs labels that identify it; give at least one, such as destination_workload")
        return cls(tuple(tuple(sorted(each.items())) for each in alternatives))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is the arm's."""
        return any(all(labels.get(name) == value for name, value in each) for each in self.alternatives)


Resolver = Callable[[Subject], Mapping[str, ArmSelector]]
"""Says of a subject which series are whose, by arm; asked at every look, from any thread, so it answers from memory."""


def named(values: Iterable[str]) -> str:
    """A regular expression (RE2) for just these values of a label; for any where they are too many for a query."""
    distinct = sorted(set(values))
    return "|".join(map(re.escape, distinct)) if len(distinct) <= _MANY else ".+"


def narrowed(alternatives: Sequence[Alternative]) -> dict[str, str]:
    """The narrowest matchers that leave out none of the alternatives: patterns by label, for labels that all name."""
    if not alternatives:
        return {}
    common = set.intersection(*({name for name, _ in each} for each in alternatives))
    return {name: named(dict(each)[name] for each in alternatives) for name in sorted(common)}


class Owners:
    """Finds out whose a series is, for many subjects at once: series that differ elsewhere are looked up once."""

    def __init__(self, resolved: Sequence[Mapping[str, ArmSelector]]) -> None:
        self._resolved = resolved
        self._names = sorted(
            {
                name
                for arms in resolved
                for selector in arms.values()
                for alternative in selector.alternatives
                for name, _ in alternative
            }
        )
        self._known: dict[tuple[str | None, ...], tuple[tuple[int, str], ...]] = {}
        self.torn: dict[int, set[tuple[str, ...]]] = {}
        """By subject: arms whose labels match the same series, which is then counted for none of them."""

    def of(self, labels: Mapping[str, str]) -> tuple[tuple[int, str], ...]:
        """(index of the subject, arm) of everyone whose series this is."""
        place = tuple(labels.get(name) for name in self._names)
        if place not in self._known:
            self._known[place] = tuple(self._find(labels))
        return self._known[place]

    def _find(self, labels: Mapping[str, str]) -> Iterable[tuple[int, str]]:
        for index, arms in enumerate(self._resolved):
            found = [arm for arm, selector in arms.items() if selector.matches(labels)]
            if len(found) == 1:
                yield index, found[0]
            elif found:
                self.torn.setdefault(index, set()).add(tuple(sorted(found)))
