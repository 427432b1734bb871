"""Reads the callers' Envoys directly, through their admin interface: fresh at every look, with nothing in between."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from autopilot.telemetry.dialects import envoy_names as names
from autopilot.telemetry.model import Arrivals, Door, Observation, SeriesSample, Subject, TelemetryError

_STAT = re.compile(
    rf"^cluster\.(?P<cluster>{names.PREFIX}/[^/]+/[^/]+/[^/.]+|inbound/[^/.]+)"
    r"\.(?P<name>(?:retry\.)?upstream_rq_[a-z0-9_]+)$"
)
_UPTIME = re.compile(r"^(\d+(?:\.\d+)?)s$")


@dataclass(slots=True)
class ClusterStats:
    """What one proxy has counted for one cluster."""

    values: dict[str, float] = field(default_factory=dict)
    buckets: list[tuple[float, float]] = field(default_factory=list)
    """(upper bound in seconds, requests at most so slow)."""


class EnvoyStats:
    """A `TelemetrySource` over the admin interfaces of some Envoys.

    Histograms trail counters by the proxy's `stats_flush_interval` (5 s unless set otherwise): set it to the tick.

    Args:
        proxies: names to `host:port` of the admin interface; looked up at every poll, so it may change.
        doors: by `namespace/service` and arm, where the arm's own sidecars are known.
        sidecars: like `proxies`, those that `doors` name; they are read besides, and may be missing.
        timeout: seconds that a proxy has to answer.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        proxies: Mapping[str, str],
        *,
        doors: Mapping[tuple[str, str], Door] | None = None,
        sidecars: Mapping[str, str] | None = None,
        timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._proxies = proxies
        self._doors = doors or {}
        self._sidecars = sidecars or {}
        self._timeout = timeout
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """Name of this source for messages."""
        return f"Envoy ({', '.join(f'{name} at {address}' for name, address in self._proxies.items()) or 'no proxies'})"

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        """Asks all proxies at once for the counters of all subjects.

        Raises:
            TelemetryError: not one proxy answered.
        """
        proxies = dict(self._proxies)
        if not proxies:
            raise TelemetryError(
                "no Envoy with an admin address is known; start one, or write its admin address in the mesh file"
            )
        doors = {subject: self._doors_of(subject) for subject in subjects}
        wanted = {name for own in doors.values() for door in own.values() for name, _ in door.sidecars}
        others = {name: self._sidecars[name] for name in wanted - proxies.keys() if name in self._sidecars}
        expression = _expression(subjects, [door for own in doors.values() for door in own.values()])
        asked = {**proxies, **others}
        answers = await asyncio.gather(*(self._read(address, expression) for address in asked.values()))
        found = dict(zip(asked, answers, strict=True))
        missing = {name: answer for name in proxies if isinstance(answer := found[name], str)}
        if len(missing) == len(proxies):
            said = "; ".join(f"{name}: {why}" for name, why in missing.items())
            raise TelemetryError(f"no Envoy answered ({said}); check that they run and that their admin ports are open")
        now = self._clock()
        read = {name: answer for name, answer in found.items() if isinstance(answer, _Answer)}
        callers = {name: answer for name, answer in read.items() if name in proxies}
        return [
            Observation(
                subject=subject,
                time=now,
                samples=tuple(sample for name, answer in callers.items() for sample in answer.samples(name, subject)),
                missing=missing,
                arrivals=()
                if missing
                else tuple(
                    seen
                    for arm, door in doors[subject].items()
                    if (seen := _arrivals(arm, door, callers, read)) is not None
                ),
            )
            for subject in subjects
        ]

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _doors_of(self, subject: Subject) -> dict[str, Door]:
        ref = f"{subject.namespace}/{subject.service}"
        return {arm: door for arm in subject.arms if (door := self._doors.get((ref, arm))) is not None}

    async def _read(self, address: str, expression: str) -> _Answer | str:
        """What one proxy has counted of the stats that match, or why that is not known."""
        query = {"format": "json", "histogram_buckets": "cumulative", "filter": expression}
        began = self._clock()
        try:
            async with asyncio.timeout(self._timeout):
                stats, info = await asyncio.gather(
                    self._get(address, "/stats", query), self._get(address, "/server_info", {})
                )
            now = self._clock()
            clusters = parse_stats(stats)
            return _Answer(time=now, took=max(0.0, now - began), started=_started(info, now), clusters=clusters)
        except TimeoutError:
            return f"{address} did not answer within {self._timeout:g} s"
        except aiohttp.ClientError as failure:
            return f"{address} cannot be read: {failure}"
        except (ValueError, KeyError, TypeError) as failure:
            return f"{address} gave an answer that is not in Envoy's format: {failure!r}"

    async def _get(self, address: str, path: str, query: Mapping[str, str]) -> str:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        async with self._session.get(f"http://{address}{path}", params=query) as response:
            text = await response.text()
            if response.status != 200:
                raise ValueError(f"status {response.status} for {path}: {text[:200].strip()}")
            return text


