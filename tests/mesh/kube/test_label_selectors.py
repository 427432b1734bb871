"""Label selectors mean what Kubernetes reads in them."""

from __future__ import annotations

from typing import Any

import pytest

from autopilot.mesh.kube.client.label_selectors import selects


def expression(operator: str, *values: str, key: str = "app") -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "version": "v1"}}, False),
        (expression("In", "web", "job"), True),
        (expression("In", "job"), False),
        (expression("NotIn", "job"), True),
        (expression("NotIn", "web"), False),
        (expression("NotIn", "v1", key="version"), True),
        (expression("Exists"), True),
        (expression("Exists", key="version"), False),
        (expression("DoesNotExist"), False),
        (expression("DoesNotExist", key="version"), True),
        ({"matchLabels": {"app": "web"}, **expression("In", "job")}, False),
    ],
)
def test_selectors_mean_what_kubernetes_reads(selector: dict[str, Any] | None, selected: bool) -> None:
    assert selects(selector, {"app": "web"}) == selected
