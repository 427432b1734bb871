"""Operations with gates: the commands that let one pass a gate, or skip the steps that remain."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import RawValue

from autopilot.operations.bounds import bounded
from autopilot.operations.common import Approval, Caller, Phase, Promotion
from workflows.operation.commands import NOTHING, because, refuse
from workflows.operation.lifecycle import Operation

_WAITING = (Phase.WAITING, Phase.PAUSED, Phase.UNDECIDED)


class GatedOperation(Operation):
    """An operation whose steps may wait for a person."""

    def __init__(self, caller: Caller | None = None, *, temporal_grace: float = 0.0) -> None:
        super().__init__(caller, temporal_grace=temporal_grace)
        self._passes = 0
        """Gates passed by a person since the last wait began."""
        self._full: Promotion | None = None

    @property
    def gate(self) -> int:
        """Number of the current step, from 1."""
        raise NotImplementedError

    @workflow.update(name="approve", description="Approve the step that the rollout waits at")
    async def approve(self, approval: Approval) -> str:
        """Passes the approval gate."""
        self._hear_pass("approved", approval)
        return f"step {self.gate} approved"

    @approve.validator
    def _may_approve(self, approval: Approval) -> None:
        refuse(self._no_approval(approval))

    @workflow.update(name="promote", description="Pass this gate; with full, skip all remaining steps")
    async def promote(self, promotion: Promotion) -> str:
        """Passes the gate that the rollout waits at, or skips the steps that remain."""
        self._hear_promote(promotion)
        return "promoting without the remaining steps" if promotion.full else "continues"

    @promote.validator
    def _may_promote(self, promotion: Promotion) -> None:
        refuse(self._no_promotion(promotion))

    @workflow.signal(name="approve", description="Approve the step that the rollout waits at")
    def approve_signal(self, approval: RawValue = NOTHING) -> None:
        """`approve` for programs that send signals: checked as the update is."""
        self.by_signal(
            "approve", Approval, approval, self._no_approval, lambda given: self._hear_pass("approved", given)
        )

    @workflow.signal(name="promote", description="Pass this gate; with full, skip all remaining steps")
    def promote_signal(self, promotion: RawValue = NOTHING) -> None:
        """`promote` for programs that send signals: checked as the update is."""
        self.by_signal("promote", Promotion, promotion, self._no_promotion, self._hear_promote)

    def _no_approval(self, approval: Approval) -> str:
        if self.phase is not Phase.WAITING:
            return (
                self.is_over("approve")
                or f"nothing to approve: the rollout waits for no approval (phase {self.phase.value})"
            )
        if approval.gate not in (0, self.gate):
            return f"the rollout waits at step {self.gate}, not at step {approval.gate}; approve step {self.gate}"
        return ""

    def _no_promotion(self, promotion: Promotion) -> str:
        if over := self.is_over("promote"):
            return over
        if promotion.full and not promotion.reason.strip():
            return "to skip the remaining steps, give a reason (`--full --reason …`)"
        if not promotion.full and self.phase not in _WAITING:
            return f"no gate to pass: the phase is {self.phase.value}; `--full --reason …` skips the remaining steps"
        return ""

    def _hear_promote(self, promotion: Promotion) -> None:
        promotion = bounded(promotion)
        if promotion.full:
            self._full = promotion
            self.note(f"promoted, the remaining steps are skipped: {promotion.reason}", promotion.caller.who)
            return
        self._paused = None
        self._hear_pass("promoted", promotion)

    def _hear_pass(self, verb: str, command: Approval | Promotion) -> None:
        self._passes += 1
        self.note(f"{verb} step {self.gate}{because(bounded(command))}", command.caller.who)
