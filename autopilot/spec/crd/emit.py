"""CustomResourceDefinitions of every kind that is a resource, made from the models that files are read with.

The schema accepts what the loader accepts, and refuses early what it can; what it has no words for, the loader's own
checks find when the resource is read.
"""

from __future__ import annotations

from typing import Any, Final

from autopilot.spec.base import API_VERSION
from autopilot.spec.crd.mixed_values import RULES as VALIDATIONS
from autopilot.spec.crd.resources import ResourceKind, column
from autopilot.spec.crd.rules import RULES, SOME
from autopilot.spec.crd.status import OperationStatus
from autopilot.spec.crd.structural_schema import Rule, structural

CATEGORY: Final = "autopilot"
GROUP, _, VERSION = API_VERSION.partition("/")
PHASE = column("Phase", ".status.phase")
OUTCOME = column("Outcome", ".status.outcome")
MESSAGE = column("Message", ".status.message", wide=True)
AGE = column("Age", ".metadata.creationTimestamp", "date")


_NAMED: Final[Rule] = {
    "rule": "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
    "message": "metadata.name: lower-case letters, digits and dashes, at most 63",
}


def crd(resource: ResourceKind) -> dict[str, Any]:
    """The CustomResourceDefinition, as JSON."""
    spec: Any = resource.model.model_fields["spec"].annotation
    root = {
        "description": " ".join((resource.model.__doc__ or "").split()),
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": structural(spec, RULES, SOME), "status": _status(resource.status)},
        VALIDATIONS: [dict(_NAMED)],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.singular,
                "shortNames": [resource.short],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [PHASE, *resource.columns, OUTCOME, MESSAGE, AGE],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def _status(model: type[OperationStatus]) -> dict[str, Any]:
    found = structural(model, {})
    found["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return found
