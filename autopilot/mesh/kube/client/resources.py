"""Which Kubernetes resources are read and written, and where they are found."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object, as the API server serves it."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As objects say it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of one object, of a namespace's, or of all."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        return "/" + "/".join(parts)


LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SECRET = Resource("", "v1", "secrets", "Secret")
SERVICE = Resource("", "v1", "services", "Service")
POD = Resource("", "v1", "pods", "Pod")
ENDPOINT_SLICE = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
NODE = Resource("", "v1", "nodes", "Node")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
STATEFUL_SET = Resource("apps", "v1", "statefulsets", "StatefulSet")
DEPLOYMENT = Resource("apps", "v1", "deployments", "Deployment")
VIRTUAL_SERVICE = Resource("networking.istio.io", "v1", "virtualservices", "VirtualService")
DESTINATION_RULE = Resource("networking.istio.io", "v1", "destinationrules", "DestinationRule")
HTTP_ROUTE = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GRPC_ROUTE = Resource("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute")
TLS_ROUTE = Resource("gateway.networking.k8s.io", "v1alpha2", "tlsroutes", "TLSRoute")
TCP_ROUTE = Resource("gateway.networking.k8s.io", "v1alpha2", "tcproutes", "TCPRoute")
UDP_ROUTE = Resource("gateway.networking.k8s.io", "v1alpha2", "udproutes", "UDPRoute")
LINKERD_HTTP_ROUTE = Resource("policy.linkerd.io", "v1beta3", "httproutes", "HTTPRoute")
SERVICE_ENTRY = Resource("networking.istio.io", "v1", "serviceentries", "ServiceEntry")
ENVOY_FILTER = Resource("networking.istio.io", "v1alpha3", "envoyfilters", "EnvoyFilter")
TRAFFIC_SPLIT = Resource("split.smi-spec.io", "v1alpha2", "trafficsplits", "TrafficSplit")
CRD = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
