"""What all worlds say together: the benchmark's figures, the worlds behind them, and a table by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from worlds.compared import GROSS, OURS, Compared, Ends
from worlds.peers import PEERS

BOUNDS = {
    "worst_false_rollback": 0.003,
    "worst_false_rollback_alpha_1": 0.01,
    "blind": 0.0,
    "worst_missed_at_detect": 0.12,
    "lost_to_simple_rules": 2.0,
}
"""What must hold, each at most."""
SEEING = 5.0
"""Requests/s from which gross harm must never be promoted."""
FALSE = 0.003
"""A world whose share of false rollbacks is above it is named."""


class Lost(NamedTuple):
    """A harmful world in which a peer lets fewer failures through, with no more false rollbacks in the twin."""

    world: str
    peer: str
    ours: float
    """Mean failures (slow requests) within the hour."""
    theirs: float


def figures(found: Mapping[str, Compared]) -> dict[str, float]:
    """The benchmark's figures, by key."""
    healthy, at_detect = _plain(found.values(), "healthy"), [one for one in found.values() if one.at_detect]
    scraped = [one for one in found.values() if one.group == "scraped" and one.truth == "healthy"]
    known = {
        "worst_false_rollback": max((one.ends[OURS].back for one in healthy), default=0.0),
        "worst_false_rollback_alpha_1": max((one.ends[OURS].also for one in healthy), default=0.0),
        "mean_false_rollback": _mean(one.ends[OURS].back for one in healthy),
        "blind": float(len(blind(found))),
        "worst_missed_at_detect": max((one.ends[OURS].promoted for one in at_detect), default=0.0),
        "lost_to_simple_rules": float(len({one.world for one in lost(found)})),
        "worlds": float(len(found)),
    }
    if scraped:
        known["false_rollback_scraped"] = _mean(one.ends[OURS].back for one in scraped)
    return known


def names(found: Mapping[str, Compared]) -> dict[str, list[str]]:
    """The worlds behind the figures, by key: the worst first."""
    healthy = _plain(found.values(), "healthy")
    at_detect = [one for one in found.values() if one.at_detect]
    return {
        "worst_false_rollback_worlds": _above(healthy, "back", FALSE),
        "worst_false_rollback_alpha_1_worlds": _above(healthy, "also", BOUNDS["worst_false_rollback_alpha_1"]),
        "blind_worlds": blind(found),
        "worst_missed_at_detect_worlds": _above(at_detect, "promoted", BOUNDS["worst_missed_at_detect"]),
        "lost_to_simple_rules_worlds": [
            f"{one.world}: {one.peer} {one.theirs:.1f}, ours {one.ours:.1f}" for one in lost(found)
        ],
        "false_rollback_scraped_worlds": _above(
            [one for one in found.values() if one.group == "scraped" and one.truth == "healthy"], "back", 0.0
        ),
    }


def blind(found: Mapping[str, Compared]) -> list[str]:
    """Worlds with gross harm and enough requests in which it was ever promoted."""
    gross = [one for one in found.values() if one.harm in GROSS and one.rate >= SEEING]
    return _above(gross, "promoted", 0.0)


def lost(found: Mapping[str, Compared]) -> list[Lost]:
    """By world the best peer that lets fewer failures through, and falsely rolls back no more in the world's twin."""
    most: list[Lost] = []
    for one in found.values():
        twin = found.get(one.twin)
        if one.truth != "harmful" or twin is None:
            continue
        better = [
            Lost(one.name, peer.name, one.ends[OURS].met, one.ends[peer.name].met)
            for peer in PEERS
            if peer.name in one.ends
            and twin.ends[peer.name].back <= twin.ends[OURS].back
            and one.ends[peer.name].met < one.ends[OURS].met
        ]
        if better:
            most.append(min(better, key=lambda lost: lost.theirs))
    return sorted(most, key=lambda lost: lost.theirs - lost.ours)


def table(found: Mapping[str, Compared]) -> list[tuple[str, ...]]:
    """By group and rule: false rollbacks (worst world), harm promoted, seconds to the rollback, failures met."""
    rules = [OURS, *(peer.name for peer in PEERS)]
    rows = [("group", "rule", "false: worst", "false: mean", "promoted", "seconds", "met")]
    for group in dict.fromkeys(one.group for one in found.values()):
        for name in rules:
            some = [one for one in found.values() if one.group == group and name in one.ends]
            if not some:
                continue
            healthy = [one.ends[name].back for one in some if one.truth == "healthy"]
            harmful = [one.ends[name] for one in some if one.truth == "harmful"]
            # Failures and slow requests are not to be added up: where a group has both, its failures are shown.
            failing = [one.ends[name] for one in some if one.truth == "harmful" and one.kind == "errors"]
            rows.append((
                group if name == OURS else "",
                name,
                f"{max(healthy):.2%}" if healthy else "-",
                f"{_mean(healthy):.2%}" if healthy else "-",
                f"{_mean(each.promoted for each in harmful):.1%}" if harmful else "-",
                _median(harmful),
                f"{_mean(each.met for each in failing or harmful):.0f}" if harmful else "-",
            ))  # fmt: skip
    return rows


def line(one: Compared) -> str:
    """A world in one line: by rule the share rolled back, the share promoted, seconds, and what was met."""
    told = "  ".join(
        f"{name} {each.back:.2%}/{each.promoted:.1%}/{_median([each])}/{each.met:.0f}"
        for name, each in one.ends.items()
    )
    mine = one.ends[OURS]
    found = " ".join(f"{share:.1%}" for share in mine.metrics)
    return f"{one.name} ({mine.rollouts}; 1 %: {mine.also:.2%}; by metric {found}): {told}"


def _plain(worlds: Iterable[Compared], truth: str) -> list[Compared]:
    """Worlds of one truth that are walked often: scraped ones have too few rollouts for a share."""
    return [one for one in worlds if one.truth == truth and one.group != "scraped"]


def _above(worlds: Sequence[Compared], what: str, bound: float) -> list[str]:
    high = [(getattr(one.ends[OURS], what), one) for one in worlds]
    high = sorted((pair for pair in high if pair[0] > bound), key=lambda pair: -pair[0])
    return [f"{one.name} {share:.2%} of {one.ends[OURS].rollouts}" for share, one in high]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else 0.0


def _median(ends: Sequence[Ends]) -> str:
    seconds = [second for one in ends for second in one.seconds]
    return f"{np.median(seconds):.0f}" if seconds else "-"
