"""What the demo shows: a list of scenarios, each a wish, what the shop does meanwhile, and how it should end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autopilot.local.topology import NAMESPACE
from autopilot.operations.common import Outcome
from autopilot.spec.canary import Analysis, CanaryArms, CanarySpec, CanaryStep, CanaryTarget, ErrorRate, Latency
from autopilot.spec.chaos.experiment import ExperimentSpec, ExperimentTarget, Hypothesis, Inject, MethodStep, Safety
from autopilot.spec.chaos.faults import Delay
from autopilot.spec.chaos.probes import MeshProbe
from autopilot.spec.chaos.scope import Scope, Users
from autopilot.spec.chaos.tolerance import Tolerance
from starter.client.errors import CommandError

Behaviour = Mapping[str, float | bool]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One operation over the sample shop: a rollout of `reviews` v2, or an experiment."""

    name: str
    story: str
    """What is about to be seen, for people."""
    expected: Outcome
    spec: CanarySpec | ExperimentSpec
    behaviour: Mapping[str, Behaviour] = field(default_factory=dict)
    """Instance (`reviews-v2`) to what it does; the others behave."""
    retries: int = 0
    """How often the mesh retries what reviews fails."""
    rate: float = 100.0
    """Requests a second."""
    limit: float = 90.0
    """Seconds after which it has failed to end."""
    ttl: float | None = None
    """Seconds that its lease lives without renewal; by default what its kind has."""
    strike: bool = False
    """Whether everything of ours is killed once the first step is watched."""

    @property
    def service(self) -> str:
        """`namespace/name` of its target."""
        return f"{NAMESPACE}/{self.spec.target.service}"


def choose(names: Sequence[str]) -> list[Scenario]:
    """The scenarios of these names, each once; all of them where none is named.

    Raises:
        CommandError: there is no such scenario.
    """
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise CommandError(f"no scenario is called {', '.join(unknown)}", hint=f"there are {', '.join(SCENARIOS)}")
    return [SCENARIOS[name] for name in dict.fromkeys(names or SCENARIOS)]


def _reviews(steps: tuple[CanaryStep, ...], analysis: Analysis) -> CanarySpec:
    return CanarySpec(
        target=CanaryTarget(service="reviews"),
        arms=CanaryArms(stable="v1", canary="v2"),
        steps=steps,
        analysis=analysis,
    )


def _step(weight: float, hold: float) -> CanaryStep:
    return CanaryStep(weight=weight, hold=hold, min_requests=50, timeout=60.0)


# Shorter than anyone would hold in production: a demo is watched by somebody who waits.
_STEPS = (_step(10, 10.0), _step(50, 8.0), _step(100, 8.0))
# So are its steps, which end when 10 % more failures than stable's are excluded. Latency is compared above what the
# shop has: of the milliseconds that it takes, a busy machine makes clusters of slow requests, and steps are long.
_ANALYSIS = Analysis(
    tick=0.5, warmup=0.0, detect_absolute=0.1, metrics=(ErrorRate(), Latency(boundaries=(0.1, 0.25, 0.5, 1.0, 2.5)))
)


def _slow_ratings(delay: float, hold: float, *, users: float, guarded: bool) -> ExperimentSpec:
    """Ratings answers some users slowly; what is believed is said of `web`, where people are."""
    fast = MeshProbe(
        name="web-answers-in-time",
        service="web",
        metric="slowShare",
        slower_than=0.25,
        window=3.0,
        mode="edge",
        missing=20,
        tolerance=Tolerance(max=0.02),
    )
    guard = fast.model_copy(update={"name": "web-guard", "mode": "during", "failures": 2})
    return ExperimentSpec(
        title="people do not notice when ratings is slow for some",
        target=ExperimentTarget(service="ratings"),
        scope=Scope(users=Users(percentage=users, header="end-user")),
        hypothesis=Hypothesis(title="web answers within 250 ms", probes=(fast,)),
        method=(MethodStep(faults=(Inject(fault=Delay(delay=delay)),), hold=hold),),
        # An administrator lets it touch more than a tenth; requests are not spread over users quite evenly.
        safety=Safety(max_traffic=20, service="web", max_failures=100),
        abort=(guard,) if guarded else (),
        settle=4.0,
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="canary-good",
            story="reviews v2 is as good as v1: 10 %, 50 %, 100 %, promoted",
            expected=Outcome.PROMOTED,
            spec=_reviews(_STEPS, _ANALYSIS),
        ),
        Scenario(
            name="canary-bad",
            story="reviews v2 fails one request in five: detected at 10 % of the traffic, and rolled back",
            expected=Outcome.ROLLED_BACK,
            spec=_reviews(_STEPS, _ANALYSIS),
            behaviour={"reviews-v2": {"errors": 0.2}},
        ),
        Scenario(
            name="canary-hang",
            story="reviews v2 never answers: no error, no latency, yet detected at 10 % of the traffic and rolled back",
            expected=Outcome.ROLLED_BACK,
            spec=_reviews(_STEPS, _ANALYSIS),
            behaviour={"reviews-v2": {"hang": True}},
        ),
        Scenario(
            name="canary-behind-retries",
            story="reviews v2 fails every first try and the mesh retries it away: no user notices, the judge does",
            expected=Outcome.ROLLED_BACK,
            spec=_reviews(_STEPS, _ANALYSIS),
            behaviour={"reviews-v2": {"first_tries": 1.0}},
            retries=2,
        ),
        Scenario(
            name="crash",
            story="kill -9 of everything of ours in the middle of a rollout: the proxies take the traffic back by "
            "themselves; started again, the rollout goes on",
            expected=Outcome.PROMOTED,
            spec=_reviews((_step(30, 6.0), _step(100, 3.0)), _ANALYSIS),
            ttl=6.0,
            strike=True,
        ),
        Scenario(
            name="chaos",
            story="ratings answers one user in ten 400 ms late: web's guard metric stops the experiment, "
            "and the base is restored",
            expected=Outcome.ABORTED,
            spec=_slow_ratings(0.4, 30.0, users=10, guarded=True),
        ),
        Scenario(
            name="chaos-killed",
            story="kill -9 of everything of ours in the middle of an experiment: the proxies heal the traffic by "
            "themselves; started again, the experiment ends",
            expected=Outcome.INCONCLUSIVE,
            spec=_slow_ratings(0.2, 60.0, users=10, guarded=False),
            ttl=6.0,
            strike=True,
        ),
    )
}
