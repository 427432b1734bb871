"""Arms that are Services by their exact names: where routes have no other way to tell versions."""

from __future__ import annotations

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import SERVICE
from autopilot.mesh.kube.routes.backends import Arms, Backend, service_backend
from autopilot.mesh.kube.routes.base import addresses
from autopilot.mesh.model import Target
from autopilot.spec.values.arms import kind_of, name_of


class ServiceArms:
    """What providers share whose arms are Services; see `Routes`."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def known(self, target: Target) -> Arms:
        """Nothing tells the versions of a Service, where no route does."""
        del target
        return {}

    def subsets(self, target: Target) -> dict[str, dict[str, str]]:
        """There are none."""
        del target
        return {}

    def resolve(self, target: Target, arm: str) -> Backend:
        """A Service of the target's namespace.

        Raises:
            InvalidChange: there is none of that name.
        """
        name = name_of(arm)
        if kind_of(arm) == "subset" or self._api.get(SERVICE, name, target.namespace) is None:
            names = ", ".join(sorted(one["metadata"]["name"] for one in self._api.list(SERVICE, target.namespace)))
            raise InvalidChange(
                f"{target.ref} has no arm {arm}: namespace {target.namespace} has no Service of that name; it has "
                f"{names or 'none'}"
            )
        return service_backend(name, target.namespace)

    def endpoints(self, backend: Backend) -> tuple[str, ...]:
        """Ready endpoints of a Service."""
        return addresses(self._api, backend.namespace, backend.name) if backend.namespace else ()
