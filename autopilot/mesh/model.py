"""What may be changed in a mesh, and what holds a change in place: plain frozen values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopilot.spec.chaos.faults import Fault, describe
from autopilot.spec.chaos.scope import Scope, describe_scope
from autopilot.wire import Wire


class Aspect(StrEnum):
    """The side of a target that an operation holds; one holder each."""

    TRAFFIC = "traffic"
    FAULTS = "faults"
    ACCESS = "access"
    RESILIENCE = "resilience"


class Tier(StrEnum):
    """What restores when no process of Autopilot lives."""

    PROXY = "A"
    """The proxy enforces the deadline by itself."""
    GUARD = "B"
    """Any running guard restores."""
    CONTROLLER = "C"
    """Restored when a controller returns."""


class Target(Wire):
    """A service behind which arms stand."""

    mesh: str
    namespace: str
    service: str
    """Its name; of a target outside the cluster, its host."""

    @property
    def ref(self) -> str:
        """`namespace/service`."""
        return f"{self.namespace}/{self.service}"

    @property
    def external(self) -> bool:
        """Whether it is a host outside the cluster: no Service's name has a dot."""
        return "." in self.service

    def __str__(self) -> str:
        return f"{self.mesh}/{self.namespace}/{self.service}"


BASELINE = "~baseline"
"""Ends the name of a *baseline arm*: the same endpoints as the arm before it, counted separately.

It can be given a weight in `SplitTraffic` like any arm, and has its own counts in telemetry; it never becomes the base.
"""


def baseline_of(arm: str) -> str:
    """The name of an arm's baseline arm."""
    return arm + BASELINE


def endpoints_arm(arm: str) -> str:
    """The arm whose endpoints answer: itself, or the one that a baseline arm doubles."""
    return arm.removesuffix(BASELINE)


class RuleChoice(Wire):
    """Which rules of the routes that lead to stable a split concerns: all of them, unless it says otherwise.

    A rule is named by its own name, by its route's (`web`), or by its route's with the namespace (`edge/web`).
    """

    only: tuple[str, ...] = ()
    """These and no others; empty: all."""
    but: tuple[str, ...] = ()
    """None of these."""

    def includes(self, rule: str, namespace: str, route: str) -> bool:
        """Whether it means the rule of this name (which may be empty) of this route."""
        names = {rule, route, f"{namespace}/{route}"} - {""}
        return not names & set(self.but) and (not self.only or bool(names & set(self.only)))


EVERY_RULE = RuleChoice()


class SplitTraffic(Wire):
    """Shares the target's traffic among its arms; weights in percent, adding up to 100."""

    kind: Literal["SplitTraffic"] = "SplitTraffic"
    weights: dict[str, float]
    stable: str = ""
    """The arm whose share is divided; by default the first of the weights."""
    choice: RuleChoice = EVERY_RULE

    @property
    def ordered(self) -> dict[str, float]:
        """The weights, stable's first."""
        first = self.stable or next(iter(self.weights), "")
        return {arm: self.weights[arm] for arm in sorted(self.weights, key=lambda arm: arm != first)}

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if any(weight < 0 for weight in self.weights.values()) or abs(sum(self.weights.values()) - 100) > 1e-6:
            raise ValueError(f"weights {self.weights} do not add up to 100")
        return self

    @property
    def aspect(self) -> Aspect:
        """What a lease must hold to make this change."""
        return Aspect.TRAFFIC

    @property
    def words(self) -> str:
        """For people."""
        return "split " + ", ".join(f"{arm} {weight:g} %" for arm, weight in self.weights.items())


class InjectFault(Wire):
    """Applies a fault to some of the target's requests; the weights of its arms do not change."""

    kind: Literal["InjectFault"] = "InjectFault"
    fault: Fault
    scope: Scope | None = None
    """The requests it applies to; None for a fault without a scope (a partition)."""
    salt: str = ""
    """Of the experiment: decides which users `scope.users` means."""

    @property
    def aspect(self) -> Aspect:
        """What a lease must hold to make this change."""
        return Aspect.FAULTS

    @property
    def words(self) -> str:
        """For people."""
        return describe(self.fault) + (f" for {describe_scope(self.scope)}" if self.scope else "")


Change = Annotated[SplitTraffic | InjectFault, Field(discriminator="kind")]
"""The closed set of changes; a new one joins this union (see CONTRIBUTING)."""


class Holder(Wire):
    """Who holds a lease: an operation (its workflow id, not its run) and how many held the target before it."""

    operation: str
    fencing: int

    def __str__(self) -> str:
        return f"{self.operation}#{self.fencing}"


