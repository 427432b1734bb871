"""Runs the probes of an experiment: one look at a time, each bounded by its probe's own time-out.

What a probe finds is never an error here. A service that does not answer has failed; whoever should have told of it
and did not (a Prometheus, an API server, a program that cannot be run) leaves a look without data.
"""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from activities.probes.dns import Names
from activities.probes.kubernetes import Objects
from activities.probes.mesh_metrics import Traffic
from activities.probes.secrets import Secrets, SecretUnavailable
from activities.probes.subprocesses import FunctionError, call, run
from activities.probes.tolerance import Judgement, Seen, judged, together
from autopilot.evidence.chaos.hypothesis import Look
from autopilot.evidence.chaos.tolerance import readable
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Target
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.chaos.probes import (
    OPT_IN,
    HttpProbe,
    KubernetesProbe,
    MeshProbe,
    Probe,
    ProcessProbe,
    PromqlProbe,
    PythonProbe,
    TcpProbe,
    secrets_of,
)
from autopilot.spec.cluster import ClusterSpec
from autopilot.spec.input_safety.credentials import redacted
from autopilot.spec.mesh import MeshSpec
from autopilot.spec.secret_ref import SecretText
from autopilot.spec.values.units import format_seconds
from autopilot.telemetry.model import TelemetryError, sendable

ALLOW_VARIABLE: Final = "AUTOPILOT_ALLOW_PROBES"
"""Environment variable of a worker: which kinds of probes that run code from a spec it may run."""

_LONGEST_BODY: Final = 1_000_000
"""Bytes of an answer that are read."""
_VALUE: Final = 120
_NOTE: Final = 240
"""Characters: looks are kept, sent with every heartbeat, and part of the report."""
_QUERIES: Final = 4
"""PromQL queries under way at once: a Prometheus that hangs must not take all threads of a worker."""
_IMPORT: Final = 20.0
"""Seconds that a function has to be found in before an experiment begins."""
_PLACE = re.compile(r"\{\{ *(service|namespace) *\}\}")


def allowed_probes(environ: Mapping[str, str]) -> frozenset[str]:
    """Kinds of probes that this worker's administrator allows, of those that need it: `process,python`.

    Raises:
        InvalidChange: the variable names something else.
    """
    named = {each.strip() for each in environ.get(ALLOW_VARIABLE, "").split(",") if each.strip()}
    if unknown := named - set(OPT_IN):
        raise InvalidChange(
            f"{ALLOW_VARIABLE} names {', '.join(sorted(unknown))}: unknown; write {', '.join(OPT_IN)}, or one of them"
        )
    return frozenset(named)


@dataclass(slots=True)
class _Stage:
    """How far one look has come."""

    waits_for_secrets: bool = False
    """Set while secrets are read: the target has not been asked yet."""
    answered: bool = False
    """Set once the target has answered; time after that is spent by the probe itself."""


