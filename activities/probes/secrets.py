"""Secrets that probes send: read by the worker at each look, and kept out of whatever a look says.

A specification, a workflow's history, a report and a log hold the reference alone. Values live in the memory of one
`ProbeRunner`, which removes them from its own looks.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import SECRET
from autopilot.secret_values import content, forms, hidden, unusable
from autopilot.spec.secret_ref import KubernetesSecret, SecretRef, SecretText, described

ALLOW_VARIABLE: Final = "AUTOPILOT_ALLOW_SECRETS"
"""Environment variable of a worker: which secrets probes may send; without it all but Autopilot's own."""

_OWN_VARIABLES: Final = ("TEMPORAL_", "AUTOPILOT_", "OTEL_")
_OWN_FILES: Final = "AUTOPILOT_PROMETHEUS_"
_OWN_PLACES: Final = ("/proc", "/sys", "/dev", "/run/secrets/kubernetes.io", "/var/run/secrets/kubernetes.io")
_KINDS: Final = ("env", "file", "kubernetes")


class SecretUnavailable(Exception):
    """A secret cannot be had; the message names the reference, never the value."""


class Allowed:
    """Which secrets the administrator of this worker lets probes send.

    Args:
        environ: the worker's; `AUTOPILOT_ALLOW_SECRETS` in it is a list of patterns, separated by commas:
            `env:CHECKOUT_*,file:/run/secrets/*,kubernetes:shop/*`.
        own: credentials of the worker itself, besides those that it has anyway: those of the mesh's Prometheus.
        own_namespace: where a Secret among them is that names none.

    Raises:
        InvalidChange: the variable has another form.
    """

    def __init__(self, environ: Mapping[str, str], own: Sequence[SecretRef] = (), own_namespace: str = "") -> None:
        self._names = {_name(ref, own_namespace) for ref in own if ref.file is None}
        files = [ref.file for ref in own if ref.file is not None]
        files += [path for name, path in environ.items() if name.startswith(_OWN_FILES) and name.endswith("_FILE")]
        self._files = {place for path in files for place in (path, os.path.realpath(path))}
        said = environ.get(ALLOW_VARIABLE)
        self._patterns = None if said is None else [each.strip() for each in said.split(",") if each.strip()]
        for each in self._patterns or ():
            if each.partition(":")[0] not in _KINDS or not each.partition(":")[2]:
                raise InvalidChange(
                    f"{ALLOW_VARIABLE} has an entry that is no pattern: write env:NAME, file:/PATH or "
                    "kubernetes:NAMESPACE/NAME, with * for any characters"
                )

    def check(self, ref: SecretRef, namespace: str) -> None:
        """Checks that probes may send it.

        Raises:
            InvalidChange: they may not; the message names the reference.
        """
        if self._own(ref, namespace):
            raise InvalidChange(f"{described(ref, namespace)} is Autopilot's own: probes cannot send it")
        name = _name(ref, namespace)
        if self._patterns is not None and not any(fnmatchcase(name, each) for each in self._patterns):
            raise InvalidChange(
                f"this worker does not allow probes to send {described(ref, namespace)}: add {name} to its "
                f"{ALLOW_VARIABLE}"
            )

    def _own(self, ref: SecretRef, namespace: str) -> bool:
        if _name(ref, namespace) in self._names:
            return True
        if ref.env is not None:
            return ref.env.startswith(_OWN_VARIABLES)
        if ref.file is not None:
            places = {ref.file, os.path.realpath(ref.file)}
            inside = (place == own or place.startswith(f"{own}/") for place in places for own in _OWN_PLACES)
            return bool(places & self._files) or any(inside)
        return False


class Secrets:
    """Reads secrets for the probes of one experiment, and removes them from what looks say.

    Its threads are its own: a file system that hangs holds up probes alone.

    Args:
        namespace: where a Kubernetes Secret is that names none.
        cluster: the API server of the mesh.
        environ: the worker's.
        own: credentials of the worker, see `Allowed`.
        own_namespace: where a Secret among them is that names none.

    Raises:
        InvalidChange: `AUTOPILOT_ALLOW_SECRETS` has another form than is known.
    """

    def __init__(
        self,
        namespace: str,
        cluster: Callable[[], KubeApi],
        environ: Mapping[str, str] | None = None,
        *,
        own: Iterable[SecretRef] = (),
        own_namespace: str = "",
    ) -> None:
        self._namespace = namespace
        self._cluster = cluster
        self._environ = os.environ if environ is None else environ
        self._allowed = Allowed(self._environ, tuple(own), own_namespace)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="secrets for probes")
        self._known: dict[str, tuple[str, ...]] = {}

    def refuse(self, ref: SecretRef) -> None:
        """Checks that the secret may be sent, and that there is a place to read it from.

        Raises:
            InvalidChange: it may not, or there is none.
        """
        self._allowed.check(ref, self._namespace)
        if ref.kubernetes is not None:
            self._cluster()

    async def header(self, text: SecretText) -> str:
        """The value of a header, with the secret in it as it is now.

        Raises:
            SecretUnavailable: it is missing or cannot be sent.
        """
        ref, name = text.secret_ref, described(text.secret_ref, self._namespace)
        try:
            self.refuse(ref)
            value = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, ref)
        except (MeshError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise SecretUnavailable(f"cannot be measured: {name} could not be read: {why}") from error
        if value is None:
            raise SecretUnavailable(f"cannot be measured: {name} was not found")
        if problem := unusable(value):
            raise SecretUnavailable(f"cannot be measured: {name} {problem}")
        secret = value.decode().rstrip("\r\n")
        self._known[f"<{name}>"] = tuple(forms(secret))
        return text.prefix + secret

    def hidden(self, text: str) -> str:
        """The text without secrets that were read, and without parts of them of eight characters and more."""
        return hidden(text, self._known)

    def repeated(self, text: str) -> bool:
        """Whether the text repeats one of them whole, in one of the ways in which servers write texts."""
        return any(form in text for written in self._known.values() for form in written)

    def close(self) -> None:
        """Forgets the values, and releases the threads."""
        self._known.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, ref: SecretRef) -> bytes | None:
        if ref.kubernetes is not None:
            return self._of_cluster(ref.kubernetes)
        if ref.file is not None:
            return content(Path(ref.file))
        value = self._environ.get(ref.env or "")
        return None if value is None else value.encode("utf-8", "surrogateescape")

    def _of_cluster(self, ref: KubernetesSecret) -> bytes | None:
        found = self._cluster().get(SECRET, ref.name, ref.namespace or self._namespace)
        said = ((found or {}).get("data") or {}).get(ref.key)
        return None if said is None else base64.b64decode(said)


def _name(ref: SecretRef, namespace: str) -> str:
    """As patterns of the worker have it."""
    if ref.kubernetes is not None:
        return f"kubernetes:{ref.kubernetes.namespace or namespace}/{ref.kubernetes.name}"
    return f"file:{ref.file}" if ref.file is not None else f"env:{ref.env}"
