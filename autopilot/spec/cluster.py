"""Mesh, of a cluster: where a mesh that Kubernetes steers is found, and what its routes are written in.

Nothing of the mesh itself stands here: services, versions and routes are what the cluster says they are.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopilot.spec.base import Metadata, Misplaced, SpecModel
from autopilot.spec.ceilings import Ceilings
from autopilot.spec.mesh import Directory
from autopilot.spec.units import Count, Name, Seconds

ClusterProvider = Literal["istio", "gateway_api", "smi"]
STANDALONE = "envoy"


class ClusterSpec(SpecModel):
    """A cluster, and the API that its routes are written in."""

    provider: ClusterProvider
    """`istio`: VirtualServices; `gateway_api`: HTTPRoutes and GRPCRoutes; `smi`: TrafficSplits."""
    driver: Literal["plain", "envoyfilter"] = "plain"
    """How overlays are laid: `plain`, in the provider's own routes; `envoyfilter` (istio alone), as EnvoyFilters of
    our own, which proxies let go of by themselves when nothing of ours lives."""
    filters_namespace: Name = "istio-system"
    """Where `envoyfilter` puts EnvoyFilters. In Istio's root namespace they reach callers in every namespace; in any
    other, the callers of that one alone."""
    kubeconfig: Directory | None = None
    """Path of the credentials, relative to the file that says so; by default `$KUBECONFIG`, `~/.kube/config`, or those
    of the pod that the process runs in."""
    context: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Which context of the kubeconfig; by default its current one."""
    namespace: Name = "autopilot"
    """Autopilot's own: where halts and audit records lie. It must exist."""
    telemetry: Literal["prometheus", "proxies"] = "prometheus"
    """What `analysis.source: mesh` means here: Prometheus, which the worker is told of with `--prometheus`; or the
    arms' own proxies (their statistics at port 15090), where Prometheus scrapes too slowly."""
    metrics: Literal["istio", "linkerd"] | None = None
    """Whose standard metrics are read; by default Linkerd's for `smi`, and Istio's otherwise."""
    max_proxies: Annotated[Count, Field(ge=1, le=500)] = 40
    """So many proxies are read at the most, only while a rollout is watched; a service with more needs Prometheus."""
    max_unattended: Annotated[Seconds, Field(ge=1)] = 120.0
    """How long an overlay outlives the last sign of life of whoever holds it, at the most, while any guard lives; with
    `driver: envoyfilter`, whether or not anything of ours lives."""

    chaos: Ceilings = Ceilings()
    """How far experiments may go here."""

    @model_validator(mode="after")
    def _driver_is_known_to_the_provider(self) -> Self:
        if self.driver == "envoyfilter" and self.provider != "istio":
            raise Misplaced(
                f"is 'envoyfilter', which provider {self.provider} has not", at=("driver",), hint="leave it out"
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
