"""What many looks of one probe come to: thresholds in a row, and a verdict with a third value.

A look without data (a Prometheus that does not answer, an empty series, too few requests) is neither success nor
failure. It breaks a row of successes, for what was not seen did not pass; it leaves a row of failures standing, for
telemetry that comes and goes must not hide them; and enough of them in a row make a probe inconclusive. When data
returns the question is open again.

In one phase of an experiment a probe that has failed stays failed. One that has passed may fail later, as long as it
is looked at; where only the first answer is asked for, before and after the method, it is `final`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from autopilot.wire import Wire

KEPT = 10
"""Looks that a state remembers."""

ProbeVerdict = Literal["pass", "fail", "inconclusive"]


class Thresholds(Protocol):
    """What of a probe decides when it has passed or failed: every `autopilot.spec.chaos.probes.Probe` has it."""

    @property
    def failures(self) -> int:
        """So many looks in a row must fail until the probe has failed."""
        ...

    @property
    def successes(self) -> int:
        """So many in a row must pass until it has passed."""
        ...

    @property
    def missing(self) -> int:
        """So many in a row without data make it inconclusive."""
        ...


class Look(Wire):
    """One look of a probe."""

    time: float
    """When it began, seconds since the epoch."""
    ok: bool | None = None
    """Whether the tolerance held; None where there was nothing to see."""
    value: str = ""
    note: str = ""
    """Why it did not hold, or why there was nothing to see."""


class ProbeState(Wire):
    """What one probe has come to in one phase so far; small, and the same after a trip through JSON."""

    looks: int = 0
    failed: int = 0
    missing: int = 0
    """Looks without data."""
    passes_row: int = 0
    fails_row: int = 0
    missing_row: int = 0
    verdict: Literal["", "pass", "fail", "inconclusive"] = ""
    """Empty while the question is open."""
    reason: str = ""
    samples: tuple[Look, ...] = ()
    """Some of the looks, oldest first: those that failed are kept before others."""


def update(probe: Thresholds, state: ProbeState, look: Look, *, final: bool = False) -> ProbeState:
    """Takes one look.

    Args:
        probe: whose look it is; its thresholds count.
        state: what it had come to.
        look: the next one.
        final: whether the first pass stands, so that looks after it change nothing. For the phases before and after
            the method; never for abort conditions, and not while faults are laid: there a probe that has passed may
            still fail.

    Returns:
        The new state. A probe that has failed stays failed, whatever is seen later.
    """
    if final and state.verdict in {"pass", "fail"}:
        return state
    passes, fails, missing = _rows(state, look)
    verdict, reason = state.verdict, state.reason
    if verdict != "fail":
        if look.ok is False and fails >= probe.failures:
            verdict, reason = "fail", _why(look, fails)
        elif look.ok is None and missing >= probe.missing:
            verdict, reason = "inconclusive", f"no data in {_looks(missing)}: {look.note or 'no value'}"
        elif look.ok is True and passes >= probe.successes:
            verdict, reason = "pass", ""
        elif look.ok is not None and verdict == "inconclusive":
            verdict, reason = "", ""
    return ProbeState(
        looks=state.looks + 1,
        failed=state.failed + (look.ok is False),
        missing=state.missing + (look.ok is None),
        passes_row=passes,
        fails_row=fails,
        missing_row=missing,
        verdict=verdict,
        reason=reason,
        samples=_kept((*state.samples, look)),
    )


def settled(states: Iterable[ProbeState]) -> bool:
    """Whether every probe has a verdict: no more looks are needed where only the first answer counts."""
    return all(state.verdict for state in states)


def concluded(probe: Thresholds, state: ProbeState) -> tuple[ProbeVerdict, str]:
    """The verdict after the last look, and why: a probe without a verdict is inconclusive."""
    if state.verdict:
        return state.verdict, state.reason
    if not state.looks:
        return "inconclusive", "it was never checked"
    if state.fails_row:
        return "inconclusive", f"the last {_looks(state.fails_row)} failed; {probe.failures} in a row are a failure"
    if state.passes_row:
        return "inconclusive", f"it had passed in {_looks(state.passes_row)}; {probe.successes} are needed"
    note = state.samples[-1].note if state.samples else ""
    return "inconclusive", f"no data when it ended: {note or 'no value'}"


class Judged(Protocol):
    """The result of a probe: `autopilot.operations.experiment_status.ProbeRecord` is one."""

    @property
    def verdict(self) -> ProbeVerdict:
        """Its verdict."""
        ...

    @property
    def looks(self) -> int:
        """How often it was looked at."""
        ...


def hypothesis_verdict(records: Iterable[Judged]) -> ProbeVerdict:
    """The verdict of a hypothesis from its probes; inconclusive without probes, or where one never looked."""
    found = list(records)
    if any(record.verdict == "fail" for record in found):
        return "fail"
    if not found or any(record.verdict == "inconclusive" or not record.looks for record in found):
        return "inconclusive"
    return "pass"


def _rows(state: ProbeState, look: Look) -> tuple[int, int, int]:
    """Successes, failures and looks without data in a row, this look included."""
    if look.ok is None:
        return 0, state.fails_row, state.missing_row + 1
    return (state.passes_row + 1, 0, 0) if look.ok else (0, state.fails_row + 1, 0)


def _why(look: Look, fails: int) -> str:
    said = look.note or look.value or "its tolerance did not hold"
    return said if fails == 1 else f"{said} ({fails} looks in a row failed)"


def _looks(count: int) -> str:
    return "1 look" if count == 1 else f"{count} looks in a row"


def _kept(looks: tuple[Look, ...]) -> tuple[Look, ...]:
    """Without one, where there are too many: the oldest that passed, else without data, else not the first failure."""
    if len(looks) <= KEPT:
        return looks
    for kind in (True, None):
        for index, look in enumerate(looks[:-1]):
            if look.ok is kind:
                return looks[:index] + looks[index + 1 :]
    if looks[-1].ok is not False:
        return looks[:-1]
    return looks[:1] + looks[2:]
