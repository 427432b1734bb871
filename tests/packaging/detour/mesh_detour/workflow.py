"""What happens."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from autopilot.mesh.model import Aspect, SplitTraffic, Target
    from autopilot.operations.common import Outcome, Phase
    from mesh_detour.wire import DetourInput, DetourReport, DetourStatus

from workflows.operation.lifecycle import Operation
from workflows.operation.outcomes import Ending


@workflow.defn(name="Detour")
class DetourWorkflow(Operation):
    """Leads everything to one arm, holds, and lets the base be restored."""

    @workflow.init
    def __init__(self, given: DetourInput) -> None:
        super().__init__(given.caller)
        self.given = given

    @workflow.run
    async def run(self, given: DetourInput) -> DetourReport:
        target = Target(mesh=given.mesh, namespace=given.namespace, service=given.spec.target.service)
        lasting, queue = given.spec.deadline, given.queue
        ending = await self.execute(target, (Aspect.TRAFFIC,), ttl=30, lasting=lasting, queue=queue)
        return self.report(ending)

    async def operate(self) -> Ending:
        spec = self.given.spec
        await self.lay([SplitTraffic(weights={spec.arm: 100})], summary=f"all to {spec.arm}", why="detour")
        self.enter(Phase.PROGRESSING, f"{spec.arm} gets everything")
        await self.hold_lease(spec.hold, summary=f"{spec.arm} gets everything")
        return Ending(Outcome.PASSED, f"{spec.arm} had everything for {spec.hold:g} s")

    async def conclude(self, ending: Ending) -> None:
        await self.archive_report("MeshDetour", self.report(ending))

    def report(self, ending: Ending) -> DetourReport:
        return DetourReport(
            workflow_id=workflow.info().workflow_id,
            outcome=ending.outcome,
            reason=ending.reason,
            started=self.started,
            ended=workflow.time(),
            timeline=self.timeline,
            audit=tuple(self.audited),
        )

    def details(self) -> str:
        return f"**{self.phase.value}**"

    @workflow.query(name="status")
    def status(self) -> DetourStatus:
        return DetourStatus(
            workflow_id=workflow.info().workflow_id,
            phase=self.phase,
            started=self.started,
            standing=f"all to {self.given.spec.arm}",
            timeline=self.timeline,
        )