class ProbeRunner:
    """Looks at probes for one experiment; make one for each activity that looks, and close it.

    Args:
        attached: the mesh, and its telemetry.
        target: the experiment's; its namespace is where names without one are looked for.
        allowed: kinds that need the worker's consent and have it; see `allowed_probes`.

    Raises:
        InvalidChange: `AUTOPILOT_ALLOW_SECRETS` of this worker has another form than is known.
    """

    def __init__(self, attached: AttachedMesh, target: Target, allowed: frozenset[str] = frozenset()) -> None:
        self._attached = attached
        self._target = target
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None
        self._objects: Objects | None = None
        self._traffic = Traffic(attached)
        self._names = Names()
        own = getattr(attached.mesh, "spec", None)
        credentials = own.prometheus.secrets.values() if isinstance(own, MeshSpec | ClusterSpec) else ()
        place = own.namespace if isinstance(own, ClusterSpec) else ""
        self._secrets = Secrets(target.namespace, self._api, own=credentials, own_namespace=place)
        self._queries = asyncio.Semaphore(_QUERIES)
        self._asked: set[asyncio.Task[float | None]] = set()

    async def refuse(self, probes: Sequence[Probe]) -> None:
        """Checks that every probe can be looked at here, before anything is changed.

        Raises:
            InvalidChange: one cannot; the message names it and says what to do.
            MeshUnavailable: it could not be found out; try again.
        """
        for probe in probes:
            try:
                await self._refuse(probe)
            except InvalidChange as error:
                raise InvalidChange(f"probe {probe.name}: {error}") from error

    async def look(self, probe: Probe) -> Look:
        """Looks once, for at most the probe's time-out. A failed look raises nothing."""
        began = time.time()
        stage = _Stage()
        try:
            async with asyncio.timeout(probe.timeout):
                seen = await self._see(probe, stage)
        except TimeoutError:
            within = format_seconds(probe.timeout)
            if stage.waits_for_secrets:
                seen = Seen(None, note=f"cannot be measured: the secrets it sends could not be read within {within}")
            elif stage.answered:
                seen = Seen(None, note=f"the answer could not be judged within {within}; simplify the tolerance")
            else:
                ok = False if isinstance(probe, HttpProbe | TcpProbe) else None
                seen = Seen(ok, note=f"no answer within {within}")
        except (TelemetryError, MeshError, FunctionError, SecretUnavailable) as error:
            seen = Seen(None, note=str(error))
        except Exception as error:  # noqa: BLE001 - an error of the probe is no data; the note names it
            seen = Seen(None, note=f"{type(error).__name__}: {error}")
        value, note = (redacted(self._secrets.hidden(text)) for text in (seen.value, seen.note))
        return Look(time=began, ok=seen.ok, value=value[:_VALUE], note=note[:_NOTE])

    async def prime(self, probe: MeshProbe) -> None:
        """Reads counters, so that a look a window later has something to compare with; never raises."""
        self._traffic.follow(probe, self._service(probe))
        try:
            async with asyncio.timeout(probe.timeout):
                await self._traffic.read()
        except (TimeoutError, TelemetryError, MeshError):
            return  # the look itself will say so

    def forget(self) -> None:
        """Starts a new phase: mesh probes count only requests from now on."""
        self._traffic.forget()

    def early(self, probe: Probe) -> bool:
        """Whether a look without data means nothing yet: counters are read, but not for long enough."""
        return isinstance(probe, MeshProbe) and self._traffic.early(probe, self._service(probe))

    def patience(self, probe: Probe) -> float:
        """Seconds from the first look (or from `forget`) in which that may be so; 0 for most kinds."""
        return self._traffic.patience(probe) if isinstance(probe, MeshProbe) else 0.0

    async def close(self) -> None:
        """Closes connections and releases threads."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._objects is not None:
            self._objects.close()
        asked = list(self._asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self._traffic.close()
        await self._names.close()
        self._secrets.close()

    async def _refuse(self, probe: Probe) -> None:
        if probe.type in OPT_IN and probe.type not in self._allowed:
            raise InvalidChange(
                f"{probe.type} probes run code that the file names, and this worker does not allow that: "
                f"start it with {ALLOW_VARIABLE}={probe.type}, or use another probe"
            )
        match probe:
            case PromqlProbe():
                self._attached.query_source("promql")
            case MeshProbe():
                await self._traffic.refuse(self._service(probe))
            case KubernetesProbe():
                await self._cluster().refuse(probe)
            case PythonProbe():
                try:
                    async with asyncio.timeout(_IMPORT):
                        await call(probe.function, probe.arguments, really=False)
                except (FunctionError, TimeoutError, OSError) as error:
                    said = str(error) or f"{probe.function} could not be imported within {format_seconds(_IMPORT)}"
                    raise InvalidChange(f"{said}; install it where the worker imports modules from") from error
            case ProcessProbe():
                if shutil.which(probe.command[0]) is None:
                    raise InvalidChange(
                        f"program {readable(probe.command[0])} was not found on the worker's machine; install it there"
                    )
            case HttpProbe():
                _address(probe.url)
                for name, text in secrets_of(probe).items():
                    try:
                        self._secrets.refuse(text.secret_ref)
                    except InvalidChange as error:
                        raise InvalidChange(f"header {name}: {error}") from error
            case _:
                return

    async def _see(self, probe: Probe, stage: _Stage) -> Seen:
        match probe:
            case HttpProbe():
                return await self._http(probe, stage)
            case TcpProbe():
                return await self._tcp(probe)
            case PromqlProbe():
                return await self._promql(probe)
            case MeshProbe():
                return await self._traffic.look(probe, self._service(probe))
            case KubernetesProbe():
                return await self._cluster().look(probe)
            case ProcessProbe() | PythonProbe():
                return await self._run(probe)

    async def _run(self, probe: ProcessProbe | PythonProbe) -> Seen:
        if probe.type not in self._allowed:
            return Seen(
                None,
                note=f"this worker does not allow {probe.type} probes; start it with {ALLOW_VARIABLE}={probe.type}",
            )
        if isinstance(probe, ProcessProbe):
            return await self._process(probe)
        value = await call(probe.function, probe.arguments)
        ok, note = await judged(probe.tolerance, value)
        return Seen(ok, readable(value), note)

    async def _http(self, probe: HttpProbe, stage: _Stage) -> Seen:
        """One request on a connection of its own, as a new user would make it; redirects are not followed."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False, resolver=self._names),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "mesh-autopilot"},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        url = _address(probe.url)
        stage.waits_for_secrets = True
        headers = {
            name: await self._secrets.header(value) if isinstance(value, SecretText) else value
            for name, value in probe.headers.items()
        }
        stage.waits_for_secrets = False
        began = time.monotonic()
        try:
            async with self._session.request(
                probe.method,
                url,
                headers=headers,
                data=probe.data,
                ssl=probe.verify_tls,
                allow_redirects=False,
            ) as response:
                body = await _body(response)
        except (aiohttp.ClientError, ConnectionError) as error:
            return Seen(ok=False, note=f"no answer: {str(error) or type(error).__name__}")
        took = time.monotonic() - began
        stage.answered = True
        told: list[Judgement] = [await judged(probe.tolerance, response.status, "status: ")]
        if probe.body is not None:
            holds, why = await judged(probe.body, body, "body: ")
            if why and self._secrets.repeated(body.decode("utf-8", "replace")):
                why = "body: is not shown, because the answer repeats a secret that the probe sent"
            told.append((holds, why))
        if probe.latency is not None:
            told.append(await judged(probe.latency, round(took, 4), "seconds: "))
        ok, note = together(told)
        return Seen(ok, f"{response.status} in {took:.3f} s", note)

    async def _tcp(self, probe: TcpProbe) -> Seen:
        host, _, port = probe.address.rpartition(":")
        began = time.monotonic()
        why = f"name {host} has no address"
        try:
            for family, kind, protocol, _, address in await self._names.find(host, int(port)):
                with socket.socket(family, kind, protocol) as opened:
                    opened.setblocking(False)
                    try:
                        await asyncio.get_running_loop().sock_connect(opened, address)
                    except OSError as error:
                        why = str(error)
                    else:
                        return Seen(ok=True, value=f"connected in {time.monotonic() - began:.3f} s")
        except socket.gaierror as error:
            why = f"{host}: {error.strerror}"
        return Seen(ok=False, note=f"no connection: {why}")

    async def _promql(self, probe: PromqlProbe) -> Seen:
        names = {"service": self._target.service, "namespace": self._target.namespace}
        query = _PLACE.sub(lambda place: names[place.group(1)], probe.query)
        source = self._attached.query_source("promql")
        await self._queries.acquire()
        # Cancelled, it would leave its thread behind and give its place to the next; so it goes on to its own end.
        asked = asyncio.create_task(source.query(query), name=f"query of probe {probe.name}")
        self._asked.add(asked)
        asked.add_done_callback(self._answered)
        value = await asyncio.shield(asked)
        if value is None:
            return Seen(None, note="the query returned no number: its result is empty, or NaN")
        # An infinite result is above every maximum or below every minimum, and not a value that is missing.
        ok, note = await judged(probe.tolerance, sendable(value))
        if math.isinf(value) and ok is False:
            note = f"the query returned {value:+} (a division by 0?), which the tolerance excludes"
        return Seen(ok, f"{value:.6g}", note)

    def _answered(self, task: asyncio.Task[float | None]) -> None:
        self._queries.release()
        self._asked.discard(task)
        if not task.cancelled():
            task.exception()  # a waiting caller gets the error; without one it is not needed

    async def _process(self, probe: ProcessProbe) -> Seen:
        try:
            ended = await run(probe.command)
        except (OSError, ValueError) as error:
            return Seen(None, note=f"{readable(probe.command[0])} cannot be run: {error}")
        if ended.code < 0:
            return Seen(None, note=f"ended by signal {-ended.code}; {ended.err.strip()[-200:]}")
        told = [await judged(probe.tolerance, ended.code, "exit code: ")]
        if probe.output is not None:
            told.append(await judged(probe.output, ended.out.decode("utf-8", "replace").rstrip(), "output: "))
        ok, note = together(told)
        said = ended.err.strip()[-200:]
        return Seen(ok, f"exit code {ended.code}", f"{note}; its error output: {said}" if note and said else note)

    def _service(self, probe: MeshProbe) -> Target:
        namespace, _, name = (probe.service or self._target.service).rpartition("/")
        return Target(mesh=self._target.mesh, namespace=namespace or self._target.namespace, service=name)

    def _cluster(self) -> Objects:
        """The objects of the mesh's cluster.

        Raises:
            InvalidChange: it is in none.
        """
        if self._objects is None:
            mesh = self._attached.mesh
            if not isinstance(mesh, KubeMesh):
                raise InvalidChange(
                    f"mesh {mesh.name} is not in a cluster and has no objects; use another type of probe"
                )
            self._objects = Objects(mesh.api, self._target.namespace)
        return self._objects

    def _api(self) -> KubeApi:
        """The API server of the mesh's cluster.

        Raises:
            InvalidChange: it is in none.
        """
        mesh = self._attached.mesh
        if not isinstance(mesh, KubeMesh):
            raise InvalidChange(
                f"mesh {mesh.name} is not in a cluster and has no Secrets; write secretRef: file or env"
            )
        return mesh.api


def _address(url: str) -> URL:
    """A URL that can be asked.

    Raises:
        InvalidChange: it cannot.
    """
    try:
        found = URL(url)
    except ValueError as error:
        raise InvalidChange(f"url is not valid: {error}; write http://host:port/path") from error
    if not found.host:
        raise InvalidChange("url names no host; write http://host:port/path")
    return found


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of the answer; the rest of a long one is not read."""
    body = bytearray()
    async for part in response.content.iter_chunked(65536):
        body += part
        if len(body) >= _LONGEST_BODY:
            break
    return bytes(body[:_LONGEST_BODY])
