"""What reports leave out where they would be too large, in the order of how little it is missed."""

from __future__ import annotations

from typing import TypeVar

from autopilot.findings import ExperimentReport
from autopilot.operations.bounds import cut, fitted
from autopilot.operations.common import Event
from autopilot.operations.experiment_status import ExperimentStatus, ProbeRecord
from autopilot.report import CanaryReport, StepReport

_ROOM = 50_000
"""Bytes kept free for the lines that say what was left out."""
_MOST = 1_000_000 - _ROOM
_SHORT = 100
StepT = TypeVar("StepT")


def fitted_canary(report: CanaryReport) -> CanaryReport:
    """The report of a rollout, at most 1 MB of JSON."""
    found, left_out = fitted(
        report,
        (
            ("ticks of all watches but each step's last", lambda it: _without_ticks(it, keep_last=True)),
            ("ticks", lambda it: _without_ticks(it, keep_last=False)),
            ("watches but each step's last", _last_watches),
            ("lines of the timeline", lambda it: it.model_copy(update={"timeline": _few(it.timeline)})),
            ("steps between the first and the last", lambda it: it.model_copy(update={"steps": _ends(it.steps)})),
        ),
        _MOST,
    )
    return found.model_copy(update={"timeline": _telling(found.timeline, left_out)}) if left_out else found


def fitted_experiment(report: ExperimentReport) -> ExperimentReport:
    """The report of an experiment, at most 1 MB of JSON."""
    found, left_out = fitted(
        report,
        (
            ("looks of probes that passed", lambda it: it.model_copy(update={"probes": _without_looks(it.probes)})),
            ("records of probes that passed", lambda it: it.model_copy(update={"probes": _telling_probes(it.probes)})),
            ("lines of the timeline", lambda it: it.model_copy(update={"timeline": _few(it.timeline)})),
            ("steps between the first and the last", lambda it: it.model_copy(update={"steps": _ends(it.steps)})),
        ),
        _MOST,
    )
    return found.model_copy(update={"timeline": _telling(found.timeline, left_out)}) if left_out else found


def fitted_status(status: ExperimentStatus) -> ExperimentStatus:
    """The status of an experiment, at most 1 MB of JSON."""
    found, _ = fitted(
        status,
        (
            ("looks of probes that passed", lambda it: it.model_copy(update={"probes": _without_looks(it.probes)})),
            ("records of probes that passed", lambda it: it.model_copy(update={"probes": _telling_probes(it.probes)})),
            ("lines of the timeline", lambda it: it.model_copy(update={"timeline": _few(it.timeline)})),
        ),
        _MOST,
    )
    return found


def _without_ticks(report: CanaryReport, *, keep_last: bool) -> CanaryReport:
    def thinned(step: StepReport) -> StepReport:
        kept = len(step.watches) - 1 if keep_last else len(step.watches)
        watches = tuple(
            watch if index >= kept or not watch.ticks else watch.model_copy(update={"ticks": "", "dropped": True})
            for index, watch in enumerate(step.watches)
        )
        return step.model_copy(update={"watches": watches})

    return report.model_copy(update={"steps": tuple(map(thinned, report.steps))})


def _last_watches(report: CanaryReport) -> CanaryReport:
    steps = tuple(
        step.model_copy(
            update={"watches": tuple(one.model_copy(update={"dropped": True}) for one in step.watches[-1:])}
        )
        for step in report.steps
    )
    return report.model_copy(update={"steps": steps})


def _without_looks(probes: tuple[ProbeRecord, ...]) -> tuple[ProbeRecord, ...]:
    return tuple(one if one.verdict != "pass" else one.model_copy(update={"samples": ()}) for one in probes)


def _telling_probes(probes: tuple[ProbeRecord, ...]) -> tuple[ProbeRecord, ...]:
    """Those that did not pass, a limited number of them, and the last of those that did."""
    telling = [one.model_copy(update={"samples": one.samples[-2:]}) for one in probes if one.verdict != "pass"]
    return (*telling[:_SHORT], *(one for one in probes[-_SHORT:] if one.verdict == "pass"))


def _few(timeline: tuple[Event, ...]) -> tuple[Event, ...]:
    short = [event.model_copy(update={"text": cut(event.text, 200)}) for event in timeline]
    return tuple(short) if len(short) <= _SHORT else (*short[: _SHORT // 4], *short[-3 * _SHORT // 4 :])


def _ends(steps: tuple[StepT, ...]) -> tuple[StepT, ...]:
    return steps if len(steps) <= _SHORT else (*steps[: _SHORT // 4], *steps[-3 * _SHORT // 4 :])


def _telling(timeline: tuple[Event, ...], left_out: tuple[str, ...]) -> tuple[Event, ...]:
    time = timeline[-1].time if timeline else 0.0
    return (*timeline, Event(time=time, text=f"left out, since the report would be too large: {', '.join(left_out)}"))
