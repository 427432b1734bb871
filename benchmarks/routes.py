"""Published routes: is each driven as the rule says, or refused with the true reason?

`make bench-routes`: over every example of benchmarks/published_routes a canary gets 10 %. Exactly the rules that the
example names must get exactly its weights, and nothing else may change. A lift must give back what was there. At 100 %,
committed, stable must have nothing left in these rules. A refusal must hold the true reason and leave all as it was.

Weights are whole numbers, and those of other services stay: a tenth of 75 parts may be 7 or 8 of them. The sum never
changes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from recording import record

sys.path.insert(0, str(Path(__file__).parents[1]))

from published import PROJECTS, Example, Key, Shares, added, destinations, examples, label_of

from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.routes.driver import Overlayer
from autopilot.mesh.kube.routes.gateway_api import GatewayRoutes
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.smi import SplitRoutes
from autopilot.mesh.kube.routes.weight_patch import PREFIX
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import Holder, RuleChoice, Target
from tests.mesh.kube.memory import Memory

PROVIDERS = {"istio": IstioRoutes, "gateway_api": GatewayRoutes, "smi": SplitRoutes}

Objects = Mapping[Key, Object]


class Trial:
    """One example in a cluster of its own."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.api = Memory(example.objects)
        self.target = Target(mesh="m", namespace="shop", service=example.target)
        self.holder = Holder(operation=f"canary/m/shop/{example.target}", fencing=3)
        self.choice = RuleChoice(only=example.only)
        self.overlayer = Overlayer(KubeStore(self.api, "m", "autopilot"), PROVIDERS[example.provider](self.api))

    def lay(self, canary: float) -> None:
        """Gives the canary so many percent."""
        self.overlayer.lay(self.target, self.holder, self.weights(canary), choice=self.choice)

    def weights(self, canary: float) -> dict[str, float]:
        """Percent by arm."""
        return dict(zip(self.example.arms, (100 - canary, canary), strict=True))

    def named(self) -> tuple[str, ...]:
        """What is said before anything is written: every rule that is split."""
        split = self.overlayer.resolved(self.target, self.weights(10), self.choice, strict=False)
        return self.overlayer.around(self.target, split).concerned

    def cluster(self) -> dict[Key, Object]:
        """Every object, versions left out."""
        found = copy.deepcopy(self.api.objects)
        for body in found.values():
            del body["metadata"]["resourceVersion"]
        return found


def faults(example: Example) -> list[str]:
    """What is not as it must be; empty where all is."""
    trial = Trial(example)
    before = trial.cluster()
    try:
        named = trial.named()
        trial.lay(10)
    except InvalidChange as refusal:
        reason = "" if example.refused and example.refused in str(refusal) else f"is refused: {refusal}"
        written = "" if trial.cluster() == before else "is refused, and something was written"
        return [one for one in (reason, written) if one]
    if example.refused:
        return ["is driven, and must be refused"]
    found = _said(example, before, named) + _differences("at 10 %", example, before, trial.cluster())
    try:
        return found + _lifted(trial, before) + _committed(trial, before)
    except MeshError as error:
        return [*found, f"ends with {type(error).__name__}: {error}"]


def _lifted(trial: Trial, before: Objects) -> list[str]:
    """What a lift does not give back."""
    notes = [f"the lift says: {note}" for note in trial.overlayer.take_away(trial.target, 3)]
    return notes + [f"after the lift: {one}" for one in _changed(before, trial.cluster())]


def _committed(trial: Trial, before: Objects) -> list[str]:
    """What a promotion leaves to stable, or changes besides."""
    trial.lay(100)
    notes = trial.overlayer.take_away(trial.target, 3, commit=trial.weights(100), choice=trial.choice)
    # A spec that names some rules is told of the others, which go on leading to stable.
    said = [f"the commit says: {note}" for note in notes if not trial.example.only]
    return said + _differences("after the commit", trial.example, before, trial.cluster(), everything=True)


def expected(example: Example, before: Objects, *, everything: bool = False) -> dict[Key, Object]:
    """The cluster at 10 %, or where the canary has got everything that stable had."""
    found = copy.deepcopy(dict(before))
    for key, rules in example.driven.items():
        for rule, shares in rules.items():
            if key in found:
                divide(destinations(found[key]["spec"], rule), example, wanted(example, shares, everything=everything))
    return found


