"""From what was found to an ending and a verdict: pure, so that it can be said again from a report alone.

A fault that nobody saw take effect proves nothing, whatever the hypothesis did: the run is void. What could not be seen
is neither for nor against. Only a hypothesis that was seen to hold, while faults were seen to be met, passes.
"""

from __future__ import annotations

from collections.abc import Sequence

from activities.experiment_signatures import Held, Steady
from autopilot.evidence.hypothesis import hypothesis_verdict
from autopilot.findings import StepFinding
from autopilot.operations.common import Outcome
from autopilot.operations.experiment_status import Verdict
from workflows.endings import Ending

_OUTCOMES = {
    "hypothesis": Outcome.REFUTED,
    "guard": Outcome.ABORTED,
    "limit": Outcome.ABORTED,
    "noData": Outcome.INCONCLUSIVE,
    "leaseLost": Outcome.INCONCLUSIVE,
    "condemned": Outcome.ABORTED,
    "takenOver": Outcome.TAKEN_OVER,
    "halted": Outcome.TAKEN_OVER,
    "stopped": Outcome.ABORTED,
}


def of_method(findings: Sequence[Held], steps: Sequence[StepFinding]) -> Ending:
    """How the method ended.

    Args:
        findings: of its steps, as far as they went.
        steps: the same with what each fault met.
    """
    last = findings[-1]
    if last.cause == "hypothesis" and last.effects and not any(effect.requests for effect in last.effects):
        return Ending(Outcome.VOID, f"{last.reason}; but nobody had met a fault by then: it says nothing about them")
    if last.cause != "held":
        return Ending(_OUTCOMES[last.cause], last.reason)
    for step in steps:
        for effect in step.effects:
            if effect.requests <= 0:
                return Ending(
                    Outcome.VOID,
                    f"step {step.number}: {effect.fault} was not seen to take effect ({effect.seen_by}: 0 of "
                    f"{effect.of:.0f} requests): the scope matched nobody, or the mesh did nothing",
                )
    during = [record for found in findings for record in found.probes if not record.guard]
    if during and hypothesis_verdict(during) != "pass":
        unseen = next(record for record in during if record.verdict != "pass")
        return Ending(Outcome.INCONCLUSIVE, f"{unseen.name} could not be seen while faults were laid: {unseen.reason}")
    return Ending(Outcome.PASSED, "the hypothesis held while faults were met")


def after_restore(ending: Ending, after: Steady | None, trouble: str) -> Ending:
    """The ending, now that the hypothesis was asked again with nothing laid.

    Args:
        ending: how it stood before.
        after: what was found; None where it could not be asked.
        trouble: why not.
    """
    if after is None:
        return _unless_passed(ending, Outcome.INCONCLUSIVE, f"the hypothesis could not be checked again: {trouble}")
    if leaked := sum(after.leaked):
        return Ending(
            Outcome.FAILED, f"{leaked:.0f} requests met the fault after it was taken away; before: {ending.reason}"
        )
    for verdict, outcome in (("fail", Outcome.REFUTED), ("inconclusive", Outcome.INCONCLUSIVE)):
        for record in after.probes:
            if record.verdict == verdict:
                said = "does not hold" if verdict == "fail" else "cannot be seen"
                return _unless_passed(
                    ending, outcome, f"after the restore the hypothesis {said}: {record.name}: {record.reason}"
                )
    if ending.outcome is Outcome.PASSED:
        return Ending(ending.outcome, f"{ending.reason}, and afterwards")
    return ending


def verdict_of(ending: Ending) -> Verdict:
    """What an ending says of the hypothesis."""
    return {
        Outcome.PASSED: Verdict.PASS,
        Outcome.REFUTED: Verdict.FAIL,
        Outcome.VOID: Verdict.VOID,
        Outcome.FAILED: Verdict.VOID,
        Outcome.ABORTED: Verdict.ABORTED,
        Outcome.TAKEN_OVER: Verdict.ABORTED,
    }.get(ending.outcome, Verdict.INCONCLUSIVE)


def _unless_passed(ending: Ending, outcome: Outcome, reason: str) -> Ending:
    """Takes a pass back, and adds to what was wrong already."""
    if ending.outcome is Outcome.PASSED:
        return Ending(outcome, reason)
    return Ending(ending.outcome, f"{ending.reason}; {reason}", ending.caller)
