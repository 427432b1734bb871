"""Who goes before whom, and what people may order with nothing else alive: on the ledger, without any process."""

from __future__ import annotations

from pathlib import Path

import pytest

from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.overrides import Overrides
from autopilot.mesh.errors import Condemned, Halted, InvalidChange, LeaseHeld, LeaseLost, LeasePending, TakenOver
from autopilot.mesh.leases.admission import QUEUE_GRACE, YIELD_GRACE
from autopilot.mesh.leases.overrides import Actor, Halt
from autopilot.mesh.model import Aspect, Lease
from tests.mesh.conftest import REVIEWS, Clock, published, split, take

ANN = Actor(who="ann", why="paged", net="person")


@pytest.fixture
def commander(ledger: Ledger, clock: Clock) -> Overrides:
    return Overrides(ledger, clock)


def test_a_halt_without_a_reason_says_so() -> None:
    assert "halted by ann: no reason given;" in Halt(actor=Actor(who="ann"), since=0).reason


def ask(ledger: Ledger, operation: str, *, queue: bool = False, aspect: Aspect = Aspect.TRAFFIC) -> Lease:
    return ledger.acquire(REVIEWS, [aspect], operation=operation, token="run", ttl=120, planned_end=None, queue=queue)


@pytest.mark.parametrize(
    ("holder", "newcomer", "gives_way"),
    [
        ("chaos/a", "canary/b", True),
        ("canary/a", "security/b", True),
        ("chaos/a", "security/b", True),
        ("canary/a", "canary/b", False),
        ("canary/a", "chaos/b", False),
        ("security/a", "canary/b", False),
        ("security/a", "chaos/b", False),
        ("chaos/a", "chaos/b", False),
    ],
)
def test_who_gives_way_to_whom(ledger: Ledger, holder: str, newcomer: str, *, gives_way: bool) -> None:
    lease = ask(ledger, holder)
    with pytest.raises(LeaseHeld, match=holder) as refused:
        ask(ledger, newcomer)
    assert isinstance(refused.value, LeasePending) is gives_way
    assert ledger.renew(lease).yield_to == (newcomer if gives_way else "")


def test_the_lower_restores_and_hands_over(ledger: Ledger) -> None:
    base = published(ledger)
    lower = ask(ledger, "canary/a")
    ledger.apply(lower, split(30))
    with pytest.raises(LeasePending):
        ask(ledger, "security/b")
    assert ledger.weights(REVIEWS)["v2"] == 30, "it restores by itself: nobody takes it away at once"
    ledger.lift(lower)
    assert published(ledger) == base
    assert ask(ledger, "security/b").holder.operation == "security/b"


def test_who_does_not_give_way_is_restored_and_told_by_whom(ledger: Ledger, clock: Clock) -> None:
    lower = ask(ledger, "canary/a")
    ledger.apply(lower, split(30))
    with pytest.raises(LeasePending):
        ask(ledger, "security/b")
    clock.forward(YIELD_GRACE + 1)
    ask(ledger, "security/b")
    assert ledger.weights(REVIEWS)["v2"] == 0
    with pytest.raises(TakenOver, match="security/b"):
        ledger.apply(lower, split(60))
    assert ledger.weights(REVIEWS)["v2"] == 0


def test_access_goes_with_everything(ledger: Ledger) -> None:
    ask(ledger, "canary/a")
    assert ask(ledger, "security/b", aspect=Aspect.ACCESS).aspects == (Aspect.ACCESS,)


def test_those_who_queue_go_in_turn_and_nobody_jumps(ledger: Ledger) -> None:
    first = ask(ledger, "canary/a")
    for later in ("canary/b", "canary/c"):
        with pytest.raises(LeasePending, match="canary/a"):
            ask(ledger, later, queue=True)
    ledger.lift(first)
    with pytest.raises(LeasePending, match="canary/b"):
        ask(ledger, "canary/c", queue=True)
    with pytest.raises(LeaseHeld, match="canary/b"):
        ask(ledger, "canary/d")
    second = ask(ledger, "canary/b", queue=True)
    ledger.lift(second)
    assert ask(ledger, "canary/c", queue=True)


def test_who_has_stopped_asking_waits_no_more(ledger: Ledger, clock: Clock) -> None:
    first = ask(ledger, "canary/a")
    with pytest.raises(LeasePending):
        ask(ledger, "canary/b", queue=True)
    ledger.lift(first)
    clock.forward(QUEUE_GRACE + 1)
    assert ask(ledger, "canary/c")


def test_a_person_takes_a_target_back_until_it_is_handed_back(ledger: Ledger, commander: Overrides) -> None:
    base = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(30))
    assert len(commander.take_over("canary/a", ANN, None)) == 1
    assert published(ledger) == base
    for late in (lambda: ledger.renew(lease), lambda: ledger.apply(lease, split(60)), lambda: take(ledger)):
        with pytest.raises(TakenOver, match="ann"):
            late()
    with pytest.raises(TakenOver, match="hand-back shop/reviews"):
        ask(ledger, "security/b")
    assert published(ledger) == base
    assert commander.hand_back(REVIEWS, ANN)
    assert not commander.hand_back(REVIEWS, ANN)
    assert take(ledger)


