"""Everything the provider keeps on disk, and the lock that orders all who write there.

    <directory>/
      autopilot/lock                      one writer at a time
      autopilot/fencing/<ns>.<service>    how many leases this target has had
      autopilot/leases/<ns>.<service>.<fencing>.json
      autopilot/overlays/<ns>.<service>.<fencing>.json
      autopilot/spares/<ns>.<service>.<fencing>.json
      autopilot/orders/                   what people ordered, and who waits (`orderbook`)
      autopilot/audit.jsonl               one record a change (`journal`)
      autopilot/unreadable/               damaged records whose operation has ended
      proxies/<proxy>/                    bootstrap.json, clusters.json, listeners.json, routes-<listener>.json

What must be undone lies here before the first change: whoever can read this directory can restore the base.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from autopilot.mesh.envoy.atomic_files import exclusive, read_text, write_atomically
from autopilot.mesh.envoy.config.render import ProxyFiles, render, version
from autopilot.mesh.envoy.config.unreadable_overlays import Stays, keep
from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.mesh.envoy.state.lease_files import Records
from autopilot.mesh.errors import MeshUnavailable, UnreadableRecord
from autopilot.mesh.leases.records import Overlay, Spare
from autopilot.mesh.model import Lease, Target
from autopilot.spec.mesh import Mesh, Proxy


class Store(Records):
    """The directory of one standalone mesh. Methods that write must run under `locked()`."""

    def __init__(self, mesh_file: Path) -> None:
        self.mesh_file = mesh_file.resolve()
        self._cached: tuple[tuple[int, int, int], Mesh] | None = None

    @property
    def mesh(self) -> Mesh:
        """The base as it is on disk now.

        Raises:
            MeshError: the file is gone or describes no mesh.
        """
        try:
            stat = self.mesh_file.stat()
        except OSError:
            return read_mesh(self.mesh_file)
        key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, read_mesh(self.mesh_file))
        return self._cached[1]

    @property
    def directory(self) -> Path:
        """Where everything but the mesh file lies."""
        return (self.mesh_file.parent / self.mesh.spec.directory).resolve()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, over all processes."""
        own = self.directory / "autopilot"
        try:
            for folder in ("leases", "overlays", "spares", "fencing", "orders"):
                (own / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MeshUnavailable(
                f"cannot write {own}: {error.strerror}; free disk space or correct the permissions"
            ) from error
        with exclusive(own / "lock"):
            yield

    # Proxies' files

    def rendered(
        self,
        now: float,
        overlays: list[Overlay] | None = None,
        spares: list[Spare] | None = None,
        *,
        ending: Lease | None = None,
    ) -> dict[str, ProxyFiles]:
        """What every proxy should have: the base and the overlays in force at `now` (seconds since the epoch).

        Targets with an overlay that cannot be read keep the routes they have. `ending`: a lease whose own goes.
        """
        spec = self.mesh.spec
        alive = [overlay for overlay in (self.overlays() if overlays is None else overlays) if overlay.alive(now)]
        paths = {
            proxy.name: {
                name: str(self.routes_file(proxy.name, name))
                for name in (*(one.name for one in proxy.inbound), *(one.name for one in proxy.outbound))
            }
            for proxy in spec.proxies
        }
        files = render(spec, alive, paths, self.spares() if spares is None else spares)
        stays = Stays(
            hosts={one.ref for one in self.hidden(now, ending)},
            clusters={one.ref for one in self.spare_records.unread()},
        )
        if not stays.hosts and not stays.clusters:
            return files
        return {
            proxy.name: keep(spec, proxy, files[proxy.name], partial(self._present, proxy.name), stays)
            for proxy in spec.proxies
        }

    def _present(self, proxy: str, name: str) -> str | None:
        """What a proxy has now: a listener's route table, or with no name its clusters; None where none can be read."""
        path = self.proxy_folder(proxy) / "clusters.json" if not name else self.routes_file(proxy, name)
        try:
            return read_text(path)
        except UnreadableRecord:
            return None

    def publish(self, files: dict[str, ProxyFiles]) -> list[Path]:
        """Writes what differs, clusters before the routes that need them; returns the files written."""
        wanted: list[tuple[Path, str]] = []
        for proxy, content in files.items():
            folder = self.proxy_folder(proxy)
            folder.mkdir(parents=True, exist_ok=True)
            wanted += [(folder / "clusters.json", content.clusters), (folder / "listeners.json", content.listeners)]
        for proxy, content in files.items():
            wanted += [(self.routes_file(proxy, listener), table) for listener, table in content.routes.items()]
        written = [path for path, text in wanted if _differs(path, text)]
        for path, text in wanted:
            if path in written:
                write_atomically(path, text)
        return written

    def route_versions(
        self, files: dict[str, ProxyFiles], target: Target, *, answering: bool = False
    ) -> dict[str, str]:
        """`proxy/listener` → version, for every route table that steers the target; `answering`: its own ones too."""
        service = self.mesh.spec.service(target.ref)
        arms = service.arms.values() if service and answering else ()
        addresses = {address for arm in arms for address in arm.endpoints}
        return {
            f"{proxy.name}/{name}": version(files[proxy.name].routes[name])
            for proxy in self.mesh.spec.proxies
            for name in (
                *(outbound.name for outbound in proxy.outbound if target.ref in outbound.services),
                *(inbound.name for inbound in proxy.inbound if inbound.address in addresses),
            )
        }

    def proxy_folder(self, proxy: str) -> Path:
        """Where one proxy's files lie."""
        return self.directory / "proxies" / proxy

    def routes_file(self, proxy: str, listener: str) -> Path:
        """The route table of one listener."""
        return self.proxy_folder(proxy) / f"routes-{listener}.json"

    def proxy(self, name: str) -> Proxy:
        """The proxy of that name."""
        return next(proxy for proxy in self.mesh.spec.proxies if proxy.name == name)


def _differs(path: Path, content: str) -> bool:
    try:
        return read_text(path) != content
    except UnreadableRecord:
        return True
