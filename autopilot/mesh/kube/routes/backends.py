"""What destinations of routes lead to: Services, and subsets of them, told by their hosts. Arms are such *backends*.

An arm is what the spec says and nothing else: one subset of the target's DestinationRule, or one Service, by its exact
name. Nothing is guessed from a name or from a neighbourhood.
"""

from __future__ import annotations

from collections.abc import Mapping

from autopilot.wire import Wire

DOMAIN = "svc.cluster.local"


class Backend(Wire):
    """A Service, or a subset of its pods."""

    host: str
    """Fully qualified; of a route's backend of another kind than Service, something that no Service is called."""
    subset: str = ""

    def __hash__(self) -> int:
        return hash((self.host, self.subset))

    @property
    def name(self) -> str:
        """The Service's own name."""
        return self.host.partition(".")[0]

    @property
    def namespace(self) -> str:
        """The Service's namespace; empty where the host is none of this cluster's Services."""
        name, _, rest = self.host.partition(".")
        namespace, _, domain = rest.partition(".")
        return namespace if name and domain == DOMAIN else ""

    @property
    def whole(self) -> Backend:
        """All pods of its Service."""
        return Backend(host=self.host)

    @property
    def words(self) -> str:
        """For people: `web`, or `web, subset v1`."""
        return f"{self.name}, subset {self.subset}" if self.subset else self.name


Arms = Mapping[str, tuple[Backend, ...]]
"""Arm → what leads to its pods and to no others; the first is what a new destination for it names."""


def service_backend(name: str, namespace: str) -> Backend:
    """A Service of the cluster, or a host outside it, which has dots."""
    return Backend(host=name if "." in name else f"{name}.{namespace}.{DOMAIN}")


def host_of(host: str, namespace: str) -> str:
    """A host as Istio reads it in this namespace: a name without any dot is completed, every other is taken as it is.

    Source: `ResolveShortnameToFQDN` in Istio's `pkg/config/host`; its reference says the same of VirtualServices.
    """
    return f"{host}.{namespace}.{DOMAIN}" if host and "." not in host and host != "*" else host


def meant(host: str) -> str:
    """The Service's full host that somebody may have meant by `web.shop` or `web.shop.svc`; empty for all others."""
    parts = host.split(".")
    short = len(parts) == 2 or (len(parts) == 3 and parts[2] == "svc")
    return f"{parts[0]}.{parts[1]}.{DOMAIN}" if short and all(parts) and "*" not in host else ""
