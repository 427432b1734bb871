"""Probes against real servers, real programs and a real Prometheus: what each finds, and that each ends in time."""

from __future__ import annotations

import asyncio
import math
import os
import re
import socket
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from activities.probes.runner import ProbeRunner, allowed_probes
from autopilot.evidence.chaos.hypothesis import Look
from autopilot.mesh.errors import InvalidChange, MeshUnavailable
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Target, TargetState
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.chaos.probes import Probe
from autopilot.spec.cluster import ClusterMesh
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import TelemetryError
from autopilot.telemetry.prometheus.source import PrometheusSource
from tests.telemetry.fakes import ScriptedSource, seen
from tests.telemetry.running import running

TARGET = Target(mesh="local", namespace="shop", service="reviews")
ALL = frozenset({"process", "python"})
PROBE: TypeAdapter[Probe] = TypeAdapter(Probe)
LATE = 1.5
"""Seconds beyond its timeout in which a look must have ended: the suite shares its processors with others."""


def probe(kind_: str, name: str = "asked", **more: Any) -> Probe:
    return PROBE.validate_python({"type": kind_, "name": name, "timeout": 5, **more})


class Reviews:
    """A mesh that knows one service."""

    name = "local"

    async def observe(self, target: Target) -> TargetState:
        if target != TARGET:
            raise InvalidChange(f"the mesh has no service {target.ref}")
        return TargetState(target=target, arms=())


def attached(**more: Any) -> AttachedMesh:
    return AttachedMesh(**{"mesh": Reviews(), "proxies": None, **more})


@pytest.fixture
async def prober() -> AsyncIterator[ProbeRunner]:
    made = ProbeRunner(attached(), TARGET, ALL)
    yield made
    await made.close()


async def looked(prober: ProbeRunner, asked: Probe) -> Look:
    """One look, which must end in time and travel."""
    began = time.monotonic()
    look = await prober.look(asked)
    assert time.monotonic() - began < asked.timeout + LATE
    assert abs(look.time - time.time()) < asked.timeout + 2 * LATE
    return Look.model_validate_json(look.model_dump_json())


# HTTP


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[str]:
    """Says what its path asks for; `/log` tells how it was asked last."""
    last: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/log":
                return web.json_response(last)
            case "/slow":
                await asyncio.sleep(30)
            case "/500":
                return web.Response(status=500)
            case "/elsewhere":
                return web.Response(status=302, headers={"location": "/500"})
            case "/json":
                return web.json_response({"status": {"phase": "Ready", "replicas": 3}})
            case "/reset" if request.transport is not None:
                request.transport.abort()
            case "/endless":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(b"a" * 65536)
            case "/half":
                response = web.StreamResponse(headers={"content-length": "100"})
                await response.prepare(request)
                await response.write(b"half")
                await asyncio.sleep(30)
        last.update(
            method=request.method,
            header=request.headers.get("x-user"),
            body=await request.text(),
            from_=request.transport.get_extra_info("peername") if request.transport else None,
        )
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "more", "ok"),
    [
        ("/", {}, True),
        ("/500", {}, False),
        ("/500", {"tolerance": {"equals": 500}}, True),
        ("/elsewhere", {}, True),
        ("/elsewhere", {"tolerance": {"equals": 200}}, False),
        ("/", {"body": {"contains": "ok"}}, True),
        ("/", {"body": {"contains": "no"}}, False),
        ("/json", {"body": {"jsonpath": "status.replicas", "min": 3}}, True),
        ("/json", {"body": {"jsonpath": "status.replicas", "max": 2}}, False),
        ("/json", {"body": {"jsonpath": "status.gone", "max": 2}}, None),
        ("/500", {"body": {"jsonpath": "status.gone", "max": 2}}, False),
        ("/json", {"body": {"regex": "R[e]+ady"}}, True),
        ("/", {"latency": {"max": 4}}, True),
        ("/", {"latency": {"max": 0}}, False),
        ("/", {"method": "HEAD"}, True),
        ("/reset", {}, False),
        ("/endless", {"body": {"regex": "^a+$"}}, True),
    ],
)
async def test_http(prober: ProbeRunner, server: str, path: str, more: dict[str, Any], ok: bool | None):
    look = await looked(prober, probe("http", url=server + path, **more))
    assert look.ok is ok, look
    assert bool(look.note) is (ok is not True)


