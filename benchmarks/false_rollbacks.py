"""How often each peer's rule rolls a healthy canary back, in every healthy world, and how often it misses harm.

Prints a table and keeps nothing. ROLLOUTS=… sets the rollouts of each world; words choose worlds whose name has them.
"""

from __future__ import annotations

import os
import sys
import time
from zlib import crc32

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from worlds.catalogue import catalogue
from worlds.peers import PEERS
from worlds.rule import walk

ROLLOUTS = int(os.environ.get("ROLLOUTS", "300"))


def main() -> None:
    """Walks all worlds under all peers."""
    words = sys.argv[1:]
    print(f"{'share rolled back':44}", *(f"{rule.name:>10}" for rule in PEERS), "   seconds")
    for world in catalogue().values():
        if words and not any(word in world.name for word in words):
            continue
        began, shares = time.perf_counter(), []
        for rule in PEERS:
            found = walk(rule, world, np.random.default_rng(crc32(world.name.encode())), ROLLOUTS)
            shares.append(f"{found.rolled_back.mean():>10.1%}")
        print(f"{world.name:36}{world.truth:8}", *shares, f"{time.perf_counter() - began:10.2f}", flush=True)


if __name__ == "__main__":
    main()
