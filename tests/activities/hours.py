"""The real `AnalysisRun`, fed with drawn ticks as fast as it folds them."""

from __future__ import annotations

import random

import pytest

from activities.canary.analysis_run import AnalysisRun
from activities.contracts.operation import WatchBeat, WatchRequest
from activities.temporal_health import TemporalHealth
from autopilot.evidence import canary
from autopilot.evidence.model import ArmTick, Tick, Verdict
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.telemetry.ticks import Exposure, HubTick
from tests.activities.test_watch import Mesh

BEGAN = 1_800_000_000.0


class Hour:
    """One watch, and traffic of some 50 requests/s to the canary and 450 to stable, a few of which fail or are slow."""

    def __init__(self, asked: WatchRequest, boundaries: int, earlier: WatchBeat | None = None) -> None:
        attached = AttachedMesh(mesh=Mesh(), proxies=None)  # type: ignore[arg-type]
        self.watching = AnalysisRun(asked, attached, TemporalHealth(), earlier)
        self._boundaries = boundaries
        self._random = random.Random(7)
        self._time = BEGAN

    def fold(self, ticks: int, *, judged: int | None = None) -> Verdict | None:
        """Folds so many ticks of a second; `judged`: only the last of them are judged, which is what takes time."""
        with pytest.MonkeyPatch.context() as patch:
            for left in range(ticks, 0, -1):
                if judged is not None and left > judged:
                    patch.setattr(canary, "update", lambda _judge, _rule, state, _tick: (state, None))
                    patch.setattr(canary, "evidence", lambda _judge, _state: ())
                else:
                    patch.undo()
                verdict = self.watching._fold(self._tick())
                if verdict is not None:
                    return verdict
        return None

    def beat(self) -> WatchBeat:
        return self.watching._beat()

    def _tick(self) -> HubTick:
        seconds = 1 + self._random.uniform(-0.01, 0.01)
        self._time += seconds
        mine, theirs = self._arm(50), self._arm(450)
        seen = Exposure(requests=mine.requests, failures=mine.errors, seconds=seconds)
        given = {"v1": theirs.requests, "v2": mine.requests}
        return HubTick(Tick(time=self._time, seconds=seconds, canary=mine, stable=theirs), seen, given)

    def _arm(self, rate: int) -> ArmTick:
        requests = float(self._random.randint(rate - rate // 5, rate + rate // 5))
        slow = sorted((float(self._random.randint(0, rate // 10)) for _ in range(self._boundaries)), reverse=True)
        return ArmTick(
            requests=requests, errors=float(self._random.random() < rate / 1000), timed=requests, slow=tuple(slow)
        )
