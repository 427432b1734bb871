"""Secrets that probes send: read where the spec says, at each look, and in nothing that a look says."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from activities.probes.runner import ProbeRunner
from activities.probes.secrets import ALLOW_VARIABLE, Allowed
from autopilot.evidence.chaos.hypothesis import Look
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.chaos.probes import Probe
from autopilot.spec.cluster import ClusterMesh
from autopilot.spec.secret_ref import SecretRef
from tests.activities.test_probe_runner import CONFIG, TARGET, attached, probe

SECRET = 'k9"Zq/+7<w&L xY-8.v%3'  # noqa: S105 - made up
"""It looks different in JSON, HTML, URLs and base64."""
RUN = 8

Answer = Callable[[web.Request], web.StreamResponse]


class Shop:
    """A server that answers as a test says, and remembers what it was sent; and an API server with Secrets."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []
        self.answer: Answer = lambda _: web.Response(text="ok")
        self.data: dict[str, dict[str, str]] = {}
        self.slow = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            return await self._secret(request)
        self.sent.append({name.lower(): value for name, value in request.headers.items()})
        return self.answer(request)

    async def _secret(self, request: web.Request) -> web.Response:
        *_, namespace, _, name = request.path.split("/")
        if name == "slow":
            await asyncio.wait_for(self.slow.wait(), 10)
        if name == "forbidden":
            return web.json_response({"message": f'secrets "{name}" is forbidden'}, status=403)
        found = self.data.get(f"{namespace}/{name}")
        if found is None:
            return web.json_response({"message": "not found", "details": {"name": name}}, status=404)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in found.items()}
        return web.json_response({"kind": "Secret", "metadata": {"name": name}, "data": data})


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    made = Shop()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.slow.set()
    await runner.cleanup()


@pytest.fixture
async def cluster(shop: Shop, tmp_path: Path) -> AsyncIterator[AttachedMesh]:
    (tmp_path / "config").write_text(CONFIG.format(url=shop.url))
    spec = {"metadata": {"name": "cluster"}, "spec": {"provider": "istio", "kubeconfig": "config"}}
    mesh = KubeMesh(ClusterMesh.model_validate(spec), tmp_path)
    yield attached(mesh=mesh)
    await mesh.close()


def login(shop: Shop, ref: dict[str, Any], *, prefix: str = "Bearer ", **more: Any) -> Probe:
    headers = {"authorization": {"prefix": prefix, "secretRef": ref}, "accept": "text/plain"}
    return probe("http", url=f"{shop.url}/login", headers=headers, **more)


async def look(asked: Probe, where: AttachedMesh | None = None) -> Look:
    prober = ProbeRunner(where or attached(), TARGET)
    try:
        await prober.refuse([asked])
        return await prober.look(asked)
    finally:
        await prober.close()


def leaked(said: str, secret: str = SECRET) -> str:
    """The first part of the secret, of eight characters, that the text has."""
    return next((secret[at : at + RUN] for at in range(len(secret) - RUN + 1) if secret[at : at + RUN] in said), "")


async def test_a_variable_of_the_worker_is_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKOUT_TOKEN", SECRET)
    found = await look(login(shop, {"env": "CHECKOUT_TOKEN"}))
    assert found.ok is True, found
    assert shop.sent[0]["authorization"] == f"Bearer {SECRET}"
    assert shop.sent[0]["accept"] == "text/plain"


async def test_a_file_is_read_at_each_look(shop: Shop, tmp_path: Path) -> None:
    """As mounted Secrets are: a link that is exchanged when the Secret changes."""
    for number in (1, 2):
        (tmp_path / f"{number}").write_text(f"{SECRET}{number}\n")
    link = tmp_path / "token"
    link.symlink_to(tmp_path / "1")
    prober = ProbeRunner(attached(), TARGET)
    asked = login(shop, {"file": str(link)}, prefix="")
    assert (await prober.look(asked)).ok is True
    link.unlink()
    link.symlink_to(tmp_path / "2")
    assert (await prober.look(asked)).ok is True
    assert [each["authorization"] for each in shop.sent] == [f"{SECRET}1", f"{SECRET}2"]
    await prober.close()


