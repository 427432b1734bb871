"""Probes: what an experiment checks, and the results it expects."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from autopilot.spec.base import Misplaced, SpecModel
from autopilot.spec.chaos.tolerance import Tolerance
from autopilot.spec.headers import HeaderName, HeadersOnce, HeaderValue
from autopilot.spec.secret_ref import SecretText
from autopilot.spec.values.addresses import Address, Url
from autopilot.spec.values.units import Count, Name, Number, Seconds, explained, is_written

Mode = Literal["before", "after", "edge", "continuous", "during"]
"""When a probe runs: before the method; after the restore; both; all the time; only while faults are laid."""

Text = Annotated[str, Field(max_length=4096)]
Argument = Annotated[str, Field(pattern=explained(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$", "the name of an argument"))]


class _Probe(SpecModel):
    """Fields that all probes have."""

    name: Name
    mode: Mode = "edge"
    interval: Annotated[Seconds, Field(ge=0.2, le=3600)] = 1.0
    timeout: Annotated[Seconds, Field(ge=0.05, le=60)] = 2.0
    """Time-out of one look. It is a failure where a service had to answer (http, tcp), else no data."""
    failures: Annotated[Count, Field(ge=1, le=1000)] = 1
    """This many looks in a row must fail before the probe has failed."""
    successes: Annotated[Count, Field(ge=1, le=1000)] = 1
    """This many in a row must pass before it has passed."""
    missing: Annotated[Count, Field(ge=1, le=1000)] = 3
    """After this many in a row without data (no answer from Prometheus, an empty series) the probe is inconclusive,
    until there is data again; it never passes without data."""


class HttpProbe(_Probe):
    """Asks a URL from where the worker runs, each time on a new connection; follows no redirects.

    The value is the status; `body` and `latency` say what else must hold. No answer is a failure.
    """

    type: Literal["http"] = "http"
    url: Url
    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE"] = "GET"
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=32), HeadersOnce] = Field(default_factory=dict)
    """Text, or `secretRef` for a credential."""
    data: Text | None = None
    """What is sent."""
    verify_tls: bool = True
    tolerance: Tolerance = Tolerance(min=200, max=399)
    """Of the status."""
    body: Tolerance | None = None
    latency: Tolerance | None = None
    """Of the seconds until the answer was read."""

    @model_validator(mode="after")
    def _latency_is_in_seconds(self, info: ValidationInfo) -> Self:
        """Not in milliseconds; and a look takes no longer than its time-out, so such a limit would check nothing."""
        limit = self.latency.max if self.latency else None
        if is_written(info) and limit is not None and limit > self.timeout:
            raise Misplaced(
                f"is {limit:g} s, above the timeout of {self.timeout:g} s, so no answer could fail it",
                at=("latency", "max"),
                hint=f"for milliseconds write {limit / 1000:g}; for seconds make timeout longer",
            )
        return self


class TcpProbe(_Probe):
    """Opens a connection: that it can be opened is success."""

    type: Literal["tcp"] = "tcp"
    address: Address


class PromqlProbe(_Probe):
    """Evaluates a query to one number; `{{service}}` and `{{namespace}}` are filled in. Nothing is no data."""

    type: Literal["promql"] = "promql"
    query: Annotated[str, Field(min_length=1, max_length=4096)]
    tolerance: Tolerance


class MeshProbe(_Probe):
    """Reads the mesh's own telemetry of a service as its users met it, over the last `window`.

    A fault at the service's callers holds back or ends requests that the service never sees: whoever wants to know
    what that does asks for a service one hop up.
    """

    type: Literal["mesh"] = "mesh"
    service: Annotated[
        str | None,
        Field(pattern=explained(r"^([a-z0-9-]{1,63}/)?[a-z0-9-]{1,63}$", "a service: name, or namespace/name")),
    ] = None
    """By default the target."""
    metric: Literal["successRate", "slowShare", "requestRate"] = "successRate"
    """`successRate`: share of requests answered without failure, 0 to 1; `slowShare`: share that took longer than
    `slower_than`, 0 to 1; `requestRate`: requests a second."""
    slower_than: Annotated[Seconds, Field(ge=0.001)] = 1.0
    """The nearest bound that the histograms have counts."""
    window: Annotated[Seconds, Field(ge=1, le=600)] = 5.0
    least: Annotated[Count, Field(ge=0)] = 20
    """With fewer requests in the window there is no data; only `requestRate` needs no minimum."""
    tolerance: Tolerance

    @model_validator(mode="after")
    def _shares_are_no_percentages(self, info: ValidationInfo) -> Self:
        if not is_written(info) or self.metric == "requestRate":
            return self
        for name in ("min", "max"):
            bound = getattr(self.tolerance, name)
            if bound is not None and not 0 <= bound <= 1:
                raise Misplaced(
                    f"is {bound:g}, and {self.metric} is a share from 0 to 1",
                    at=("tolerance", name),
                    hint=f"for {bound:g} % write {bound / 100:g}" if 1 < bound <= 100 else "write a number from 0 to 1",
                )
        return self


class KubernetesProbe(_Probe):
    """Looks at objects of a cluster. The value is the object as JSON, or how many there are with a selector."""

    type: Literal["kubernetes"] = "kubernetes"
    api_version: Annotated[
        str, Field(pattern=explained(r"^([a-z0-9.-]+/)?v[a-z0-9]+$", "a group and version: apps/v1"))
    ]
    kind: Annotated[str, Field(pattern=explained(r"^[A-Z][A-Za-z0-9]{0,62}$", "a kind: Deployment"))]
    namespace: Name | None = None
    """By default the experiment's own."""
    object: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Its name."""
    selector: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    absent: bool = False
    """Whether the object must not exist."""
    tolerance: Tolerance | None = None

    @model_validator(mode="after")
    def _which(self) -> Self:
        if (self.object is None) == (self.selector is None):
            raise ValueError("needs object (its name) or selector")
        if self.absent and self.tolerance is not None:
            raise Misplaced("checks an object that must not exist", at=("tolerance",), hint="leave one of them out")
        return self


class ProcessProbe(_Probe):
    """Runs a program where the worker runs, without a shell. The value is its exit code. Needs the worker's consent."""

    type: Literal["process"] = "process"
    command: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(min_length=1, max_length=64)
    ]
    tolerance: Tolerance = Tolerance(equals=0)
    output: Tolerance | None = None
    """Of its standard output."""


