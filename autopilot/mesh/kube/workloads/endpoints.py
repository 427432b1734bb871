"""How many endpoints of a version are ready now: asked every second or two of a rollout, so it costs few requests.

Metrics of callers do not say it: what a proxy answers itself because no endpoint is left belongs to no version there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENDPOINT_SLICE, POD
from autopilot.mesh.kube.routes.base import Routes
from autopilot.mesh.model import Target
from autopilot.spec.values.arms import kind_of, name_of

_THREADS = 4


class Readiness:
    """Counts ready endpoints in threads of its own: an API server that hangs must not keep renewals waiting.

    Args:
        api: the cluster.
        routes: tell which arms are some of a Service's pods.
    """

    def __init__(self, api: KubeApi, routes: Routes) -> None:
        self._api = api
        self._routes = routes
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="readiness")

    async def count(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        """Ready endpoints of each arm; an arm that this cluster keeps no EndpointSlices of is left out.

        Raises:
            MeshUnavailable: the API server does not answer.
            Forbidden: our credentials do not allow it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._count, target, tuple(arms))

    def close(self) -> None:
        """Releases the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _count(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        subsets = self._routes.subsets(target)
        counted = {}
        for arm in arms:
            labels = subsets.get(name_of(arm)) if kind_of(arm) != "service" else None
            slices = self._slices(target, name_of(arm) if labels is None else target.service)
            if slices:  # without one it is no Service of this cluster, or its endpoints are not Kubernetes' affair
                counted[arm] = len(_ready(slices) if labels is None else self._with(target, slices, labels))
        return counted

    def _slices(self, target: Target, service: str) -> list[Object]:
        return self._api.list(ENDPOINT_SLICE, target.namespace, labels=f"kubernetes.io/service-name={service}")

    def _with(self, target: Target, slices: Sequence[Object], labels: Mapping[str, str]) -> set[str]:
        """The ready endpoints of the target that are pods with a subset's labels."""
        ready = _ready(slices)
        if not labels or not ready:
            return ready
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        return ready & {
            address
            for body in self._api.list(POD, target.namespace, labels=selector)
            for address in _addresses(body.get("status") or {})
        }


def _ready(slices: Sequence[Object]) -> set[str]:
    """Addresses of the endpoints that take requests; a condition that is not stated counts as met."""
    return {
        str(address)
        for body in slices
        for endpoint in body.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or []
    }


def _addresses(status: Object) -> set[str]:
    """Every address of a pod: one for each family."""
    return {str(one["ip"]) for one in status.get("podIPs") or [] if one.get("ip")} | {str(status.get("podIP") or "")}
