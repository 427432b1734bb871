"""Finds the addresses of hosts for probes, in threads of its own: names that hang hold up nobody else's."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

_THREADS: Final = 16

Address = tuple[Any, ...]
"""As `socket.getaddrinfo` gives it: family, type, protocol, canonical name, socket address."""


class Names(AbstractResolver):
    """What hosts are called and where they are. Nothing is remembered, so that a change shows at the next look.

    Python cannot stop a question to a name server, and one without an answer takes half a minute: a name that is asked
    for already is not asked for again.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="names for probes")
        self._asked: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}

    async def find(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[Address]:
        """The addresses of a host.

        Raises:
            OSError: it has none.
        """
        key = (host, family)
        if (asked := self._asked.get(key)) is None:
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
            )
            self._asked[key] = asked
            asked.add_done_callback(lambda done: self._answered(key, done))
        found = await asyncio.shield(asked)
        return [(*each[:4], (each[4][0], port, *each[4][2:])) for each in found]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The same in aiohttp's terms."""
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in await self.find(host, port, family)
        ]

    async def close(self) -> None:
        """Lets go of threads; questions under way come to their end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answered(self, key: tuple[str, int], done: asyncio.Future[list[Address]]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # a waiting caller gets the error; without one it is not needed
