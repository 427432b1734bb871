"""How often the judge blames a healthy canary, and how fast it finds a harmful one: Monte Carlo over whole rollouts.

Two parts: rates that stand still (`constant`), and worlds that move, beside other tools' rules (`worlds`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import constant
import evidence_plots
import numpy as np
from recording import before, record, show
from worlds import compared, figures
from worlds.catalogue import catalogue
from worlds.compared import OURS, Compared, Task
from worlds.scraped import scraped_worlds

DOCS = Path(__file__).parents[1] / "docs"
ROLLOUTS = 3 * constant.HEALTHY // 20
"""Of each healthy world, and of each rule in it."""
MORE = 4
"""So many times as many more where one of them was rolled back: 0.3 % must be told from 1 %."""
CLEAR = 0.03
"""No more where so large a share was: that is clear."""
SCRAPED, SCRAPED_HARMFUL = 8, 3
"""Rollouts of scraped worlds, which are walked one by one."""


def main() -> int:
    """Plays all there is on two processes, and says of each bound whether it is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--progress", action="store_true", help="print each case, and each world's seconds")
    parser.add_argument("--only", choices=("constant", "worlds"), help="the other part's figures stay as they were")
    parser.add_argument("--quick", action="store_true", help="every world, with few rollouts; keeps nothing")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.quick:
        from worlds import quick  # noqa: PLC0415 - the long form needs none of it

        return quick.main(chosen.processes)
    kept, lists = before("evidence") if chosen.only else ({}, {})
    with ProcessPoolExecutor(chosen.processes) as pool:
        if chosen.only != "constant":
            found = worlds(pool, progress=chosen.progress)
            kept |= figures.figures(found)
            lists = figures.names(found)
            tell(found, lists)
            evidence_plots.worlds(found, DOCS)
        if chosen.only != "worlds":
            seen = {}
            for name, first in pool.map(constant.run, constant.cases()):
                seen[name] = first
                if chosen.progress:
                    print(f"{name:32} {np.isfinite(first).mean():.4%} median {np.median(first)}", flush=True)
            kept |= constant.figures(seen)
            if constant.HEALTHY >= 1000:
                evidence_plots.plots(kept, DOCS)
    rounded = {name: round(value, 6) for name, value in kept.items()}
    record("evidence", "make bench-evidence", rounded, bounded(kept), "Evidence", lists)
    return 0


def tasks() -> Iterator[Task]:
    """Every world, those that take long first."""
    scraped = scraped_worlds().values()
    yield from (Task(one.name, SCRAPED) for one in scraped if one.truth == "healthy")
    known = sorted(catalogue().values(), key=lambda one: (one.truth != "healthy", -one.rate))
    for one in known:
        if one.truth == "healthy":
            yield Task(one.name, ROLLOUTS, peers=ROLLOUTS)
        else:
            often = ROLLOUTS // 2 if one.at_detect else ROLLOUTS // 3
            yield Task(one.name, often, peers=often)
    yield from (Task(one.name, SCRAPED_HARMFUL) for one in scraped if one.truth == "harmful")


def worlds(pool: ProcessPoolExecutor, *, progress: bool) -> dict[str, Compared]:
    """All worlds under all rules, by name; those that need more rollouts get them."""
    found = {one.name: one for one in _told(pool.map(compared.run, tasks()), progress=progress)}
    again = [Task(one.name, ROLLOUTS, part) for one in found.values() if _unsure(one) for part in range(1, MORE + 1)]
    for more in _told(pool.map(compared.run, again), progress=progress):
        ends = found[more.name].ends
        ends[OURS] = ends[OURS].plus(more.ends[OURS])
    return found


def _unsure(one: Compared) -> bool:
    mine = one.ends[OURS]
    return one.truth == "healthy" and one.group != "scraped" and mine.also > 0 and mine.back < CLEAR


def _told(found: Iterator[Compared], *, progress: bool) -> Iterator[Compared]:
    for one in found:
        if progress:
            print(f"[{one.took:6.1f} s] {figures.line(one)}", flush=True)
        yield one


def tell(found: dict[str, Compared], lists: dict[str, list[str]]) -> None:
    """Prints the table by group, and the worlds behind the figures."""
    show(figures.table(found), "Worlds by group; seconds from the begin of harm to the rollback, median")
    for name, worlds in lists.items():
        print(f"{name}: {len(worlds)}", *worlds, sep="\n    ")


def bounded(kept: dict[str, float]) -> list[tuple[str, ...]]:
    """The figures as rows, those with a bound first."""
    rows = [("figure", "measured", "bound", "")]
    known: dict[str, float] = constant.bounds() | figures.BOUNDS
    for name, bound in known.items():
        if name not in kept:
            continue
        least = name.startswith("detection")
        compare: Callable[[Any, Any], bool] = float.__ge__ if least else float.__le__
        met = compare(float(kept[name]), float(bound))
        word = "at least " if least else "at most "
        rows.append((name, shown(name, kept[name]), word + shown(name, bound), "met" if met else "MISSED"))
    return rows + [(name, shown(name, value), "", "") for name, value in kept.items() if name not in known]


def shown(name: str, value: float) -> str:
    """Seconds, a number of worlds, or a share."""
    if name in {"blind", "lost_to_simple_rules", "worlds"}:
        return f"{value:g}"
    return f"{value:g} s" if name.startswith("seconds") else f"{value:.2%}"


if __name__ == "__main__":
    sys.exit(main())
