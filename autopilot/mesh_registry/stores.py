"""The Prometheus of a mesh, as its file and the environment say: the same for workers and for the command line.

The environment has precedence, field by field, as it has everywhere. But credentials are not sent where they were not
meant for: those of the environment go to the address that the command line or the environment names; those of a file
to its own address, to another on the same host, and to this machine (a forwarded port).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import ValidationError

from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.secret_values import content
from autopilot.spec.cluster import ClusterSpec
from autopilot.spec.mesh import MeshSpec
from autopilot.spec.prometheus import PrometheusSpec
from autopilot.spec.secret_ref import KubernetesSecret, SecretRef
from autopilot.telemetry.dialects.dialect import Dialect
from autopilot.telemetry.dialects.envoy import Envoy
from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.dialects.linkerd import Linkerd
from autopilot.telemetry.prometheus.credentials import Read, SecretUnreadable, StoreAccess, local
from autopilot.telemetry.prometheus.source import PrometheusSource

if TYPE_CHECKING:
    from autopilot.mesh.kube.client.client import KubeApi

VARIABLE: Final = "AUTOPILOT_PROMETHEUS"
_FILES: Final = {"CA_FILE": "ca", "CERT_FILE": "certificate", "KEY_FILE": "key"}
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
_CREDENTIALS: Final = ("bearer_token", "basic_auth")


@dataclass(frozen=True, slots=True)
class Store:
    """Where a mesh's Prometheus is, and how it is asked."""

    url: str
    named: str
    """Who says so, for messages."""
    spec: PrometheusSpec
    of_file: bool = False
    """Whether the mesh's file alone names the address: it may be one that only the worker can reach."""


def store_of(
    spec: MeshSpec | ClusterSpec | None, address: str | None, environ: Mapping[str, str] | None = None
) -> Store | None:
    """The Prometheus of a mesh; None where neither its file nor anyone else names an address.

    Args:
        spec: the mesh's.
        address: a base URL that has precedence: of the command line, or of `AUTOPILOT_PROMETHEUS`.
        environ: of this process.

    Raises:
        InvalidChange: a variable, or both together, cannot be used.
    """
    environ = os.environ if environ is None else environ
    written = spec.prometheus if spec is not None else PrometheusSpec()
    url = address or written.url
    if url is None:
        return None
    _checked(url)
    told = _of_environment(environ) if address else {}
    given = written.model_dump(exclude_unset=True)
    if address and written.url and not _same_host(url, written.url):
        given = {name: value for name, value in given.items() if name == "queries"}
    if told.keys() & {*_CREDENTIALS} or "authorization" in told.get("headers", {}):
        given = {name: value for name, value in given.items() if name not in _CREDENTIALS}
        given["headers"] = {name: value for name, value in given.get("headers", {}).items() if name != "authorization"}
    both = {**given, **told, "url": url}
    for name in ("headers", "tls"):
        if parts := {**given.get(name, {}), **told.get(name, {})}:
            both[name] = parts
    try:
        found = PrometheusSpec.model_validate(both)
    except ValidationError as error:
        raise InvalidChange(
            f"{VARIABLE}_… and spec.prometheus of the mesh file do not fit together: {_said(error)}"
        ) from None  # an error of pydantic may show what it read
    return Store(url, VARIABLE if address else "spec.prometheus.url of the mesh file", found, of_file=not address)


def source_of(
    spec: MeshSpec | ClusterSpec | None,
    address: str | None,
    *,
    cluster: KubeApi | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 5.0,
) -> PrometheusSource | None:
    """The source that asks a mesh's Prometheus; see `store_of`.

    Args:
        spec: the mesh's.
        address: a base URL that has precedence.
        cluster: where Secrets are; None outside a cluster.
        environ: of this process.
        timeout: seconds that an answer may take.

    Raises:
        InvalidChange: as `store_of`.
    """
    environ = os.environ if environ is None else environ
    store = store_of(spec, address, environ)
    if store is None:
        return None
    namespace = spec.namespace if isinstance(spec, ClusterSpec) else ""
    wanted = store.spec
    access = None
    if wanted.headers or wanted.secrets:
        access = StoreAccess(wanted, reader(cluster, namespace, environ), namespace=namespace)
    return PrometheusSource(
        store.url, dialect=dialect_of(spec), access=access, by_name=wanted.queries == "byName", timeout=timeout
    )


def dialect_of(spec: MeshSpec | ClusterSpec | None) -> Dialect:
    """What a mesh's counters are called: those of the mesh that reads the routes."""
    if not isinstance(spec, ClusterSpec):
        return Envoy()
    return Linkerd() if metrics_of(spec) == "linkerd" else Istio()


