"""Derives the ending and the verdict from the findings: pure, so that a report alone gives them again.

A fault that was not seen to take effect proves nothing about the hypothesis: the run is void. What could not be
measured counts neither for nor against. A run passes only if the hypothesis was seen to hold while the faults were
seen to take effect.
"""

from __future__ import annotations

from collections.abc import Sequence

from activities.contracts.chaos import Held, Steady
from autopilot.evidence.chaos.hypothesis import hypothesis_verdict
from autopilot.operations.common import Outcome
from autopilot.operations.experiment_status import Verdict
from autopilot.reports.experiment import StepFinding
from workflows.operation.outcomes import Ending

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
        findings: of the steps that were run.
        steps: the same steps, with the requests that each fault was applied to.
    """
    last = findings[-1]
    if last.cause == "hypothesis" and last.effects and not any(effect.requests for effect in last.effects):
        return Ending(
            Outcome.VOID,
            f"{last.reason}; no request had met a fault by then, so this says nothing about the faults",
        )
    if last.cause != "held":
        return Ending(_OUTCOMES[last.cause], last.reason)
    for step in steps:
        for effect in step.effects:
            if effect.requests <= 0:
                return Ending(
                    Outcome.VOID,
                    f"step {step.number}: {effect.fault} was not seen to take effect ({effect.seen_by}: 0 of "
                    f"{effect.of:.0f} requests): no request matched the scope, or the mesh did not apply the fault",
                )
    during = [record for found in findings for record in found.probes if not record.guard]
    if during and hypothesis_verdict(during) != "pass":
        unseen = next(record for record in during if record.verdict != "pass")
        return Ending(Outcome.INCONCLUSIVE, f"{unseen.name} could not be measured under faults: {unseen.reason}")
    return Ending(Outcome.PASSED, "the hypothesis held while faults were applied")


def after_restore(ending: Ending, after: Steady | None, trouble: str) -> Ending:
    """The ending after the hypothesis was checked again with no fault laid.

    Args:
        ending: the ending before this check.
        after: what the check found; None where it could not be done.
        trouble: why it could not be done.
    """
    if after is None:
        return _unless_passed(ending, Outcome.INCONCLUSIVE, f"the hypothesis could not be checked again: {trouble}")
    if leaked := sum(after.leaked):
        return Ending(
            Outcome.FAILED, f"{leaked:.0f} requests met the fault after it was removed; before that: {ending.reason}"
        )
    for verdict, outcome in (("fail", Outcome.REFUTED), ("inconclusive", Outcome.INCONCLUSIVE)):
        for record in after.probes:
            if record.verdict == verdict:
                said = "does not hold" if verdict == "fail" else "cannot be measured"
                return _unless_passed(
                    ending, outcome, f"after the restore the hypothesis {said}: {record.name}: {record.reason}"
                )
    if ending.outcome is Outcome.PASSED:
        return Ending(ending.outcome, f"{ending.reason}, and after the restore")
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
    """Replaces a pass by this outcome; adds the reason to any other ending."""
    if ending.outcome is Outcome.PASSED:
        return Ending(outcome, reason)
    return Ending(ending.outcome, f"{ending.reason}; {reason}", ending.caller)
