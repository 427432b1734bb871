"""A witness over the admin interfaces of Envoys that say their own names: what each fault met, and what callers got."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence

import aiohttp

from autopilot.telemetry.dialects import envoy_names as names
from autopilot.telemetry.fault_effects.port import Counted, Hop, Mark
from autopilot.telemetry.model import Subject, TelemetryError

_INJECTED = {
    "delay": "delays_injected",
    "abort": "aborts_injected",
    "grpcAbort": "aborts_injected",
    "bandwidth": "response_rl_injected",
}
"""Counters of the fault filter, by listener: they count when the fault begins."""
_REFUSED = ("upstream_rq_pending_overflow", "upstream_rq_active_overflow")
_WORDS = {
    "delay": "the proxies' count of delays injected",
    "abort": "the proxies' count of aborts injected",
    "grpcAbort": "the proxies' count of aborts injected",
    "bandwidth": "the proxies' count of responses slowed",
    "reset": "requests on the fault's own route",
    "blackhole": "requests that were accepted and not answered",
    "eject": "requests on the fault's own route",
    "overflow": "requests that connection pools refused",
    "retries": "requests on the fault's own route",
    "timeout": "requests on the fault's own route",
}
Stats = Mapping[str, float]


class EnvoyFaultEffects:
    """Reads counters of all proxies at once.

    Args:
        proxies: names to `host:port` of admin interfaces, asked at every look.
        listeners: proxy → names of the listeners through which it calls the service `namespace/name`.
        blackhole: what the listener is called that takes requests and never answers.
        timeout: seconds that a proxy has to answer.
    """

    def __init__(
        self,
        proxies: Callable[[], Mapping[str, str]],
        listeners: Callable[[str], Mapping[str, Sequence[str]]],
        *,
        blackhole: str,
        timeout: float = 2.0,
    ) -> None:
        self._proxies = proxies
        self._listeners = listeners
        self._blackhole = blackhole
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    @property
    def lag(self) -> float:
        """Counters of proxies are as they are now."""
        return 0.0

    def seen_by(self, subject: Subject, mark: Mark) -> str:  # noqa: ARG002 - the same for all
        """What shows that this fault takes effect."""
        return _WORDS.get(mark.kind, "")

    async def effects(self, subject: Subject, marks: Sequence[Mark]) -> list[Counted]:
        """What each fault has met so far."""
        ref = f"{subject.namespace}/{subject.service}"
        needed = {*self._listeners(ref), *(proxy for mark in marks for proxy, _ in mark.proxies)}
        read = await self._read(_effects_pattern(ref, self._blackhole), needed)
        of = {
            proxy: _begun(stats, ref) + sum(_aborted(stats, one) for one in self._listeners(ref).get(proxy, ()))
            for proxy, stats in read.items()
            if proxy in self._listeners(ref)
        }
        found = []
        for mark in marks:
            met = {
                f"{proxy}/{listener}": self._met(read[proxy], ref, mark, listener)
                for proxy, listener in mark.proxies
                if proxy in read
            }
            found.append(Counted(met=met, of=of))
        return found

    def _met(self, stats: Stats, ref: str, mark: Mark, listener: str) -> float:
        if mark.kind in _INJECTED:
            return stats.get(f"http.{listener}.fault.{_INJECTED[mark.kind]}", 0.0)
        if mark.kind == "blackhole":
            return stats.get(f"http.{self._blackhole}.fault.delays_injected", 0.0)
        if mark.kind == "overflow":
            return sum(
                value
                for name, value in stats.items()
                if f"~{mark.name}." in name and name.rsplit(".", 1)[-1] in _REFUSED
            )
        return stats.get(f"vhost.{ref}.route.{mark.name}.upstream_rq_completed", 0.0)

    async def hops(self, subjects: Sequence[Subject]) -> list[Hop]:
        """What the callers of these services have counted."""
        needed = {proxy for one in subjects for proxy in self._listeners(f"{one.namespace}/{one.service}")}
        read = await self._read(rf"^(cluster\.{names.PREFIX}/|http\..*\.fault\.aborts_injected)", needed)
        found = []
        for subject in subjects:
            ref = f"{subject.namespace}/{subject.service}"
            for proxy, listeners in self._listeners(ref).items():
                stats = read.get(proxy)
                if stats is None:
                    continue
                aborted = sum(_aborted(stats, listener) for listener in listeners)
                counted = {name: _sum(stats, ref, name) for name in (names.COMPLETED, names.FAILED, names.RETRIED)}
                done = counted[names.COMPLETED]
                found.append(
                    Hop(
                        caller=proxy,
                        service=ref,
                        requests={proxy: done + aborted},
                        tries={proxy: done + counted[names.RETRIED]},
                        failures={proxy: counted[names.FAILED] + aborted},
                    )
                )
        return found

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _read(self, pattern: str, needed: set[str]) -> dict[str, Stats]:
        """Proxy → counters by name. A part of them would be a wrong sum, and its missing part a jump later.

        Raises:
            TelemetryError: one of those needed does not answer.
        """
        proxies = {name: address for name, address in self._proxies().items() if name in needed}
        answers = await asyncio.gather(*(self._one(address, pattern) for address in proxies.values()))
        read = {name: stats for name, stats in zip(proxies, answers, strict=True) if stats is not None}
        if silent := sorted(proxies.keys() - read.keys()):
            raise TelemetryError(f"{', '.join(silent)} did not answer; check that the proxies run")
        return read

    async def _one(self, address: str, pattern: str) -> Stats | None:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        query = {"format": "json", "type": "Counters", "filter": pattern}
        try:
            async with self._session.get(f"http://{address}/stats", params=query) as response:
                stats = json.loads(await response.text())["stats"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
            return None
        return {one["name"]: float(one["value"]) for one in stats if "value" in one}


def _effects_pattern(ref: str, blackhole: str) -> str:
    service = re.escape(ref)
    parts = (
        r"http\..*\.fault\.(delays_injected|aborts_injected|response_rl_injected)",
        rf"http\.{re.escape(blackhole)}\.fault\.delays_injected",
        rf"vhost\.{service}\.route\..*\.upstream_rq_completed",
        rf"cluster\.{names.PREFIX}/{service}/.*\.upstream_rq_(total|pending_failure_eject|pending_overflow|active_overflow)",
    )
    return f"^({'|'.join(parts)})$"


def _begun(stats: Stats, ref: str) -> float:
    return sum(_sum(stats, ref, name) for name in ("upstream_rq_total", "upstream_rq_pending_failure_eject", *_REFUSED))


def _sum(stats: Stats, ref: str, name: str) -> float:
    """One counter over all clusters of a service."""
    before = f"cluster.{names.PREFIX}/{ref}/"
    return sum(
        value
        for full, value in stats.items()
        if full.startswith(before) and full.endswith(f".{name}") and full.count(".") == 2
    )


def _aborted(stats: Stats, listener: str) -> float:
    return stats.get(f"http.{listener}.fault.aborts_injected", 0.0)
