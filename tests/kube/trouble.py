"""A proxy in front of a real API server that answers, by rule, as a server in trouble does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from kubernetes import client, config
from ruamel.yaml import YAML
from yarl import URL

_NOT_PASSED_ON = {"host", "connection", "transfer-encoding", "content-length", "accept-encoding", "keep-alive"}
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass(frozen=True)
class Answer:
    """A Status object, as API servers word them."""

    status: int
    message: str = "said by the test"
    retry_after: int | None = None

    def response(self) -> web.Response:
        body = {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": self.status,
            "reason": _REASONS[self.status],
            "message": self.message,
        }
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return web.json_response(body, status=self.status, headers=headers)


HANGS = "hangs"
"""No answer comes, and the connection stays."""
RESETS = "resets"
"""The connection is torn down."""


@dataclass
class Rule:
    """What happens to some requests."""

    method: str
    path: str
    does: Answer | str
    times: int | None
    carried_out: bool
    met: list[str] = field(default_factory=list)
    """The requests it was applied to: method and path."""

    def applies(self, method: str, path: str) -> bool:
        if self.times is not None and len(self.met) >= self.times:
            return False
        return re.fullmatch(self.method, method) is not None and re.search(self.path, path) is not None


class Trouble:
    """The proxy's rules, and what went through it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        """Leads to the proxy."""
        self.rules: list[Rule] = []
        self.passed: list[tuple[str, str, int]] = []
        """Method, path and status of every request that reached the API server."""
        self._healed = asyncio.Event()

    def on(
        self,
        method: str,
        path: str,
        does: Answer | str,
        *,
        times: int | None = None,
        carried_out: bool = False,
    ) -> Rule:
        """From now on.

        Args:
            method: a pattern of all of it, such as `PUT|PATCH`.
            path: a pattern that is searched for, in the path and its query.
            does: what is answered.
            times: how often; None: until `heal`.
            carried_out: whether the API server does what it is asked, and only its answer is lost.
        """
        rule = Rule(method, path, does, times, carried_out)
        self.rules.append(rule)
        return rule

    def heal(self) -> None:
        """No more trouble."""
        self.rules.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    def written(self, path: str) -> list[str]:
        """Methods of the writes that the API server took of objects at such a path; dry runs are none."""
        return [
            method
            for method, at, status in self.passed
            if method != "GET" and status < 300 and "dryRun" not in at and re.search(path, at)
        ]

    def met(self, method: str, path: str) -> Rule | None:
        found = next((rule for rule in self.rules if rule.applies(method, path)), None)
        if found is not None:
            found.met.append(f"{method} {path}")
        return found

    async def befall(self, request: web.BaseRequest, rule: Rule) -> web.StreamResponse:
        if isinstance(rule.does, Answer):
            return rule.does.response()
        if rule.does == HANGS:
            await self._healed.wait()
        transport = request.transport
        if transport is not None:
            # With a linger of zero the kernel sends a reset instead of a farewell.
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        return web.Response()


@contextlib.asynccontextmanager
async def troubled(kubeconfig: Path, folder: Path) -> AsyncIterator[Trouble]:
    """Runs the proxy for as long as the context lasts.

    Args:
        kubeconfig: of the API server itself.
        folder: where the kubeconfig that leads to the proxy is put.
    """
    behind = client.Configuration()
    config.load_kube_config(config_file=str(kubeconfig), client_configuration=behind)  # type: ignore[no-untyped-call]
    secure = ssl.create_default_context(cafile=behind.ssl_ca_cert)
    if behind.cert_file:
        secure.load_cert_chain(behind.cert_file, behind.key_file)
    trouble = Trouble(folder / f"trouble-{kubeconfig.name}")
    connector = aiohttp.TCPConnector(ssl=secure, limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        runner = web.ServerRunner(web.Server(_handler(trouble, session, str(behind.host))), shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        try:
            await site.start()
            _lead(kubeconfig, trouble.kubeconfig, f"http://127.0.0.1:{runner.addresses[0][1]}")
            yield trouble
        finally:
            trouble.heal()
            await runner.cleanup()


def _handler(trouble: Trouble, session: aiohttp.ClientSession, server: str) -> Callable[[web.BaseRequest], Any]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        rule = trouble.met(request.method, path)
        if rule is not None and not rule.carried_out:
            return await trouble.befall(request, rule)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _NOT_PASSED_ON}
        async with session.request(
            request.method, URL(server + path, encoded=True), headers=headers, data=await request.read()
        ) as answer:
            body = await answer.read()
        trouble.passed.append((request.method, path, answer.status))
        if rule is not None:
            return await trouble.befall(request, rule)
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _NOT_PASSED_ON}
        return web.Response(status=answer.status, headers=kept, body=body)

    return handle


def _lead(kubeconfig: Path, copy: Path, server: str) -> None:
    """Writes a kubeconfig with the same users that leads elsewhere."""
    yaml = YAML(typ="safe", pure=True)
    found = yaml.load(kubeconfig.read_text(encoding="utf-8"))
    for one in found["clusters"]:
        one["cluster"] = {"server": server}
    copy.write_text(json.dumps(found), encoding="utf-8")


def retoken(kubeconfig: Path, token: str) -> str:
    """Gives every user of a kubeconfig another token, as who renews it does; returns the one before."""
    found = json.loads(kubeconfig.read_text(encoding="utf-8"))
    before = ""
    for one in found["users"]:
        before = str(one["user"].get("token", ""))
        one["user"] = {"token": token}
    beside = kubeconfig.with_suffix(".new")
    beside.write_text(json.dumps(found), encoding="utf-8")
    beside.replace(kubeconfig)
    return before
