"""A process that plays its share of the interleavings, in a namespace and over a mesh of its own.

Run as `python -m tests.faults.interleavings.process --address … --namespace … --mesh FILE --reports FOLDER --count N
--seed N --out FILE [--proxies]`; `--proxies`: real ones follow the mesh, and must have it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import aiohttp

from tests.faults.interleavings.machine import explore
from tests.faults.interleavings.stage import Stage
from tests.faults.world.dataplane import DataPlane
from tests.faults.world.shape import MeshPlace


def main() -> None:
    """Reads the command line, plays, and writes what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--mesh", type=Path, required=True)
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--proxies", action="store_true")
    chosen = parser.parse_args()
    stage = Stage(chosen.address, chosen.namespace, chosen.mesh, chosen.reports, proxies=chosen.proxies)
    found = explore(stage, chosen.count, number=chosen.seed, check=_proxies if chosen.proxies else lambda _: [])
    stage.close()
    chosen.out.write_text(json.dumps(asdict(found)), encoding="utf-8")
    sys.stderr.flush()
    # Not through the interpreter's end: threads of the SDK's core may still call into it then, and it aborts.
    os._exit(0)


def _proxies(stage: Stage) -> list[str]:
    """What the proxies have that the base has not."""

    async def odd() -> set[str]:
        async with aiohttp.ClientSession() as session:
            admin = int(stage.mesh.store.proxy("caller").admin.rpartition(":")[2])
            place = MeshPlace(stage.mesh.name, stage.mesh_file.parent, admin, (), (stage.target,), 1)
            plane = DataPlane(place, session)
            for _ in range(50):
                found = await plane.not_base()
                if not found:
                    break
                await asyncio.sleep(0.02)
            return found

    left = asyncio.run(odd())
    return [f"the proxy has not the base of {', '.join(sorted(left))}"] if left else []


if __name__ == "__main__":
    main()