async def test_a_secret_of_the_cluster_is_sent(shop: Shop, cluster: AttachedMesh) -> None:
    shop.data = {"shop/checkout": {"token": SECRET}, "other/checkout": {"token": "another one"}}
    assert (await look(login(shop, {"kubernetes": {"name": "checkout", "key": "token"}}), cluster)).ok is True
    elsewhere = {"kubernetes": {"name": "checkout", "key": "token", "namespace": "other"}}
    assert (await look(login(shop, elsewhere), cluster)).ok is True
    assert [each["authorization"] for each in shop.sent] == [f"Bearer {SECRET}", "Bearer another one"]


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ({"env": "NO_SUCH_TOKEN"}, "cannot be measured: environment variable NO_SUCH_TOKEN was not found"),
        ({"env": "EMPTY"}, "cannot be measured: environment variable EMPTY is empty or shorter than 4 characters"),
        ({"env": "LINES"}, "cannot be measured: environment variable LINES has line ends or control characters in it"),
        ({"file": "/no/such/token"}, "cannot be measured: file /no/such/token was not found"),
        ({"file": "/tmp"}, "cannot be measured: file /tmp could not be read: "),  # noqa: S108 - only looked at
        (
            {"kubernetes": {"name": "gone", "key": "token"}},
            "cannot be measured: key token of Secret shop/gone was not found",
        ),
        ({"kubernetes": {"name": "there", "key": "tokn"}}, "key tokn of Secret shop/there was not found"),
        (
            {"kubernetes": {"name": "forbidden", "key": "token"}},
            'key token of Secret shop/forbidden could not be read: secrets "forbidden" is forbidden; grant that verb',
        ),
        (
            {"kubernetes": {"name": "slow", "key": "token"}},
            "cannot be measured: the secrets it sends could not be read within 500ms",
        ),
    ],
)
async def test_without_its_secret_a_probe_cannot_be_measured(
    shop: Shop, cluster: AttachedMesh, monkeypatch: pytest.MonkeyPatch, ref: dict[str, Any], said: str
) -> None:
    shop.data = {"shop/there": {"token": SECRET}}
    monkeypatch.setenv("EMPTY", "\n")
    monkeypatch.setenv("LINES", f"{SECRET}\nx: y")
    found = await look(login(shop, ref, timeout=0.5 if "slow" in str(ref) else 5), cluster)
    assert found.ok is None
    assert said in found.note
    assert not shop.sent  # nothing is asked without it
    assert not leaked(found.note)


async def test_a_file_that_never_ends_or_never_answers_is_not_read(shop: Shop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_text("x" * 20_000)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" + SECRET.encode())
    began = time.monotonic()
    notes = [(await look(login(shop, {"file": str(tmp_path / name)}))).note for name in ("pipe", "long", "bytes")]
    assert time.monotonic() - began < 5
    assert [note.rpartition(f"{tmp_path}/")[2] for note in notes] == [
        "pipe could not be read: it is no plain file",
        "long is longer than 16,384 bytes",
        "bytes is not UTF-8 text",
    ]


ECHOES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": lambda secret: json.dumps({"you": secret}),
    "a URL": lambda secret: f"/?token={quote(secret, safe='')}",
    "HTML": html.escape,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 of URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "its first half": lambda secret: f"token {secret[: len(secret) // 2]}… is not valid",
    "its second half": lambda secret: f"token …{secret[len(secret) // 2 :]} is not valid",
    "in the middle of much": lambda secret: "x" * 5_000 + secret + "y" * 5_000,
    "cut where notes are cut": lambda secret: "x" * 45 + secret,
}


@pytest.mark.parametrize("how", ECHOES)
@pytest.mark.parametrize(
    "tolerance",
    [
        {"equals": "fine"}, {"contains": "fine"}, {"regex": "^fi*ne$"}, {"one_of": ["fine", "well"]},
        {"jsonpath": "you", "equals": "fine"},
    ],
    ids=str,
)  # fmt: skip
async def test_what_a_server_repeats_is_in_no_look(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, how: str, tolerance: dict[str, Any]
) -> None:
    monkeypatch.setenv("CHECKOUT_TOKEN", SECRET)
    shop.answer = lambda _: web.Response(text=ECHOES[how](SECRET))
    found = await look(login(shop, {"env": "CHECKOUT_TOKEN"}, body=tolerance))
    assert found.ok is not True
    for form in (SECRET, *(echo(SECRET) for name, echo in ECHOES.items() if name.startswith(("base64", "a URL")))):
        assert not leaked(found.model_dump_json(), form)


