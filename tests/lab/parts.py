"""The control plane's processes: how each is started, and how each shows that it is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from autopilot.local import envoy
from autopilot.local.parts import Part, Probe
from autopilot.local.processes import environment
from tests.lab import build
from tests.lab.credentials import API, Credentials
from tests.lab.network import SERVICES

ISTIOD_XDS = "127.0.0.1:15010"
ISTIOD_DEBUG = "http://127.0.0.1:18080"
PROMETHEUS = "http://127.0.0.1:9090"
NODE_PODS = "10.244.1.0/24"
_MESH_CONFIG = {
    "enableAutoMtls": False,  # there is no certificate authority here
    "enablePrometheusMerge": False,
    "defaultProviders": {},
    "accessLogFile": "",
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Makes the parts of one lab.

    Args:
        programs: folder of the binaries.
        home: where state and configuration lie.
        credentials: whose tokens and keys they use.
    """

    programs: Path
    home: Path
    credentials: Credentials

    def _part(self, name: str, *flags: str, probe: Probe, limit: float = 30.0, **env: str) -> Part:
        command = (str(self.programs / name), *flags)
        return Part(name, command, environment(env), probe, limit=limit, grace=3.0)

    def etcd(self) -> Part:
        """Keeps what the API server knows; without fsync, for the lab outlives no crash."""
        return self._part(
            "etcd",
            f"--data-dir={self.home / 'etcd'}",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
            probe=Probe("http://127.0.0.1:2379/readyz"),
        )

    def apiserver(self) -> Part:
        """kube-apiserver."""
        keys = self.credentials
        return self._part(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            "--secure-port=6443",
            "--bind-address=127.0.0.1",
            "--advertise-address=10.244.255.1",
            f"--tls-cert-file={keys.certificate}",
            f"--tls-private-key-file={keys.certificate_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={keys.signing_key}",
            f"--service-account-key-file={keys.signing_key}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={keys.tokens}",
            f"--service-cluster-ip-range={SERVICES}",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--v=0",
            probe=Probe(f"{API}/readyz"),
            limit=60.0,
        )

    def controller_manager(self) -> Part:
        """kube-controller-manager: Deployments, EndpointSlices and garbage collection."""
        return self._part(
            "kube-controller-manager",
            f"--kubeconfig={self.credentials.kubeconfig()}",
            "--controllers=*,-node-lifecycle-controller",
            "--leader-elect=false",
            "--secure-port=10257",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.home / 'certificates'}",
            "--concurrent-deployment-syncs=1",
            "--v=0",
            probe=Probe("https://127.0.0.1:10257/healthz"),
        )

    def kwok(self) -> Part:
        """Plays the node: its pods become ready, with addresses that are all ours."""
        stages = build.module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage"
        files = [
            stages / "node" / "fast" / "node-initialize.yaml",
            stages / "node" / "heartbeat-with-lease" / "node-heartbeat-with-lease.yaml",
            *(stages / "pod" / "fast" / f"pod-{what}.yaml" for what in ("ready", "complete", "delete")),
        ]
        return self._part(
            "kwok",
            f"--kubeconfig={self.credentials.kubeconfig()}",
            "--manage-all-nodes",
            f"--cidr={NODE_PODS}",
            "--node-ip=10.244.255.2",
            "--server-address=127.0.0.1:10247",
            *(f"--config={file}" for file in files),
            probe=Probe("http://127.0.0.1:10247/healthz"),
        )

    def istiod(self) -> Part:
        """Istio's control plane, without certificates and webhooks."""
        config = self.home / "mesh-config.yaml"
        with config.open("w", encoding="utf-8") as file:
            YAML().dump(_MESH_CONFIG, file)
        return self._part(
            "istiod",
            "discovery",
            f"--kubeconfig={self.credentials.kubeconfig()}",
            "--httpAddr=127.0.0.1:18080",
            f"--grpcAddr={ISTIOD_XDS}",
            "--secureGRPCAddr=",
            "--httpsAddr=",
            "--monitoringAddr=127.0.0.1:15014",
            f"--meshConfig={config}",
            "--ctrlz_port=0",
            "--log_output_level=default:warn",
            probe=Probe(f"{ISTIOD_DEBUG}/ready", lambda _: True),
            limit=60.0,
            ENABLE_CA_SERVER="false",
            INJECTION_WEBHOOK_CONFIG_NAME="",
            VALIDATION_WEBHOOK_CONFIG_NAME="",
            PILOT_ENABLE_METADATA_EXCHANGE="false",
            PILOT_ENABLE_ALPN_FILTER="false",
            POD_NAMESPACE="istio-system",
            POD_NAME="istiod-0",
        )

    def sidecar(self, name: str, bootstrap: Path, admin: str) -> Part:
        """One pod's Envoy."""
        words = envoy.command(envoy.find(), bootstrap)
        return Part(f"envoy-{name}", tuple(words), environment({}), Probe(f"{admin}/ready"), limit=20.0)

    def python(self, name: str, module: str, arguments: Sequence[str], probe: Probe) -> Part:
        """One of the lab's own programs."""
        import sys  # noqa: PLC0415

        root = Path(__file__).parents[2]
        command = (sys.executable, "-m", module, *arguments)
        return Part(name, command, environment({"PYTHONPATH": str(root)}), probe, grace=3.0)
