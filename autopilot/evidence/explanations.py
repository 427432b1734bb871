"""Reasons of a judge in sentences: shares, counts and evidence, never a probability."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from autopilot.evidence.model import Evidence, Judge, JudgeMetric
from autopilot.evidence.state import MetricState, Tally, past
from autopilot.evidence.statistics.coalescing import ALONE
from autopilot.evidence.statistics.dispersion import FLOOR, PRIOR, Dispersion
from autopilot.evidence.statistics.metric_process import RELATIVE
from autopilot.spec.values.units import format_seconds


def share(bad: float, total: float) -> float | None:
    """The share of bad requests, between 0 and 1; None where there were none at all."""
    return min(1.0, bad / total) if total > 0 else None


def percent(value: float | None) -> str:
    """A share in percent, with more digits where it is small."""
    if value is None:
        return "none"
    hundredths = value * 100
    return f"{hundredths:.1f} %" if hundredths >= 1 or hundredths < 0.0005 else f"{hundredths:.2g} %"


def reading(value: float) -> str:
    """A query's value; the largest number stands for infinity in records, as JSON has none."""
    return f"{value:g}" if abs(value) < sys.float_info.max else f"{'+' if value > 0 else '-'}Inf"


def note(metric: JudgeMetric, index: int, kept: MetricState, *, warm: bool, learns: bool = False) -> str:
    """The note needed to read a metric's numbers."""
    parts = [f"slower than {format_seconds(metric.seconds[index])}"] if index < len(metric.seconds) else []
    if metric.kind in RELATIVE and kept.recent.stable < ALONE * kept.recent.canary:
        known = "compared with its earlier requests" if past(kept)[0].stable > 0 else "and had none before"
        parts.append(f"stable gets no traffic: {known}")
    if learns and not (kept.phi and kept.phi[index] > 0):
        parts.append(f"stable failed too rarely to tell how failures cluster: {PRIOR:g} count as one")
    elif learns and kept.phi[index] >= 2 * FLOOR:
        parts.append(f"stable's failures cluster: {kept.phi[index]:.1f} count as one")
    if kept.aborts[1]:
        parts.append(_aborts(kept))
    if warm:
        parts.append("warm-up: only gross harm counts")
    return "; ".join(parts)


def learned(metric: JudgeMetric, found: Dispersion, *, left_out: float = 0.0) -> str:
    """How one metric's failures cluster before the rollout; of several boundaries, where they do most."""
    without = f", without incidents of {format_seconds(round(left_out))}" if left_out >= 1 else ""
    errors, phi, known = found.errors, found.phi, found.known > 0
    slow = [f" slower than {format_seconds(seconds)}" for seconds in metric.seconds] or [""]
    if not known.any():
        most = int(errors.argmax())
        return f"{metric.name}: {errors[most]:,.0f}{slow[most]}, too few to measure how they cluster{without}"
    index = int(np.where(known, phi, 0.0).argmax())
    each = "one by one" if phi[index] < 2 * FLOOR else "in clusters"
    return f"{metric.name}: {errors[index]:,.0f}{slow[index]}, {each}, {phi[index]:.2f} count as one{without}"


def harm(metric: JudgeMetric, since: Tally, index: int, found: Evidence, *, before: bool, warm: bool) -> str:
    """Why this is harm; `before`: the canary was alone, and is compared with earlier requests to stable."""
    canary = percent(share(since.canary_bad[index], since.canary))
    stable = percent(share(since.stable_bad[index], since.stable))
    boundary = format_seconds(metric.seconds[index]) if index < len(metric.seconds) else "the boundary"
    did = {"errors": "", "success": "", "clientErrors": " were answered with a client error (4xx)"}.get(
        metric.kind, f" took longer than {boundary}"
    )
    if metric.kind in RELATIVE:
        whose = "stable requests before, as stable gets none now" if before else "stable ones"
        against = f"against {stable} of {since.stable:.0f} {whose}"
    else:
        against = f"where {percent(1 - (metric.objective or 0.0))} are allowed"
        did = did or " failed"
    when = ", in the warm-up" if warm else ""
    return (
        f"{metric.name}: {canary} of {since.canary:.0f} canary requests{did} {against}{when}; "
        f"evidence {found.harm:.1f} of {found.harm_needed:.1f} needed"
    )


def left(kept: MetricState) -> str:
    """What of the failures may not be the version's; empty where the source tells no such."""
    if not kept.aborts[1]:
        return ""
    return f"; {_aborts(kept)}: they leave by themselves, or this version hangs (errors.callerAborts: ignore)"