def test_a_target_may_hand_itself_back(ledger: Ledger, commander: Overrides, clock: Clock) -> None:
    take(ledger)
    commander.take_over("canary/a", ANN, clock.now + 60)
    with pytest.raises(TakenOver):
        take(ledger)
    clock.forward(61)
    assert take(ledger)


def test_taking_what_nobody_holds_is_named(commander: Overrides) -> None:
    with pytest.raises(InvalidChange, match="holds no lease"):
        commander.take_over("canary/a", ANN, None)


def pressed(clock: Clock, **scope: object) -> Halt:
    return Halt(actor=ANN, since=clock.now, **scope)  # type: ignore[arg-type]


def test_the_stop_button_holds_rollouts_where_they_are(ledger: Ledger, commander: Overrides, clock: Clock) -> None:
    lease = take(ledger)
    ledger.apply(lease, split(30))
    assert commander.halt(pressed(clock)) == []
    assert ledger.weights(REVIEWS)["v2"] == 30
    assert "ann" in ledger.renew(lease).halted
    for change in (
        lambda: ledger.apply(lease, split(60)),
        lambda: ledger.commit(lease),
        lambda: ask(ledger, "canary/b"),
    ):
        with pytest.raises(Halted, match="paged"):
            change()
    assert ledger.weights(REVIEWS)["v2"] == 30
    assert commander.unhalt("", "", ANN)
    assert ledger.renew(lease).halted == ""
    ledger.apply(lease, split(60))
    assert ledger.lift(lease) is not None


def test_the_stop_button_never_stops_a_restore(ledger: Ledger, commander: Overrides, clock: Clock) -> None:
    base = published(ledger)
    lease = take(ledger)
    ledger.apply(lease, split(30))
    commander.halt(pressed(clock))
    ledger.lift(lease)
    assert published(ledger) == base


@pytest.mark.parametrize(("operation", "restore"), [("chaos/a", False), ("canary/a", True)])
def test_the_stop_button_heals(
    ledger: Ledger, commander: Overrides, clock: Clock, operation: str, *, restore: bool
) -> None:
    base = published(ledger)
    lease = ask(ledger, operation)
    ledger.apply(lease, split(30))
    ((holder, _),) = commander.halt(pressed(clock, restore=restore))
    assert holder == lease.holder
    assert published(ledger) == base
    with pytest.raises(TakenOver, match="halted by ann"):
        ledger.renew(lease)


@pytest.mark.parametrize("scope", [{"kind": "chaos"}, {"namespace": "bank"}])
def test_the_stop_button_has_a_scope(ledger: Ledger, commander: Overrides, clock: Clock, scope: dict[str, str]) -> None:
    commander.halt(pressed(clock, **scope))
    lease = take(ledger)
    ledger.apply(lease, split(30))
    assert ledger.renew(lease).halted == ""
    assert not commander.unhalt("", "", ANN)
    assert commander.unhalt(scope.get("kind", ""), scope.get("namespace", ""), ANN)


def test_a_run_that_did_harm_does_not_get_the_target_again(ledger: Ledger) -> None:
    """Its worker may have died between finding the harm and telling of it; the guard restored meanwhile."""
    lease = take(ledger)
    ledger.apply(lease, split(30))
    ledger.condemn(lease, "20 % errors")
    with pytest.raises(Condemned):
        take(ledger)
    ledger.lift(lease)
    with pytest.raises(Condemned, match="20 % errors"):
        take(ledger)
    assert take(ledger, token="another run")


def test_what_the_proxies_gave_up_is_taken_anew_under_a_higher_number(ledger: Ledger, clock: Clock) -> None:
    old = take(ledger)
    ledger.apply(old, split(30))
    clock.forward(61)
    new = take(ledger)
    assert new.holder.fencing == old.holder.fencing + 1
    ledger.apply(new, split(30))
    with pytest.raises(LeaseLost):
        ledger.renew(old)
    assert ledger.lift(old) is None
    assert ledger.weights(REVIEWS)["v2"] == 30


def test_damaged_orders_are_named(ledger: Ledger, commander: Overrides, clock: Clock, mesh_file: Path) -> None:
    commander.halt(pressed(clock))
    path = next((mesh_file.parent / "autopilot" / "orders").glob("halt.*"))
    path.write_text("{")
    with pytest.raises(Exception, match=path.name):
        take(ledger)


@pytest.mark.parametrize("scope", [{"kind": "../x"}, {"namespace": "a/b"}, {"namespace": "a.b"}])
def test_a_scope_is_a_name_and_no_path(clock: Clock, scope: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="pattern"):
        pressed(clock, **scope)
