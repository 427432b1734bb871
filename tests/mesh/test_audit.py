"""The records: one for every change, sealed in a chain, never lost to a full disk, never in the way of a restore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.mesh.audit import GENESIS, AuditRecord, verify
from autopilot.mesh.envoy.state import audit_log as journal_module
from autopilot.mesh.envoy.state.audit_log import AuditLog
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.errors import MeshError, MeshUnavailable
from autopilot.mesh.leases.overrides import Actor
from tests.mesh.conftest import REVIEWS, Clock, published, split, take

ANN = Actor(who="ann", verified=True, why="release 7")


def records(ledger: Ledger) -> list[AuditRecord]:
    return list(ledger.store.journal.read())


def chain(number: int) -> list[AuditRecord]:
    made: list[AuditRecord] = []
    for sequence in range(1, number + 1):
        previous = made[-1].digest if made else GENESIS
        made.append(
            AuditRecord(sequence=sequence, time=sequence, action="apply", actor=ANN, target="m/n/s", previous=previous)
        )
    return made


def test_every_change_is_recorded_with_who_why_before_and_after(ledger: Ledger, clock: Clock) -> None:
    lease = take(ledger)
    receipt = ledger.apply(lease, split(10), ANN)
    clock.forward(40)
    ledger.renew(lease)
    ledger.condemn(lease, "20 % errors")
    lifted = ledger.lift(lease, ANN)
    found = records(ledger)
    assert [record.action for record in found] == ["acquire", "apply", "extend", "condemn", "lift"]
    applied = found[1]
    assert (applied.actor.who, applied.actor.verified, applied.actor.why) == ("ann", True, "release 7")
    assert (applied.operation, applied.target, applied.fencing) == ("canary/a", str(REVIEWS), 1)
    assert applied.before == {"v1": 100, "v2": 0, "v3": 0}
    assert applied.after == {"v1": 90, "v2": 10, "v3": 0}
    assert (applied.receipt, applied.digest) == (receipt.digest, receipt.audit)
    assert lifted is not None
    assert found[-1].digest == lifted.audit
    assert found[-1].after == {"v1": 100, "v2": 0, "v3": 0}
    assert verify(found, {receipt.audit: "history", lifted.audit: "history"}) == []


def test_a_commit_is_recorded(ledger: Ledger) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(100), ANN)
    ledger.commit(lease, ANN)
    last = records(ledger)[-1]
    assert (last.action, last.after) == ("commit", {"v1": 0, "v2": 100, "v3": 0})


def test_records_are_told_as_they_are_written(ledger: Ledger) -> None:
    told: list[AuditRecord] = []
    own = Ledger(ledger.store, told=told.append)
    take(own)
    assert told == records(ledger)


@given(number=st.integers(1, 8), data=st.data())
def test_a_changed_or_missing_record_is_found(number: int, data: st.DataObject) -> None:
    whole = chain(number)
    assert verify(whole) == []
    at = data.draw(st.integers(0, number - 1))
    forged = whole[at].model_copy(update={"actor": Actor(who="mallory")})
    altered = [*whole[:at], forged, *whole[at + 1 :]]
    known = {whole[at].digest: "canary/a"}
    assert verify(altered, known), "history remembers the digest"
    if at < number - 1:
        assert verify(altered), "the next record does not follow"
        assert verify([*whole[:at], *whole[at + 1 :]]), "there is a gap"
    assert verify(whole[:at], known), "the end was cut off"


def test_a_torn_line_is_taken_back(tmp_path: Path) -> None:
    kept = AuditLog(tmp_path / "audit.jsonl")
    kept.append(chain(1)[0])
    with kept.path.open("a") as stream:
        stream.write('{"sequence": 2, "act')
    assert [record.sequence for record in kept.read()] == [1]
    kept.append(chain(1)[0])
    assert [record.sequence for record in kept.read()] == [1, 2]
    assert verify(kept.read()) == []


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("{}\n")
    with pytest.raises(MeshError, match=r"audit\.jsonl"):
        list(AuditLog(path).read())


def test_a_full_disk_stops_changes_but_no_restore_and_the_record_follows(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(10))

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", full)
        with pytest.raises(MeshUnavailable, match="No space left"):
            ledger.apply(lease, split(20))
        assert ledger.weights(REVIEWS)["v2"] == 10
        ledger.lift(lease)
        assert published(ledger) == base
    assert [record.action for record in records(ledger)] == ["acquire", "apply"]
    ledger.tidy()
    assert [record.action for record in records(ledger)] == ["acquire", "apply", "lift"]
    assert verify(records(ledger)) == []


@pytest.mark.parametrize(
    "said", ["x" * 100_000, "line\nline\x1b[31m\u202e", "\udcff", "Bearer abcdefghijklmnopqrstuvwxyz012345"]
)
def test_whatever_people_say_a_restore_is_made_and_recorded(ledger: Ledger, said: str) -> None:
    """A record must stay one short line: one that did not stopped every restore after it."""
    base = published(ledger)
    for _ in range(2):
        lease = take(ledger)
        ledger.apply(lease, split(10))
        ledger.lift(lease, Actor(who=said, why=said))
        assert published(ledger) == base
    assert [record.action for record in records(ledger)] == ["acquire", "apply", "lift"] * 2
    assert verify(records(ledger)) == []
    assert max(len(line) for line in ledger.store.journal.path.read_text().splitlines()) < 20_000
    assert "abcdefghijklmnopqrstuvwxyz012345" not in ledger.store.journal.path.read_text()


def test_a_damaged_journal_stops_changes_but_no_restore(ledger: Ledger) -> None:
    base = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(10))
    path = ledger.store.journal.path
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(MeshError, match=r"audit\.jsonl"):
        ledger.apply(lease, split(20))
    ledger.lift(lease)
    assert published(ledger) == base
    assert ledger.leases() == []


@given(said=st.text(max_size=60) | st.text(alphabet="\x1b\u202eabc", min_size=1500, max_size=3000))
def test_what_was_said_reads_as_it_was_sealed(said: str) -> None:
    """Cleaned once or twice is the same: otherwise a record's digest would change by being read."""
    record = chain(1)[0].model_copy(update={"actor": Actor(who=said, why=said * 2)})
    assert AuditRecord.model_validate_json(record.model_dump_json()).digest == record.digest


def test_half_a_credential_is_not_kept_where_words_are_cut() -> None:
    secret = "ghp_" + "a1B2c3D4e5" * 4
    assert secret[:12] not in Actor(why="x" * 1990 + " " + secret).why