def _aborts(kept: MetricState) -> str:
    failures, aborts = kept.aborts
    return f"{aborts:.0f} of {failures:.0f} failures so far are callers that left (DC)"


def advance(seconds: float, requests: float, shown: Sequence[Evidence], *, by_evidence: bool) -> str:
    """Why the next step is allowed."""
    held = f"held {format_seconds(round(seconds, 1))} with {requests:.0f} canary requests"
    how = "few, but enough to show that it is not worse" if by_evidence else "and no harm found"
    most = ", ".join(f"{found.metric} {found.harm:.1f} of {found.harm_needed:.1f}" for found in shown)
    return f"{held}, {how}; evidence of harm: {most}"


def advance_excluding(seconds: float, requests: float, shown: Sequence[Evidence]) -> str:
    """Why the next step is allowed: what this one has excluded."""
    held = f"held {format_seconds(round(seconds, 1))} with {requests:.0f} canary requests"
    most = ", ".join(f"{found.metric} {found.harm:.1f} of {found.harm_needed:.1f}" for found in shown)
    return f"{held}: {excluding(shown)}; evidence of harm: {most}"


def excluding(shown: Sequence[Evidence]) -> str:
    """The smallest harm that the step has excluded, metric by metric."""
    parts = [
        f"{found.metric} of {percent(found.smallest)}{_times(found)} or more are excluded"
        for found in shown
        if found.smallest is not None
    ]
    return ", ".join(parts) or "nothing was compared with stable"


def _times(found: Evidence) -> str:
    if not found.stable or found.smallest is None or found.smallest < found.stable:
        return ""
    return f" ({found.smallest / found.stable:.1f} times stable's)"


def guarded(metric: JudgeMetric, seen: Tally, allowed: float) -> str:
    """Why the absolute guard says that this is harm."""
    return (
        f"{metric.name}: {percent(share(seen.canary_bad[0], seen.canary))} of {seen.canary:.0f} canary requests failed "
        f"against {percent(share(seen.stable_bad[0], seen.stable))} of {seen.stable:.0f} stable ones: "
        f"the guard allows {percent(allowed)}"
    )


def about(count: float) -> str:
    """A count as an estimate, rounded to two digits."""
    digits = max(0, len(f"{count:.0f}") - 2)
    return f"about {round(count, -digits):,.0f}"


def lacking(judge: Judge, shown: Sequence[Evidence]) -> str:
    """How many more requests are needed, by the metric that needs most."""
    harms = {found.metric: found.more for found in shown if found.more}
    goods = [found.good_more for found in shown if found.good_more]
    parts = []
    if harms:
        most = max(harms, key=lambda name: harms[name])
        own = next((judge.of(metric) for metric in judge.metrics if metric.name == most), judge)
        size = f"{own.detect:g} times stable's share, or {percent(own.detect_absolute)} more"
        does = "exclude" if any(found.excluded is not None for found in shown) else "show"
        parts.append(f"{about(harms[most])} more requests would {does} harm of {size}")
    if goods:
        parts.append(f"{about(max(goods))} that a canary like stable is not {judge.good_ratio:g} times worse")
    return "; " + ", ".join(parts) if parts else ""


_NO_DATA = {
    "threshold": "its query returned no value",
    "latency": "no request of the canary is in a latency histogram",
    "within": "no request of the canary is in a latency histogram",
    "clientErrors": "the source does not tell client errors",
}


def no_data(metrics: Sequence[JudgeMetric], seconds: float, requests: float) -> str:
    """Why a step does not advance although no metric that had data speaks against it."""
    parts = [
        f"{metric.name} has no data ({_NO_DATA.get(metric.kind, 'no request of the canary was counted')}"
        + (f": {shortened(metric.asked)})" if metric.asked else ")")
        for metric in metrics
    ]
    after = f"after {format_seconds(round(seconds, 1))} and {requests:.0f} canary requests of this step"
    return f"{after} {', '.join(parts)}; no step advances without data"


def shortened(query: str, most: int = 120) -> str:
    """A query in one line."""
    line = " ".join(query.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def out_of_time(
    seconds: float, requests: float, needed: float, shown: Sequence[Evidence], *, warm: bool, version: int
) -> str:
    """Why there is no verdict."""
    after = f"after {format_seconds(round(seconds, 1))}"
    if warm:
        return f"{after} the warm-up is not over, so only gross harm was looked for"
    if version > 1 and requests >= needed:
        after = f"{after} and {requests:.0f} canary requests"
        return f"{after} harm of the size to be detected is not excluded; {excluding(shown)}"
    return (
        f"{after} the canary had {requests:.0f} of {needed:.0f} requests needed, and evidence says neither good nor bad"
    )
