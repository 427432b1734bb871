"""Everything the provider keeps on disk, and the lock that orders all who write there.

    <directory>/
      autopilot/lock                      one writer at a time
      autopilot/fencing/<ns>.<service>    how many leases this target has had
      autopilot/leases/<ns>.<service>.<fencing>.json
      autopilot/overlays/<ns>.<service>.<fencing>.json
      autopilot/spares/<ns>.<service>.<fencing>.json
      autopilot/orders/                   what people ordered, and who waits (`orderbook`)
      autopilot/audit.jsonl               one record a change (`journal`)
      proxies/<proxy>/                    bootstrap.json, clusters.json, listeners.json, routes-<listener>.json

What must be undone lies here before the first change: whoever can read this directory can restore the base.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from autopilot.mesh.envoy.base import read_mesh
from autopilot.mesh.envoy.files import exclusive, parse, write_atomically
from autopilot.mesh.envoy.journal import Journal
from autopilot.mesh.envoy.orderbook import OrderBook
from autopilot.mesh.envoy.render import ProxyFiles, render, version
from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh.model import Holder, Lease, Plain, Target
from autopilot.mesh.records import Condemnation, LastRun, LeaseRecord, Overlay, Spare
from autopilot.spec.mesh import Mesh, Proxy

_Record = TypeVar("_Record", bound=Plain)


class Store:
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

    @property
    def orders(self) -> OrderBook:
        """People's orders, and the queue."""
        return OrderBook(self.directory / "autopilot" / "orders")

    @property
    def journal(self) -> Journal:
        """The audit records."""
        return Journal(self.directory / "autopilot" / "audit.jsonl")

    # Records

    def leases(self) -> list[LeaseRecord]:
        """Every lease held."""
        return self._read("leases", LeaseRecord)

    def overlays(self) -> list[Overlay]:
        """Every overlay, in force or not."""
        return self._read("overlays", Overlay)

    def lease_of(self, lease: Lease) -> LeaseRecord | None:
        """The record of this very lease (same target, same holder), or None when it is gone."""
        path = self._path("leases", lease.target, lease.holder)
        record = parse(path, LeaseRecord)
        return record if record and record.lease.holder == lease.holder else None

    def overlay_of(self, lease: Lease) -> Overlay | None:
        """What this lease has laid, or None."""
        overlay = parse(self._path("overlays", lease.target, lease.holder), Overlay)
        return overlay if overlay and overlay.lease.holder == lease.holder else None

    def next_fencing(self, target: Target) -> int:
        """Counts one holder more for the target; never gives the same number twice."""
        path = self.directory / "autopilot" / "fencing" / _stem(target)
        number = int(path.read_text(encoding="utf-8")) + 1 if path.exists() else 1
        write_atomically(path, f"{number}\n")
        return number

    def write_lease(self, record: LeaseRecord) -> None:
        """Writes a lease record."""
        write_atomically(self._path("leases", record.lease.target, record.lease.holder), record.model_dump_json())

    def write_overlay(self, overlay: Overlay) -> None:
        """Writes an overlay record; `publish` makes proxies follow it."""
        write_atomically(self._path("overlays", overlay.lease.target, overlay.lease.holder), overlay.model_dump_json())

    def spares(self) -> list[Spare]:
        """Clusters that were made for faults, in use or not."""
        return self._read("spares", Spare)

    def write_spare(self, spare: Spare) -> None:
        """Writes which clusters a lease needs; `publish` makes proxies have them."""
        write_atomically(self._path("spares", spare.lease.target, spare.lease.holder), spare.model_dump_json())

    def spare_of(self, lease: Lease) -> Spare | None:
        """The clusters made for this lease, or None."""
        return parse(self._path("spares", lease.target, lease.holder), Spare)

    def drop_spare(self, spare: Spare) -> None:
        """Removes a spare: no request is in flight through its clusters any more."""
        self._path("spares", spare.lease.target, spare.lease.holder).unlink(missing_ok=True)

    def forget(self, lease: Lease) -> None:
        """Removes the overlay first and the lease last, so that a crash between leaves a lease to be swept."""
        self._path("overlays", lease.target, lease.holder).unlink(missing_ok=True)
        self._path("leases", lease.target, lease.holder).unlink(missing_ok=True)

    def remember_commit(self, lease: Lease) -> None:
        """Notes which holder was the last to commit, so that a repeated commit is told from a late one."""
        write_atomically(self._committed_file(lease.target), str(lease.holder))

    def committed(self, lease: Lease) -> bool:
        """Whether this lease was the last to be committed on its target."""
        path = self._committed_file(lease.target)
        return path.exists() and path.read_text(encoding="utf-8") == str(lease.holder)

    def remember_condemned(self, record: LeaseRecord) -> None:
        """Notes whose harm was found last: its run must not take the target again."""
        noted = Condemnation(
            operation=record.lease.holder.operation, token=record.token, reason=record.condemned or "harm was found"
        )
        write_atomically(self._condemned_file(record.lease.target), noted.model_dump_json())

    def condemned(self, target: Target) -> Condemnation | None:
        """Whose harm was found last on the target."""
        return parse(self._condemned_file(target), Condemnation)

    def remember_run(self, record: LeaseRecord) -> None:
        """Notes whose lease ended last: an earlier run of the same operation must not take the target."""
        if (last := LastRun.of(record)) is not None:
            write_atomically(self._last_run_file(record.lease.target), last.model_dump_json())

    def last_run(self, target: Target) -> LastRun | None:
        """Whose lease on the target ended last."""
        return parse(self._last_run_file(target), LastRun)

    # Proxies' files

    def rendered(
        self, now: float, overlays: list[Overlay] | None = None, spares: list[Spare] | None = None
    ) -> dict[str, ProxyFiles]:
        """What every proxy should have: the base and the overlays in force at `now` (seconds since the epoch)."""
        spec = self.mesh.spec
        alive = [overlay for overlay in (self.overlays() if overlays is None else overlays) if overlay.alive(now)]
        paths = {
            proxy.name: {
                name: str(self.routes_file(proxy.name, name))
                for name in (*(one.name for one in proxy.inbound), *(one.name for one in proxy.outbound))
            }
            for proxy in spec.proxies
        }
        return render(spec, alive, paths, self.spares() if spares is None else spares)

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

    def _committed_file(self, target: Target) -> Path:
        return self.directory / "autopilot" / "fencing" / f"{_stem(target)}.committed"

    def _condemned_file(self, target: Target) -> Path:
        return self.directory / "autopilot" / "fencing" / f"{_stem(target)}.condemned"

    def _last_run_file(self, target: Target) -> Path:
        return self.directory / "autopilot" / "fencing" / f"{_stem(target)}.last-run"

    def _path(self, folder: str, target: Target, holder: Holder) -> Path:
        return self.directory / "autopilot" / folder / f"{_stem(target)}.{holder.fencing}.json"

    def _read(self, folder: str, model: type[_Record]) -> list[_Record]:
        paths = sorted((self.directory / "autopilot" / folder).glob("*.json"))
        return [record for path in paths if (record := parse(path, model)) is not None]


def _stem(target: Target) -> str:
    return f"{target.namespace}.{target.service}"


def _differs(path: Path, content: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") != content
    except FileNotFoundError:
        return True
