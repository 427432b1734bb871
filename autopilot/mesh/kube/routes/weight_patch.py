"""Weights in objects of users: how they are changed, and restored exactly.

A route lists weighted destinations. An overlay changes the weights of one target's arms in it by a JSON patch of those
values alone, and leaves a *mark*, one annotation in the same patch, that says what they were: so whoever may write the
route can restore it. Everybody else's edits of the same object stay: lists are found again by what they match, not by
their place, and a weight that is no longer what we laid is somebody else's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field, ValidationError

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object, Operation
from autopilot.mesh.kube.client.json_patch import annotated, unannotated, unchanged
from autopilot.mesh.kube.routes.backends import Backend
from autopilot.wire import Wire

PREFIX = "overlay.meshautopilot.io/"
"""Of the annotation, which ends in the service's name: one route may lead to several targets."""
_MOST = 10_000
"""The finest share that is written: a hundredth of a percent."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One weighted destination in a list."""

    arm: str
    """Which arm of the target it leads to; empty for somebody else's."""
    weight: int | None
    """None where none is written."""


@dataclass(frozen=True)
class WeightList:
    """The weighted destinations of one rule of one route."""

    key: str
    """What the rule matches, or its name: stays the same when others insert rules before it."""
    path: str
    """JSON pointer to the list."""
    destinations: tuple[Destination, ...]
    implied: int
    """The weight of a destination where none is written."""

    @property
    def shares(self) -> dict[str, float]:
        """Percent of the rule's traffic by arm; empty where nothing gets any."""
        weights = [(one.arm, self._counts(one)) for one in self.destinations]
        total = sum(weight for _, weight in weights)
        found: dict[str, float] = {}
        for arm, weight in weights:
            if total:
                found[arm] = found.get(arm, 0.0) + 100 * weight / total
        return found

    @cached_property
    def slots(self) -> dict[str, Destination]:
        """The target's destinations by what marks call them: their arm, with a number where it is listed again."""
        ours = [one for one in self.destinations if one.arm]
        return dict(zip(told_apart(one.arm for one in ours), ours, strict=True))

    @property
    def parts(self) -> int | None:
        """How many parts of the rule's traffic are the target's, where it leads elsewhere too; None where all are."""
        if not any(self._counts(one) for one in self.destinations if not one.arm):
            return None
        return sum(self._counts(one) for one in self.destinations if one.arm)

    def _counts(self, one: Destination) -> int:
        if len(self.destinations) == 1 and (one.weight is None or one.weight == self.implied == 0):
            return 100  # where no weight means zero, a destination without others has everything all the same
        return self.implied if one.weight is None else one.weight


class LaidList(Wire):
    """What was done to one list."""

    key: str
    before: dict[str, int | None]
    """Slot → the weight that was written, None where none was; those that were added are not here."""
    laid: dict[str, int]
    """Slot → the weight that we wrote."""


class Mark(Wire):
    """Says on the object itself what is laid over it, and what was there before."""

    service: str
    """Of the target; its namespace is the object's."""
    operation: str
    fencing: int
    write: int = 0
    """Number of the operation's write that laid it."""
    lists: tuple[LaidList, ...] = ()
    made: bool = False
    """Whether the whole object is ours, and is deleted with the overlay."""
    arms: dict[str, tuple[Backend, ...]] = Field(default_factory=dict)
    """What the arms were when it was laid, stable first: whoever restores asks nobody. Empty in older versions."""

    @property
    def order(self) -> tuple[int, int]:
        """As `Writer.order`."""
        return self.fencing, self.write

    def of(self, key: str) -> LaidList | None:
        """What was done to one list."""
        return next((one for one in self.lists if one.key == key), None)


def marks_of(body: Object) -> list[Mark]:
    """Every mark on an object; those that cannot be read (they were edited by hand) are left out."""
    found = []
    for name, text in (body.get("metadata", {}).get("annotations") or {}).items():
        if name.startswith(PREFIX):
            with contextlib.suppress(ValidationError):
                found.append(Mark.model_validate_json(text))
    return found


