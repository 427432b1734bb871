"""What reports leave out where they would be too large, in the order of how little it is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from autopilot.mesh.model import Receipt
from autopilot.operations.bounds import WHOLE, cut, fitted, left_out_line
from autopilot.operations.common import Event
from autopilot.operations.experiment_status import Effect, ExperimentStatus, ProbeRecord
from autopilot.reports.canary import CanaryReport, StepReport
from autopilot.reports.experiment import ExperimentReport, StepFinding

_ROOM = 50_000
"""Bytes kept free for the lines that say what was left out."""
_MOST = WHOLE - _ROOM
_SHORT = 100
_STEPS = 20
_FEW = 5
_WORDS = 100
"""Characters of a text that is not to be left out, where all else was."""
T = TypeVar("T")
StepT = TypeVar("StepT", StepReport, StepFinding)
TimedT = TypeVar("TimedT", CanaryReport, ExperimentReport, ExperimentStatus)
ReportT = TypeVar("ReportT", CanaryReport, ExperimentReport)
ProbedT = TypeVar("ProbedT", ExperimentReport, ExperimentStatus)


def fitted_canary(report: CanaryReport) -> CanaryReport:
    """The report of a rollout, at most 1 MB of JSON."""
    found, left_out = fitted(
        report,
        (
            ("ticks of all watches but each step's last", lambda it: _without_ticks(it, keep_last=True)),
            ("ticks", lambda it: _without_ticks(it, keep_last=False)),
            ("versions of each proxy", lambda it: _of_steps(it, _without_versions)),
            ("watches but each step's last", _last_watches),
            ("evidence of watches", lambda it: _of_steps(it, _without_evidence)),
            ("lines of the timeline", _fewer_lines),
            ("what was learned before the rollout", lambda it: it.model_copy(update={"learned": ""})),
            ("digests of audit records", _fewer_digests),
            ("steps between the first and the last", lambda it: it.model_copy(update={"steps": _ends(it.steps)})),
            ("ends of long texts", lambda it: _of_steps(it, _brief_step)),
        ),
        _MOST,
    )
    return found.model_copy(update={"timeline": _telling(found.timeline, left_out)}) if left_out else found


def fitted_experiment(report: ExperimentReport) -> ExperimentReport:
    """The report of an experiment, at most 1 MB of JSON."""
    found, left_out = fitted(
        report,
        (
            ("looks of probes that passed", _fewer_looks),
            ("records of probes that passed", _fewer_records),
            ("versions of each proxy", lambda it: _of_findings(it, _without_versions)),
            ("lines of the timeline", _fewer_lines),
            ("amplification", lambda it: _of_findings(it, lambda step: step.model_copy(update={"amplification": ()}))),
            ("digests of audit records", _fewer_digests),
            ("steps between the first and the last", lambda it: it.model_copy(update={"steps": _ends(it.steps)})),
            (
                "ends of long texts",
                lambda it: _of_findings(it, _brief_finding).model_copy(
                    update={"probes": _brief_probes(it.probes), "left": _brief(it.left)}
                ),
            ),
        ),
        _MOST,
    )
    return found.model_copy(update={"timeline": _telling(found.timeline, left_out)}) if left_out else found


def fitted_status(status: ExperimentStatus) -> ExperimentStatus:
    """The status of an experiment, at most 1 MB of JSON."""
    found, left_out = fitted(
        status,
        (
            ("looks of probes that passed", _fewer_looks),
            ("records of probes that passed", _fewer_records),
            ("lines of the timeline", _fewer_lines),
            (
                "ends of long texts",
                lambda it: it.model_copy(
                    update={
                        "probes": _brief_probes(it.probes),
                        "effects": _brief_effects(it.effects),
                        "steps": tuple(cut(step, _WORDS) for step in it.steps),
                    }
                ),
            ),
        ),
        _MOST,
    )
    return found.model_copy(update={"left_out": left_out}) if left_out else found


def _fewer_lines(told: TimedT) -> TimedT:
    return told.model_copy(update={"timeline": _few(told.timeline)})


def _fewer_digests(report: ReportT) -> ReportT:
    return report.model_copy(update={"audit": _ends(report.audit, _SHORT)})


def _fewer_looks(told: ProbedT) -> ProbedT:
    return told.model_copy(update={"probes": _without_looks(told.probes)})


def _fewer_records(told: ProbedT) -> ProbedT:
    return told.model_copy(update={"probes": _telling_probes(told.probes)})


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


def _of_steps(report: CanaryReport, reduce: Callable[[StepReport], StepReport]) -> CanaryReport:
    return report.model_copy(update={"steps": tuple(map(reduce, report.steps))})


def _of_findings(report: ExperimentReport, reduce: Callable[[StepFinding], StepFinding]) -> ExperimentReport:
    return report.model_copy(update={"steps": tuple(map(reduce, report.steps))})


def _without_versions(step: StepT) -> StepT:
    if step.receipt is None:
        return step
    return step.model_copy(update={"receipt": step.receipt.model_copy(update={"versions": {}})})


def _without_evidence(step: StepReport) -> StepReport:
    watches = tuple(
        one.model_copy(update={"verdict": one.verdict.model_copy(update={"evidence": ()})}) for one in step.watches
    )
    return step.model_copy(update={"watches": watches})


def _brief_step(step: StepReport) -> StepReport:
    watches = tuple(
        one.model_copy(
            update={"verdict": one.verdict.model_copy(update={"reason": cut(one.verdict.reason, _WORDS)})},
        )
        for one in step.watches
    )
    receipt = _brief_receipt(step.receipt)
    return step.model_copy(update={"reason": cut(step.reason, _WORDS), "watches": watches, "receipt": receipt})


def _brief_finding(step: StepFinding) -> StepFinding:
    actions = tuple(
        one.model_copy(update={"done": cut(one.done, _WORDS), "undone": cut(one.undone, _WORDS)})
        for one in _ends(step.actions, _FEW)
    )
    return step.model_copy(
        update={
            "name": cut(step.name, _WORDS),
            "reason": cut(step.reason, _WORDS),
            "receipt": _brief_receipt(step.receipt),
            "effects": _brief_effects(step.effects),
            "actions": actions,
        }
    )


def _brief_receipt(receipt: Receipt | None) -> Receipt | None:
    return None if receipt is None else receipt.model_copy(update={"notes": _brief(receipt.notes)})


def _brief(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(cut(text, _WORDS) for text in _ends(texts, _FEW))


def _brief_effects(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    texts = ("fault", "scope", "tier", "exactness", "seen_by")
    return tuple(
        one.model_copy(update={name: cut(getattr(one, name), _WORDS) for name in texts}) for one in _ends(effects, _FEW)
    )


def _brief_probes(probes: tuple[ProbeRecord, ...]) -> tuple[ProbeRecord, ...]:
    return tuple(one.model_copy(update={"reason": cut(one.reason, _WORDS), "samples": ()}) for one in probes)


def _without_looks(probes: tuple[ProbeRecord, ...]) -> tuple[ProbeRecord, ...]:
    return tuple(one if one.verdict != "pass" else one.model_copy(update={"samples": ()}) for one in probes)


def _telling_probes(probes: tuple[ProbeRecord, ...]) -> tuple[ProbeRecord, ...]:
    """Those that did not pass, a limited number of them, and the last of those that did."""
    telling = [one.model_copy(update={"samples": one.samples[-2:]}) for one in probes if one.verdict != "pass"]
    return (*telling[:_SHORT], *(one for one in probes[-_SHORT:] if one.verdict == "pass"))


def _few(timeline: tuple[Event, ...]) -> tuple[Event, ...]:
    """The first and the last lines, and where others were left out."""
    short = [event.model_copy(update={"text": cut(event.text, _WORDS)}) for event in timeline]
    left = len(short) - _SHORT
    if left <= 0:
        return tuple(short)
    at = _SHORT // 4
    return (*short[:at], left_out_line(left, short[at + left - 1]), *short[at + left :])


def _ends(many: tuple[T, ...], most: int = _STEPS) -> tuple[T, ...]:
    at = most // 4
    return many if len(many) <= most else (*many[:at], *many[at - most :])


def _telling(timeline: tuple[Event, ...], left_out: tuple[str, ...]) -> tuple[Event, ...]:
    last = timeline[-1] if timeline else Event(time=0.0, text="")
    text = f"left out, since the report would be too large: {', '.join(left_out)}"
    return (*timeline, Event(time=last.time, text=text, number=last.number + 1))