def metrics_of(spec: ClusterSpec) -> str:
    """Which mesh's standard metrics are read."""
    return spec.metrics or ("linkerd" if spec.provider == "smi" else "istio")


def reader(cluster: KubeApi | None, namespace: str, environ: Mapping[str, str]) -> Read:
    """Reads secrets where this process runs.

    Args:
        cluster: where Secrets are; None outside a cluster.
        namespace: of a Secret that names none.
        environ: of this process.
    """

    def read(ref: SecretRef, longest: int) -> bytes | None:
        if ref.file is not None:
            return content(Path(ref.file), longest)
        if ref.kubernetes is not None:
            return _of_cluster(cluster, ref.kubernetes, namespace)
        value = environ.get(ref.env or "")
        return None if value is None else value.encode("utf-8", "surrogateescape")

    return read


def _of_cluster(cluster: KubeApi | None, ref: KubernetesSecret, namespace: str) -> bytes | None:
    from autopilot.mesh.kube.client.resources import SECRET  # noqa: PLC0415 - plain meshes need no cluster

    if cluster is None:
        raise SecretUnreadable("the mesh is not in a cluster and has no Secrets; write secretRef: file or env")
    try:
        found = cluster.get(SECRET, ref.name, ref.namespace or namespace)
    except MeshError as error:
        raise SecretUnreadable(str(error)) from None
    said = ((found or {}).get("data") or {}).get(ref.key)
    return None if said is None else base64.b64decode(said)


def _of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the environment says, as fields of `PrometheusSpec`; values of secrets stay where they are."""

    def given(name: str) -> bool:
        return bool(environ.get(f"{VARIABLE}_{name}"))

    def variable(name: str) -> dict[str, Any]:
        return {"secret_ref": {"env": f"{VARIABLE}_{name}"}}

    def file(name: str) -> dict[str, Any]:
        # Links stay: a mounted Secret is a link that is exchanged when the Secret changes.
        return {"secret_ref": {"file": os.path.abspath(environ[f"{VARIABLE}_{name}"])}}  # noqa: PTH100

    found: dict[str, Any] = {}
    if given("HEADERS"):
        found["headers"] = _headers(environ[f"{VARIABLE}_HEADERS"])
    if given("TOKEN_FILE"):
        found["bearer_token"] = file("TOKEN_FILE")
    elif given("TOKEN"):
        found["bearer_token"] = variable("TOKEN")
    if given("USER"):
        if not given("PASSWORD") and not given("PASSWORD_FILE"):
            raise InvalidChange(
                f"{VARIABLE}_USER is set without a password; set {VARIABLE}_PASSWORD_FILE or {VARIABLE}_PASSWORD too"
            )
        password = file("PASSWORD_FILE") if given("PASSWORD_FILE") else variable("PASSWORD")
        found["basic_auth"] = {"username": environ[f"{VARIABLE}_USER"], "password": password}
    if tls := {field: file(name) for name, field in _FILES.items() if given(name)}:
        found["tls"] = tls
    for name, field in (("PLAIN_HTTP", "plain_http"), ("BY_NAME", "queries")):
        if given(name):
            said = environ[f"{VARIABLE}_{name}"].strip().lower()
            if said not in _TRUTHS:
                raise InvalidChange(f"{VARIABLE}_{name} is neither true nor false; write one of them")
            found[field] = _TRUTHS[said] if field == "plain_http" else "byName" if _TRUTHS[said] else "auto"
    return found


def _headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, as OpenTelemetry's variables have them: special characters are percent-encoded."""
    found = {}
    for each in text.split(","):
        name, equals, value = each.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise InvalidChange(
                f"{VARIABLE}_HEADERS has a part that is no header; write name=value,name=value, and %2C for a comma"
            )
        found[name.strip().lower()] = unquote(value.strip())
    return found


def _checked(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise InvalidChange(f"{url} is no http(s) URL; give the base URL of a Prometheus, such as http://host:9090")
    parts = urlsplit(url)
    if "@" in parts.netloc:
        shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        raise InvalidChange(
            f"the address of Prometheus at {shown} has a user or password in it, and addresses are in messages; "
            f"set {VARIABLE}_USER and {VARIABLE}_PASSWORD_FILE instead"
        )


def _same_host(url: str, other: str) -> bool:
    """Whether credentials for one address may be sent to another."""
    here, there = urlsplit(url), urlsplit(other)
    return local(url) or (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)


def _said(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors(include_input=False, include_url=False, include_context=False)
    )
