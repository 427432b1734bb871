"""Faults and their scopes: what an experiment may do to traffic."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from autopilot.spec.base import Misplaced, SpecModel
from autopilot.spec.values.addresses import Address
from autopilot.spec.values.units import Count, Name, Seconds, shown

GRPC_CODES = {
    "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip
"""Status codes of gRPC by name; 0 is success and no fault."""


def _grpc_code(value: object) -> object:
    if not isinstance(value, str) or value.isdigit():
        return value
    if value.upper() not in GRPC_CODES:
        hint = "write a number from 1 to 16, or a name such as UNAVAILABLE"
        raise ValueError(f"{shown(value)} is not a gRPC status of a failure; {hint}")
    return GRPC_CODES[value.upper()]


class Delay(SpecModel):
    """Requests are delayed before they are sent on."""

    type: Literal["delay"] = "delay"
    delay: Annotated[Seconds, Field(ge=0.001, le=3600)]
    jitter: Annotated[Seconds, Field(le=3600)] = 0.0
    """Delays spread evenly over `delay` ± `jitter`, in eight steps."""

    @model_validator(mode="after")
    def _never_negative(self) -> Self:
        if self.jitter >= self.delay:
            said = "is not below delay, so some delays would be negative"
            raise Misplaced(said, at=("jitter",), hint="write a smaller jitter")
        return self


class Abort(SpecModel):
    """Requests are answered with an error instead of being sent on."""

    type: Literal["abort"] = "abort"
    status: Annotated[Count, Field(ge=400, le=599)] = 503


class GrpcAbort(SpecModel):
    """The same for gRPC: `code` is a number from 1 to 16, or a name such as UNAVAILABLE."""

    type: Literal["grpcAbort"] = "grpcAbort"
    code: Annotated[Count, BeforeValidator(_grpc_code), Field(ge=1, le=16)] = 14


class Bandwidth(SpecModel):
    """Responses arrive slowly."""

    type: Literal["bandwidth"] = "bandwidth"
    limit: Annotated[Count, Field(ge=1, le=1_000_000)]
    """KiB a second, for each response."""


class Reset(SpecModel):
    """Connections close before an answer begins."""

    type: Literal["reset"] = "reset"


class Blackhole(SpecModel):
    """Requests are accepted and never answered: by every endpoint in scope, by these, or by those of one zone."""

    type: Literal["blackhole"] = "blackhole"
    endpoints: Annotated[tuple[Address, ...], Field(max_length=100)] = ()
    zone: Name | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        _refuse_both(self.endpoints, self.zone)
        return self


class Eject(SpecModel):
    """Endpoints are taken out of load balancing, as outlier detection would: the other endpoints get their load."""

    type: Literal["eject"] = "eject"
    endpoints: Annotated[tuple[Address, ...], Field(max_length=100)] = ()
    zone: Name | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if not self.endpoints and self.zone is None:
            raise ValueError("needs endpoints or zone; to remove all endpoints use type: blackhole")
        _refuse_both(self.endpoints, self.zone)
        return self


class Overflow(SpecModel):
    """Connection pools are so small that they overflow: requests over the limit are refused at once."""

    type: Literal["overflow"] = "overflow"
    requests: Annotated[Count, Field(ge=0, le=65536)] | None = None
    connections: Annotated[Count, Field(ge=0, le=65536)] | None = None
    pending: Annotated[Count, Field(ge=0, le=65536)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.requests is None and self.connections is None and self.pending is None:
            raise ValueError("has no limit; write requests, connections or pending")
        return self


class Retries(SpecModel):
    """Changes the retries of the mesh: the amplification is measured at every hop."""

    type: Literal["retries"] = "retries"
    retries: Annotated[Count, Field(ge=0, le=10)]
    per_try_timeout: Annotated[Seconds, Field(ge=0.001)] | None = None


class Timeout(SpecModel):
    """Changes the timeout of the mesh."""

    type: Literal["timeout"] = "timeout"
    timeout: Annotated[Seconds, Field(ge=0.001)]


class Partition(SpecModel):
    """The pods of the target get no traffic at all, by a NetworkPolicy (only on Kubernetes)."""

    type: Literal["partition"] = "partition"
    direction: Literal["ingress", "egress", "both"] = "ingress"


Fault = Annotated[
    Delay | Abort | GrpcAbort | Bandwidth | Reset | Blackhole | Eject | Overflow | Retries | Timeout | Partition,
    Field(discriminator="type"),
]

POLICY = (Retries, Timeout)
"""Change how the mesh treats whole requests, whichever arm they go to."""


def describe(fault: Fault) -> str:  # noqa: PLR0911 - one line a kind
    """What a fault does, in a few words."""
    match fault:
        case Delay():
            return f"delay {fault.delay:g} s" + (f" ± {fault.jitter:g} s" if fault.jitter else "")
        case Abort():
            return f"abort with {fault.status}"
        case GrpcAbort():
            return f"abort with gRPC status {fault.code}"
        case Bandwidth():
            return f"responses at {fault.limit} KiB/s"
        case Reset():
            return "connection reset"
        case Blackhole() | Eject():
            verb = "blackhole" if isinstance(fault, Blackhole) else "ejection"
            what = f"zone {fault.zone}" if fault.zone else ", ".join(fault.endpoints)
            return f"{verb} of {what}" if what else verb
        case Overflow():
            limits = {"requests": fault.requests, "connections": fault.connections, "pending": fault.pending}
            return "pools of " + ", ".join(f"{value} {name}" for name, value in limits.items() if value is not None)
        case Retries():
            tries = f", {fault.per_try_timeout:g} s a try" if fault.per_try_timeout else ""
            return f"{fault.retries} retries{tries}"
        case Timeout():
            return f"timeout {fault.timeout:g} s"
        case Partition():
            return f"partition ({fault.direction})"


def _refuse_both(endpoints: tuple[str, ...], zone: str | None) -> None:
    if endpoints and zone is not None:
        raise Misplaced("cannot be combined with endpoints", at=("zone",), hint="write one of them")
