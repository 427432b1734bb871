"""Credentials of a mesh's Prometheus: from its file, the cluster and the environment; sent there and said nowhere."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh_registry.meshes import attach
from autopilot.mesh_registry.stores import source_of, store_of
from autopilot.spec.cluster import ClusterSpec
from autopilot.spec.secret_ref import SecretRef
from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.model import TelemetryError
from autopilot.telemetry.prometheus.credentials import StoreAccess
from autopilot.telemetry.prometheus.source import PrometheusSource
from tests.telemetry.conftest import free_ports
from tests.telemetry.running import running

TOKEN = "k9Zq7wLxY8v3-tenant-token"  # noqa: S105 - made up
OTHER = "p4Rt1mNsB6c2-second-token"


@dataclass
class Front:
    """What stands before a store, as people run them: it asks for credentials, and repeats them in its refusals."""

    wanted: Callable[[web.Request], bool] = lambda _: True
    behind: str = ""
    """A Prometheus that it passes requests on to."""
    met: list[web.Request] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.met.append(request)
        if not self.wanted(request):
            sent = request.headers.get("authorization", "nothing")
            return web.json_response({"status": "error", "error": f"no: you sent {sent}"}, status=401)
        if not self.behind:
            data = {"resultType": "scalar", "result": [1, "1"]}
            return web.json_response({"status": "success", "data": data})
        address = f"{self.behind}{request.path_qs.removeprefix('/prometheus')}"
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)


@asynccontextmanager
async def serving(front: Front, tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
    application = web.Application()
    application.router.add_get("/{path:.*}", front.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    front.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/prometheus"
    try:
        yield front
    finally:
        await runner.cleanup()


def bearer(token: str) -> Callable[[web.Request], bool]:
    return lambda request: request.headers.get("authorization") == f"Bearer {token}"


def mesh(**prometheus: Any) -> ClusterSpec:
    return ClusterSpec.model_validate({"provider": "istio", "prometheus": prometheus})


async def ask(source: PrometheusSource | None, query: str = "vector(1)") -> float | None:
    assert source is not None
    try:
        return await source.query(query)
    finally:
        await source.close()


async def test_a_tenant_and_a_token_of_the_mesh_file_are_sent() -> None:
    async with serving(Front(lambda request: request.headers.get("X-Scope-OrgID") == "shop")) as front:
        spec = mesh(url=front.url, headers={"X-Scope-OrgID": "shop"}, bearerToken={"secretRef": {"env": "STORE_TOKEN"}})
        assert await ask(source_of(spec, None, environ={"STORE_TOKEN": TOKEN})) == 1
    (request,) = front.met
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.path == "/prometheus/api/v1/query"


async def test_a_user_and_a_password() -> None:
    async with serving(Front()) as front:
        basic = {"username": "1234", "password": {"secretRef": {"env": "P"}}}
        assert await ask(source_of(mesh(url=front.url, basicAuth=basic), None, environ={"P": TOKEN})) == 1
    assert front.met[0].headers["authorization"] == f"Basic {base64.b64encode(f'1234:{TOKEN}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("environ", "header", "value"),
    [
        ({"TOKEN": TOKEN}, "authorization", f"Bearer {TOKEN}"),
        ({"HEADERS": "X-Scope-OrgID=shop%2Cweb, other=b"}, "x-scope-orgid", "shop,web"),
        ({"HEADERS": f"Authorization=Bearer%20{TOKEN}"}, "authorization", f"Bearer {TOKEN}"),
        (
            {"USER": "me", "PASSWORD": TOKEN},
            "authorization",
            f"Basic {base64.b64encode(f'me:{TOKEN}'.encode()).decode()}",
        ),
    ],
)
async def test_the_environment_gives_the_same(environ: dict[str, str], header: str, value: str) -> None:
    async with serving(Front()) as front:
        given = {f"AUTOPILOT_PROMETHEUS_{name}": text for name, text in environ.items()}
        assert await ask(source_of(None, front.url, environ=given)) == 1
    assert front.met[0].headers[header] == value


async def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """As Kubernetes exchanges a mounted Secret: a link that leads elsewhere."""
    for name, token in (("1", TOKEN), ("2", OTHER)):
        (tmp_path / name).write_text(f"{token}\n")
    link = tmp_path / "token"
    link.symlink_to(tmp_path / "1")
    async with serving(Front(bearer(TOKEN))) as front:
        source = source_of(None, front.url, environ={"AUTOPILOT_PROMETHEUS_TOKEN_FILE": str(link)})
        assert source is not None
        assert await source.query("vector(1)") == 1
        front.wanted = bearer(OTHER)
        link.unlink()
        link.symlink_to(tmp_path / "2")
        assert await source.query("vector(1)") == 1
        await source.close()


class Cluster:
    """An API server's Secrets."""

    def __init__(self, token: str) -> None:
        self.token: str | None = token
        self.asked: list[str] = []

    def get(self, _kind: object, name: str, namespace: str) -> dict[str, Any] | None:
        self.asked.append(f"{namespace}/{name}")
        if self.token is None:
            raise MeshError("the API server does not answer")
        return {"data": {"token": base64.b64encode(self.token.encode()).decode()}}


