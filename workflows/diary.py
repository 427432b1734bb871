"""The record of a rollout: its steps, the requests of each, and the ticks that every verdict is based on."""

from __future__ import annotations

from activities.signatures import WatchResult
from autopilot.evidence.model import Evidence, StepRule
from autopilot.mesh.model import Receipt
from autopilot.operations.common import Exposure
from autopilot.report import StepReport, WatchRecord

_KEPT = 1_000_000
"""Limit for packed ticks in a report, in characters: Temporal accepts two million for the whole payload."""


class Diary:
    """The steps of one rollout."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.evidence: tuple[Evidence, ...] = ()
        self.exposure = Exposure()
        """What the watches counted; requests between two watches are not in it."""
        self._length = 0

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

    def record(self, result: WatchResult, rule: StepRule, *, fresh: bool, ended: float) -> None:
        """Records the result of a watch of the current step."""
        self.evidence = result.progress.evidence
        self.exposure += result.progress.exposure
        self._length += len(result.ticks)
        fits = self._length <= _KEPT
        watch = WatchRecord(
            rule=rule, fresh=fresh, verdict=result.verdict, ticks=result.ticks if fits else "", dropped=not fits
        )
        step = self.steps[-1]
        self.steps[-1] = step.model_copy(
            update={
                "ended": ended,
                "verdict": result.verdict.kind,
                "reason": result.verdict.reason,
                "exposure": step.exposure + result.progress.exposure,
                "watches": (*step.watches, watch),
            }
        )
