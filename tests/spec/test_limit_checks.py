"""How far an experiment may go: its own caps, and an administrator's word over them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from autopilot.spec.chaos.experiment import ExperimentSpec
from autopilot.spec.chaos.limit_checks import beyond, share_allowed
from autopilot.spec.chaos.limits import Ceilings

TODAY = date(2026, 12, 24)


def spec(scope: dict[str, Any] | None = None, *, method: list[Any] | None = None, **safety: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate(
        {
            "target": {"service": "ratings"},
            "scope": scope or {"percentage": 5},
            "hypothesis": {"probes": [{"type": "tcp", "name": "web", "address": "h:1"}]},
            "method": method or [{"faults": [{"fault": {"type": "abort"}}]}],
            "safety": safety,
        }
    )


def ceilings(**fields: Any) -> Ceilings:
    return Ceilings.model_validate(fields)


def faults(*scopes: dict[str, Any]) -> dict[str, Any]:
    return {"faults": [{"fault": {"type": "abort"}, "scope": scope} for scope in scopes]}


def told(wanted: ExperimentSpec, allowed: Ceilings | None = None, namespace: str = "shop", **more: Any) -> list[str]:
    return beyond(wanted, allowed or Ceilings(), namespace, TODAY, **more)


def test_what_is_small_is_allowed() -> None:
    assert told(spec()) == []
    assert told(spec({"percentage": 10})) == []


def test_more_than_a_tenth_must_be_written_down() -> None:
    (said,) = told(spec({"percentage": 30}))
    assert said == (
        "the faults of step 1 meet up to 30 % of the requests, and 10 % are allowed: "
        "write spec.safety.maxTraffic: 30 if that is meant"
    )
    assert told(spec({"percentage": 30}, maxTraffic=30)) == []
    assert told(spec({"percentage": 30}, maxTraffic=20))[0].endswith("20 % are allowed: make the scope smaller")


def test_shares_of_one_step_add_up_and_those_of_several_do_not() -> None:
    assert told(spec(method=[faults({"percentage": 6}), faults({"percentage": 6})])) == []
    (said,) = told(spec(method=[faults({"percentage": 6}, {"percentage": 6})]))
    assert said.startswith("the faults of step 1 meet up to 12 %")


@pytest.mark.parametrize(
    ("scope", "weights", "said"),
    [
        ({"users": {"percentage": 20, "cookie": "id"}}, {}, "up to 20 %"),
        ({"users": {"percentage": 20, "cookie": "id"}, "percentage": 50}, {}, ""),
        ({"arm": "v2"}, {}, "up to 100 %"),
        ({"arm": "v2"}, {"v1": 95, "v2": 5}, ""),
        ({"arm": "v2"}, {"v1": 75, "v2": 25}, "up to 25 %"),
        ({"source": {"service": "web"}}, {}, "up to 100 %"),
        ({"headers": {"end-user": {"exact": "user-7"}}}, {}, ""),
        ({"cookie": {"name": "beta"}}, {}, ""),
        ({"path": {"prefix": "/api"}}, {}, ""),
        ({"method": "POST"}, {}, ""),
        ({"rule": "api", "percentage": 50}, {}, ""),
    ],
    ids=str,
)
def test_how_much_a_scope_can_meet(scope: dict[str, Any], weights: dict[str, float], said: str) -> None:
    assert said in "".join(told(spec(scope), weights=weights))
    assert bool(told(spec(scope), weights=weights)) == bool(said)


def test_a_partition_meets_everything() -> None:
    (said,) = told(
        spec(method=[{"faults": [{"fault": {"type": "partition"}, "scope": None}]}]).model_copy(update={"scope": None})
    )
    assert "meet up to 100 %" in said


def test_an_administrators_ceilings_are_not_passed() -> None:
    above = "allows: ask its administrator to raise it, or write a lower value"
    (said,) = told(spec({"percentage": 60}, maxTraffic=60))
    assert said == f"spec.safety.maxTraffic is 60 %, above the 50 % that spec.chaos.maxTraffic of the mesh file {above}"
    (said,) = told(spec(maxFailures=9), ceilings(maxFailures=8))
    assert said == f"spec.safety.maxFailures is 9, above the 8 that spec.chaos.maxFailures of the mesh file {above}"
    (said,) = told(spec(maxConcurrent=4))
    assert said.startswith("spec.safety.maxConcurrent is 4, above the 3 that")
    assert told(spec({"percentage": 4}), ceilings(maxTraffic=5))[0].startswith("spec.safety.maxTraffic is 10 %")
    assert told(spec({"percentage": 4}, maxTraffic=5), ceilings(maxTraffic=5)) == []


def test_none_may_run_where_the_administrator_says_so() -> None:
    assert told(spec(), ceilings(maxConcurrent=0)) == [
        "spec.chaos.maxConcurrent of the mesh file is 0: no experiment may run here"
    ]


def test_namespaces_are_protected() -> None:
    allowed = ceilings(protected=["kube-system", "shop"])
    assert told(spec(), allowed) == [
        "no experiment may run in namespace shop: spec.chaos.protected of the mesh file lists it"
    ]
    assert told(spec(), allowed, "elsewhere") == []


@pytest.mark.parametrize(
    ("start", "end", "frozen"),
    [
        ("2026-12-24", "2026-12-24", True),
        ("2026-12-01", "2026-12-24", True),
        ("2026-12-24", "2026-12-31", True),
        ("2026-12-25", "2026-12-31", False),
        ("2026-12-01", "2026-12-23", False),
    ],
)
def test_nothing_starts_on_frozen_days_both_ends_included(start: str, end: str, frozen: bool) -> None:
    found = told(spec(), ceilings(freeze=[{"start": start, "end": end, "reason": "holidays"}]))
    said = f"no experiment may start from {start} to {end} (holidays): spec.chaos.freeze of the mesh file"
    assert found == ([said] if frozen else [])


def test_what_cannot_be_undone_needs_an_administrator() -> None:
    method = [{"actions": [{"type": "podKill"}, {"type": "cordon", "node": "n"}]}]
    assert told(spec(method=method)) == [
        (
            "step 1 has actions that cannot be undone (cordon, podKill): an administrator must allow it with "
            "spec.chaos.irreversible: true in the mesh file"
        )
    ]
    assert told(spec(method=method), ceilings(irreversible=True)) == []


def test_everything_is_told_at_once() -> None:
    allowed = ceilings(protected=["shop"], freeze=[{"start": TODAY, "end": TODAY}], maxTraffic=5)
    assert len(told(spec({"percentage": 30}, maxFailures=9999), allowed)) == 5


def test_the_share_that_is_allowed() -> None:
    assert (share_allowed(spec()), share_allowed(spec(maxTraffic=3))) == (10, 3)
