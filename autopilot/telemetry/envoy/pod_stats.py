"""Reads the arms' own proxies on Kubernetes, where Prometheus scrapes too slowly: their statistics, as a scrape would.

What is read are the same metrics in the same words (a dialect), seconds earlier. The arms' proxies tell what arrived
there: what broke on the way to them only their callers know, so a version that crashes shows as silence here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from autopilot.telemetry.dialects.dialect import Dialect, Matrix
from autopilot.telemetry.model import Observation, Subject, TelemetryError

PORT = 15090
PATH = "/stats/prometheus"
_READ = "istio_request"
"""What the names of all that is read begin with; the rest of a scrape is not even parsed."""
_KNOWN = 5.0
"""Seconds that the addresses of pods are remembered."""

Endpoints = Callable[[Subject], Awaitable[Mapping[str, Sequence[str]]]]
"""Arm → addresses of the pods that answer for it now."""


class PodStats:
    """A `TelemetrySource` over the statistics of the arms' pods.

    Args:
        endpoints: where an arm's pods are.
        dialect: what their counters are called.
        most: pods read of one subject at the most; one that has more is not read at all.
        timeout: seconds that one pod has to answer.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        dialect: Dialect,
        *,
        most: int = 40,
        timeout: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoints = endpoints
        self._dialect = dialect
        self._most = most
        self._timeout = timeout
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[Subject, tuple[float, list[str]]] = {}

    @property
    def name(self) -> str:
        """Name of this source for messages."""
        return "the statistics of the arms' pods"

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        """Reads every subject's pods; who does not answer is missing, with its reason."""
        return list(await asyncio.gather(*(self._one(subject) for subject in subjects)))

    async def close(self) -> None:
        """Closes all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _one(self, subject: Subject) -> Observation:
        try:
            hosts = await self._hosts(subject)
        except TelemetryError as error:
            return Observation(subject=subject, time=self._clock(), missing={"pods": str(error)})
        answers = await asyncio.gather(*(self._read(host) for host in hosts), return_exceptions=True)
        matrix: list[object] = []
        missing: dict[str, str] = {}
        for host, answer in zip(hosts, answers, strict=True):
            if isinstance(answer, TelemetryError):
                missing[host] = str(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                matrix += answer
        (reading,) = await asyncio.to_thread(self._dialect.newest, matrix, [subject])
        return Observation(
            subject=subject, time=self._clock(), samples=reading.samples, missing={**missing, **reading.missing}
        )

    async def _hosts(self, subject: Subject) -> list[str]:
        """Where the subject's pods are, as it was known some seconds ago: an API server's trouble silences no pod.

        Raises:
            TelemetryError: there are none, or more than may be read: part of them would be a wrong split.
        """
        now, known = self._clock(), self._known.get(subject)
        if known is None or now - known[0] > _KNOWN:
            try:
                arms = await self._endpoints(subject)
            except TelemetryError:
                if known is None:
                    raise
            else:
                known = (now, sorted({address.partition(":")[0] for found in arms.values() for address in found}))
            self._known[subject] = (now, known[1])
        hosts = known[1]
        if not hosts:
            raise TelemetryError(f"no pod of {subject.namespace}/{subject.service} is ready; start its pods first")
        if len(hosts) > self._most:
            raise TelemetryError(
                f"{subject.namespace}/{subject.service} has {len(hosts)} pods, and maxProxies is {self._most}; "
                "raise it, or use `telemetry: prometheus`"
            )
        return hosts

    async def _read(self, host: str) -> Matrix:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        url = f"http://{host}:{PORT}{PATH}"
        try:
            async with self._session.get(url) as response:
                text = await response.text()
                if response.status != 200:
                    raise TelemetryError(f"{url} answers {response.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TelemetryError(
                f"{url} does not answer ({type(error).__name__}); check that this process can reach pods"
            ) from error
        return await asyncio.to_thread(matrix_of, text, host, self._clock())


def matrix_of(text: str, instance: str, at: float) -> Matrix:
    """A scrape as the answer to a range selector: one sample a series, all at the same instant.

    Raises:
        TelemetryError: the text is no exposition.
    """
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(_READ)) + "\n"
    try:
        return [
            {"metric": {"__name__": sample.name, "instance": instance, **sample.labels}, "values": [[at, sample.value]]}
            for family in text_string_to_metric_families(wanted)
            for sample in family.samples
        ]
    except (ValueError, KeyError, IndexError) as error:
        raise TelemetryError(f"the statistics of {instance} cannot be read: {error}") from error