async def test_a_secret_of_the_cluster_is_read_once_and_again_when_the_store_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autopilot.telemetry.prometheus.credentials._AGAIN", 0.0)
    cluster = Cluster(TOKEN)
    spec = mesh(bearerToken={"secretRef": {"kubernetes": {"name": "mimir", "key": "token"}}})
    async with serving(Front(bearer(TOKEN))) as front:
        source = source_of(spec, front.url, cluster=cluster, environ={})  # type: ignore[arg-type]
        assert source is not None
        for _ in range(3):
            assert await source.query("vector(1)") == 1
        assert cluster.asked == ["autopilot/mimir"]
        cluster.token, front.wanted = OTHER, bearer(OTHER)
        assert await source.query("vector(1)") == 1
        assert len(cluster.asked) == 2
        cluster.token = None  # the cluster is gone: what was read last goes on
        assert await source.query("vector(1)") == 1
        await source.close()


def test_no_query_waits_for_the_cluster_but_the_first() -> None:
    """An API server that hangs must not leave a rollout without data."""
    now, hangs, asked = [0.0], threading.Event(), []

    def read(ref: SecretRef, _longest: int) -> bytes:
        asked.append(ref)
        if len(asked) > 1:
            assert hangs.wait(10)
        return f"{TOKEN}-{len(asked)}".encode()

    spec = mesh(bearerToken={"secretRef": {"kubernetes": {"name": "a", "key": "b"}}}).prometheus
    access = StoreAccess(spec, read, clock=lambda: now[0])
    assert access.sent().headers["authorization"] == f"Bearer {TOKEN}-1"
    now[0] = 61.0
    for _ in range(3):
        assert access.sent().headers["authorization"] == f"Bearer {TOKEN}-1"
    hangs.set()
    deadline = time.monotonic() + 10
    while access.sent().headers["authorization"] != f"Bearer {TOKEN}-2":
        assert time.monotonic() < deadline
    assert len(asked) == 2
    assert not access.refused()  # it is new
    now[0] = 70.0
    assert access.refused()
    assert access.sent().headers["authorization"] == f"Bearer {TOKEN}-3"


async def test_what_is_for_this_machine_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with serving(Front()) as front:
        assert await ask(source_of(None, front.url, environ={"AUTOPILOT_PROMETHEUS_TOKEN": TOKEN})) == 1


async def test_what_a_store_repeats_of_credentials_is_in_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Front(lambda _: False)) as front:
        environ = {"AUTOPILOT_PROMETHEUS_TOKEN": TOKEN}
        with pytest.raises(TelemetryError, match=r"answered 401 .*you sent .*environment variable") as caught:
            await ask(source_of(None, front.url, environ=environ))
        basic = {"AUTOPILOT_PROMETHEUS_USER": "me", "AUTOPILOT_PROMETHEUS_PASSWORD": OTHER}
        with pytest.raises(TelemetryError) as other:
            await ask(source_of(None, front.url, environ=basic))
    for secret in (TOKEN, OTHER, base64.b64encode(f"me:{OTHER}".encode()).decode()):
        for text in (str(caught.value), str(other.value), repr(caught.value.__context__), caplog.text):
            assert not any(secret[at : at + 8] in text for at in range(len(secret) - 7))


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        (
            {"env": "NO_SUCH"},
            "environment variable NO_SUCH, a credential of Prometheus, was not found; create it where",
        ),
        ({"file": "/no/such"}, "file /no/such, a credential of Prometheus, was not found"),
        ({"env": "LINES"}, "has line ends or control characters in it"),
        ({"env": "SPACES"}, "has spaces at its beginning or end"),
        ({"kubernetes": {"name": "a", "key": "b"}}, "the mesh is not in a cluster and has no Secrets"),
    ],
)
async def test_without_its_credentials_nothing_is_asked(ref: dict[str, Any], said: str) -> None:
    async with serving(Front()) as front:
        spec = mesh(bearerToken={"secretRef": ref})
        environ = {"LINES": f"{TOKEN}\nx: y", "SPACES": f" {TOKEN}"}
        with pytest.raises(TelemetryError, match=said) as caught:
            await ask(source_of(spec, front.url, environ=environ))
    assert not front.met
    assert TOKEN not in str(caught.value)


