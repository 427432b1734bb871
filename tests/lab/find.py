"""Which cluster tests use: the first there is of these.

1. `AUTOPILOT_TEST_KUBECONFIG`: a cluster of one's own; namespaces are made and removed there.
2. `KUBEBUILDER_ASSETS`: etcd and kube-apiserver from that folder: an API server without controllers, for tests of it.
3. A k3s container, where an engine runs that can pull it (testcontainers).
4. The lab: Istio, sidecars and Prometheus too; needs root, and Go unless it was built before.

`AUTOPILOT_REQUIRE=lab` asks for the last alone: what cannot run then is a failure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab import build, network
from tests.lab.build import LabUnavailable

VARIABLE = "AUTOPILOT_TEST_KUBECONFIG"
ASSETS = "KUBEBUILDER_ASSETS"
REQUIRE = "AUTOPILOT_REQUIRE"
LAB = "AUTOPILOT_LAB"
"""Set for whatever runs inside a lab: its state directory."""
API_ONLY = "AUTOPILOT_TEST_API_ONLY"
_K3S = "rancher/k3s:v1.34.1-k3s1"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and how much of one it is."""

    kubeconfig: Path
    lab: Path | None = None
    """State directory of the lab; None where it is somebody's own."""
    api_only: bool = False
    """Whether nothing but an API server runs: no Deployment ever gets a pod."""


def find() -> Cluster | str:
    """The cluster that this process is to use, or why there is none."""
    if state := os.environ.get(LAB):
        return Cluster(Path(state) / "credentials" / "admin.kubeconfig", Path(state))
    if named := os.environ.get(VARIABLE):
        return Cluster(Path(named), api_only=bool(os.environ.get(API_ONLY)))
    return f"there is no cluster: run `make test-lab`, or set {VARIABLE} to a kubeconfig"


def lab_problem() -> str:
    """Why there can be no lab here; empty where there can."""
    try:
        network.check()
    except LabUnavailable as problem:
        return str(problem)
    if build.missing() and shutil.which("go") is None:
        return "the lab's programs are not built yet, and there is no Go (>= 1.26) to build them with"
    return ""


def required() -> bool:
    """Whether the lab is asked for, and nothing less will do."""
    return os.environ.get(REQUIRE) == "lab"


def wanted() -> bool:
    """Whether nothing is set that names another cluster."""
    return not any(os.environ.get(name) for name in (LAB, VARIABLE, ASSETS))


@contextlib.contextmanager
def container() -> Iterator[Path | str]:
    """A k3s container's kubeconfig, or why there is none."""
    problem = engine_problem()
    if problem:
        yield problem
        return
    from testcontainers.k3s import K3SContainer  # noqa: PLC0415 - slow to load, and seldom wanted

    with K3SContainer(_K3S) as running, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kubeconfig"
        file.write_text(running.config_yaml(), encoding="utf-8")
        yield file


def engine_problem() -> str:
    """Why no container can be run; empty where the image is there, or could be pulled."""
    if shutil.which("docker") is None:
        return "no container engine (`docker` is not on PATH)"
    try:
        for command in (["docker", "image", "inspect", _K3S], ["docker", "pull", "--quiet", _K3S]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode == 0:
                return ""
    except subprocess.TimeoutExpired:
        return f"{_K3S} could not be pulled within two minutes"
    return (
        f"{_K3S} cannot be pulled: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no reason given'}"
    )
