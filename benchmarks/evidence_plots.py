"""The pictures of docs/evidence.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import draw
import numpy as np
from constant import CLUSTERS, DEFAULT, ERRORS, RATE, SHARES, WEIGHT, Case, arm
from worlds.compared import OURS, Compared

from autopilot.evidence.statistics import dispersion, metric_process, process_evidence


def plots(figures: Mapping[str, float], folder: Path) -> None:
    """The pictures of rates that stand still."""
    folder.mkdir(exist_ok=True)
    clusters = [str(cluster) for cluster in CLUSTERS]
    kept = ("independent", "clusters_2", "clusters_5")
    bars = {
        "as if independent": [100 * figures[f"no_phi_clusters_{c}"] for c in clusters],
        "divided by phi": [100 * figures[f"false_rollback_{one}"] for one in kept],
    }
    text = draw.bars(
        "False rollbacks of 30 minutes at alpha 1 %, in %", [f"clusters of {c}" for c in clusters], bars, line=1.0
    )
    (folder / "evidence-clusters.svg").write_text(text, encoding="utf-8")
    lines = {
        label: [(100 * SHARES[one], max(1.0, figures[f"{key}_{one}"])) for one in SHARES]
        for label, key in {
            "alpha 1 %, no margin": "seconds",
            "defaults, four metrics": "seconds_default",
            "alpha 1 %, clusters of 5": "seconds_clusters_5",
        }.items()
    }
    text = draw.lines("Seconds until harm is found (median), by errors of the canary in %", lines)
    (folder / "evidence-seconds.svg").write_text(text, encoding="utf-8")
    (folder / "evidence-paths.svg").write_text(
        draw.lines("Evidence of harm over seconds, of 8.3 needed at the defaults after the warm-up", paths(),
                   logarithmic=False, line=8.3), encoding="utf-8")  # fmt: skip


def paths() -> dict[str, list[tuple[float, float]]]:
    """The evidence of single rollouts, shown at 0 where it is below."""
    found: dict[str, list[tuple[float, float]]] = {}
    for label, canary in {"healthy, 0.5 %": 0.005, "1.5 %": 0.015, "3 %": 0.03}.items():
        rng = np.random.default_rng(5)
        case = Case(DEFAULT, 1, 0.005, canary)
        gathered = metric_process.fresh(ERRORS, (1,))
        points = []
        for second in range(1, 241):
            tick = arm(rng, case, RATE * WEIGHT, canary), arm(rng, case, RATE * (1 - WEIGHT), 0.005)
            gathered = metric_process.fold(DEFAULT, ERRORS, gathered, *tick, seconds=1.0)
            phi = np.full((1, 1), dispersion.FLOOR)
            points.append(
                (float(second), max(0.0, float(process_evidence.harm(DEFAULT, ERRORS, gathered, phi=phi)[0])))
            )
            if points[-1][1] > 12:
                break
        found[label] = points
    return found


def worlds(found: Mapping[str, Compared], folder: Path) -> None:
    """The pictures of worlds that move: false rollbacks, and harm that was promoted, by group and rule."""
    folder.mkdir(exist_ok=True)
    groups = [group for group in dict.fromkeys(one.group for one in found.values()) if group != "scraped"]
    kept = {"ours": OURS, "Flagger, threshold 5": "flagger-5", "Argo, limit 3": "argo-3"}

    def shares(truth: str, what: str) -> dict[str, list[float]]:
        values: dict[str, list[float]] = {label: [] for label in kept}
        for group in groups:
            some = [one for one in found.values() if one.group == group and one.truth == truth]
            for label, rule in kept.items():
                each = [100 * getattr(one.ends[rule], what) for one in some]
                values[label].append(float(np.mean(each)) if each else 0.0)
        return values

    false = draw.rows(
        "Healthy rollouts rolled back, mean of each group's worlds, in %", groups, shares("healthy", "back")
    )
    (folder / "evidence-worlds.svg").write_text(false, encoding="utf-8")
    missed = draw.rows(
        "Harmful rollouts promoted, mean of each group's worlds, in %", groups, shares("harmful", "promoted")
    )
    (folder / "evidence-promoted.svg").write_text(missed, encoding="utf-8")
