"""Says whether a mesh was left as it was, in time: pure, from what was seen from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.world.answers import Answer

LATE = "too late"
"""In every sentence about time, and in no other."""
SAMPLING = 0.6
"""Seconds by which what is sampled may be seen late: a lease renewed, a commit."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What was promised for one rollout and one event; times in seconds since the epoch."""

    struck: float
    bound: float
    """Seconds after the event until when version 2 may answer at the latest."""
    ttl: float
    slack: float = 2.0
    """Seconds beyond its lease's TTL for which a living rollout's version 2 may answer."""
    lives: bool = True
    """Whether the rollout may go on after the event: then every sign of life extends the time."""
    may_end: frozenset[str] = frozenset({"base", "promoted"})
    told_to_fail: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What one service looked like from the event to the end, all at rest."""

    answers: Sequence[Answer]
    """Since the event."""
    tail: Sequence[Answer]
    """After everything was at rest."""
    file_weight: float
    """Version 2's percent in `mesh.yaml`."""
    proxy_weight: float
    """Version 2's percent on the proxy's route that no header chooses."""
    overlays: int
    """What overlays left in the proxy's routes."""
    table_is_base: bool
    """Whether the proxy's whole table is the one rendered from `mesh.yaml` alone."""
    leases: Sequence[str] = ()
    outcome: str = ""
    """What the rollout reported; empty where it was closed from outside."""
    life: Sequence[float] = field(default=())
    """When its lease was renewed after the event."""
    committed: float | None = None
    ended: bool = True


def state_of(seen: Seen) -> str:
    """`base`, `promoted`, or `between`."""
    versions = {answer.said for answer in seen.tail}
    if (seen.file_weight, seen.proxy_weight) == (0, 0) and versions == {"v1"}:
        return "base"
    if (seen.file_weight, seen.proxy_weight) == (100, 100) and versions and versions <= {"v2", "v2!"}:
        return "promoted"
    return "between"


def violations(terms: Terms, seen: Seen) -> list[str]:
    """What was not as promised, one sentence each."""
    found = []
    state = state_of(seen)
    if not seen.ended:
        found.append("the rollout never ended")
    if state == "between":
        said = ", ".join(sorted({answer.said for answer in seen.tail})) or "nothing"
        found.append(
            f"between: mesh.yaml gives v2 {seen.file_weight:g} %, the proxy {seen.proxy_weight:g} %, clients get {said}"
        )
    elif state not in terms.may_end:
        found.append(f"ended {state}, may end {' or '.join(sorted(terms.may_end))}")
    if seen.overlays or not seen.table_is_base:
        found.append(f"the proxy's table is not the base's ({seen.overlays} traces of overlays)")
    if seen.leases:
        found.append(f"left behind: {', '.join(seen.leases)}")
    if seen.outcome and (seen.outcome == "Promoted") != (state == "promoted"):
        found.append(f"reported {seen.outcome}, but it is {state}")
    if late := [answer for answer in seen.answers if answer.canary and not _may_answer(terms, seen, answer.sent)]:
        seconds = late[-1].sent - terms.struck
        found.append(f"v2 answered {len(late)} requests {LATE}, the last {seconds:.2f} s after the event")
    unordered = [a.said for a in seen.answers if a.failed or (a.said == "v2!" and not terms.told_to_fail)]
    if unordered:
        found.append(f"{len(unordered)} client requests failed: {', '.join(sorted(set(unordered)))}")
    return found


def restored_after(terms: Terms, seen: Seen) -> float | None:
    """Seconds from the event to the last request that version 2 answered before anybody gave it traffic again.

    None where it was promoted: nothing was to be restored.
    """
    if seen.committed is not None:
        return None
    again = min((moment for moment in seen.life if moment > terms.struck + SAMPLING), default=float("inf"))
    until = again if terms.lives else float("inf")
    late = [answer.sent - terms.struck for answer in seen.answers if answer.canary and answer.sent < until]
    return max((0.0, *late))


def _may_answer(terms: Terms, seen: Seen, sent: float) -> bool:
    if sent <= terms.struck + terms.bound:
        return True
    if seen.committed is not None and sent >= seen.committed - SAMPLING:
        return True
    if not terms.lives:
        return False
    sign = max((moment for moment in seen.life if moment - SAMPLING <= sent), default=0.0)
    return sent <= sign + terms.ttl + terms.slack
