"""The record of a rollout: its steps, the requests of each, and the ticks that every verdict is based on."""

from __future__ import annotations

from activities.contracts.operation import WatchResult
from autopilot.evidence.model import Evidence, StepRule
from autopilot.mesh.model import Receipt
from autopilot.operations.bounds import cut
from autopilot.operations.common import Exposure
from autopilot.reports.canary import StepReport, WatchRecord

_KEPT = 500_000
"""Limit for packed ticks in a report, in characters: the whole of it has a limit of a million."""
_WATCHES = 60
"""Watches kept of a step; of more, the first half and the last."""


class RolloutRecord:
    """The steps of one rollout."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.evidence: tuple[Evidence, ...] = ()
        self.exposure = Exposure()
        """What the watches counted; requests between two watches are not in it."""
        self.evidence_time = 0.0
        self._length = 0

    @property
    def full(self) -> bool:
        """Whether no more ticks are kept."""
        return self._length > _KEPT

    @property
    def since(self) -> float:
        """When the weights of the current step were set, seconds since the epoch."""
        receipt = self.steps[-1].receipt if self.steps else None
        return receipt.written if receipt else 0.0

    def begin(self, weight: float, started: float, receipt: Receipt, *, again: bool = False) -> None:
        """Records a step that the proxies have; `again`: the current step was applied again after a lost lease."""
        if again and self.steps:
            self.steps[-1] = self.steps[-1].model_copy(update={"weight": weight, "receipt": receipt})
            return
        number = len(self.steps) + 1
        self.steps.append(StepReport(number=number, weight=weight, started=started, receipt=receipt))

    def record(self, result: WatchResult, rule: StepRule, *, fresh: bool, ended: float, recorded: bool = True) -> None:
        """Records the result of a watch of the current step; `recorded`: whether it kept its ticks."""
        self.evidence, self.evidence_time = result.progress.evidence, result.progress.time
        self.exposure += result.progress.exposure
        self._length += len(result.ticks)
        fits = recorded and self._length <= _KEPT
        verdict = result.verdict.model_copy(update={"reason": cut(result.verdict.reason)})
        watch = WatchRecord(
            rule=rule,
            fresh=fresh,
            verdict=verdict,
            ticks=result.ticks if fits else "",
            dropped=not fits,
            judge=result.judge,
        )
        step = self.steps[-1]
        self.steps[-1] = step.model_copy(
            update={
                "ended": ended,
                "verdict": result.verdict.kind,
                "reason": verdict.reason,
                "exposure": step.exposure + result.progress.exposure,
                "watches": _limited((*step.watches, watch)),
            }
        )


def _limited(watches: tuple[WatchRecord, ...]) -> tuple[WatchRecord, ...]:
    if len(watches) <= _WATCHES:
        return watches
    first, last = watches[: _WATCHES // 2], watches[-_WATCHES // 2 :]
    return (*first, last[0].model_copy(update={"dropped": True, "ticks": ""}), *last[1:])
