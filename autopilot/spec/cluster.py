"""Mesh, of a cluster: where a mesh that Kubernetes steers is found, and what its routes are written in.

Nothing of the mesh itself stands here: services, versions and routes are what the cluster says they are.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopilot.spec.base import Metadata, Misplaced, SpecModel
from autopilot.spec.chaos.limits import Ceilings
from autopilot.spec.mesh import Directory
from autopilot.spec.prometheus import PrometheusSpec
from autopilot.spec.values.units import Count, Name, Seconds

ClusterProvider = Literal["istio", "gateway_api", "smi"]
STANDALONE = "envoy"


class ClusterSpec(SpecModel):
    """A cluster, and the API that its routes are written in."""

    provider: ClusterProvider
    """`istio`: VirtualServices; `gateway_api`: HTTPRoutes and GRPCRoutes; `smi`: TrafficSplits."""
    driver: Literal["plain", "envoyfilter"] = "plain"
    """How overlays are laid: `plain`, in the provider's own routes; `envoyfilter` (istio alone), as separate
    EnvoyFilters, which proxies drop by themselves when no process of Autopilot lives."""
    filters_namespace: Name = "istio-system"
    """Where `envoyfilter` puts EnvoyFilters. In Istio's root namespace they reach callers in every namespace; in any
    other, only the callers in that one."""
    kubeconfig: Directory | None = None
    """Path of the credentials, relative to the file that says so; by default `$KUBECONFIG`, `~/.kube/config`, or those
    of the pod that the process runs in."""
    context: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Which context of the kubeconfig; by default its current one."""
    namespace: Name = "autopilot"
    """Autopilot's own namespace, for halts and audit records. It must exist."""
    telemetry: Literal["prometheus", "proxies"] = "prometheus"
    """The source for `analysis.source: mesh`: Prometheus; or the arms' own proxies (their statistics at port 15090),
    where Prometheus scrapes too slowly."""
    prometheus: PrometheusSpec = PrometheusSpec()
    """Where Prometheus is, and how to ask it; by default the address that the worker is given with `--prometheus`.
    A Secret that names no namespace is in `namespace`."""
    metrics: Literal["istio", "linkerd"] | None = None
    """Which mesh's standard metrics are read; by default Linkerd's for `smi`, and Istio's otherwise."""
    max_proxies: Annotated[Count, Field(ge=1, le=500)] = 40
    """Maximum number of proxies that are read, only during a rollout; a service with more needs Prometheus."""
    max_unattended: Annotated[Seconds, Field(ge=1)] = 120.0
    """Maximum time that an overlay outlives the last renewal by its holder, while any guard runs; with
    `driver: envoyfilter`, also when no process of Autopilot runs."""

    chaos: Ceilings = Ceilings()
    """Limits for experiments in this mesh."""

    @model_validator(mode="after")
    def _driver_is_known_to_the_provider(self) -> Self:
        if self.driver == "envoyfilter" and self.provider != "istio":
            raise Misplaced(
                f"is 'envoyfilter', which provider {self.provider} does not support",
                at=("driver",),
                hint="leave it out",
            )
        return self


class ClusterMesh(SpecModel):
    """A mesh that a Kubernetes cluster steers."""

    api_version: Literal["meshautopilot.io/v1alpha1"] = "meshautopilot.io/v1alpha1"
    kind: Literal["Mesh"] = "Mesh"
    metadata: Metadata
    spec: ClusterSpec


def in_a_cluster(document: object) -> bool:
    """Whether a mesh document, as YAML has it, is meant to describe a cluster: by its provider, be it misspelt."""
    spec = document.get("spec") if isinstance(document, dict) else None
    if not isinstance(spec, dict) or spec.keys() & {"services", "proxies"}:
        return False
    return bool(spec.get("provider", STANDALONE) != STANDALONE)