async def test_credentials_are_not_sent_in_the_clear_unless_it_is_allowed() -> None:
    token = {"bearerToken": {"secretRef": {"env": "T"}}}
    far = "http://prometheus.monitoring:9090"
    with pytest.raises(
        TelemetryError, match=r"has no TLS, and credentials would be sent in the clear.*plainHttp: true"
    ):
        await ask(source_of(mesh(url=far, **token), None, environ={"T": TOKEN}))
    for spec in (mesh(url=far, plainHttp=True, **token), mesh(url=far, headers={"X-Scope-OrgID": "shop"})):
        access = StoreAccess(spec.prometheus, lambda _ref, _longest: TOKEN.encode())
        access.check(far)  # a tenant is no secret


def test_the_environment_has_precedence_and_credentials_stay_where_they_belong() -> None:
    spec = mesh(
        url="https://mimir.example/prometheus", queries="byName", headers={"X-Scope-OrgID": "shop"},
        bearerToken={"secretRef": {"file": "/run/token"}},
    )  # fmt: skip
    token = {"AUTOPILOT_PROMETHEUS_TOKEN": TOKEN}

    def found(address: str | None, environ: dict[str, str]) -> tuple[str, set[str], str | None]:
        store = store_of(spec, address, environ)
        assert store is not None
        bearer = store.spec.bearer_token
        return store.url, set(store.spec.headers), bearer.secret_ref.env or bearer.secret_ref.file if bearer else None

    # Of the file alone: what the environment has is for the address that it names.
    assert found(None, token) == ("https://mimir.example/prometheus", {"x-scope-orgid"}, "/run/token")
    # A forwarded port, or another path of the same host.
    for address in ("http://127.0.0.1:9009/prometheus", "http://localhost:1", "https://mimir.example/other"):
        assert found(address, {}) == (address, {"x-scope-orgid"}, "/run/token")
        assert found(address, token) == (address, {"x-scope-orgid"}, "AUTOPILOT_PROMETHEUS_TOKEN")
    for address in ("https://elsewhere.example", "https://mimir.example:8443", "http://mimir.example"):
        assert found(address, {}) == (address, set(), None)
    store = store_of(spec, "https://elsewhere.example", {})
    assert store is not None
    assert store.spec.queries == "byName"


@pytest.mark.parametrize(
    ("address", "environ", "said"),
    [
        ("store:9090", {}, "is no http"),
        (f"https://me:{TOKEN}@store", {}, r"at https://store has a user or password .*AUTOPILOT_PROMETHEUS_USER"),
        ("https://s", {"USER": "me"}, "_USER is set without a password"),
        ("https://s", {"HEADERS": TOKEN}, "write name=value,name=value"),
        ("https://s", {"HEADERS": f"bad name={TOKEN}"}, "headers.bad name.*"),
        ("https://s", {"BY_NAME": "maybe"}, "_BY_NAME is neither true nor false"),
        ("https://s", {"TOKEN": TOKEN, "USER": "me", "PASSWORD": OTHER}, "has bearerToken and basicAuth"),
        ("https://s", {"CERT_FILE": "/c"}, "needs certificate and key"),
    ],
)
def test_a_mistake_in_the_environment_is_told_without_its_value(
    address: str, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidChange, match=said) as caught:
        store_of(None, address, {f"AUTOPILOT_PROMETHEUS_{name}": text for name, text in environ.items()})
    assert TOKEN not in str(caught.value)


