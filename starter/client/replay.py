"""Judges a finished rollout again, from the ticks in its report: nothing but the numbers that were seen counts."""

from __future__ import annotations

from dataclasses import dataclass

from autopilot.evidence import canary
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import Harm, Inconclusive, Verdict
from autopilot.evidence.state import JudgeState
from autopilot.evidence.tick_codec import unpack
from autopilot.operations.canary_status import ENDPOINTS
from autopilot.reports.canary import CanaryReport


@dataclass(frozen=True, slots=True)
class Rejudged:
    """One watch, as it was judged and as it is judged now."""

    step: int
    weight: float
    ticks: int
    recorded: Verdict
    recomputed: Verdict | None
    """None where the ticks alone say nothing yet."""

    @property
    def agrees(self) -> bool:
        """Whether the recorded verdict follows from the ticks; of one from elsewhere, that they show no harm."""
        if self.from_elsewhere:  # what was misdirected may have looked good enough to advance
            return not isinstance(self.recomputed, Harm)
        return self.recomputed == self.recorded

    @property
    def from_elsewhere(self) -> bool:
        """The watch was ended by silence, by lost endpoints, by its workflow or a lost lease, not by the judge."""
        if isinstance(self.recorded, Harm):
            return self.recorded.metric == ENDPOINTS
        inconclusive = isinstance(self.recorded, Inconclusive) and self.recorded.cause != "time"
        return inconclusive and self.recomputed != self.recorded  # the judge itself says noData of one metric


def rejudge(report: CanaryReport) -> list[Rejudged]:
    """Every watch of the rollout, up to the first whose ticks were not kept."""
    judge = judge_from(report.analysis)
    state = JudgeState.model_validate_json(report.learned) if report.learned else None
    version = max((watch.judge for step in report.steps for watch in step.watches), default=1)
    judged: list[Rejudged] = []
    for step in report.steps:
        for watch in step.watches:
            if watch.dropped:
                return judged
            if state is None:
                state = canary.start(judge, version)
            elif watch.fresh:
                state = canary.begin_step(judge, state)
            ticks = unpack(watch.ticks)
            state, verdict = canary.replay(judge, watch.rule, ticks, state)
            judged.append(Rejudged(step.number, step.weight, len(ticks), watch.verdict, verdict))
    return judged


def complete(report: CanaryReport) -> bool:
    """Whether the ticks of every watch were kept."""
    return not any(watch.dropped for step in report.steps for watch in step.watches)