@pytest.mark.parametrize("path", ["/slow", "/half"])
async def test_http_without_an_answer_in_time_has_failed(prober: ProbeRunner, server: str, path: str):
    look = await looked(prober, probe("http", url=server + path, timeout=0.3))
    assert (look.ok, look.note) == (False, "no answer within 300ms")


async def test_http_refused_has_failed(prober: ProbeRunner):
    look = await looked(prober, probe("http", url=f"http://127.0.0.1:{refusing()}/"))
    assert look.ok is False
    assert "no answer" in look.note


async def test_http_sends_what_is_written_on_a_connection_of_its_own(prober: ProbeRunner, server: str):
    asked = probe("http", url=server, method="POST", headers={"X-User": "1"}, data="hello")
    assert (await looked(prober, asked)).ok
    log = probe("http", url=f"{server}/log", body={"jsonpath": "body", "equals": "hello"})
    assert (await looked(prober, log)).ok
    log = probe("http", url=f"{server}/log", body={"jsonpath": "header", "equals": "1"})
    assert (await looked(prober, log)).ok
    ports = set()
    for _ in range(2):
        await looked(prober, asked)
        look = await looked(prober, probe("http", url=f"{server}/log", body={"jsonpath": "from_[1]", "equals": "?"}))
        ports.add(look.note)
    assert len(ports) == 2


async def test_a_search_that_takes_for_ever_is_stopped_and_says_nothing_of_the_service(
    prober: ProbeRunner, server: str
):
    asked = probe("http", url=f"{server}/endless", timeout=0.7, body={"regex": "(a|a)+$b"})
    look = await looked(prober, asked)
    assert look.ok is None
    assert "simplify" in look.note


# TCP


def refusing() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_tcp(prober: ProbeRunner, server: str):
    look = await looked(prober, probe("tcp", address=server.removeprefix("http://")))
    assert look.ok is True
    assert look.value.startswith("connected in ")


async def test_tcp_refused_has_failed(prober: ProbeRunner):
    look = await looked(prober, probe("tcp", address=f"127.0.0.1:{refusing()}"))
    assert look.ok is False
    assert "no connection" in look.note


async def test_tcp_without_an_answer_has_failed(prober: ProbeRunner):
    with socket.socket() as full:  # its queue is full, so that the system answers nobody
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            waiting.append(one)
        look = await looked(prober, probe("tcp", address=f"127.0.0.1:{full.getsockname()[1]}", timeout=0.3))
        for one in waiting:
            one.close()
    assert (look.ok, look.note) == (False, "no answer within 300ms")


# PromQL


class Queries:
    """Answers as told."""

    def __init__(self, answer: Callable[[], float | None]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.under_way = 0

    async def query(self, expression: str) -> float | None:
        self.asked.append(expression)
        return self.answer()


def silent() -> float | None:
    raise TelemetryError("Prometheus at http://127.0.0.1:9 can't be read: check that it runs, and the address")


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (lambda: 0.5, True),
        (lambda: 2.0, False),
        (lambda: math.inf, False),
        (lambda: -math.inf, True),
        (lambda: None, None),
        (silent, None),
    ],
)
async def test_promql(answer: Callable[[], float | None], ok: bool | None):
    queries = Queries(answer)
    prober = ProbeRunner(attached(queries=queries), TARGET)
    asked = probe("promql", query='errors{app="{{service}}",ns="{{ namespace }}",v="{{canary}}"}', tolerance={"max": 1})
    await prober.refuse([asked])
    look = await looked(prober, asked)
    assert look.ok is ok
    assert queries.asked == ['errors{app="reviews",ns="shop",v="{{canary}}"}']
    await prober.close()


async def test_queries_that_hang_do_not_pile_up():
    class Hanging(Queries):
        async def query(self, expression: str) -> float | None:
            self.under_way += 1
            await asyncio.sleep(30)
            return None

    queries = Hanging(lambda: None)
    prober = ProbeRunner(attached(queries=queries), TARGET)
    asked = probe("promql", query="up", tolerance={"min": 1}, timeout=0.05)
    for look in await asyncio.gather(*(looked(prober, asked) for _ in range(20))):
        assert (look.ok, look.note) == (None, "no answer within 50ms")
    assert queries.under_way == 4
    await prober.close()