class Writer(Holder):
    """A holder as the author of one of its writes: what providers put into marks and objects of their own."""

    write: int = 0
    """Number of the write, counted by the operation; 0 where writes have none."""

    @classmethod
    def of(cls, holder: Holder) -> Writer:
        """The holder itself where it is a writer, else as one whose writes have no numbers."""
        return holder if isinstance(holder, Writer) else cls(operation=holder.operation, fencing=holder.fencing)

    @property
    def order(self) -> tuple[int, int]:
        """What is laid under a larger one was laid later: by a later holder, or in a later write of the same."""
        return self.fencing, self.write


LAST_WRITE = 2**53
"""Larger than the number of any write: up to it, all writes of a holder are meant."""


class LeasePhase(StrEnum):
    """From `committing` on, every recovery completes the commit; before, it restores the base."""

    ACTIVE = "active"
    COMMITTING = "committing"


class Lease(Wire):
    """The exclusive right to change some aspects of a target, for as long as it is renewed."""

    target: Target
    aspects: tuple[Aspect, ...]
    holder: Holder
    ttl: float
    """Seconds without renewal after which guards restore."""
    max_unattended: float
    """Seconds without renewal after which proxies fall back by themselves."""
    planned_end: float | None = None
    """Seconds since the epoch at which the operation ends in any case."""
    audit: str = ""
    """Digest of the audit record of its being taken."""
    write: int = 0
    """Number of the operation's write that the lease is presented for: the operation gives each a larger one.

    Providers keep the highest they have accepted, and refuse whatever is presented for an earlier one: an attempt that
    was delayed must not undo what its successor wrote. 0 is before every numbered write.
    """

    @property
    def writer(self) -> Writer:
        """The holder, as the author of the write that the lease is presented for."""
        return Writer(operation=self.holder.operation, fencing=self.holder.fencing, write=self.write)

    def for_write(self, number: int) -> Lease:
        """The same lease, presented for another write."""
        return self.model_copy(update={"write": number})

    def deadline(self, now: float) -> float:
        """Until when proxies may follow what is laid or renewed now: seconds since the epoch, like `now`."""
        deadline = now + self.max_unattended
        return deadline if self.planned_end is None else min(deadline, self.planned_end)


class LeaseStatus(Wire):
    """The current state of a lease in the mesh."""

    lease: Lease
    phase: LeasePhase
    tier: Tier
    acquired: float
    renewed: float
    deadline: float | None
    """When the proxies return to the base by themselves, seconds since the epoch; None while nothing is changed."""
    condemned: str | None = None
    """Why it can no longer be renewed, where harm was found."""
    halted: str = ""
    """The halt that stops the holder; empty where none does."""
    yield_to: str = ""
    """The operation of a higher priority that it has been asked to give way to."""
    changes: tuple[Change, ...] = ()


class ArmState(Wire):
    """One version behind a target."""

    name: str
    endpoints: tuple[str, ...]
    weight: float
    """Percent of the traffic, in force now."""
    base_weight: float
    """Percent of the traffic in the base configuration."""


class TargetState(Wire):
    """What a target looks like now."""

    target: Target
    arms: tuple[ArmState, ...]
    holders: tuple[str, ...] = ()

    def arm(self, name: str) -> ArmState | None:
        """The arm of that name, or None."""
        return next((arm for arm in self.arms if arm.name == name), None)


class Plan(Wire):
    """What a change would write: nothing is written by planning."""

    target: Target
    tier: Tier
    diff: str
    """Unified diff of the objects before and after; empty where nothing would change."""
    notes: tuple[str, ...] = ()
    """What it concerns, what it leaves alone, and what to look at before it is done: one sentence each."""


class Receipt(Wire):
    """Proof of one write: the version every proxy must report before it counts as made."""

    target: Target
    holder: Holder
    digest: str
    """SHA-256 of what was written."""
    versions: dict[str, str] = Field(default_factory=dict)
    """`proxy/route table` → version."""
    deadline: float | None = None
    written: float = 0.0
    """When the proxies' files were written, seconds since the epoch."""
    audit: str = ""
    """Digest of the audit record of this write."""
    notes: tuple[str, ...] = ()
    """Changes that others made meanwhile and that were kept, one sentence each."""


class FaultSign(Wire):
    """How to recognise one fault in the counters of proxies."""

    kind: str
    """The fault's type."""
    name: str = ""
    """What its routes are called; empty where the mesh has no names for them."""
    proxies: tuple[tuple[str, str], ...] = ()
    """(proxy, listener) that lay it, where these are known."""


class Capability(Wire):
    """What a provider can do for one kind of change, and how safely."""

    change: str
    supported: bool
    tier: Tier | None = None
    note: str = ""
