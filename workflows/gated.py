"""Operations with gates: what a person may say to one that waits, or to have it go on without waiting."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from autopilot.operations.common import Approval, Caller, Phase, Promotion
from workflows.commanded import because
from workflows.operation import Operation

_WAITING = (Phase.WAITING, Phase.PAUSED, Phase.UNDECIDED)


class GatedOperation(Operation):
    """An operation whose steps may wait for a person."""

    def __init__(self, caller: Caller | None = None) -> None:
        super().__init__(caller)
        self._passes = 0
        """Gates passed by a person since the last wait began."""
        self._full: Promotion | None = None

    @property
    def gate(self) -> int:
        """Number of the step under way, from 1."""
        raise NotImplementedError

    @workflow.update(name="approve", description="Let the rollout pass the gate it waits at")
    async def approve(self, approval: Approval) -> str:
        """Passes the approval gate."""
        self._hear_pass("approved", approval)
        return f"step {self.gate} approved"

    @approve.validator
    def _may_approve(self, approval: Approval) -> None:
        self._refuse_when_over("approve")
        if self.phase is not Phase.WAITING:
            raise ApplicationError(f"not waiting for an approval, but {self.phase.value}", type="Refused")
        if approval.gate not in (0, self.gate):
            raise ApplicationError(f"waiting at step {self.gate}, not at {approval.gate}", type="Refused")

    @workflow.update(name="promote", description="Go past this pause; with full, skip every step that is left")
    async def promote(self, promotion: Promotion) -> str:
        """Passes what the rollout waits at, or skips all that is left."""
        self._hear_promote(promotion)
        return "promoting without the remaining steps" if promotion.full else "going on"

    @promote.validator
    def _may_promote(self, promotion: Promotion) -> None:
        self._refuse_when_over("promote")
        if promotion.full and not promotion.reason.strip():
            raise ApplicationError("skipping the remaining steps needs a reason", type="Refused")
        if not promotion.full and self.phase not in _WAITING:
            raise ApplicationError(
                f"nothing to go past: the rollout is {self.phase.value}; `--full --reason …` skips the steps left",
                type="Refused",
            )

    @workflow.signal(name="approve", description="Let the rollout pass the gate it waits at")
    def approve_signal(self, approval: Approval) -> None:
        """`approve` for programs that send signals; passed over unless the rollout waits for it."""
        if self.phase is Phase.WAITING and approval.gate in (0, self.gate):
            self._hear_pass("approved", approval)

    @workflow.signal(name="promote", description="Go past this pause; with full, skip every step that is left")
    def promote_signal(self, promotion: Promotion) -> None:
        """`promote` for programs that send signals; a full one without a reason is passed over."""
        waiting = self.phase in _WAITING
        if promotion.reason.strip() if promotion.full else waiting:
            self._hear_promote(promotion)

    def _hear_promote(self, promotion: Promotion) -> None:
        if promotion.full:
            self._full = promotion
            self.note(f"promoted in full: {promotion.reason}", promotion.caller.who)
            return
        self._paused = None
        self._hear_pass("promoted", promotion)

    def _hear_pass(self, verb: str, command: Approval | Promotion) -> None:
        self._passes += 1
        self.note(f"{verb} step {self.gate}{because(command)}", command.caller.who)