async def test_a_real_prometheus(tmp_path: Path):
    async with running(tmp_path, f"127.0.0.1:{refusing()}", path="/metrics", job="nobody") as url:
        source = PrometheusSource(url)
        prober = ProbeRunner(attached(queries=source), TARGET)
        for query, ok in (
            ("vector(0.2)", True),
            ("vector(2)", False),
            ("vector(0) / vector(0)", None),
            ("vector(1) / vector(0)", False),
            ("no_such_series", None),
            ("vector(", None),
        ):
            look = await looked(prober, probe("promql", query=query, tolerance={"max": 1}))
            assert look.ok is ok, look
        await prober.close()
        await source.close()


# Programs


@pytest.mark.parametrize(
    ("script", "more", "ok"),
    [
        ("exit 0", {}, True),
        ("echo no >&2; exit 3", {}, False),
        ("exit 3", {"tolerance": {"oneOf": [3, 4]}}, True),
        ("echo 7; exit 0", {"output": {"max": 7}}, True),
        ("echo 8; exit 0", {"output": {"max": 7}}, False),
        ("echo NaN", {"output": {"max": 7}}, None),
        ("echo '{\"a\": [1, 2]}'", {"output": {"jsonpath": "a[1]", "equals": 2}}, True),
        ("kill -9 $$", {}, None),
        ("head -c 3000000 /dev/zero", {"output": {"contains": "x"}}, False),
        ("test -t 0 && exit 1; read line && exit 2; exit 0", {}, True),
        ("sleep 60 & exit 0", {}, True),
        ("setsid sleep 2 & exit 0", {}, True),
    ],
)
async def test_process(prober: ProbeRunner, script: str, more: dict[str, Any], ok: bool | None):
    look = await looked(prober, probe("process", command=["sh", "-c", script], **more))
    assert look.ok is ok, look
    assert bool(look.note) is (ok is not True)


@pytest.mark.parametrize("command", [["no-such-program"], ["/etc/hostname"], ["/"], ["a\0b"]])
async def test_a_program_that_cannot_be_run_is_no_data(prober: ProbeRunner, command: list[str]):
    look = await looked(prober, probe("process", command=command))
    assert look.ok is None
    assert "cannot be run" in look.note


async def test_there_is_no_shell(prober: ProbeRunner):
    asked = probe("process", command=["echo", "$HOME; exit 3"], output={"equals": "$HOME; exit 3"})
    assert (await looked(prober, asked)).ok is True


async def test_a_program_that_will_not_end_is_killed_with_all_it_started(prober: ProbeRunner, tmp_path: Path):
    script = f"trap '' TERM; sleep 61 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; wait; sleep 61"
    look = await looked(prober, probe("process", command=["sh", "-c", script], timeout=0.7))
    assert (look.ok, look.note) == (None, "no answer within 700ms")
    for name in ("child", "self"):
        assert await gone(number_in(tmp_path / name))


async def test_a_look_that_is_given_up_kills_its_program(prober: ProbeRunner, tmp_path: Path):
    script = f"echo $$ > {tmp_path}/self; sleep 61"
    looking = asyncio.create_task(prober.look(probe("process", command=["sh", "-c", script], timeout=30)))
    while not (tmp_path / "self").exists() or not (tmp_path / "self").read_text().strip():
        await asyncio.sleep(0.01)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert await gone(number_in(tmp_path / "self"))