def mark_of(body: Object, service: str) -> Mark | None:
    """The mark of one target, as far as it can be read: for those who only look."""
    return next((mark for mark in marks_of(body) if mark.service == service), None)


def told_apart(keys: Iterable[str]) -> list[str]:
    """The keys, with a number behind those that were there before."""
    given = list(keys)
    taken: set[str] = set()
    found = []
    for key in given:
        name, number = key, 1
        while name in taken or (number > 1 and name in given):
            number += 1
            name = f"{key}#{number}"
        taken.add(name)
        found.append(name)
    return found


def integers(weights: Mapping[str, float]) -> dict[str, int]:
    """Percents as whole numbers of one scale: 100 where that is exact, else 1,000 or 10,000 in all."""
    for total in (100, 1000, _MOST):
        scaled = {arm: weight * total / 100 for arm, weight in weights.items()}
        if all(abs(value - round(value)) < 1e-9 for value in scaled.values()):
            return {arm: round(value) for arm, value in scaled.items()}
    return apportioned(weights, _MOST)


def apportioned(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Percents as whole numbers of one scale; what does not fit goes to the largest rests, so that the sum is exact."""
    scaled = {arm: weight * total / 100 for arm, weight in weights.items()}
    found = {arm: int(value) for arm, value in scaled.items()}
    for arm in sorted(scaled, key=lambda arm: (found[arm] - scaled[arm], arm))[: total - sum(found.values())]:
        found[arm] += 1
    return found


def foreign(lists: Sequence[WeightList], mark: Mark) -> list[str]:
    """Lists whose weights are neither what the mark says we laid nor what they were before: by their keys.

    So is one that somebody has added a destination to: a later overlay would take its weight away.
    """
    found = []
    for laid in mark.lists:
        current = next((one for one in lists if one.key == laid.key), None)
        if current is None or _joined(current, laid) or not (_as_laid(current, laid) or _as_before(current, laid)):
            found.append(laid.key)
    return found


def reapplied(lists: Sequence[WeightList], mark: Mark) -> bool:
    """Whether somebody has written what was there before: a GitOps tool that knows nothing of overlays."""
    return any(
        current is not None and not _as_laid(current, laid) and _as_before(current, laid)
        for laid in mark.lists
        for current in [next((one for one in lists if one.key == laid.key), None)]
    )


def lay(
    body: Object,
    lists: Sequence[WeightList],
    weights: Mapping[str, float],
    *,
    new: Mark,
    entry: Callable[[WeightList, str, int], Object],
    before: Mark | None = None,
) -> tuple[list[Operation], Mark]:
    """The patch that gives the arms their weights in every list, and the mark that it leaves.

    Args:
        body: the object as it was read; the patch holds for this resourceVersion alone.
        lists: its lists that lead to the target.
        weights: percent by arm; arms that a list has and that are not here get nothing.
        new: whose overlay it is.
        entry: makes the destination of an arm that a list lacks.
        before: the mark of the same holder, where it laid something before: it knows what was there first.

    Raises:
        InvalidChange: a list leads elsewhere too, and the target's own part of it is too small to be split like that.
    """
    operations, laid = unchanged(body), []
    for one in lists:
        numbers = _numbers(one, weights)
        known = before.of(one.key) if before else None
        kept = known.before if known else {slot: item.weight for slot, item in one.slots.items()}
        wanted = {slot: numbers.get(slot, 0) for slot in one.slots}
        for slot, index in _places(one).items():
            was = one.destinations[index].weight
            if was != wanted[slot]:
                operations += _set(f"{one.path}/{index}/weight", was, wanted[slot])
        for arm, number in numbers.items():
            if arm not in wanted and number:
                operations.append({"op": "add", "path": f"{one.path}/-", "value": entry(one, arm, number)})
                wanted[arm] = number
        laid.append(LaidList(key=one.key, before=kept, laid=wanted))
    mark = new.model_copy(update={"lists": tuple(laid)})
    return [*operations, *annotate(body, mark)], mark


def restore(body: Object, lists: Sequence[WeightList], mark: Mark) -> tuple[list[Operation], list[str]]:
    """The patch that takes back what is still ours, mark included, and what is to be said of the rest."""
    operations, notes = unchanged(body), []
    for laid in mark.lists:
        current = next((one for one in lists if one.key == laid.key), None)
        if current is None:
            notes.append(f"rule {laid.key} is gone or leads elsewhere now, so nothing was restored in it")
            continue
        theirs = list(current.destinations)
        if _as_laid(current, laid):
            operations += _give_back(current, laid)
            theirs = _joined(current, laid)
        elif _as_before(current, laid):
            theirs = _joined(current, laid)
        if theirs:
            said = ", ".join(f"{one.arm or 'another'} {one.weight}" for one in theirs)
            notes.append(f"rule {laid.key} has weights that somebody else set ({said}); they were kept")
    return [*operations, *unmark(body, mark.service)], notes


def annotate(body: Object, mark: Mark) -> list[Operation]:
    """Writes the mark."""
    return annotated(body, PREFIX + mark.service, mark.model_dump_json())


def unmark(body: Object, service: str) -> list[Operation]:
    """Removes the mark, and the annotations with it where it was the only one."""
    return unannotated(body, PREFIX + service)


def _numbers(one: WeightList, weights: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers for the arms. What leads elsewhere keeps its part of the traffic: its weight is not ours."""
    if one.parts is None:
        return integers(weights)
    found = apportioned(weights, one.parts)
    if lost := [arm for arm, number in found.items() if one.parts and weights[arm] and not number]:
        raise InvalidChange(
            f"rule {one.key} also leads to other services, and {', '.join(lost)} cannot get such a small share of the "
            f"{one.parts} parts for the target; multiply each weight of the rule by 100"
        )
    return found


def _places(one: WeightList) -> dict[str, int]:
    """Where each slot stands in the list."""
    return dict(zip(one.slots, (index for index, item in enumerate(one.destinations) if item.arm), strict=True))


def _joined(current: WeightList, laid: LaidList) -> list[Destination]:
    """Destinations of the target that somebody has added since."""
    return [item for slot, item in current.slots.items() if slot not in laid.laid]


def _give_back(current: WeightList, laid: LaidList) -> list[Operation]:
    operations: list[Operation] = []
    added = []
    for slot, index in _places(current).items():
        path, weight = f"{current.path}/{index}", current.destinations[index].weight
        if slot not in laid.laid:
            continue
        if slot not in laid.before:
            added.append(path)
        elif (kept := laid.before[slot]) is None:
            operations += [{"op": "test", "path": f"{path}/weight", "value": weight}]
            operations += [{"op": "remove", "path": f"{path}/weight"}]
        elif kept != weight:
            operations += _set(f"{path}/weight", weight, kept)
    # From the end, so that no removal moves what is still to be removed.
    return operations + [{"op": "remove", "path": path} for path in reversed(added)]


def _as_laid(current: WeightList, laid: LaidList) -> bool:
    return _stands(current, laid.laid)


def _as_before(current: WeightList, laid: LaidList) -> bool:
    added = laid.laid.keys() - laid.before.keys()
    return _stands(current, laid.before) and not added & current.slots.keys()


def _stands(current: WeightList, weights: Mapping[str, int | None]) -> bool:
    slots = current.slots
    return all(slot in slots and slots[slot].weight == weight for slot, weight in weights.items())


def _set(path: str, before: int | None, after: int) -> list[Operation]:
    if before is None:
        return [{"op": "add", "path": path, "value": after}]
    return [{"op": "test", "path": path, "value": before}, {"op": "replace", "path": path, "value": after}]