def wanted(example: Example, shares: Shares, *, everything: bool) -> Shares:
    """The weights of a rule: those written in the example, or those of the end."""
    if not everything:
        return shares
    roles = {label: example.role(label) for label in shares}
    total = sum(share for label, share in shares.items() if roles[label])
    return {label: {"stable": 0, "canary": total}.get(roles[label], share) for label, share in shares.items()}


def divide(listed: list[Object], example: Example, shares: Shares) -> None:
    """Writes the weights into a rule's destinations; the canary's gets all that stable's has where it is not there."""
    (stable,) = (one for one in listed if example.role(label_of(one)) == "stable")
    listed += [added(stable, label) for label in list(shares)[len(listed) :]]
    assert [label_of(one) for one in listed] == list(shares), f"{example.title}: {[*map(label_of, listed)]}"
    for one, (label, share) in zip(listed, shares.items(), strict=True):
        if example.role(label):
            one["weight"] = share
        assert one["weight"] == share, f"{example.title}: {label} is no arm and keeps its weight"


def _said(example: Example, before: Objects, named: Collection[str]) -> list[str]:
    """Objects that are split and were not announced, or the reverse."""
    concerned = {f"{kind} {namespace}/{name}" for kind, namespace, name in example.driven.keys() & before.keys()}
    said = {one.removesuffix(" is split").rpartition(" of ")[2] for one in named}
    return [] if said == concerned else [f"announces {sorted(said)}, not {sorted(concerned)}"]


def _differences(
    when: str, example: Example, before: Objects, found: Objects, *, everything: bool = False
) -> list[str]:
    made = {key: body for key, body in found.items() if key in example.driven and key not in before}
    others = {key: body if everything else _unmarked(body, example) for key, body in found.items() if key not in made}
    must = expected(example, before, everything=everything)
    faulty = [f"{when}: {key}" for key in _changed(must, others)]
    for key, rules in example.driven.items():
        for rule, shares in rules.items():
            listed = destinations(found[key]["spec"], rule) if key in found else []
            weights = {label_of(one): one.get("weight") for one in listed}
            right = wanted(example, shares, everything=everything)
            if not _same(right, weights) or sum(right.values()) != sum(filter(None, weights.values())):
                faulty.append(f"{when}: {rule} of {' '.join(key)} has {weights}")
    return faulty


def _changed(must: Objects, found: Objects) -> list[str]:
    """Objects that differ, with their specs."""
    return [
        f"{' '.join(key)} is {(found.get(key) or {}).get('spec')}, not {(must.get(key) or {}).get('spec')}"
        for key in sorted(must.keys() | found.keys())
        if not _same(must.get(key), found.get(key))
    ]


def _same(must: object, found: object) -> bool:
    """Whether both are equal; a share that is no whole number may have been rounded either way."""
    if isinstance(must, dict) and isinstance(found, dict):
        return must.keys() == found.keys() and all(_same(must[key], found[key]) for key in must)
    if isinstance(must, list) and isinstance(found, list):
        return len(must) == len(found) and all(map(_same, must, found))
    if isinstance(must, float) and isinstance(found, int) and not must.is_integer():
        return abs(must - found) < 1
    return must == found


def _unmarked(body: Object, example: Example) -> Object:
    """Without the annotation that says what was there before."""
    found = copy.deepcopy(body)
    notes = found["metadata"].get("annotations") or {}
    if notes.pop(PREFIX + example.target, None) is not None and not notes:
        del found["metadata"]["annotations"]
    return found


def main() -> None:
    """Tries all, says what is wrong, and records."""
    found = examples()
    wrong = {one: said for one in found if (said := faults(one))}
    rows = [("documentation of", "routes", "driven", "refused with the reason", "wrong")]
    groups = {name: [one for one in found if one.project == name] for name in (*PROJECTS, "others")}
    for name, group in {**groups, "all": found}.items():
        rows.append((name, *map(str, counts(group, wrong).values())))
    for one, said in wrong.items():
        print(f"{one.title} ({one.source}): {'; '.join(said)}", flush=True)
    record("routes", "make bench-routes", counts(found, wrong), rows, "Published routes, a canary at 10 %")
    sys.exit(1 if wrong else 0)


def counts(group: Sequence[Example], wrong: Collection[Example]) -> dict[str, int]:
    """Figures of some examples."""
    right = [one for one in group if one not in wrong]
    return {
        "routes": len(group),
        "driven": sum(not one.refused for one in right),
        "refused_with_reason": sum(bool(one.refused) for one in right),
        "wrong": len(group) - len(right),
    }


if __name__ == "__main__":
    main()