@dataclass(frozen=True, slots=True)
class _Answer:
    """One proxy's answer."""

    time: float
    took: float
    started: float | None
    clusters: dict[str, ClusterStats]

    def samples(self, proxy: str, subject: Subject) -> list[SeriesSample]:
        found = []
        mine = {names.cluster_of(subject, arm): arm for arm in subject.arms}
        for cluster, stats in self.clusters.items():
            # A cluster that stands in for an arm's own while a fault is laid answers for the arm.
            arm = mine.get(names.own_cluster(cluster))
            if arm is None or names.COMPLETED not in stats.values:
                continue
            timed = max((count for _, count in stats.buckets), default=0.0)
            attempt, user = names.views(stats.values, stats.buckets, timed)
            # Envoy lists the gauge of those active before the counter of those begun, so it is read first.
            active, begun = names.under_way(stats.values)
            found.append(
                SeriesSample(
                    series=f"{proxy}|{cluster}",
                    arm=arm,
                    time=self.time,
                    started=self.started,
                    attempt=attempt,
                    user=user,
                    active=active,
                    begun=begun,
                    took=self.took,
                )
            )
        return found


def _expression(subjects: Sequence[Subject], doors: Sequence[Door]) -> str:
    """Matches all stats that are read, at callers and at sidecars."""
    counted, taken = ("|".join(map(re.escape, each)) for each in (names.COUNTED, names.BEGUN))
    wanted = rf"{names.cluster_pattern(subjects)}\.({counted})"
    if inbound := names.inbound_pattern(doors):
        wanted = rf"({wanted}|({inbound})\.({taken}))"
    return rf"^cluster\.{wanted}$"


def _arrivals(arm: str, door: Door, callers: Mapping[str, _Answer], read: Mapping[str, _Answer]) -> Arrivals | None:
    """Both ends of the way to one arm; None where a sidecar did not answer, or has counted nothing."""
    received: dict[str, float] = {}
    for name, cluster in door.sidecars:
        answer = read.get(name)
        stats = answer.clusters.get(cluster) if answer is not None else None
        _, taken = names.under_way(stats.values) if stats is not None else (0.0, None)
        if taken is None:
            return None
        received[name] = received.get(name, 0.0) + taken
    sent = {
        name: sum(
            stats.values.get(names.TOTAL, 0.0)
            for cluster in door.clusters
            if (stats := answer.clusters.get(cluster)) is not None
        )
        for name, answer in callers.items()
    }
    both = {**{name: read[name] for name in received}, **callers}
    last = max(answer.time for answer in both.values())
    return Arrivals(
        arm=arm,
        time=last,
        received=received,
        sent=sent,
        started={name: answer.started for name, answer in both.items() if answer.started is not None},
        skew=last - min(answer.time - answer.took for answer in both.values()),
    )


def parse_stats(text: str) -> dict[str, ClusterStats]:
    """Reads the answer to `/stats?format=json&histogram_buckets=cumulative` by cluster; other stats are passed over.

    Raises:
        ValueError: the text is no JSON.
        KeyError: it has no `stats`.
    """
    found: defaultdict[str, ClusterStats] = defaultdict(ClusterStats)
    for stat in json.loads(text)["stats"]:
        for histogram in stat.get("histograms", ()):
            if (match := _STAT.match(histogram["name"])) and match["name"] == names.TIME:
                found[match["cluster"]].buckets = [
                    (bucket["upper_bound"] / 1000, float(bucket["cumulative"])) for bucket in histogram["buckets"]
                ]
        if "value" in stat and (match := _STAT.match(stat["name"])):
            found[match["cluster"]].values[match["name"]] = float(stat["value"])
    return dict(found)


def _started(info: str, now: float) -> float | None:
    """When the proxy began to count, to the second; a hot restart hands counters over and so is no start."""
    match = _UPTIME.match(json.loads(info).get("uptime_all_epochs", ""))
    return now - float(match[1]) if match else None
