"""Looks at objects of a cluster for probes: any kind that the API server lists in its discovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from activities.probes.tolerance import Seen, judged
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.api_errors import Absent
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import Resource
from autopilot.spec.chaos.probes import KubernetesProbe

_T = TypeVar("_T")
_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class _Discovery(Resource):
    """What a group and version serves, where the API server says it."""

    def path(self, namespace: str | None = None, name: str | None = None) -> str:  # noqa: ARG002 - all of it at once
        """Of the whole group and version."""
        return "/" + "/".join(["apis", self.group, self.version] if self.group else ["api", self.version])


@dataclass(frozen=True, slots=True)
class Served:
    """A kind as a cluster serves it."""

    resource: Resource
    namespaced: bool


class Objects:
    """The objects of one cluster.

    Its threads are its own: an API server that hangs holds up probes of this cluster, and nobody who restores.
    """

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._served: dict[tuple[str, str], Served] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kubernetes probe")

    async def refuse(self, probe: KubernetesProbe) -> None:
        """Checks that the cluster serves the kind.

        Raises:
            InvalidChange: it does not.
            MeshUnavailable: it does not answer.
        """
        try:
            await self._in_thread(lambda: self._find(probe))
        except Absent as error:
            raise InvalidChange(str(error)) from error

    async def look(self, probe: KubernetesProbe) -> Seen:
        """Reads the object, or counts those that are selected.

        Raises:
            MeshError: there is nothing to see: no answer, no permission, no such kind.
        """
        if probe.selector is not None:
            return await self._counted(probe, await self._in_thread(lambda: self._list(probe)))
        body = await self._in_thread(lambda: self._get(probe))
        what = f"{probe.kind} {self._where(probe)}"
        if body is None:
            return Seen(probe.absent, "absent", "" if probe.absent else f"{what} was not found")
        if probe.absent:
            return Seen(ok=False, value="present", note=f"{what} exists, and must not")
        if probe.tolerance is None:
            return Seen(ok=True, value="present")
        ok, note = await judged(probe.tolerance, body, f"{what}: ")
        if note and probe.kind == "Secret":
            note = f"{what}: the tolerance does not hold, or there is nothing to judge; what Secrets hold is not shown"
        return Seen(ok, "present", note)

    def close(self) -> None:
        """Releases the threads; requests in flight are completed."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _counted(self, probe: KubernetesProbe, count: int) -> Seen:
        what = f"{probe.kind} with {probe.selector} in {self._where(probe)}"
        if probe.absent:
            return Seen(not count, str(count), f"found {count} {what}, and there must be none" if count else "")
        if probe.tolerance is None:
            return Seen(bool(count), str(count), "" if count else f"no {what} was found")
        ok, note = await judged(probe.tolerance, count, f"number of {what}: ")
        return Seen(ok, str(count), note)

    def _where(self, probe: KubernetesProbe) -> str:
        served = self._served.get((probe.api_version, probe.kind))
        namespace = (probe.namespace or self._namespace) if served is None or served.namespaced else ""
        if probe.object is None:
            return namespace or "the cluster"
        return f"{namespace}/{probe.object}" if namespace else probe.object

    def _get(self, probe: KubernetesProbe) -> Object | None:
        served = self._find(probe)
        return self._api.get(served.resource, probe.object or "", self._namespace_of(probe, served))

    def _list(self, probe: KubernetesProbe) -> int:
        served = self._find(probe)
        return len(self._api.list(served.resource, self._namespace_of(probe, served), labels=probe.selector or ""))

    def _namespace_of(self, probe: KubernetesProbe, served: Served) -> str | None:
        return (probe.namespace or self._namespace) if served.namespaced else None

    def _find(self, probe: KubernetesProbe) -> Served:
        """The kind as the API server serves it; cached, since every look needs it.

        Raises:
            Absent: it serves no such kind.
        """
        key = (probe.api_version, probe.kind)
        if (known := self._served.get(key)) is not None:
            return known
        group, _, version = probe.api_version.rpartition("/")
        try:
            answer = self._api.get(_Discovery(group, version, "", probe.kind), "") or {}
        except Absent:
            answer = {}
        for each in answer.get("resources", ()):
            if each.get("kind") == probe.kind and "/" not in each.get("name", "/"):
                resource = Resource(group, version, each["name"], probe.kind)
                self._served[key] = Served(resource, bool(each.get("namespaced")))
                return self._served[key]
        raise Absent(
            f"the cluster does not serve {probe.kind} ({probe.api_version}); install its CRD, or correct kind and "
            "apiVersion (`kubectl api-resources` lists all)"
        )

    async def _in_thread(self, step: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, step)
