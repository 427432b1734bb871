"""Faults for a host outside the cluster: laid in its VirtualServices or in one of our own, and gone afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.faults.driver import FaultDriver
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.gateway_api import GatewayRoutes
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.service_entries import refuse_absent
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import Holder, InjectFault, Target
from autopilot.spec.chaos.experiment import PodKill
from autopilot.spec.chaos.faults import Abort, Partition
from autopilot.spec.chaos.scope import PathMatch, Scope
from autopilot.spec.cluster import ClusterMesh
from tests.mesh.kube.memory import Memory, service, shop

HOST = "api.payments.example"
TARGET = Target(mesh="m", namespace="shop", service=HOST)
HOLDER = Holder(operation="chaos/m/shop/x", fencing=7)
HALF = [InjectFault(fault=Abort(status=500), scope=Scope(percentage=50))]


def entry(*hosts: str, protocol: str = "HTTP", namespace: str = "shop", name: str = "payments") -> Object:
    spec = {"hosts": list(hosts), "ports": [{"number": 80, "name": "p", "protocol": protocol}], "resolution": "DNS"}
    return {"kind": "ServiceEntry", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def virtual_service(*rules: Object, hosts: tuple[str, ...] = (HOST,), **meta: Any) -> Object:
    named = {"name": "payments", "namespace": "shop", **meta}
    return {"kind": "VirtualService", "metadata": named, "spec": {"hosts": list(hosts), "http": list(rules)}}


def to(host: str) -> Object:
    return {"destination": {"host": host}}


def over(*objects: Object, driver: str = "plain") -> tuple[Memory, FaultDriver]:
    api = Memory([*shop("web"), *objects])
    return api, FaultDriver(KubeStore(api, "m", "autopilot"), IstioRoutes(api), driver)


def test_what_a_payment_provider_that_fails_does() -> None:
    rule = {"name": "pay", "match": [{"uri": {"prefix": "/v1"}}], "route": [to(HOST)]}
    api, faulting = over(entry(HOST), virtual_service(rule, {"name": "rest", "route": [to("web")]}))
    before = api.routes
    scope = Scope(path=PathMatch(prefix="/v1/charges"))
    faulting.check(TARGET, [InjectFault(fault=Abort(status=500), scope=scope)])
    faulting.lay(TARGET, HOLDER, [InjectFault(fault=Abort(status=500), scope=scope)], 100.0)
    laid, *others = api.routes["VirtualService", "shop", "payments"]["http"]
    assert laid["name"] == f"autopilot.{HOST}.7.0"
    assert laid["match"] == [{"uri": {"prefix": "/v1/charges"}}]
    assert laid["fault"]["abort"]["httpStatus"] == 500
    assert others == before["VirtualService", "shop", "payments"]["http"]
    (marked,) = faulting.marked("m")
    assert (marked.target, marked.mark.operation) == (TARGET, HOLDER.operation), "a guard finds it by its mark"
    assert faulting.take_away(TARGET, 7) == []
    assert api.routes == before


def test_a_host_without_a_route_gets_one_for_as_long_as_faults_are_laid() -> None:
    api, faulting = over(entry(HOST))
    before = api.routes
    faulting.lay(TARGET, HOLDER, HALF, 100.0)
    made = api.routes["VirtualService", "shop", f"autopilot-fault-{HOST}"]
    assert made["hosts"] == [HOST]
    (rule,) = made["http"]
    assert rule["route"] == [to(HOST)]
    assert rule["fault"]["abort"]["percentage"] == {"value": 50}
    assert faulting.look_after(TARGET, HOLDER, HALF, 100.0) == []
    faulting.take_away(TARGET, 7)
    assert api.routes == before


def test_copies_of_a_host_whose_name_ends_in_numbers_are_told_apart() -> None:
    host = "payments.v2.7"
    api, faulting = over(entry(host), virtual_service({"route": [to(host)]}, hosts=(host,)))
    target = TARGET.model_copy(update={"service": host})
    faulting.lay(target, HOLDER, [InjectFault(fault=Abort(), scope=Scope(method="POST"))], 100.0)
    body = api.objects["VirtualService", "shop", "payments"]
    del body["metadata"]["annotations"]
    assert [(mark.service, mark.fencing) for mark in fault_marks.marks_of(body)] == [(host, 7)]


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], "has no ServiceEntry for api.payments.example, and no ServiceEntry was found; write one for this host"),
        ([entry("a.example", "b.example")], "; ServiceEntries have a.example, b.example"),
        ([entry(HOST, namespace="edge")], "namespace edge has one, edge/payments: write metadata.namespace: edge"),
        ([entry("*.payments.example")], "ServiceEntry shop/payments has it among others, by a wildcard"),
        ([entry(HOST, protocol="TLS")], "is called by TLS, of which proxies see no requests: add a port"),
        (
            [entry(HOST), virtual_service({"route": [to("egress.istio-egress.svc.cluster.local")]})],
            "VirtualService shop/payments is for api.payments.example and no rule of it leads there",
        ),
        (
            [entry(HOST), virtual_service({"route": [to(HOST)]}, namespace="edge")],
            "VirtualService edge/payments leads to shop/api.payments.example and lies in another namespace",
        ),
    ],
)
def test_a_host_that_cannot_be_a_target_is_refused_with_what_to_do(objects: list[Object], said: str) -> None:
    api, faulting = over(*objects)
    before = api.routes
    with pytest.raises(InvalidChange) as refused:
        faulting.check(TARGET, HALF)
    assert said in str(refused.value)
    assert api.routes == before


@pytest.mark.parametrize("host", ["web.shop", "web.shop.svc", "web.shop.svc.cluster.local"])
def test_a_service_is_named_without_its_namespace(host: str) -> None:
    _, faulting = over()
    with pytest.raises(InvalidChange, match=f"{host} is Service shop/web: write target.service: web"):
        faulting.found(TARGET.model_copy(update={"service": host}))


@pytest.mark.parametrize("driver", ["plain", "envoyfilter"])
def test_a_host_outside_the_cluster_has_no_pods_to_cut_off(driver: str) -> None:
    _, faulting = over(entry(HOST), driver=driver)
    with pytest.raises(InvalidChange, match="is a host outside the cluster, which has no pods here; nearest: an abort"):
        faulting.check(TARGET, [InjectFault(fault=Partition())])


@pytest.mark.parametrize("routes", [(), (virtual_service({"name": "pay", "route": [to(HOST)]}),)], ids=["none", "one"])
def test_proxies_can_drop_the_faults_of_a_host_by_themselves(routes: tuple[Object, ...]) -> None:
    tls = {"number": 443, "name": "tls", "protocol": "TLS"}
    both = entry(HOST)
    both["spec"]["ports"].append(tls)
    api, faulting = over(both, *routes, driver="envoyfilter")
    faulting.lay(TARGET, HOLDER, HALF, 100.0)
    made = api.objects["EnvoyFilter", "istio-system", f"autopilot.shop.{HOST}.fault.7"]
    told, met = made["spec"]["configPatches"]
    name = "pay" if routes else "default"
    assert told["match"]["routeConfiguration"]["vhost"] == {"name": f"{HOST}:80", "route": {"name": name}}
    (cluster,) = met["patch"]["value"]["route"]["weighted_clusters"]["clusters"]
    assert cluster["name"] == f"outbound|80||{HOST}"
    assert [marked.target for marked in faulting.marked("m")] == [TARGET]
    faulting.take_away(TARGET, 7)
    assert faulting.marked("m") == []


def test_other_providers_know_no_hosts_outside_the_cluster() -> None:
    api = Memory([service("web"), entry(HOST)])
    with pytest.raises(InvalidChange, match="only on Istio, by a ServiceEntry; this mesh's provider is gateway_api"):
        refuse_absent(api, TARGET, GatewayRoutes.provider)


def test_a_mesh_observes_a_host_and_kills_no_pods_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    api = Memory([*shop("web"), entry(HOST), virtual_service({"route": [to(HOST)]})])
    monkeypatch.setattr("autopilot.mesh.kube.mesh.KubeApi", lambda *_: api)
    document = ClusterMesh.model_validate(
        {
            "apiVersion": "meshautopilot.io/v1alpha1",
            "kind": "Mesh",
            "metadata": {"name": "m"},
            "spec": {"provider": "istio"},
        }
    )
    mesh = KubeMesh(document, tmp_path)

    async def look() -> None:
        state = await mesh.observe(TARGET)
        assert [(arm.name, arm.endpoints) for arm in state.arms] == [(HOST, ())]
        plan = await mesh.plan(TARGET, HALF)
        assert f"+    fault.meshautopilot.io/{HOST}" in plan.diff
        with pytest.raises(InvalidChange, match="has no pods here"):
            await mesh.check_action(TARGET, PodKill())

    asyncio.run(look())
