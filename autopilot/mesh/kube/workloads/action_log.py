"""Which pods an action means, written down before the first of them goes: so that a repeated one means no others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import CONFIG_MAP
from autopilot.mesh.kube.state.store import KubeStore, config_map
from autopilot.mesh.leases.unreadable import why_of
from autopilot.wire import Wire

NAME = "autopilot-actions"
"""Of the ConfigMap, in Autopilot's own namespace."""
_MOST = 100
"""Actions that are remembered: the latest. A ConfigMap holds a mebibyte, and an action a thousand pods at the most."""
_ROOM = 700_000


class KeptPod(Wire):
    """One pod, and no other of its name."""

    namespace: str
    name: str
    uid: str


class _Kept(Wire):
    key: str
    time: float
    pods: tuple[KeptPod, ...]


class ActionLog:
    """What actions on pods have meant, in one cluster."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._store = KubeStore(api, "", namespace)

    def has(self, key: str) -> bool:
        """Whether it is written down already which pods this action means."""
        body = self._api.get(CONFIG_MAP, NAME, self._namespace)
        return body is not None and _entry(key) in (body.get("data") or {})

    def pods(self, key: str, choose: Callable[[], list[Object]]) -> tuple[KeptPod, ...]:
        """The pods that this action means: those of the first time, or those that `choose` says now.

        Raises:
            MeshError: they could not be written down; nothing was done.
        """

        def once() -> tuple[KeptPod, ...]:
            body = self._api.get(CONFIG_MAP, NAME, self._namespace)
            made = body or config_map(NAME, self._namespace)
            data: dict[str, str] = dict(made.get("data") or {})
            name = _entry(key)
            if name in data:
                return self._known(name, data[name]).pods
            pods = tuple(_pod(one) for one in choose())
            kept = _Kept(key=key, time=time.time(), pods=pods)
            made["data"] = _shortened({**data, name: kept.model_dump_json()})
            (self._api.replace if body else self._api.create)(CONFIG_MAP, made)
            return pods

        return self._store.persistently(once, f"ConfigMap {self._namespace}/{NAME}")

    def _known(self, name: str, text: str) -> _Kept:
        try:
            return _Kept.model_validate_json(text)
        except ValidationError as error:  # chosen anew, the action would mean more pods
            where = f"ConfigMap {self._namespace}/{NAME}, entry {name}"
            raise UnreadableRecord(where, why_of(error)) from error


def unread_in(data: Mapping[str, str], namespace: str) -> list[UnreadableRecord]:
    """The entries that cannot be read."""
    found = []
    for name, text in sorted(data.items()):
        try:
            _Kept.model_validate_json(text)
        except ValidationError as error:
            found.append(UnreadableRecord(f"ConfigMap {namespace}/{NAME}, entry {name}", why_of(error)))
    return found


def _entry(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def _pod(body: Object) -> KeptPod:
    meta = body["metadata"]
    return KeptPod(namespace=meta["namespace"], name=meta["name"], uid=meta["uid"])


def _read(text: str) -> _Kept | None:
    try:
        return _Kept.model_validate_json(text)
    except ValidationError:
        return None


def _shortened(data: dict[str, str]) -> dict[str, str]:
    """The latest entries that find room; those that cannot be read stay."""
    times = {name: kept.time for name, text in data.items() if (kept := _read(text)) is not None}
    found = {name: text for name, text in data.items() if name not in times}
    room = _ROOM - sum(len(text.encode()) for text in found.values())
    unread = len(found)
    for name in sorted(times, key=lambda name: -times[name])[:_MOST]:
        room -= len(data[name].encode())
        if room < 0 and len(found) > unread:
            break
        found[name] = data[name]
    return found
