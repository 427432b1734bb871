"""Target records in a cluster, read part by part: what is not understood goes back as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.mesh.audit import link_of
from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.envoyfilter.conflicts import routes_of
from autopilot.mesh.kube.faults.network_policy import unread_of
from autopilot.mesh.kube.state.target_object import from_object, to_object
from autopilot.mesh.kube.state.target_record import ANNOTATION, OpenTargetRecord
from autopilot.mesh.kube.workloads.action_log import _shortened, unread_in
from autopilot.mesh.model import Lease, Target
from tests.faults.events import next_release

TARGET = Target(mesh="lab", namespace="shop", service="reviews")
NEW_LEASE = next_release.record(TARGET, fencing=7, aspects=["capacity"])
NEW_OVERLAY = next_release.overlay(TARGET, deadline=2e9, fencing=7)
NEW_PARTS = st.fixed_dictionaries(
    {},
    optional={
        "leases": st.lists(st.sampled_from([NEW_LEASE, {}, 5, None, "x"]), max_size=3),
        "overlays": st.lists(st.sampled_from([NEW_OVERLAY, {}, 5]), max_size=3),
        "tickets": st.lists(st.sampled_from([{"number": "first"}, 1]), max_size=2),
        "harm": st.sampled_from([{"operations": []}, 3]),
        "last": st.sampled_from([[], {"operation": 1}]),
        "stone": st.sampled_from([{"target": 1}, True]),
        "committed": st.sampled_from([{"holder": "x"}, 5]),
        "shards": st.sampled_from([{"a": [1.0, 2]}, None, "ü"]),
    },
)


def body(said: object) -> dict[str, Any]:
    text = said if isinstance(said, str) else json.dumps(said)
    meta = {"name": "autopilot.reviews", "namespace": "shop", "resourceVersion": "5", "annotations": {ANNOTATION: text}}
    return {"metadata": meta}


def written(opened: OpenTargetRecord) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(to_object(opened)["metadata"]["annotations"][ANNOTATION])
    return said


@given(parts=NEW_PARTS)
def test_what_is_not_understood_goes_back_as_it_came(parts: dict[str, Any]) -> None:
    book, version = from_object(body({"target": TARGET.model_dump(), "fencing": 3, **parts}))
    opened = OpenTargetRecord(book, version)
    opened.next_fencing()
    said = written(opened)
    assert said["fencing"] == 4
    assert {name: said[name] for name in parts} == parts
    assert written(OpenTargetRecord(*from_object(to_object(opened) | {"metadata": body(said)["metadata"]}))) == said
    unread = {one.field for one in book.unread}
    assert unread == {name for name, value in parts.items() if value and name != "shards"} | (
        {name for name in ("last",) if name in parts}
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"target": 1}', '{"target": {"mesh": "lab"}, "fencing": "one"}', "\ud800"]
)
def test_a_book_without_its_head_is_kept_whole(text: str) -> None:
    with pytest.raises(UnreadableRecord, match="Lease shop/autopilot.reviews cannot be read"):  # noqa: RUF043
        from_object(body(text))


def test_the_end_of_a_lease_needs_no_understanding_of_its_overlay() -> None:
    lease = Lease.model_validate(next_release.lease(TARGET, fencing=7))
    said = {
        "target": TARGET.model_dump(),
        "leases": [next_release.record(TARGET, fencing=7)],
        "overlays": [NEW_OVERLAY],
    }
    opened = OpenTargetRecord(*from_object(body(said)))
    with pytest.raises(UnreadableRecord, match="overlays"):
        opened.overlay_of(lease)
    opened.refuse_unknown_end(lease)
    opened.forget(lease)
    assert (written(opened)["leases"], written(opened)["overlays"]) == ([], [])
    said["overlays"] = [{**NEW_OVERLAY, "phase": "committing"}]
    opened = OpenTargetRecord(*from_object(body(said)))
    assert opened.committing(lease)
    with pytest.raises(UnreadableRecord, match="overlays"):
        opened.refuse_unknown_end(lease)


def test_a_lease_that_may_be_one_is_not_taken_for_none() -> None:
    said = {"target": TARGET.model_dump(), "leases": [NEW_LEASE]}
    opened = OpenTargetRecord(*from_object(body(said)))
    lease = Lease.model_validate(next_release.lease(TARGET, fencing=7))
    with pytest.raises(UnreadableRecord):
        opened.lease_of(lease)
    assert opened.lease_of(Lease.model_validate(next_release.lease(TARGET, fencing=8))) is None
    with pytest.raises(UnreadableRecord):
        opened.refuse_hidden()
    opened.forget(lease)
    assert written(opened)["leases"] == [NEW_LEASE]


def test_actions_that_cannot_be_read_are_kept() -> None:
    data = {"a": "{", "b": '{"key": "k", "time": 1, "pods": []}'}
    assert _shortened(data) == data
    assert [error.where for error in unread_in(data, "autopilot")] == ["ConfigMap autopilot/autopilot-actions, entry a"]


def test_objects_of_ours_that_cannot_be_read() -> None:
    labels = {"meshautopilot.io/fencing": "x7"}
    assert unread_of({"metadata": {"name": "a", "namespace": "b", "labels": labels}}) is not None
    labels = {"meshautopilot.io/fencing": "7"}
    assert unread_of({"metadata": {"name": "a", "namespace": "b", "labels": labels}}) is None
    strange = [{"patch": {"operation": "MERGE"}}, {"match": {"cluster": {}}, "patch": {"operation": "MERGE"}}, {}]
    assert routes_of({"spec": {"configPatches": strange}}) == set()


@pytest.mark.parametrize("line", ["{}", "[]", "", "x", '{"sequence": "1"}', b"\xff"])
def test_what_is_no_audit_record_is_not_continued(line: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        link_of(line)
