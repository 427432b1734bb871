"""The stop button, a person's hand, and the records, from the command line, on a mesh with nothing of ours alive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import Halted, TakenOver
from autopilot.mesh.model import Lease
from tests.faults.events import next_release
from tests.mesh.conftest import MESH, REVIEWS, split, take

from .conftest import Result

Run = Callable[..., Result]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    path = tmp_path / "mesh.yaml"
    # Nobody answers for these proxies: what was ordered must work all the same.
    path.write_text(MESH.replace("127.0.0.1:9901", "127.0.0.1:1").replace("127.0.0.1:9902", "127.0.0.1:2"))
    prepare(path)
    monkeypatch.setenv("AUTOPILOT_MESH", str(path))
    monkeypatch.setenv("AUTOPILOT_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:3")
    monkeypatch.setattr("autopilot.mesh.envoy.mesh.VERIFY_LIMIT", 0.2)
    return Ledger(Store(path))


@pytest.fixture
def held(ledger: Ledger) -> Lease:
    lease = take(ledger)
    ledger.apply(lease, split(30))
    return lease


def test_halt_holds_rollouts_and_refuses_starts_until_unhalt(autopilot: Run, ledger: Ledger, held: Lease) -> None:
    pressed = autopilot("halt", "--reason", "database on fire", "--who", "ann")
    assert pressed.code == 0, pressed.err
    assert "canary/a: held where it is" in pressed.out
    assert ledger.weights(REVIEWS)["v2"] == 30
    with pytest.raises(Halted, match="database on fire"):
        ledger.apply(held, split(60))
    shown = autopilot("leases")
    assert "halted by ann: database on fire" in shown.out
    assert "autopilot unhalt" in shown.out
    assert autopilot("unhalt", "--kind", "chaos").code == 1
    assert autopilot("unhalt", "--who", "ann", "--reason", "out").code == 0
    ledger.apply(held, split(60))


def test_halt_with_restore_heals(autopilot: Run, ledger: Ledger, held: Lease) -> None:
    pressed = autopilot("halt", "--restore", "--reason", "all hands", "-o", "json")
    assert pressed.code == 0, pressed.err
    (told,) = json.loads(pressed.out)["operations"]
    assert told["operation"] == "canary/a"
    assert told["state"].startswith("restored, as far as files go"), "no proxy answers here, and that is said"
    assert ledger.weights(REVIEWS)["v2"] == 0


@pytest.mark.parametrize("words", [(), ("--reason", " ")], ids=["none", "blank"])
def test_halt_needs_no_reason_and_its_record_says_that_none_was_given(
    autopilot: Run, ledger: Ledger, held: Lease, words: tuple[str, ...]
) -> None:
    pressed = autopilot("halt", "--who", "ann", *words)
    assert pressed.code == 0, pressed.err
    assert "halted by ann: no reason given" in pressed.out
    (order,) = ledger.store.orders.halts()
    assert order.actor.why == "no reason given"
    with pytest.raises(Halted, match="halted by ann: no reason given"):
        ledger.apply(held, split(60))
    assert "halted by ann: no reason given" in autopilot("leases").out
    records = json.loads(autopilot("audit", "export", "-o", "json").out)
    assert [record["actor"]["why"] for record in records if record["action"] == "halt"] == ["no reason given"]


def test_a_target_is_taken_back_and_handed_back(autopilot: Run, ledger: Ledger, held: Lease) -> None:
    lifted = autopilot("leases", "--lift", "a", "--reason", "looks odd", "--who", "ann")
    assert lifted.code == 0, lifted.err
    assert "--hand-back shop/reviews" in lifted.err
    assert ledger.weights(REVIEWS)["v2"] == 0
    with pytest.raises(TakenOver, match="ann"):
        take(ledger)
    assert "taken over by ann" in autopilot("leases").out
    assert autopilot("leases", "--hand-back", "shop/reviews").code == 0
    assert autopilot("leases", "--hand-back", "shop/reviews").code == 1
    assert take(ledger)


def test_lifting_what_nobody_holds_names_who_does(autopilot: Run, held: Lease) -> None:
    refused = autopilot("leases", "--lift", "canary/other")
    assert refused.code == 1
    assert "canary/a" in refused.err


def test_the_records_say_who_did_what_and_show_what_was_rewritten(autopilot: Run, ledger: Ledger, held: Lease) -> None:
    autopilot("leases", "--lift", "canary/a", "--reason", "looks odd", "--who", "ann")
    records = json.loads(autopilot("audit", "export", "-o", "json").out)
    assert [record["action"] for record in records] == ["acquire", "apply", "lift"]
    assert (records[-1]["actor"]["who"], records[-1]["actor"]["why"], records[-1]["actor"]["net"]) == (
        "ann", "looks odd", "person",
    )  # fmt: skip
    assert "looks odd" in autopilot("audit", "export").out
    assert autopilot("audit", "verify").code == 0
    path = ledger.store.journal.path
    path.write_text(path.read_text().replace('"who":"unknown"', '"who":"mallory"', 1))
    verified = autopilot("audit", "verify")
    assert verified.code == 1
    assert "does not match the digest of the record before it" in verified.out


def test_what_a_report_remembers_is_missed(autopilot: Run, ledger: Ledger, held: Lease, tmp_path: Path) -> None:
    from .conftest import a_report  # noqa: PLC0415

    reports = tmp_path / "reports"
    reports.mkdir()
    receipt = ledger.lift(held)
    assert receipt is not None
    kept = a_report().model_copy(update={"audit": (receipt.audit,)})
    (reports / "one.json").write_text(kept.model_dump_json())
    assert autopilot("audit", "verify", "--reports", str(reports)).code == 0
    path = ledger.store.journal.path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    verified = autopilot("audit", "verify", "--reports", str(reports))
    assert verified.code == 1
    assert "one.json" in verified.out


@pytest.mark.parametrize(
    "words",
    [
        ("halt", "--reason", "x", "-n", "../etc"),
        ("unhalt", "-n", "a b"),
        ("leases", "--hand-back", "../../etc/x"),
        ("leases", "--hand-back", "shop"),
    ],
)
def test_what_is_no_name_is_refused_and_nothing_is_written(
    autopilot: Run, ledger: Ledger, words: tuple[str, ...]
) -> None:
    refused = autopilot(*words)
    assert refused.code == 1
    assert "hint:" in refused.err
    assert ledger.store.orders.halts() == []


def test_leases_names_what_cannot_be_read(autopilot: Run, ledger: Ledger, held: Lease) -> None:
    written = next_release.write(ledger.store.mesh_file, "ratings")
    path = next(path for path in written.files if path.parent.name == "leases")
    shown = autopilot("leases")
    assert shown.code == 0, shown.err
    said = " ".join(shown.out.split())
    assert "canary/a" in said
    assert "cannot be read:" in said
    assert path.name in "".join(shown.out.split())
    assert "run the version of Mesh Autopilot that wrote these" in " ".join(shown.err.split())
    told = json.loads(autopilot("leases", "-o", "json").out)
    assert {one["where"] for one in told["unreadable"]} == {str(one) for one in written.files}
    lifted = autopilot("leases", "--lift", "canary/a")
    assert lifted.code == 0, lifted.err
    assert "no lease is held" not in autopilot("leases").err
    assert written.changed() == []


def test_doctor_names_what_cannot_be_read(autopilot: Run, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starter.cli.commands.doctor.temporal_address", lambda: "127.0.0.1:1")
    next_release.write(ledger.store.mesh_file, "ratings")
    found = {each["name"]: each for each in json.loads(autopilot("doctor", "-o", "json").out)["findings"]}
    assert not found["mesh"]["ok"]
    assert "has records that cannot be read: " in found["mesh"]["found"]
    assert "; and 1 more" in found["mesh"]["found"]
    assert "run the version that wrote them" in found["mesh"]["fix"]