def alive(number: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has taken note of does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def number_in(file: Path) -> int:
    """The process that wrote its number there."""
    return int(file.read_text())


async def gone(number: int) -> bool:
    """Whether a process has ended, at most a moment later."""
    for _ in range(100):
        if not alive(number):
            return True
        await asyncio.sleep(0.02)
    return False


# Python

FUNCTIONS = """
import asyncio, os, sys, time

def number(value=1):
    print("this is no answer")
    return value

async def later():
    await asyncio.sleep(0)
    return {"status": {"ready": True}}

def hangs():
    while True:
        pass

def raises():
    raise RuntimeError("the token is gh" + "p_" + "a1" * 20)

def exits():
    sys.exit(4)

def crashes():
    os._exit(5)

def unsaid():
    return object()

def nan():
    return float("nan")

def pid(file):
    with open(file, "w") as out:
        out.write(str(os.getpid()))
    time.sleep(61)

constant = 3
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A module that this process has not loaded, where it would find it."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "our_probes.py").write_text(FUNCTIONS)
    sys.path.append(str(folder))
    yield "our_probes"
    sys.path.remove(str(folder))
    assert "our_probes" not in sys.modules


@pytest.mark.parametrize(
    ("called", "tolerance", "ok"),
    [
        (("number", {}), {"equals": 1}, True),
        (("number", {"value": 2}), {"equals": 1}, False),
        (("number", {"value": True}), {"equals": 1}, False),
        (("number", {"value": None}), {"equals": 1}, None),
        (("number", {"value": "text"}), {"regex": "^te+xt$"}, True),
        (("later", {}), {"jsonpath": "status.ready", "equals": True}, True),
        (("raises", {}), {"equals": 1}, None),
        (("exits", {}), {"equals": 1}, None),
        (("crashes", {}), {"equals": 1}, None),
        (("unsaid", {}), {"contains": "<object"}, True),
        (("nan", {}), {"min": 0}, None),
    ],
)
async def test_python(
    prober: ProbeRunner, functions: str, called: tuple[str, dict[str, Any]], tolerance: dict[str, Any], ok: bool | None
):
    name, arguments = called
    asked = probe("python", function=f"{functions}:{name}", arguments=arguments, tolerance=tolerance)
    look = await looked(prober, asked)
    assert look.ok is ok, look
    assert bool(look.note) is (ok is not True)
    assert "ghp_" not in look.note


async def test_a_function_that_never_returns_is_killed(prober: ProbeRunner, functions: str, tmp_path: Path):
    hangs = probe("python", function=f"{functions}:hangs", tolerance={"equals": 1}, timeout=0.5)
    file = str(tmp_path / "pid")
    sleeps = probe("python", function=f"{functions}:pid", arguments={"file": file}, tolerance={"min": 0}, timeout=1.5)
    for look in await asyncio.gather(looked(prober, hangs), looked(prober, sleeps)):
        assert look.ok is None
        assert "no answer within" in look.note
    assert await gone(number_in(tmp_path / "pid"))


# What cannot be looked at


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (probe("process", command=["true"]), "AUTOPILOT_ALLOW_PROBES=process"),
        (probe("python", function="os:getpid", tolerance={"min": 1}), "AUTOPILOT_ALLOW_PROBES=python"),
        (probe("promql", query="up", tolerance={"min": 1}), "--prometheus"),
        (probe("mesh", tolerance={"min": 0.9}), "--prometheus"),
        (probe("kubernetes", api_version="v1", kind="Pod", object="a"), "not in a cluster"),
        (probe("http", url="http://:80/"), "write http://host:port/path"),
        (probe("http", url="http://a:99999/"), "write http://host:port/path"),
    ],
)
async def test_what_cannot_be_looked_at_is_refused_by_name(asked: Probe, says: str):
    prober = ProbeRunner(attached(), TARGET)
    with pytest.raises(InvalidChange, match=says) as refused:
        await prober.refuse([asked])
    assert "probe asked" in str(refused.value)
    assert (await looked(prober, asked)).ok is not True  # and if it is looked at nevertheless, it does not pass
    await prober.close()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("our_probes:gone", {}, "has no attribute 'gone'"),
        ("no_such_module:a", {}, "No module named 'no_such_module'"),
        ("our_probes:constant", {}, "cannot be called"),
        ("our_probes:number", {"other": 1}, "unexpected keyword argument 'other'"),
    ],
)
async def test_a_function_that_cannot_be_called_is_refused(
    prober: ProbeRunner, functions: str, name: str, arguments: dict[str, Any], says: str
):
    asked = probe("python", function=name, arguments=arguments, tolerance={"equals": 1})
    with pytest.raises(InvalidChange, match=says):
        await prober.refuse([asked])


async def test_what_can_be_looked_at_is_not_refused(functions: str):
    hub = Hub(ScriptedSource(lambda number, subject: seen(0.0, subject=subject)))
    prober = ProbeRunner(attached(proxies=hub, queries=Queries(lambda: 1.0)), TARGET, ALL)
    await prober.refuse(
        [
            probe("http", url="https://reviews.shop:8443/health?a=b"),
            probe("tcp", address="127.0.0.1:1"),
            probe("promql", query="up", tolerance={"min": 1}),
            probe("mesh", tolerance={"min": 0.9}),
            probe("mesh", service="shop/reviews", tolerance={"min": 0.9}),
            probe("process", command=["true"]),
            probe("python", function=f"{functions}:hangs", tolerance={"equals": 1}),
        ]
    )
    with pytest.raises(InvalidChange, match="probe asked: the mesh has no service shop/gone"):
        await prober.refuse([probe("mesh", service="gone", tolerance={"min": 0.9})])
    await prober.close()


def test_consent():
    assert allowed_probes({}) == frozenset()
    assert allowed_probes({"AUTOPILOT_ALLOW_PROBES": " process , python,"}) == ALL
    with pytest.raises(InvalidChange, match="shell: unknown; write process, python"):
        allowed_probes({"AUTOPILOT_ALLOW_PROBES": "shell,python"})


# Kubernetes: a real client, and a server that says what an API server says

CONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "{url}"}}}}]
users: [{{name: here, user: {{}}}}]
contexts: [{{name: here, context: {{cluster: here, user: here}}}}]
"""
READY = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "reviews", "namespace": "shop"},
    "status": {"conditions": [{"type": "Available", "status": "True"}], "readyReplicas": 2},
}
AVAILABLE = {"jsonpath": "status.conditions[type=Available].status", "equals": "True"}
SERVED = {
    "/apis/apps/v1": {
        "resources": [
            {"name": "deployments/scale", "kind": "Scale", "namespaced": True},
            {"name": "deployments/status", "kind": "Deployment", "namespaced": True},
            {"name": "deployments", "kind": "Deployment", "namespaced": True},
        ]
    },
    "/api/v1": {
        "resources": [
            {"name": "nodes", "kind": "Node", "namespaced": False},
            {"name": "pods", "kind": "Pod", "namespaced": True},
            {"name": "secrets", "kind": "Secret", "namespaced": True},
        ]
    },
    "/apis/apps/v1/namespaces/shop/deployments/reviews": READY,
    "/api/v1/nodes/one": {"kind": "Node", "metadata": {"name": "one"}},
}


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeMesh]:
    async def answer(request: web.Request) -> web.Response:
        path = request.path
        if path == "/api/v1/namespaces/shop/pods":
            count = 2 if request.query.get("labelSelector") == "app=reviews" else 0
            return web.json_response({"items": [{"metadata": {"name": str(i)}} for i in range(count)], "metadata": {}})
        if "slow" in path:
            await asyncio.sleep(3)
        if "secrets" in path:
            return web.json_response({"message": "secrets is forbidden", "details": {"name": "a"}}, status=403)
        if path in SERVED:
            return web.json_response(SERVED[path])
        if "/namespaces/" in path:
            name = path.rpartition("/")[2]
            return web.json_response({"message": f"{name} not found", "details": {"name": name}}, status=404)
        return web.Response(text="404 page not found", status=404)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "config").write_text(CONFIG.format(url=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    spec = {"metadata": {"name": "cluster"}, "spec": {"provider": "istio", "kubeconfig": "config"}}
    mesh = KubeMesh(ClusterMesh.model_validate(spec), folder)
    yield mesh
    await mesh.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("asked", "ok"),
    [
        ({"object": "reviews"}, True),
        ({"object": "gone"}, False),
        ({"object": "reviews", "absent": True}, False),
        ({"object": "gone", "absent": True}, True),
        ({"object": "reviews", "namespace": "other"}, False),
        ({"object": "reviews", "tolerance": {"jsonpath": "status.readyReplicas", "min": 2}}, True),
        ({"object": "reviews", "tolerance": {"jsonpath": "status.readyReplicas", "min": 3}}, False),
        ({"object": "reviews", "tolerance": {"jsonpath": "status.gone", "min": 3}}, None),
        ({"object": "reviews", "tolerance": AVAILABLE}, True),
        ({"object": "gone", "tolerance": {"jsonpath": "status.readyReplicas", "min": 2}}, False),
        ({"v": "v1", "kind": "Pod", "selector": "app=reviews"}, True),
        ({"v": "v1", "kind": "Pod", "selector": "app=gone"}, False),
        ({"v": "v1", "kind": "Pod", "selector": "app=gone", "absent": True}, True),
        ({"v": "v1", "kind": "Pod", "selector": "app=reviews", "absent": True}, False),
        ({"v": "v1", "kind": "Pod", "selector": "app=reviews", "tolerance": {"min": 3}}, False),
        ({"v": "v1", "kind": "Node", "object": "one"}, True),
        ({"v": "v1", "kind": "Secret", "object": "a"}, None),
        ({"v": "v1", "kind": "Secret", "object": "a", "absent": True}, None),
        ({"v": "apps/v9", "object": "reviews", "absent": True}, None),
        ({"kind": "Daemon", "object": "reviews", "absent": True}, None),
        ({"object": "slow", "timeout": 0.3}, None),
    ],
)  # fmt: skip
async def test_kubernetes(cluster: KubeMesh, asked: dict[str, Any], ok: bool | None):
    prober = ProbeRunner(attached(mesh=cluster), TARGET)
    given = {"kind": "Deployment", "api_version": asked.get("v", "apps/v1"), **asked}
    given.pop("v", None)
    look = await looked(prober, probe("kubernetes", **given))
    assert look.ok is ok, look
    assert bool(look.note) is (ok is not True)
    await prober.close()


async def test_a_kind_that_the_cluster_does_not_serve_is_refused(cluster: KubeMesh):
    prober = ProbeRunner(attached(mesh=cluster), TARGET)
    await prober.refuse([probe("kubernetes", api_version="apps/v1", kind="Deployment", object="a")])
    for version, kind in (("apps/v9", "Deployment"), ("apps/v1", "Daemon")):
        with pytest.raises(InvalidChange, match=f"probe asked: the cluster does not serve {kind} .{version}."):
            await prober.refuse([probe("kubernetes", api_version=version, kind=kind, object="a")])
    await prober.close()


async def test_an_api_server_that_does_not_answer_is_no_data_and_no_refusal(tmp_path: Path):
    (tmp_path / "config").write_text(CONFIG.format(url=f"http://127.0.0.1:{refusing()}"))
    spec = {"metadata": {"name": "cluster"}, "spec": {"provider": "istio", "kubeconfig": "config"}}
    mesh = KubeMesh(ClusterMesh.model_validate(spec), tmp_path)
    prober = ProbeRunner(attached(mesh=mesh), TARGET)
    asked = probe("kubernetes", api_version="apps/v1", kind="Deployment", object="a", absent=True, timeout=1)
    assert (await looked(prober, asked)).ok is None
    with pytest.raises(MeshUnavailable):
        await prober.refuse([asked])
    await prober.close()
    await mesh.close()


def test_nothing_of_a_probe_is_left_running():
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children if Path(f"/proc/{child}").exists()]
    assert not [name for name in names if b"our_probes" in name or b"sleep" in name]