# Certificates


def issued(folder: Path, name: str, authority: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """A key and its certificate, signed by an authority or by itself, written as `name.pem` and `name.key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signer, issuer = (authority[0], authority[1].subject) if authority else (key, subject)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority is None, crl_sign=authority is None,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return key, made


async def test_a_private_authority_and_a_client_certificate(tmp_path: Path) -> None:
    authority = issued(tmp_path, "ca")
    for name in ("server", "client"):
        issued(tmp_path, name, authority)
    issued(tmp_path, "stranger")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server.verify_mode = ssl.CERT_REQUIRED

    def tls(**files: str) -> dict[str, Any]:
        return {name: {"secretRef": {"file": str(tmp_path / file)}} for name, file in files.items()}

    own = {"certificate": "client.pem", "key": "client.key"}
    async with serving(Front(), server) as front:
        assert await ask(source_of(mesh(url=front.url, tls=tls(ca="ca.pem", **own)), None, environ={})) == 1
        environ = {
            f"AUTOPILOT_PROMETHEUS_{name}": str(tmp_path / file)
            for name, file in (("CA_FILE", "ca.pem"), ("CERT_FILE", "client.pem"), ("KEY_FILE", "client.key"))
        }
        assert await ask(source_of(None, front.url, environ=environ)) == 1
        for files, said in (
            ({}, "cannot be read: .*certificate verify failed"),
            ({"ca": "stranger.pem", **own}, "cannot be read: .*certificate verify failed"),
            ({"ca": "ca.pem"}, "cannot be read"),
            ({"ca": "server.key"}, r"certificates of spec.prometheus.tls.ca cannot be used"),
            ({"ca": "ca.pem", "certificate": "client.pem", "key": "server.key"}, "key and certificate belong together"),
            ({"ca": "none.pem"}, "was not found"),
        ):
            with pytest.raises(TelemetryError, match=said):
                await ask(source_of(mesh(url=front.url, tls=tls(**files)), None, environ={}))


# A real Prometheus behind a proxy that asks for credentials


async def test_a_real_prometheus_behind_a_proxy_that_wants_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    async with (
        running(tmp_path, nobody, path="/metrics", job="nobody") as behind,
        serving(Front(bearer(TOKEN), behind)) as front,
    ):
        spec = mesh(url=front.url, bearerToken={"secretRef": {"file": str(tmp_path / "token")}})
        source = source_of(spec, None, environ={})
        assert source is not None
        async with asyncio.timeout(20):
            while await source.query('count(up{job="nobody"})') != 1:
                await asyncio.sleep(0.2)
        assert await source.query("1/0") == float("inf")
        await source.query("sum(rate(up[1m]))")  # newer versions remark that it may be no counter: that is no gap
        with pytest.raises(TelemetryError, match="check the query"):
            await source.query("sum(")
        await source.close()
        with pytest.raises(TelemetryError, match="answered 401"):
            await ask(source_of(None, front.url, environ={}))


async def test_a_worker_takes_the_address_from_each_mesh_file(tmp_path: Path) -> None:
    text = """
metadata: {name: NAME}
spec:
  directory: NAME
  prometheus: {url: "https://NAME.example", queries: byName}
  services: [{name: a, arms: {v1: {endpoints: ["127.0.0.1:1"]}}, weights: {v1: 100}}]
  proxies: [{name: p, admin: "127.0.0.1:2", outbound: [{name: o, address: "127.0.0.1:3", services: [default/a]}]}]
"""
    files = []
    for name in ("one", "two"):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(text.replace("NAME", name))
    meshes = attach(files)
    hubs = {name: meshes[name].prometheus for name in ("one", "two")}
    assert {name: hub.source.name for name, hub in hubs.items() if hub} == {
        "one": "Prometheus at https://one.example",
        "two": "Prometheus at https://two.example",
    }
    await meshes.close()
    meshes = attach(files[:1], "https://other.example")
    assert meshes["one"].prometheus is not None
    assert meshes["one"].prometheus.source.name == "Prometheus at https://other.example"
    await meshes.close()


async def test_a_cluster_s_source_speaks_its_dialect() -> None:
    source = source_of(mesh(url="https://a"), None, environ={})
    assert source is not None
    assert isinstance(source._dialect, Istio)
