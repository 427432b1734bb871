"""What answers of an API server mean: the object, or the error with what to do about it. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autopilot.mesh.errors import MeshError, MeshUnavailable
from autopilot.mesh.kube.client.resources import Resource

_NOT_A_RIGHT = ("admission webhook", "ValidatingAdmissionPolicy", "exceeded quota", "is being terminated")
"""Other reasons for a 403, where granting a verb would not help."""


def parsed(text: str, path: str) -> dict[str, Any]:
    """The object that was answered.

    Raises:
        MeshUnavailable: it is none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MeshUnavailable(
            f"the answer to {path} is not JSON; check that the address is a Kubernetes API server's"
        ) from error
    if not isinstance(found, dict):
        raise MeshUnavailable(
            f"the answer to {path} is not a JSON object; check that the address is a Kubernetes API server's"
        )
    return found


def told(text: str) -> dict[str, Any]:
    """The message of a failure; empty where it cannot be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def names_an_object(text: str) -> bool:
    """Whether a 404 means that this object is not there; otherwise the kind is not."""
    return bool(told(text).get("details", {}).get("name"))


def says(found: object, wanted: object, *, whole: bool = True) -> bool:
    """Whether an object says all that was written; what an API server adds by itself does not count."""
    if not isinstance(wanted, dict) or not isinstance(found, dict):
        return found == wanted
    left_out = {"metadata", "status"} if whole else set()
    same = all(says(found.get(key), value, whole=False) for key, value in wanted.items() if key not in left_out)
    if not whole or not same:
        return same
    return all(
        says(found["metadata"].get(key) or {}, wanted["metadata"].get(key) or {}, whole=False)
        for key in ("labels", "annotations")
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait before the next try."""
    try:
        return float(headers.get("Retry-After", 0))
    except ValueError:
        return 0.0


class Conflict(MeshError):
    """Another client changed the object since it was read: nothing was written; read it again."""

    retryable = True
    unsure = False
    """Whether an earlier try of the same request may have been carried out, though its answer never came."""


class Refused(MeshError):
    """The API server will not do that; the message says what to change."""


class Forbidden(Refused):
    """Our credentials do not allow it; the message names the verb and the resource."""


class Absent(Refused):
    """The cluster does not serve this kind of object: its CRD is missing."""


def failure_of(status: int, text: str, method: str, resource: Resource, path: str) -> MeshError:
    """The error for a request that failed, with what to do about it."""
    said = told(text).get("message") or text[:300] or "no reason was given"
    what = f"{method} {path}"
    match status:
        case 401:
            return MeshUnavailable(
                f"{what}: the API server does not accept our credentials (401); renew the token, it is read "
                "again on the next try"
            )
        case 403:
            return _forbidden(what, said, resource)
        case 404:
            return _missing(what, said, method, resource, an_object=names_an_object(text))
        case 409 | 422 if status == 409 or (method == "PATCH" and not told(text).get("details", {}).get("causes")):
            return Conflict(f"{what}: {said}")
        case 429 | 500 | 502 | 503 | 504:
            return MeshUnavailable(
                f"{what}: the API server answers {status} ({said}); try again when the server has recovered"
            )
        case _:
            return Refused(f"{what}: the API server refuses it ({status}): {said}")


def _forbidden(what: str, said: str, resource: Resource) -> Refused:
    if any(words in said for words in _NOT_A_RIGHT):
        return Refused(f"{what}: {said}")
    return Forbidden(f"{said}; grant that verb on {resource.plural}.{resource.group or 'core'} to Autopilot")


def _missing(what: str, said: str, method: str, resource: Resource, *, an_object: bool) -> MeshError:
    if not an_object:
        return Absent(
            f"the cluster does not serve {resource.kind} ({resource.api_version}); install its CRDs "
            f"or choose another provider"
        )
    if method == "POST":  # what is created is not there either: it is the namespace that is missed
        return Refused(f"{what}: {said}; create it, or name another namespace with spec.namespace")
    return Conflict(f"{what}: {said}")
