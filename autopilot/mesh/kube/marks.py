"""Weights in objects that are not ours: how they are changed, and given back exactly.

A route lists weighted destinations. An overlay changes the weights of one target's arms in it by a JSON patch of those
values alone, and leaves a *mark*, one annotation in the same patch, that says what they were: so whoever may write the
route can restore it. Everybody else's edits of the same object stay: lists are found again by what they match, not by
their place, and a weight that is no longer what we laid is somebody else's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from autopilot.mesh.kube.api import Object, Operation
from autopilot.mesh.model import Plain

PREFIX = "overlay.meshautopilot.io/"
"""Of the annotation, which ends in the service's name: one route may lead to several targets."""
_MOST = 10_000
"""The finest share that is written: a hundredth of a percent."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One weighted destination as it stands in a list."""

    arm: str
    """Which arm of the target it leads to; empty for somebody else's."""
    weight: int | None
    """None where none is written."""


@dataclass(frozen=True, slots=True)
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
        alone = len(self.destinations) == 1
        weights = [
            (one.arm, (100 if alone else self.implied) if one.weight is None else one.weight)
            for one in self.destinations
        ]
        total = sum(weight for _, weight in weights)
        found: dict[str, float] = {}
        for arm, weight in weights:
            if total:
                found[arm] = found.get(arm, 0.0) + 100 * weight / total
        return found

    def written(self, arm: str) -> int | None:
        """The weight written for an arm; None where none is, or there is no such destination."""
        return next((one.weight for one in self.destinations if one.arm == arm), None)

    def has(self, arm: str) -> bool:
        """Whether it lists the arm."""
        return any(one.arm == arm for one in self.destinations)


class LaidList(Plain):
    """What was done to one list."""

    key: str
    before: dict[str, int | None]
    """Arm → the weight that was written, None where none was; arms that were added are not here."""
    laid: dict[str, int]
    """Arm → the weight that we wrote."""


class Mark(Plain):
    """Says on the object itself what is laid over it, and what was there before."""

    service: str
    """Of the target; its namespace is the object's."""
    operation: str
    fencing: int
    lists: tuple[LaidList, ...] = ()
    made: bool = False
    """Whether the whole object is ours: it goes when the overlay does."""

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
    """The mark of one target."""
    return next((mark for mark in marks_of(body) if mark.service == service), None)


def integers(weights: Mapping[str, float]) -> dict[str, int]:
    """Percents as whole numbers of one scale: 100 where that is exact, else 1,000 or 10,000 in all.

    What does not fit the finest scale goes to the arms with the largest rests, so that the sum is exact.
    """
    for total in (100, 1000, _MOST):
        scaled = {arm: weight * total / 100 for arm, weight in weights.items()}
        if all(abs(value - round(value)) < 1e-9 for value in scaled.values()):
            return {arm: round(value) for arm, value in scaled.items()}
    found = {arm: int(value) for arm, value in scaled.items()}
    for arm in sorted(scaled, key=lambda arm: (found[arm] - scaled[arm], arm))[: _MOST - sum(found.values())]:
        found[arm] += 1
    return found


