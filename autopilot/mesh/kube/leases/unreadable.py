"""Which records in a cluster this version cannot read: books, orders, marks on routes, and objects of our own."""

from __future__ import annotations

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.client.resources import CONFIG_MAP
from autopilot.mesh.kube.leases.ledger import KubeLedger
from autopilot.mesh.kube.workloads.action_log import NAME, unread_in
from autopilot.mesh.leases.unreadable import LEASE_HIDDEN, NOTHING_STARTS, ORDER_HIDDEN, OVERLAY_HIDDEN, Unreadable

_LAID = "only a version that can read it restores what it covers"
_PARTS = {"leases": LEASE_HIDDEN, "overlays": OVERLAY_HIDDEN, "tickets": "nothing: its place in the queue stays taken"}


def inventory(ledger: KubeLedger) -> list[Unreadable]:
    """All of them, each with what follows from it.

    Raises:
        MeshError: the cluster does not answer, or does not let us look.
    """
    store = ledger.store
    found = [
        _named(book.error(part), _PARTS.get(part.field, NOTHING_STARTS), book.target.ref)
        for book in store.books()
        for part in book.unread
    ]
    found += [_named(error, LEASE_HIDDEN) for error in store.damaged]
    store.halts(fresh=True)
    found += [_named(error, ORDER_HIDDEN) for error in store.unread_halts]
    actions = store.api.get(CONFIG_MAP, NAME, store.namespace) or {}
    unread = unread_in(actions.get("data") or {}, store.namespace)
    found += [_named(error, "its action is not repeated") for error in unread]
    laid = [*ledger.overlayer.unread(store.mesh), *ledger.faults.unread(store.mesh)]
    return found + [_named(error, _LAID) for error in laid]


def _named(error: UnreadableRecord, effect: str, target: str = "") -> Unreadable:
    return Unreadable(where=error.where, why=error.why, target=target, effect=effect)
