"""Sets a standalone mesh up: the first configuration of every proxy, and the file to start it with."""

from __future__ import annotations

import json
import time
from pathlib import Path

from autopilot.mesh.envoy.atomic_files import write_atomically
from autopilot.mesh.envoy.config.bootstrap import bootstrap
from autopilot.mesh.envoy.state.store import Store


def prepare(mesh_file: Path) -> dict[str, Path]:
    """Writes what every proxy should have now, and its bootstrap; safe to repeat while proxies run.

    Returns:
        Proxy name → bootstrap file, for `envoy -c`.

    Raises:
        MeshError: the mesh file describes no mesh, or the directory cannot be written.
    """
    store = Store(mesh_file)
    mesh = store.mesh
    started = {}
    with store.locked():
        store.publish(store.rendered(time.time()))
        for proxy in mesh.spec.proxies:
            folder = store.proxy_folder(proxy.name)
            content = bootstrap(
                mesh.metadata.name,
                mesh.spec,
                proxy,
                clusters=str(folder / "clusters.json"),
                listeners=str(folder / "listeners.json"),
            )
            started[proxy.name] = folder / "bootstrap.json"
            write_atomically(started[proxy.name], json.dumps(content, indent=1))
    return started