def foreign(lists: Sequence[WeightList], mark: Mark) -> list[str]:
    """Lists whose weights are neither what the mark says we laid nor what they were before: by their keys."""
    found = []
    for laid in mark.lists:
        current = next((one for one in lists if one.key == laid.key), None)
        if current is None or not (_as_laid(current, laid) or _as_before(current, laid)):
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
    """
    numbers = integers(weights)
    operations, laid = _unchanged(body), []
    for one in lists:
        known = before.of(one.key) if before else None
        kept = known.before if known else {item.arm: item.weight for item in one.destinations if item.arm}
        wanted = {item.arm: numbers.get(item.arm, 0) for item in one.destinations if item.arm}
        for index, item in enumerate(one.destinations):
            if item.arm and item.weight != wanted[item.arm]:
                operations += _set(f"{one.path}/{index}/weight", item.weight, wanted[item.arm])
        for arm, number in numbers.items():
            if arm not in wanted and number:
                operations.append({"op": "add", "path": f"{one.path}/-", "value": entry(one, arm, number)})
                wanted[arm] = number
        laid.append(LaidList(key=one.key, before=kept, laid=wanted))
    mark = new.model_copy(update={"lists": tuple(laid)})
    return [*operations, *annotate(body, mark)], mark


def restore(body: Object, lists: Sequence[WeightList], mark: Mark) -> tuple[list[Operation], list[str]]:
    """The patch that takes back what is still ours, mark included, and what is to be said of the rest."""
    operations, notes = _unchanged(body), []
    for laid in mark.lists:
        current = next((one for one in lists if one.key == laid.key), None)
        if current is None:
            notes.append(f"rule {laid.key} is gone, or leads elsewhere now: nothing of it was restored")
        elif _as_laid(current, laid):
            operations += _give_back(current, laid)
        elif not _as_before(current, laid):
            said = ", ".join(f"{one.arm or 'another'} {one.weight}" for one in current.destinations)
            notes.append(f"rule {laid.key} has weights that are not ours ({said}): they were left as they are")
    return [*operations, *unmark(body, mark.service)], notes


def annotate(body: Object, mark: Mark) -> list[Operation]:
    """Writes the mark."""
    text = mark.model_dump_json()
    if body["metadata"].get("annotations") is None:
        return [{"op": "add", "path": "/metadata/annotations", "value": {PREFIX + mark.service: text}}]
    return [{"op": "add", "path": _place(mark.service), "value": text}]


def unmark(body: Object, service: str) -> list[Operation]:
    """Removes the mark, and the annotations with it where it was the only one."""
    annotations = body["metadata"].get("annotations") or {}
    if PREFIX + service not in annotations:
        return []
    return [{"op": "remove", "path": "/metadata/annotations" if len(annotations) == 1 else _place(service)}]


def changes(operations: Sequence[Operation]) -> bool:
    """Whether a patch does anything but test."""
    return any(operation["op"] != "test" for operation in operations)


def version(body: Object) -> str:
    """Its resourceVersion."""
    return str(body["metadata"]["resourceVersion"])


def _give_back(current: WeightList, laid: LaidList) -> list[Operation]:
    operations: list[Operation] = []
    added = []
    for index, item in enumerate(current.destinations):
        if item.arm not in laid.laid:
            continue
        path = f"{current.path}/{index}"
        if item.arm not in laid.before:
            added.append(path)
        elif (kept := laid.before[item.arm]) is None:
            operations += [{"op": "test", "path": f"{path}/weight", "value": item.weight}]
            operations += [{"op": "remove", "path": f"{path}/weight"}]
        elif kept != item.weight:
            operations += _set(f"{path}/weight", item.weight, kept)
    # From the end, so that no removal moves what is still to be removed.
    return operations + [{"op": "remove", "path": path} for path in reversed(added)]


def _as_laid(current: WeightList, laid: LaidList) -> bool:
    return all(current.has(arm) and current.written(arm) == weight for arm, weight in laid.laid.items())


def _as_before(current: WeightList, laid: LaidList) -> bool:
    added = laid.laid.keys() - laid.before.keys()
    kept = all(current.has(arm) and current.written(arm) == weight for arm, weight in laid.before.items())
    return kept and not any(current.has(arm) for arm in added)


def _unchanged(body: Object) -> list[Operation]:
    return [{"op": "test", "path": "/metadata/resourceVersion", "value": version(body)}]


def _set(path: str, before: int | None, after: int) -> list[Operation]:
    if before is None:
        return [{"op": "add", "path": path, "value": after}]
    return [{"op": "test", "path": path, "value": before}, {"op": "replace", "path": path, "value": after}]


def _place(service: str) -> str:
    return f"/metadata/annotations/{(PREFIX + service).replace('/', '~1')}"
