"""Faults in VirtualServices that are not ours: how they are laid over rules, kept true, and taken back exactly.

Pure. A fault for everybody is a field of the user's rule. One for some requests is a *copy* of the rule, put directly
before it: the same in everything but a narrower match and the fault. A copy is never the master of anything: whatever
becomes of the rule (weights, headers, its place), the next look makes the copy follow. A *mark*, one annotation in the
same patch, says what stood in the fields before; copies are told by their names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object, Operation
from autopilot.mesh.kube.client.json_patch import annotated, unannotated, unchanged
from autopilot.mesh.kube.faults.istio_fields import Wish, combined, said_in
from autopilot.mesh.kube.faults.match_narrowing import Narrowing, narrowed
from autopilot.mesh.kube.routes.base import rule_key
from autopilot.mesh.kube.routes.fault_marks import (
    PREFIX,
    FaultMark,
    LaidRule,
    copied_for,
    is_copy,
    own_mark,
    rules_of,
)
from autopilot.mesh.kube.routes.weight_patch import told_apart
from autopilot.mesh.model import Holder, Writer

FIELDS = ("fault", "retries", "timeout")
"""Of a rule: all that a fault ever changes in it."""

Shares = Callable[[Object], Mapping[str, float]]
"""Percent of a rule's traffic by arm of the target, elsewhere under an empty name; nothing where it leads elsewhere."""


def name_of(rule: Object) -> str:
    """What the user calls a rule; may be empty."""
    return str(rule.get("name") or "")


def foreign(body: Object, mark: FaultMark) -> list[str]:
    """Fields that are neither as we wrote them nor as they were before: `rule KEY: FIELD`."""
    found = []
    rules = _keyed(_users(rules_of(body)))
    for laid in mark.rules:
        rule = rules.get(laid.key)
        if rule is not None:
            found += [f"rule {laid.key}: {name}" for name in laid.laid if not _known(rule, laid, name)]
    return found


def reapplied(body: Object, mark: FaultMark) -> bool:
    """Whether somebody has written what was there before: a GitOps tool that knows nothing of faults."""
    rules = _keyed(_users(rules_of(body)))
    return any(
        (rule := rules.get(laid.key)) is not None and any(rule.get(name) != value for name, value in laid.laid.items())
        for laid in mark.rules
    )


def base_of(body: Object, service: str, mark: FaultMark | None) -> list[Object]:
    """The rules as they would be without what was laid for this service: what is no longer ours stays as it is."""
    found = [copy.deepcopy(rule) for rule in rules_of(body) if not _is_copy_for(rule, service)]
    rules = _keyed(_users(found))
    for laid in mark.rules if mark else ():
        rule = rules.get(laid.key)
        for name, value in laid.laid.items() if rule is not None else ():
            if rule is None or rule.get(name) != value:
                continue
            if name in laid.before:
                rule[name] = laid.before[name]
            else:
                rule.pop(name, None)
    return found


def lay(
    body: Object,
    wishes: Sequence[Wish],
    shares: Shares,
    *,
    service: str,
    holder: Holder,
    adopt: bool = False,
) -> tuple[list[Operation], FaultMark | None]:
    """The patch that makes the object say these faults and none that were laid before, and the mark that it leaves.

    Where no rule of it takes a request that they mean, there is no mark, and the patch takes back what was laid.

    Args:
        body: the object as it was read; the patch holds for this resourceVersion alone.
        wishes: what is to be said.
        shares: which rules lead to the target.
        service: the target's.
        holder: who lays.
        adopt: whether a fault that stands there without a mark, and is the one wished for, is ours: somebody has taken
            the mark away.

    Raises:
        InvalidChange: it would overwrite a fault of the user's, or meet requests that it is not meant for.
    """
    before = own_mark(body, service)
    base = base_of(body, service, before)
    wanted, laid = said_over(base, wishes, shares, service=service, fencing=holder.fencing, adopt=adopt)
    if not laid and not any(_is_copy_for(rule, service) for rule in wanted):
        return (restore(body, before)[0] if before else unchanged(body)), None
    mark = FaultMark(service=service, **Writer.of(holder).model_dump(), rules=tuple(laid))
    operations = [*unchanged(body), *edits(rules_of(body), wanted, service)]
    if not _bears(body, mark):
        operations += annotated(body, PREFIX + service, mark.model_dump_json())
    return operations, mark


def said_over(
    base: Sequence[Object],
    wishes: Sequence[Wish],
    shares: Shares,
    *,
    service: str,
    fencing: int,
    adopt: bool = False,
) -> tuple[list[Object], list[LaidRule]]:
    """The rules with the faults said over them, copies among them, and what was done to the rules' own fields.

    Raises:
        InvalidChange: see `lay`.
    """
    keys = iter(keys_of(_users(base)))
    wanted: list[Object] = []
    laid: list[LaidRule] = []
    number = 0
    for given in base:
        if is_copy(given):  # of another target's
            wanted.append(given)
            continue
        rule, key = dict(given), next(keys)
        found = concerning(wishes, shares(rule), key, name_of(rule))
        if adopt and any(to.everybody and fields.get("fault") == rule.get("fault") for to, fields in found):
            rule.pop("fault", None)
        for narrowing, fields in found:
            refuse_own(rule, fields, key)
            said = said_in(rule, fields)
            if narrowing.everybody:
                was = {name: rule[name] for name in said if name in rule}
                laid.append(LaidRule(key=key, before=was, laid=said))
                rule |= said  # the narrower ones, which are the rule's copies, came before
            elif differing := narrowed(rule, narrowing, key):
                called = f"autopilot.{service}.{fencing}.{number}"
                wanted.append({**copy.deepcopy(rule), **said, "name": called, **differing})
                number += 1
        wanted.append(rule)
    return wanted, laid