class PythonProbe(_Probe):
    """Calls a function where the worker runs. The value is what it returns. Needs the worker's consent."""

    type: Literal["python"] = "python"
    function: Annotated[
        str,
        Field(
            pattern=explained(
                r"^[A-Za-z_][A-Za-z0-9_.]{0,200}:[A-Za-z_][A-Za-z0-9_]{0,100}$", "a function: package.module:function"
            )
        ),
    ]
    arguments: Annotated[dict[Argument, str | Number | bool | None], Field(max_length=32)] = Field(default_factory=dict)
    tolerance: Tolerance


Probe = Annotated[
    HttpProbe | TcpProbe | PromqlProbe | MeshProbe | KubernetesProbe | ProcessProbe | PythonProbe,
    Field(discriminator="type"),
]

OPT_IN = ("process", "python")
"""Kinds of probes that run code named in a spec: only on a worker whose administrator allows them."""


def secrets_of(probe: Probe) -> dict[str, SecretText]:
    """The headers of a probe that hold secrets, by name."""
    headers = probe.headers if isinstance(probe, HttpProbe) else {}
    return {name: value for name, value in headers.items() if isinstance(value, SecretText)}


PHASES: dict[str, frozenset[Mode]] = {
    "before": frozenset({"before", "edge", "continuous"}),
    "during": frozenset({"continuous", "during"}),
    "after": frozenset({"after", "edge", "continuous"}),
}
"""Which modes run in which phase of an experiment."""
