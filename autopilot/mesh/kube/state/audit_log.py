"""The audit records of a mesh in a cluster: numbered ConfigMaps of JSON lines, each record sealed with the one before.

A ConfigMap holds at most a mebibyte: when one is full the next begins, and none is ever changed again but the last.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from autopilot.mesh.audit import GENESIS, AuditRecord, link_of
from autopilot.mesh.errors import MeshError
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import CONFIG_MAP
from autopilot.mesh.kube.state.store import KubeStore, config_map

_PER_PAGE = 100
"""Records: a page is written anew with each."""
_LINES = "records.jsonl"
_LABEL = "meshautopilot.io/audit"


class KubeAuditLog:
    """Appends and reads records; they lie in the namespace of the mesh's store."""

    def __init__(self, store: KubeStore) -> None:
        self._store = store
        self._page = 0

    def append(self, record: AuditRecord) -> AuditRecord:
        """Seals the record with its number and the digest of the one before, and writes it.

        Raises:
            MeshUnavailable: the API server does not take it.
            MeshError: what is kept is damaged.
        """
        return self._store.persistently(lambda: self._append(record), "the audit records")

    def read(self) -> Iterator[AuditRecord]:
        """Every record, in the order they were written.

        Raises:
            MeshError: what is kept is damaged.
        """
        pages = self._api.list(CONFIG_MAP, self._store.namespace, labels=f"{_LABEL}={self._store.mesh}")
        for body in sorted(pages, key=lambda body: _number(body["metadata"]["name"])):
            yield from _records(body)

    @property
    def _api(self) -> KubeApi:
        return self._store.api

    def _append(self, record: AuditRecord) -> AuditRecord:
        number, body = self._last()
        before = _lines(body) if body else []
        last, digest = _linked(before[-1], body) if before and body else (0, GENESIS)
        sealed = record.model_copy(update={"sequence": last + 1, "previous": digest})
        line = sealed.model_dump_json() + "\n"
        if body is None or len(before) >= _PER_PAGE:
            number += body is not None
            made = config_map(self._name(number), self._store.namespace)
            made["metadata"]["labels"][_LABEL] = self._store.mesh
            made["data"] = {_LINES: line}
            self._api.create(CONFIG_MAP, made)
        else:
            body["data"][_LINES] += line
            self._api.replace(CONFIG_MAP, body)
        self._page = number
        return sealed

    def _last(self) -> tuple[int, Object | None]:
        """The page that is written now, and its number; pages are looked for from the last one known."""
        number, found = self._page, None
        while True:
            body = self._api.get(CONFIG_MAP, self._name(number), self._store.namespace)
            if body is None:
                return (max(0, number - 1) if found else number), found
            number, found = number + 1, body

    def _name(self, number: int) -> str:
        return f"autopilot-audit.{self._store.mesh}.{number}"


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])


def _lines(body: Object) -> list[str]:
    found: list[str] = (body.get("data") or {}).get(_LINES, "").splitlines()
    return found


def _linked(line: str, body: Object) -> tuple[int, str]:
    try:
        return link_of(line)
    except ValueError as error:
        raise _not_a_record(body) from error


def _records(body: Object) -> Iterator[AuditRecord]:
    for line in _lines(body):
        try:
            yield AuditRecord.model_validate_json(line)
        except ValidationError as error:
            raise _not_a_record(body) from error


def _not_a_record(body: Object) -> MeshError:
    return MeshError(
        f"ConfigMap {body['metadata']['name']} has a line that is not an audit record of this version; run the version "
        "that wrote it, or export it and delete it, then a new one is started"
    )
