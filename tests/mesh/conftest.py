"""A small standalone mesh on disk, and a clock that tests move."""

from __future__ import annotations

from pathlib import Path

import pytest

from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.model import Aspect, Lease, SplitTraffic, Target

REVIEWS = Target(mesh="local", namespace="shop", service="reviews")
MESH = """\
# our shop
apiVersion: meshautopilot.io/v1alpha1
kind: Mesh
metadata: {name: local}
spec:
    maxUnattended: 60s
    services:
        - name: reviews
          namespace: shop
          arms:
              v1: {endpoints: ["127.0.0.1:9001"]}
              v2: {endpoints: ["127.0.0.1:9002", "127.0.0.1:9003"]}
              v3: {endpoints: []}
          weights: {v1: 100}  # who serves
        - name: ratings
          namespace: shop
          arms: {v1: {endpoints: ["127.0.0.1:9004"]}}
          weights: {v1: 100}
    proxies:
        - name: web
          admin: 127.0.0.1:9901
          outbound: [{name: out, address: "127.0.0.1:15001", services: [shop/reviews, shop/ratings]}]
        - name: ingress
          admin: 127.0.0.1:9902
          outbound: [{name: only, address: "127.0.0.1:15002", services: [shop/ratings]}]
"""


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def mesh_file(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.yaml"
    path.write_text(MESH, encoding="utf-8")
    prepare(path)
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(mesh_file: Path, clock: Clock) -> Ledger:
    return Ledger(Store(mesh_file), clock)


def split(v2: float) -> tuple[SplitTraffic]:
    return (SplitTraffic(weights={"v1": 100 - v2, "v2": v2}),)


def take(ledger: Ledger, operation: str = "canary/a", *, token: str = "run", ttl: float = 120) -> Lease:
    return ledger.acquire(REVIEWS, [Aspect.TRAFFIC], operation=operation, token=token, ttl=ttl, planned_end=None)


def published(ledger: Ledger) -> dict[str, str]:
    """Every file that a proxy follows."""
    root = ledger.store.directory / "proxies"
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.json"))}
