"""What a rollout writes down as it goes: its steps, what each served, and the ticks that every verdict rests on."""

from __future__ import annotations

from activities.signatures import WatchResult
from autopilot.evidence.model import Evidence, StepRule
from autopilot.mesh.model import Receipt
from autopilot.operations.common import Exposure
from autopilot.report import StepReport, WatchRecord

_KEPT = 1_000_000
"""Characters of packed ticks that a report keeps: Temporal takes two million in all."""


class Diary:
    """The steps of one rollout."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.evidence: tuple[Evidence, ...] = ()
        self.exposure = Exposure()
        """What the watches saw; they miss what happens between them."""
        self._length = 0

    @property
    def since(self) -> float:
        """When the weights of the step under way were set, seconds since the epoch."""
        receipt = self.steps[-1].receipt if self.steps else None
        return receipt.written if receipt else 0.0

    def begin(self, weight: float, started: float, receipt: Receipt, *, again: bool = False) -> None:
        """A new step, in force at the proxies; `again`: the one under way was laid once more, its lease having gone."""
        if again and self.steps:
            self.steps[-1] = self.steps[-1].model_copy(update={"weight": weight, "receipt": receipt})
            return
        number = len(self.steps) + 1
        self.steps.append(StepReport(number=number, weight=weight, started=started, receipt=receipt))

    def record(self, result: WatchResult, rule: StepRule, *, fresh: bool, ended: float) -> None:
        """What a watch of the step under way came to."""
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