def test_the_guide_shows_probes_as_they_are_written():
    text = (Path(__file__).parents[2] / "docs" / "probes.md").read_text()
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    shown: list[Any] = []
    for block in blocks:
        found = YAML(typ="safe").load(textwrap.dedent(block))
        shown += found if isinstance(found, list) else [*found["hypothesis"]["probes"], *found["abort"]]
    assert {PROBE.validate_python(each).type for each in shown} == {"http", "mesh", "promql", "kubernetes"}


# Names


async def test_a_name_that_hangs_holds_up_no_other(prober: ProbeRunner, monkeypatch: pytest.MonkeyPatch, server: str):
    """A name server that is silent is asked once a name, in threads that nobody else waits for."""
    real, stuck, asked = socket.getaddrinfo, threading.Event(), []

    def find(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        if host.startswith("silent"):
            stuck.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    try:
        hanging = [probe("tcp", address=f"silent-{i}:1", timeout=0.2) for i in range(8)]
        hanging += [probe("http", url=f"http://silent-{i}:1/", timeout=0.2) for i in range(8)]
        for _ in range(2):
            assert {look.ok for look in await asyncio.gather(*(looked(prober, each) for each in hanging))} == {False}
        assert len(asked) == 8
        address = server.replace("127.0.0.1", "localhost")
        began = time.monotonic()
        await asyncio.to_thread(lambda: None)
        assert time.monotonic() - began < LATE  # the threads of everybody else are free
    finally:
        stuck.set()
    assert (await looked(prober, probe("http", url=address))).ok is True
    assert (await looked(prober, probe("tcp", address=address.removeprefix("http://")))).ok is True
    look = await looked(prober, probe("tcp", address="silent-9:1"))
    assert (look.ok, look.note) == (False, "no connection: silent-9: Temporary failure in name resolution")


async def test_refusals_before_anything_is_run(prober: ProbeRunner):
    with pytest.raises(InvalidChange, match="probe asked: program 'no-such-program' was not found"):
        await prober.refuse([probe("process", command=["no-such-program"])])