async def test_a_password_that_was_sent_in_base64_is_in_no_look_either(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGIN", base64.b64encode(b"admin:correct horse battery").decode())
    shop.answer = lambda _: web.Response(text="wrong password: correct horse battery")
    found = await look(login(shop, {"env": "LOGIN"}, prefix="Basic ", body={"contains": "welcome"}))
    assert (found.ok, found.note) == (
        False,
        "body: is not shown, because the answer repeats a secret that the probe sent",
    )


async def test_a_server_that_answers_with_the_secret_instead_of_http_tells_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHECKOUT_TOKEN", SECRET)

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{SECRET}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    caplog.set_level(logging.DEBUG)
    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    headers = {"cookie": {"prefix": "session=", "secretRef": {"env": "CHECKOUT_TOKEN"}}}
    found = await look(probe("http", url=url, headers=headers))
    server.close()
    await server.wait_closed()
    assert found.ok is False
    assert "<environment variable CHECKOUT_TOKEN>" in found.note
    assert not leaked(f"{found.model_dump_json()}{caplog.text}{''.join(capfd.readouterr())}")


async def test_what_judges_sees_the_answer_as_it_was(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is removed from what is said, not from what is judged: else a short one would change verdicts."""
    monkeypatch.setenv("CHECKOUT_TOKEN", "fine")
    shop.answer = lambda _: web.Response(text="all is fine")
    assert (await look(login(shop, {"env": "CHECKOUT_TOKEN"}, body={"equals": "all is fine"}))).ok is True


async def test_a_tolerance_of_a_secret_itself_shows_nothing_of_it(shop: Shop, cluster: AttachedMesh) -> None:
    shop.data = {"shop/checkout": {"token": SECRET}}
    asked = probe(
        "kubernetes", api_version="v1", kind="Secret", object="checkout",
        tolerance={"jsonpath": "data.token", "equals": "x"},
    )  # fmt: skip
    prober = ProbeRunner(cluster, TARGET)
    prober._cluster()._served[("v1", "Secret")] = _served()
    found = await prober.look(asked)
    await prober.close()
    assert found.ok is False
    assert "what Secrets hold is not shown" in found.note
    assert not leaked(found.note, base64.b64encode(SECRET.encode()).decode())


def _served() -> Any:
    from activities.probes.kubernetes import Served  # noqa: PLC0415
    from autopilot.mesh.kube.client.resources import SECRET as KIND  # noqa: PLC0415

    return Served(KIND, namespaced=True)


# What a worker allows


@pytest.mark.parametrize(
    "ref",
    [
        {"env": "TEMPORAL_API_KEY"},
        {"env": "AUTOPILOT_TOKEN"},
        {"file": "/proc/self/environ"},
        {"file": "/var/run/secrets/kubernetes.io/serviceaccount/token"},
    ],
    ids=str,
)
async def test_what_is_autopilots_own_is_never_sent(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, ref: dict[str, Any]
) -> None:
    monkeypatch.setenv(ref.get("env", "UNUSED"), SECRET)
    with pytest.raises(InvalidChange, match=r"header authorization: .* is Autopilot's own: probes cannot send it"):
        await look(login(shop, ref))
    prober = ProbeRunner(attached(), TARGET)
    assert (await prober.look(login(shop, ref))).ok is None
    await prober.close()
    assert not shop.sent


@pytest.mark.parametrize(
    "ref",
    [
        {"env": "STORE_TOKEN"},
        {"file": "/run/store/password"},
        {"file": "/run/store/token"},
        {"kubernetes": {"name": "store", "key": "anything", "namespace": "autopilot"}},
    ],
    ids=str,
)
def test_credentials_of_the_meshs_prometheus_are_its_own_too(ref: dict[str, Any]) -> None:
    own = [
        SecretRef(env="STORE_TOKEN"),
        SecretRef(file="/run/store/password"),
        SecretRef.model_validate({"kubernetes": {"name": "store", "key": "token"}}),
    ]
    allowed = Allowed({"AUTOPILOT_PROMETHEUS_TOKEN_FILE": "/run/store/token"}, own, "autopilot")
    with pytest.raises(InvalidChange, match="is Autopilot's own: probes cannot send it"):
        allowed.check(SecretRef.model_validate(ref), "shop")
    allowed.check(SecretRef.model_validate({"kubernetes": {"name": "store", "key": "token"}}), "shop")
    allowed.check(SecretRef(env="OTHER"), "shop")


async def test_a_link_leads_to_nothing_of_autopilots_own(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "token").symlink_to("/proc/self/environ")
    with pytest.raises(InvalidChange, match="Autopilot's own"):
        await look(login(shop, {"file": str(tmp_path / "token")}))


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ({"env": "OTHER"}, "env:OTHER"),
        ({"file": "/etc/passwd"}, "file:/etc/passwd"),
        ({"kubernetes": {"name": "checkout", "key": "a", "namespace": "other"}}, "kubernetes:other/checkout"),
    ],
)
async def test_an_administrator_may_say_which_secrets_probes_send(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, ref: dict[str, Any], name: str
) -> None:
    monkeypatch.setenv(ALLOW_VARIABLE, "env:CHECKOUT_*, file:/run/secrets/*,kubernetes:shop/*")
    monkeypatch.setenv("CHECKOUT_TOKEN", SECRET)
    assert (await look(login(shop, {"env": "CHECKOUT_TOKEN"}))).ok is True
    with pytest.raises(InvalidChange, match=f"does not allow probes to send .*: add {name} to its {ALLOW_VARIABLE}"):
        await look(login(shop, ref))
    monkeypatch.setenv(ALLOW_VARIABLE, "")
    with pytest.raises(InvalidChange, match="add env:CHECKOUT_TOKEN"):
        await look(login(shop, {"env": "CHECKOUT_TOKEN"}))


@pytest.mark.parametrize("said", ["CHECKOUT_TOKEN", "env:", "vault:a"])
def test_a_mistake_in_what_is_allowed_is_told(said: str) -> None:
    with pytest.raises(InvalidChange, match=f"{ALLOW_VARIABLE} has an entry that is no pattern: write env:NAME"):
        Allowed({ALLOW_VARIABLE: said})


def test_without_a_list_all_but_our_own_is_allowed() -> None:
    Allowed({}).check(SecretRef(env="ANYTHING"), "shop")


async def test_a_mesh_outside_a_cluster_has_no_secrets(shop: Shop) -> None:
    with pytest.raises(InvalidChange, match="mesh local is not in a cluster and has no Secrets; write secretRef: file"):
        await look(login(shop, {"kubernetes": {"name": "a", "key": "b"}}))