def restore(body: Object, mark: FaultMark) -> tuple[list[Operation], list[str]]:
    """The patch that takes back what is still ours, mark included, and what is to be said of the rest."""
    rules = _keyed(_users(rules_of(body)))
    notes = [
        f"rule {laid.key} is gone or matches other requests now, so nothing was restored in it"
        for laid in mark.rules
        if laid.key not in rules
    ]
    notes += [f"{where} was changed by somebody else, so it was kept" for where in foreign(body, mark)]
    base = base_of(body, mark.service, mark)
    operations = [*unchanged(body), *edits(rules_of(body), base, mark.service)]
    return [*operations, *unannotated(body, PREFIX + mark.service)], notes


def edits(current: Sequence[Object], wanted: Sequence[Object], service: str) -> list[Operation]:
    """JSON patch operations that make one list of rules the other: they differ in copies and in `FIELDS` alone."""
    found: list[Operation] = []
    moved = _placed(current, service) != _placed(wanted, service)
    here, there = list(current), list(wanted)
    if moved:
        for index in reversed(range(len(here))):
            if _is_copy_for(here[index], service):
                found.append({"op": "remove", "path": f"/spec/http/{index}"})
                del here[index]
        there = [rule for rule in wanted if not _is_copy_for(rule, service)]
    for index, (one, other) in enumerate(zip(here, there, strict=True)):
        for name in FIELDS:
            found += _set(f"/spec/http/{index}/{name}", one, other, name)
    if moved:
        found += [
            {"op": "add", "path": f"/spec/http/{index}", "value": rule}
            for index, rule in enumerate(wanted)
            if _is_copy_for(rule, service)
        ]
    return found


def concerning(
    wishes: Sequence[Wish], shares: Mapping[str, float], key: str, name: str
) -> list[tuple[Narrowing, dict[str, Object | str]]]:
    """What a rule becomes, the narrowest first; empty where nothing of it is the target's.

    Args:
        wishes: what is to be said.
        shares: of the rule.
        key: of the rule, for people.
        name: of the rule, as the user calls it; may be empty.

    Raises:
        InvalidChange: it would meet requests that are not meant, or two faults of one kind mean the same requests.
    """
    if not any(shares.get(arm) for arm in shares if arm):
        return []
    meant = [one for one in wishes if one.rule in ("", name)]
    concerned = [one for one in meant if not one.arm or _alone(one, shares, key)]
    if concerned and shares.get(""):
        raise InvalidChange(
            f"rule {key} also leads to other services: {concerned[0].words} would apply to their requests too; "
            "give the target its own rule"
        )
    return combined(concerned)


def refuse_own(rule: Object, fields: Mapping[str, Object | str], key: str) -> None:
    """Refuses to lay a fault where the user has one.

    Raises:
        InvalidChange: with the rule's name.
    """
    if "fault" in rule and "fault" in fields:
        raise InvalidChange(
            f"rule {key} already has a fault ({_brief(rule['fault'])}), which is never overwritten; "
            "remove that fault first"
        )


def _alone(one: Wish, shares: Mapping[str, float], key: str) -> bool:
    """Whether the rule leads to the wish's version and to no other."""
    share = shares.get(one.arm, 0.0)
    if 0 < share < 100 - 1e-9:
        raise InvalidChange(
            f"scope.arm: rule {key} gives {one.arm} {share:g} % of its requests, and the fault would apply to "
            f"the others too; nearest: leave out arm, or a header for which the route leads to {one.arm} alone"
        )
    return share > 0


def _set(path: str, before: Object, after: Object, name: str) -> list[Operation]:
    if name not in before:
        return [{"op": "add", "path": path, "value": after[name]}] if name in after else []
    test = {"op": "test", "path": path, "value": before[name]}
    if name not in after:
        return [test, {"op": "remove", "path": path}]
    return [] if before[name] == after[name] else [test, {"op": "replace", "path": path, "value": after[name]}]


def _bears(body: Object, mark: FaultMark) -> bool:
    text = (body["metadata"].get("annotations") or {}).get(PREFIX + mark.service)
    return bool(text == mark.model_dump_json())


def _placed(rules: Iterable[Object], service: str) -> list[tuple[int, Object]]:
    """Each copy, and how many other rules stand before it."""
    found, others = [], 0
    for rule in rules:
        if _is_copy_for(rule, service):
            found.append((others, rule))
        else:
            others += 1
    return found


def _users(rules: Iterable[Object]) -> list[Object]:
    return [rule for rule in rules if not is_copy(rule)]


def keys_of(rules: Sequence[Object]) -> list[str]:
    """What each rule is told by; copies of ours have none."""
    return told_apart(rule_key(rule.get("name"), rule.get("match")) for rule in rules if not is_copy(rule))


def _keyed(rules: Sequence[Object]) -> dict[str, Object]:
    return dict(zip(keys_of(rules), rules, strict=True))


def _known(rule: Object, laid: LaidRule, name: str) -> bool:
    as_before = rule.get(name) == laid.before[name] if name in laid.before else name not in rule
    return as_before or rule.get(name) == laid.laid[name]


def _is_copy_for(rule: Object, service: str) -> bool:
    told = copied_for(rule)
    return told is not None and told[0] == service


def _brief(fault: object) -> str:
    return " and ".join(sorted(fault)) if isinstance(fault, dict) and fault else "empty"
