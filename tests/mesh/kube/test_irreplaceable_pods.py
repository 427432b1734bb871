"""Pods that an action would lose for good are named, with what to write if that is meant: as `kubectl drain` does."""

from __future__ import annotations

from typing import Any

import pytest

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.workloads.irreplaceable_pods import evictable, refuse_losses
from autopilot.spec.chaos.experiment import Drain, PodKill


def pod(name: str, owner: str | None = "ReplicaSet", *, controller: bool = True, phase: str = "Running") -> Any:
    owners = [{"kind": owner, "name": "o", "uid": "u", "controller": controller}] if owner else []
    return {"metadata": {"namespace": "shop", "name": name, "ownerReferences": owners}, "status": {"phase": phase}}


def with_cache(name: str) -> Any:
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "c"}}]
    return {**pod(name, "StatefulSet"), "spec": {"volumes": volumes}}


BY_HAND, ADOPTED = pod("migration-by-hand", None), pod("adopted", "Team", controller=False)
PODS = [pod("web-1"), BY_HAND, ADOPTED, with_cache("cache-0")]


def test_a_drain_names_every_pod_it_would_lose_and_what_to_write() -> None:
    with pytest.raises(InvalidChange) as caught:
        refuse_losses(Drain(node="node-1"), PODS, "node node-1")
    assert str(caught.value) == (
        "drain of node node-1 would lose what cannot be restored: no controller would start shop/migration-by-hand, "
        "shop/adopted again; data in emptyDir volumes would be deleted with shop/cache-0 (emptyDir data). Nothing was "
        "changed. Move these pods first, or write in the action force: true to lose pods without a controller and "
        "deleteEmptyDirData: true to lose such data"
    )


def test_each_field_gives_up_its_own_kind_alone() -> None:
    with pytest.raises(InvalidChange) as caught:
        refuse_losses(Drain(node="n", force=True), PODS, "node n")
    assert "migration" not in str(caught.value)
    assert "shop/cache-0" in str(caught.value)
    with pytest.raises(InvalidChange) as caught:
        refuse_losses(Drain(node="n", delete_empty_dir_data=True), PODS, "node n")
    assert "cache" not in str(caught.value)
    refuse_losses(Drain(node="n", force=True, delete_empty_dir_data=True), PODS, "node n")


def test_a_kill_loses_pods_and_not_nodes() -> None:
    refuse_losses(PodKill(), [pod("web-1"), with_cache("cache-0")], "shop/web")
    with pytest.raises(InvalidChange, match="shop/migration-by-hand"):
        refuse_losses(PodKill(), PODS, "shop/web")
    refuse_losses(PodKill(force=True), PODS, "shop/web")


def test_what_stays_or_has_ended_is_not_asked_about() -> None:
    mirror = pod("static", None)
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    stay = [
        pod("agent", "DaemonSet"),
        pod("done", None, phase="Succeeded"),
        pod("failed", None, phase="Failed"),
        mirror,
    ]
    assert evictable([*stay, BY_HAND]) == [BY_HAND]
