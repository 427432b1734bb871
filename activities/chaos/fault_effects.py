"""Counters of an experiment since its first look: requests that met its faults, and failures that users met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field

from autopilot.evidence.chaos.blast_radius import Count
from autopilot.mesh.capabilities import fault_change
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.model import Change, FaultSign, InjectFault, Lease, Target
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.operations.experiment_status import Effect
from autopilot.reports.experiment import Amplification
from autopilot.spec.chaos.experiment import ExperimentSpec
from autopilot.spec.chaos.faults import describe
from autopilot.spec.chaos.scope import describe_scope
from autopilot.telemetry.fault_effects.port import Counted, FaultEffects, Hop, Mark, grown
from autopilot.telemetry.model import Subject, TelemetryError
from autopilot.wire import Wire

_EVERYBODY = "all requests"


def changes_of(spec: ExperimentSpec, step: int, salt: str) -> tuple[Change, ...]:
    """What one step of a method lays; `step` from 1, `salt` decides which users a share of them means."""
    return tuple(
        InjectFault(fault=fault, scope=scope, salt=salt) for number, fault, scope in spec.injections if number == step
    )


async def effects_of(attached: AttachedMesh, lease: Lease, changes: Sequence[Change]) -> tuple[Effect, ...]:
    """The counter that will show each fault, and how exact the fault is here; nothing is counted yet.

    Raises:
        InvalidChange: nothing would show that a fault takes effect.
    """
    able = {one.change: one for one in await attached.mesh.capabilities()}
    signs = await attached.mesh.signs(lease, changes)
    faults = [one for one in changes if isinstance(one, InjectFault)]
    found = []
    for one, sign in zip(faults, signs, strict=True):
        ability = able.get(fault_change(one.fault.type))
        witness, subject = attached.witness, subject_for(lease.target)
        found.append(
            Effect(
                fault=describe(one.fault),
                scope=describe_scope(one.scope) if one.scope else _EVERYBODY,
                tier=ability.tier or "" if ability else "",
                exactness=ability.note if ability else "",
                seen_by=witness.seen_by(subject, mark_of(sign)) if witness else "",
            )
        )
    return tuple(found)


def subject_for(target: Target) -> Subject:
    """The target, for whoever counts; arms are not told apart."""
    return Subject(mesh=target.mesh, namespace=target.namespace, service=target.service, arms=())


def mark_of(sign: FaultSign) -> Mark:
    """A mesh's sign, for whoever counts."""
    return Mark(kind=sign.kind, name=sign.name, proxies=sign.proxies)


def whose(spec: ExperimentSpec, target: Target) -> tuple[str, str]:
    """(namespace, name) of the service whose failures count."""
    name = spec.safety.service or target.ref
    namespace, _, service = name.rpartition("/")
    return (namespace or target.namespace), service


class Reading(Wire):
    """Running totals of one look; small enough to be heartbeat."""

    time: float
    met: tuple[dict[str, float], ...] = ()
    of: dict[str, float] = Field(default_factory=dict)
    requests: dict[str, float] = Field(default_factory=dict)
    failures: dict[str, float] = Field(default_factory=dict)


class FaultEffectMeter:
    """Reads counters for one experiment.

    Args:
        attached: its mesh.
        target: its target.
        spec: the experiment.
        signs: of the faults that are laid.
    """

    def __init__(
        self, attached: AttachedMesh, target: Target, spec: ExperimentSpec, signs: Sequence[FaultSign]
    ) -> None:
        self._attached = attached
        self._target = target
        self._spec = spec
        self._marks = [mark_of(sign) for sign in signs]

    @property
    def witness(self) -> FaultEffects:
        """Who sees.

        Raises:
            InvalidChange: nobody does.
        """
        if self._attached.witness is None:
            raise InvalidChange(
                "no counter shows here whether faults take effect: start the worker with --prometheus URL"
            )
        return self._attached.witness

    async def read(self, now: float) -> Reading:
        """Reads all counters now.

        Raises:
            TelemetryError: nothing answered.
        """
        namespace, service = whose(self._spec, self._target)
        subject = Subject(mesh=self._target.mesh, namespace=namespace, service=service, arms=())
        own = subject_for(self._target)
        counted: list[Counted] = await self.witness.effects(own, self._marks) if self._marks else []
        hops = await self.witness.hops([subject])
        return Reading(
            time=now,
            met=tuple(dict(one.met) for one in counted),
            of=dict(counted[0].of) if counted else {},
            requests=_joined(hop.requests for hop in hops),
            failures=_joined(hop.failures for hop in hops),
        )

    async def hops_if_any(self) -> list[Hop]:
        """Every hop, or none where not all can be read: amplification is reported only where it is complete."""
        try:
            return await self.hops()
        except TelemetryError:
            return []

    async def hops(self) -> list[Hop]:
        """Every hop of the mesh that the target's traffic may take.

        Raises:
            TelemetryError: nothing answered.
        """
        refs = self._attached.services() or [self._target.ref]
        return await self.witness.hops(
            [
                Subject(mesh=self._target.mesh, namespace=ref.partition("/")[0], service=ref.partition("/")[2], arms=())
                for ref in refs
            ]
        )


def met(first: Reading, now: Reading, effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """What each fault met between two readings."""
    of = grown(first.of, now.of)
    found = []
    for index, effect in enumerate(effects):
        before = first.met[index] if index < len(first.met) else {}
        after = now.met[index] if index < len(now.met) else {}
        found.append(effect.model_copy(update={"requests": grown(before, after), "of": of}))
    return tuple(found)


def count(first: Reading, now: Reading) -> Count:
    """Requests and failures that users met between two readings."""
    return Count(
        time=now.time,
        requests=grown(first.requests, now.requests),
        failures=grown(first.failures, now.failures),
    )


def amplification(before: Sequence[Hop], now: Sequence[Hop]) -> dict[tuple[str, str], float]:
    """(caller, service) → tries a request between two looks, where there were any."""
    earlier = {(hop.caller, hop.service): hop for hop in before}
    found = {}
    for hop in now:
        old = earlier.get((hop.caller, hop.service), Hop(hop.caller, hop.service))
        requests = grown(old.requests, hop.requests)
        if requests > 0:
            found[hop.caller, hop.service] = round(grown(old.tries, hop.tries) / requests, 4)
    return found


def both(before: Sequence[Amplification], during: Mapping[tuple[str, str], float]) -> tuple[Amplification, ...]:
    """Every hop, before and during."""
    known = {(one.caller, one.service): one.before for one in before}
    return tuple(
        Amplification(caller=caller, service=service, before=known.get((caller, service)), during=value)
        for (caller, service), value in sorted(during.items())
    )


def _joined(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    joined: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            joined[name] = joined.get(name, 0.0) + value
    return joined
