"""Client of a Kubernetes API server in plain JSON: the one place where its failures become errors of ours.

Synchronous, like everything that must be the same for a worker, a guard and a test; providers call it from threads.
Temporary failures (overload, a restart, network errors) are retried for a short time; a rollout holds its step
meanwhile.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autopilot.mesh.errors import MeshError, MeshUnavailable
from autopilot.mesh.kube.client.api_errors import (
    Conflict,
    failure_of,
    names_an_object,
    parsed,
    retry_after,
    says,
)
from autopilot.mesh.kube.client.resources import POD, Resource

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Object = dict[str, Any]
"""One Kubernetes object as JSON."""
Operation = dict[str, Any]
"""One operation of a JSON patch (RFC 6902)."""
MANAGER = "autopilot"
"""Our field manager."""

_ATTEMPTS = 4
_BUDGET = 10.0
"""Seconds after which no further attempt starts."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_PAGE = 500
_PASSING = frozenset({429, 500, 502, 503, 504})
_PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class KubeApi:
    """One API server under one set of credentials.

    Args:
        kubeconfig: the file; None: `$KUBECONFIG`, `~/.kube/config`, or the credentials of the pod we run in.
        context: which context of the file; None: its current one.
        timeout: seconds that one answer may take.
        sleep: waits between tries; exchanged by tests alone.
    """

    def __init__(
        self,
        kubeconfig: Path | None = None,
        context: str | None = None,
        *,
        timeout: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._timeout = timeout
        self._sleep = sleep
        self._client: ApiClient | None = None
        self._connected_once = False
        self._lock = threading.Lock()

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None.

        Raises:
            Absent: the cluster does not know the kind.
            Forbidden: not for us.
            MeshUnavailable: no answer.
        """
        return self._call("GET", resource, resource.path(namespace, name), missing_is_none=True)

    def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """All objects of a namespace (of all, without one) that these selectors mean."""
        found: list[Object] = []
        query: dict[str, str] = {"limit": str(_PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            page = self._call("GET", resource, resource.path(namespace), query=query) or {}
            found += page.get("items", [])
            following = page.get("metadata", {}).get("continue")
            if not following:
                return found
            query["continue"] = following

    def create(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        """Creates the object; with `dry_run` it is only said what would come of it.

        Raises:
            Conflict: there is one of that name.
            Refused: its namespace does not exist, or something will not admit it.
        """
        query = _query(dry_run=dry_run)
        try:
            return self._call("POST", resource, resource.path(_namespace(body)), body=body, query=query) or {}
        except Conflict as conflict:
            return self._ours(resource, body, conflict)

    def replace(self, resource: Resource, body: Object) -> Object:
        """Replaces the object, if it is still at the body's resourceVersion.

        Raises:
            Conflict: it is not, or it is gone.
        """
        path = resource.path(_namespace(body), body["metadata"]["name"])
        try:
            return self._call("PUT", resource, path, body=body, query=_query()) or {}
        except Conflict as conflict:
            return self._ours(resource, body, conflict)

    def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        operations: Sequence[Operation],
        *,
        dry_run: bool = False,
    ) -> Object:
        """Changes single values of the object; where any `test` among the operations fails, none.

        Raises:
            Conflict: the object is not as it was, or is gone.
        """
        path = resource.path(namespace, name)
        return (
            self._call("PATCH", resource, path, body=list(operations), patch="json", query=_query(dry_run=dry_run))
            or {}
        )

    def apply(self, resource: Resource, body: Object) -> Object:
        """Server-side apply: creates the object, or makes our fields of it what the body says; forces conflicts."""
        path = resource.path(_namespace(body), body["metadata"]["name"])
        query = {**_query(), "force": "true"}
        return self._call("PATCH", resource, path, body=body, patch="apply", query=query) or {}

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        version: str = "",
        uid: str = "",
        grace: int | None = None,
    ) -> bool:
        """Deletes the object; False where it was gone.

        Args:
            resource: its kind.
            name: its name.
            namespace: its namespace.
            version: only at this resourceVersion.
            uid: only this very object, and no other of its name.
            grace: seconds that it has to end; by default its own.

        Raises:
            Conflict: it is at another, or another.
        """
        only = {key: value for key, value in (("resourceVersion", version), ("uid", uid)) if value}
        body: Object = {"preconditions": only} if only else {}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        path = resource.path(namespace, name)
        return self._call("DELETE", resource, path, body=body or None, missing_is_none=True) is not None

    def evict(self, pod: str, namespace: str, uid: str) -> bool:
        """Evicts this pod, as its disruption budgets allow; False where it was gone.

        Raises:
            MeshUnavailable: a budget did not allow it while we tried.
            Conflict: another pod has its name.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = f"{POD.path(namespace, pod)}/eviction"
        return self._call("POST", POD, path, body=body, missing_is_none=True) is not None

    def close(self) -> None:
        """Closes connections."""
        client, self._client = self._client, None
        if client is not None:
            client.rest_client.pool_manager.clear()

    def _call(
        self,
        method: str,
        resource: Resource,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        patch: Literal["json", "merge", "apply"] | None = None,
        missing_is_none: bool = False,
    ) -> Object | None:
        """One request, retried while its failure may be temporary. Every request here is safe to repeat."""
        pause, until = _FIRST_PAUSE, time.monotonic() + _BUDGET
        attempt, renewed, unsure = 0, False, False
        while True:
            attempt += 1
            wait = min(_LONGEST_PAUSE, pause) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads a herd
            trouble: MeshError
            try:
                status, headers, text = self._once(method, path, body, query, patch)
            except MeshUnavailable as error:
                trouble, unsure = error, True
            else:
                if status < 300:
                    return parsed(text, path)
                if status == 404 and missing_is_none and names_an_object(text):
                    return None
                if status == 401 and not renewed:
                    renewed = True  # the token may have been renewed since it was read
                    self._read_credentials_again()
                    continue
                trouble = failure_of(status, text, method, resource, path)
                if isinstance(trouble, Conflict):
                    trouble.unsure = unsure
                if status not in _PASSING:
                    raise trouble
                unsure = unsure or status != 429
                wait = max(wait, retry_after(headers))
            if attempt >= _ATTEMPTS or time.monotonic() + wait > until:
                raise trouble
            self._sleep(wait)
            pause *= 3

    def _ours(self, resource: Resource, body: Object, conflict: Conflict) -> Object:
        """The object, if it is what was to be written: the write succeeded, and only its answer was lost."""
        if conflict.unsure:
            found = self.get(resource, body["metadata"]["name"], _namespace(body))
            if found is not None and says(found, body):
                return found
        raise conflict

    def _once(
        self, method: str, path: str, body: object, query: Mapping[str, str] | None, patch: str | None
    ) -> tuple[int, Mapping[str, str], str]:
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - slow to load
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        headers = {"Accept": "application/json", "Content-Type": _PATCHES[patch] if patch else "application/json"}
        try:
            client = self._connected()
            request = client.param_serialize(
                method=method,
                resource_path=path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = client.call_api(*request, _request_timeout=(self._timeout, self._timeout))
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")  # type: ignore[no-untyped-call]
        except (ApiException, HTTPError, OSError) as error:  # the first: a TLS connection that broke
            raise MeshUnavailable(
                f"the Kubernetes API server does not answer ({type(error).__name__}: {error}); "
                "check that it runs and that the kubeconfig's address is correct"
            ) from error

    def _connected(self) -> ApiClient:
        with self._lock:
            if self._client is None:
                try:
                    self._client = _connect(self._kubeconfig, self._context)
                except MeshError as error:
                    if self._connected_once:  # the file is being written just now
                        raise MeshUnavailable(str(error)) from error
                    raise
                self._connected_once = True
            return self._client

    def _read_credentials_again(self) -> None:
        with self._lock:
            self._client = None


def _connect(kubeconfig: Path | None, context: str | None) -> ApiClient:
    from kubernetes import client, config  # noqa: PLC0415 - slow to load
    from kubernetes.config import ConfigException  # noqa: PLC0415

    settings = client.Configuration()
    settings.retries = False
    try:
        if kubeconfig is None and context is None:
            try:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            except ConfigException:
                config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            file = str(kubeconfig) if kubeconfig is not None else None
            config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=file, context=context, client_configuration=settings
            )
    except (ConfigException, OSError, ValueError) as error:
        where = str(kubeconfig) if kubeconfig else "the default kubeconfig"
        raise MeshError(
            f"no Kubernetes credentials: {where} cannot be used ({error}); "
            "name a file with spec.kubeconfig, or set KUBECONFIG"
        ) from error
    return client.ApiClient(settings)


def _query(*, dry_run: bool = False) -> dict[str, str]:
    """Says who writes; the object remembers it."""
    return {"fieldManager": MANAGER, **({"dryRun": "All"} if dry_run else {})}


def _namespace(body: Object) -> str | None:
    namespace: str | None = body["metadata"].get("namespace")
    return namespace
