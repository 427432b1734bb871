"""What models check over several fields, said to the API server: CEL rules, fields of which one is needed, the rest.

A validator of a model that is in none of them is found by a test.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from autopilot.spec.canary import (
    Analysis,
    CanaryArms,
    CanarySpec,
    ClientErrorRate,
    ErrorRate,
    Latency,
    LatencyObjective,
    PromQL,
    SuccessRate,
)
from autopilot.spec.chaos.experiment import ExperimentSpec
from autopilot.spec.chaos.faults import POLICY, Blackhole, Delay, Eject, Overflow
from autopilot.spec.chaos.probes import HttpProbe, KubernetesProbe, MeshProbe
from autopilot.spec.chaos.schedule import Freeze, Window
from autopilot.spec.chaos.scope import HeaderMatch, PathMatch, Scope, Source, Users
from autopilot.spec.chaos.tolerance import Tolerance
from autopilot.spec.crd.structural_schema import Needs, Rule, Rules
from autopilot.spec.secret_ref import SecretRef


def _name_of_a_metric() -> str:
    """A metric's name in CEL: as written, or what code takes for it."""
    said = ""
    for metric in (ErrorRate, Latency, ClientErrorRate, SuccessRate, LatencyObjective, PromQL):
        default = metric.model_fields["name"].default
        if isinstance(default, str):
            said += f"m.type == '{metric.model_fields['type'].default}' ? '{default}' : "
    return f"has(m.name) ? m.name : {said}''"


def _written(model: type[BaseModel], field: str) -> str:
    """A field's text in CEL: as written, or what code takes for it."""
    return f"(has(self.{field}) ? self.{field} : '{model.model_fields[field].default}')"


_MIN_AND_MAX: Final[Rule] = {
    "rule": "!has(self.max) || !has(self.min) || self.min <= self.max",
    "message": "min is above max, so no value could pass",
    "fieldPath": ".min",
}
_ONE_PLACE: Final[Rule] = {
    "rule": "!has(self.zone) || !has(self.endpoints) || size(self.endpoints) == 0",
    "message": "zone cannot be combined with endpoints; write one of them",
    "fieldPath": ".zone",
}
_OF_REQUESTS: Final = [kind.model_fields["type"].default for kind in POLICY]
"""Types of faults that concern whole requests."""
_NARROWER: Final = "!has({0}.arm) && (!has({0}.view) || {0}.view != 'policy')"
_UNIQUE: Final = ".all(names, names.all(one, names.exists_one(other, other == one)))"

RULES: Final[Rules] = {
    CanaryArms: (
        {
            "rule": "self.stable != self.canary",
            "message": "is the same as stable; name two versions",
            "fieldPath": ".canary",
        },
    ),
    PromQL: (
        {"rule": "has(self.max) || has(self.min)", "message": "a threshold needs max, min or both"},
        _MIN_AND_MAX,
    ),
    Analysis: (
        {
            "rule": f"!has(self.metrics) || [self.metrics.map(m, {_name_of_a_metric()})]{_UNIQUE}",
            "message": "two metrics have the same name; give each metric its own name",
            "fieldPath": ".metrics",
        },
    ),
    Blackhole: (_ONE_PLACE,),
    Eject: (
        {
            "rule": "has(self.zone) || (has(self.endpoints) && size(self.endpoints) > 0)",
            "message": "needs endpoints or zone; to remove all endpoints use type: blackhole",
        },
        _ONE_PLACE,
    ),
    Overflow: (
        {
            "rule": "has(self.requests) || has(self.connections) || has(self.pending)",
            "message": "has no limit; write requests, connections or pending",
        },
    ),
    HeaderMatch: (
        {
            "rule": "[has(self.exact), has(self.prefix), has(self.regex), has(self.present)].exists_one(one, one)",
            "message": "write one of exact, prefix, regex and present",
        },
    ),
    PathMatch: (
        {
            "rule": "[has(self.exact), has(self.prefix), has(self.regex)].exists_one(one, one)",
            "message": "write one of exact, prefix and regex",
        },
    ),
    Users: (
        {"rule": "has(self.header) != has(self.cookie)", "message": "write what tells users apart: header or cookie"},
    ),
    Source: (
        {
            "rule": "has(self.service) != has(self.proxy)",
            "message": "names no caller, or two; write service (an edge of the mesh) or proxy",
        },
        {
            "rule": "!has(self.arm) || has(self.service)",
            "message": "names a version without its service; write service too",
            "fieldPath": ".arm",
        },
    ),
    Tolerance: (_MIN_AND_MAX,),
    KubernetesProbe: (
        {
            "rule": "has(self.object) != has(self.selector)",
            "message": "needs object (its name) or selector",
        },
        {
            "rule": "!has(self.absent) || !self.absent || !has(self.tolerance)",
            "message": "checks an object that must not exist; leave out tolerance or absent",
            "fieldPath": ".tolerance",
        },
    ),
    Window: (
        {
            "rule": f"{_written(Window, 'start')} < {_written(Window, 'end')}",
            "message": "end is not after start; split it at midnight",
            "fieldPath": ".end",
        },
    ),
    Freeze: ({"rule": "self.start <= self.end", "message": "end is before start", "fieldPath": ".end"},),
    ExperimentSpec: (
        {
            "rule": "has(self.scope) || self.method.all(step, !has(step.faults) || "
            "step.faults.all(one, has(one.scope) || one.fault.type == 'partition'))",
            "message": "a fault has no scope; write scope beside it, or spec.scope for all",
            "fieldPath": ".method",
        },
        {
            "rule": "self.method.all(step, !has(step.faults) || step.faults.all(one, "
            f"!(one.fault.type in {_OF_REQUESTS!r}) || (has(one.scope) ? {_NARROWER.format('one.scope')} : "
            f"!has(self.scope) || ({_NARROWER.format('self.scope')}))))",
            "message": f"{' and '.join(_OF_REQUESTS)} concern whole requests at the caller, before a version is "
            "chosen; leave out arm and view",
            "fieldPath": ".method",
        },
        {
            "rule": "self.method.exists(step, (has(step.faults) && size(step.faults) > 0) || "
            "(has(step.actions) && size(step.actions) > 0))",
            "message": "has no effect: it has no fault and no action",
            "fieldPath": ".method",
        },
        {
            "rule": "[self.hypothesis.probes.map(p, p.name) + (has(self.abort) ? self.abort.map(p, p.name) : [])]"
            f"{_UNIQUE}",
            "message": "two probes have the same name; give each probe its own name",
            "fieldPath": ".hypothesis",
        },
    ),
}
"""In CEL."""

SOME: Final[Needs] = {
    Scope: ("percentage", "users", "headers", "cookie", "path", "method", "rule", "source", "arm"),
    SecretRef: ("kubernetes", "file", "env"),
    Tolerance: ("equals", "oneOf", "min", "max", "regex", "contains"),
}
"""Fields of which at least one must be there; rules cannot see all of them."""

UNSAID: Final[dict[type[BaseModel], str]] = {
    CanarySpec: "that weights rise: a weight may be 10 or 0.5%, and CEL cannot read what may be number or text",
    Delay: "that jitter is below delay: both may be number or text",
    ExperimentSpec: "that what is held and settled ends before the deadline: all of them may be number or text",
    HttpProbe: "that the latency allowed is not above the time-out: that may be number or text",
    MeshProbe: "that bounds of a share lie between 0 and 1: what was stored before stays valid",
    Scope: "that headers which are there name one",
}
"""What rules cannot say."""
