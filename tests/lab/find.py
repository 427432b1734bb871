"""Which cluster tests use: the first there is of these.

1. `AUTOPILOT_TEST_KUBECONFIG`: a cluster of one's own; namespaces are made and removed there.
2. The lab this process runs in (`python -m tests.lab run -- pytest tests/kube`): Istio, sidecars and Prometheus too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "AUTOPILOT_TEST_KUBECONFIG"
LAB = "AUTOPILOT_LAB"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and how much of one it is."""

    kubeconfig: Path
    lab: Path | None = None
    """State directory of the lab; None where it is somebody's own."""


def find() -> Cluster | str:
    """The cluster, or why there is none."""
    if named := os.environ.get(VARIABLE):
        return Cluster(Path(named))
    if state := os.environ.get(LAB):
        return Cluster(Path(state) / "credentials" / "admin.kubeconfig", Path(state))
    return f"there is no cluster: run `make test-lab`, or set {VARIABLE} to a kubeconfig"
