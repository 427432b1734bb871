"""Random interleavings of all that can happen to a rollout, and what must hold whatever the order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from temporalio.service import RPCError

from autopilot.operations.common import Approval, Caller, Command, Promotion
from autopilot.reports.canary import CanaryInput
from autopilot.spec.canary import CanarySpec
from tests.faults.interleavings.stage import Stage

TTL = 3.0
_WHO = Caller(who="hypothesis")
_NUMBERS = itertools.count(1)
_GENTLE = ("pause", "resume", "approve", "promote", "promote in full")
_ENDING = ("abort", "cancel", "terminate")
_ALL = (*_GENTLE, *_ENDING, "good", "good", "harm")


@dataclass
class Findings:
    """What came of many interleavings."""

    interleavings: int = 0
    steps: int = 0
    violations: list[dict[str, Any]] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)


def explore(stage: Stage, count: int, *, number: int, check: Callable[[Stage], list[str]] = lambda _: []) -> Findings:
    """Plays `count` interleavings one after the other; goes on after a violation, and notes it with its steps.

    Args:
        stage: where.
        count: how many.
        number: seeds the dice.
        check: looks at the rest of the world when all is at rest, and says what is wrong.
    """
    found = Findings()

    class Bound(Interleaving):
        def __init__(self) -> None:
            super().__init__(stage, found, check)

    chosen = settings(
        max_examples=count,
        stateful_step_count=7,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(Bound)
    run_state_machine_as_test(Bound, settings=chosen)
    return found


class Interleaving(RuleBasedStateMachine):
    """One rollout from its start until all is at rest."""

    def __init__(self, stage: Stage, found: Findings, check: Callable[[Stage], list[str]]) -> None:
        super().__init__()
        self._stage = stage
        self._found = found
        self._check = check
        self._trace: list[str] = []
        self._wrong: list[str] = []
        self._ceiling: float | None = None
        """The canary's weight when harm was found: never above it from then on."""
        self._operation = ""
        self._seen_through = False

    @initialize(gate=st.booleans(), settle=st.sampled_from(["pause", "rollback"]), seen_through=st.booleans())
    def begins(self, gate: bool, settle: str, seen_through: bool) -> None:
        """Three steps, the first with or without a gate; what is left in the end is aborted or seen through."""
        self._seen_through = seen_through
        spec: dict[str, Any] = {
            "target": {"service": self._stage.target.service},
            "arms": {"stable": "v1", "canary": "v2"},
            "steps": [{"weight": 10, "pause": gate}, {"weight": 50}, {"weight": 100}],
            "analysis": {"noData": {"then": settle}},
            "onInconclusive": settle,
        }
        target = self._stage.target
        canary = CanaryInput(
            mesh=target.mesh,
            namespace=target.namespace,
            name=f"i{next(_NUMBERS)}",
            spec=CanarySpec.model_validate(spec),
            caller=_WHO,
            ttl=TTL,
            heartbeat_timeout=2.0,
        )
        self._operation = canary.workflow_id
        self._trace.append(f"start gate={gate} settle={settle} seen_through={seen_through}")
        self._stage.do(self._stage.start(canary))

    @rule(words=st.lists(st.just("good"), min_size=1, max_size=4))
    def goes_well(self, words: list[str]) -> None:
        self._play(words)
        self._stage.do(self._heard())

    @rule(command=st.sampled_from(("approve", "promote", "resume")))
    def goes_all_the_way(self, command: str) -> None:
        """As far as good ticks and a person's word lead."""
        for _ in range(2):
            self._play(["good", "good", command])
            self._stage.do(self._heard())

    @rule()
    def harms(self) -> None:
        self._play(["harm"])
        self._stage.do(self._heard())

    @rule()
    def falls_silent(self) -> None:
        self._note("silence")
        self._stage.script.words[self._operation].append("silence")
        self._stage.do(self._heard())

    @rule(what=st.sampled_from(_GENTLE))
    def is_told(self, what: str) -> None:
        self._play([what])

    @rule(what=st.sampled_from(_ENDING))
    def is_ended(self, what: str) -> None:
        self._play([what])

    @rule(what=st.lists(st.sampled_from(_ALL), min_size=2, max_size=3))
    def is_told_at_once(self, what: list[str]) -> None:
        """In one instant, as far as that goes."""
        self._play(what)

    @rule()
    def loses_its_worker(self) -> None:
        self._note("worker restart")
        self._stage.do(self._stage.restart_worker())

    @rule(seconds=st.sampled_from([0.03, 0.1]))
    def has_time(self, seconds: float) -> None:
        self._note(f"wait {seconds}")
        self._stage.do(asyncio.sleep(seconds))

    @invariant()
    def weights_are_sound(self) -> None:
        """They add up, and never rise after harm."""
        if not self._operation:
            return
        weights = self._stage.weights()
        if abs(sum(weights.values()) - 100) > 1e-6:
            self._wrong.append(f"weights {weights} do not add up")
        if self._operation in self._stage.script.harmed:
            if self._ceiling is None:
                self._ceiling = weights["v2"]
            elif weights["v2"] > self._ceiling + 1e-6:
                self._wrong.append(f"the weight rose from {self._ceiling:g} to {weights['v2']:g} % after harm")
            self._ceiling = min(self._ceiling, weights["v2"])

    def teardown(self) -> None:
        """Whatever is still under way is aborted; then everything must be at rest."""
        if not self._operation:
            return
        self._stage.do(self._settle())
        self._found.interleavings += 1
        self._found.steps += len(self._trace)
        if self._wrong:
            self._found.violations.append({"steps": self._trace, "wrong": self._wrong, "operation": self._operation})

    async def _settle(self) -> None:
        stage, operation = self._stage, self._operation
        if self._seen_through:
            await self._see_through()
        if not await stage.until_running_is(operation, False, 0.15):
            await self._say("abort")
            if not await stage.until_running_is(operation, False, 25):
                self._wrong.append("the rollout never ended")
                await stage.client.get_workflow_handle(operation).terminate("it never ended")
        if not await stage.unheld(TTL + 2):
            self._wrong.append(f"a lease was left {TTL + 2:g} s after the end")
        report = await stage.outcome(operation)
        outcome = report.outcome.value if report else "closed from outside"
        self._found.outcomes[outcome] = self._found.outcomes.get(outcome, 0) + 1
        weights = {arm.name: arm.weight for arm in (await stage.mesh.observe(stage.target)).arms}
        base = stage.base_weight()
        if weights["v2"] != base or base not in (0, 100):
            self._wrong.append(f"at rest between: in force {weights}, v2's base {base:g} %")
        elif report is not None and (outcome == "Promoted") != (base == 100):
            self._wrong.append(f"reported {outcome} ({report.reason}), but v2's base is {base:g} %")
        if self._operation in stage.script.harmed and base == 100 and not self._was_committing():
            self._wrong.append("promoted after harm")
        kept = list(stage.reports.glob(f"{operation.replace('/', '_')}.*.json"))
        if len(kept) > 1:
            self._wrong.append(f"{len(kept)} reports of one rollout")
        self._wrong += await asyncio.to_thread(self._check, stage)
        await stage.restore()

    async def _see_through(self) -> None:
        """Good ticks, and a person who always agrees."""
        for _ in range(60):
            if not await self._stage.running(self._operation):
                break
            for word in ("good", "good", "resume", "promote"):
                await self._say(word)
            await asyncio.sleep(0.06)

    def _was_committing(self) -> bool:
        """A person may order promotion in full in the same instant as harm is found; then either may be first."""
        return any("promote in full" in step for step in self._trace)

    async def _heard(self) -> None:
        """Waits a little for a watch to hear what was said: most of what can go wrong begins there."""
        script = self._stage.script
        for _ in range(40):
            if not script.words[self._operation]:
                break
            await asyncio.sleep(0.02)

    def _play(self, what: list[str]) -> None:
        self._note(" + ".join(what))

        async def all_at_once() -> None:
            await asyncio.gather(*(self._say(word) for word in what))

        self._stage.do(all_at_once())

    async def _say(self, what: str) -> None:
        handle = self._stage.client.get_workflow_handle(self._operation)
        try:
            match what:
                case "good" | "harm":
                    self._stage.script.words[self._operation].append(what)
                case "cancel":
                    await handle.cancel()
                case "terminate":
                    await handle.terminate("hypothesis")
                case "promote in full":
                    await handle.signal("promote", Promotion(caller=_WHO, full=True, reason="hypothesis"))
                case "promote":
                    await handle.signal("promote", Promotion(caller=_WHO))
                case "approve":
                    await handle.signal("approve", Approval(caller=_WHO))
                case _:
                    await handle.signal(what, Command(caller=_WHO, reason="hypothesis"))
        except RPCError:
            pass  # it has ended: nobody hears

    def _note(self, step: str) -> None:
        self._trace.append(step)
