"""Every example loads, and the full one really has every field."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from autopilot.spec.canary import MeshCanary
from autopilot.spec.load import load

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("**/*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_loads(file: Path) -> None:
    assert load(file)


def test_there_are_examples() -> None:
    assert {"canary.yaml", "canary-full.yaml", "mesh.yaml"} <= {file.name for file in FILES}


def test_the_first_example_fits_the_local_stack() -> None:
    (canary,) = load(EXAMPLES / "canary.yaml")
    assert isinstance(canary, MeshCanary)
    assert (canary.metadata.namespace, canary.spec.target.service) == ("shop", "reviews")
    assert [step.weight for step in canary.spec.walk] == [10, 50, 100]
    assert sum(step.hold for step in canary.spec.walk) <= 60


def unset(model: BaseModel, path: str = "") -> set[str]:
    """The fields nobody wrote, anywhere below."""
    found = {f"{path}{name}" for name in type(model).model_fields.keys() - model.model_fields_set}
    for name in model.model_fields_set:
        value = getattr(model, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                found |= unset(item, f"{path}{name}.")
    return found


def test_the_full_example_has_every_field() -> None:
    (canary,) = load(EXAMPLES / "canary-full.yaml")
    assert isinstance(canary, MeshCanary)
    optional_in_some_steps = {"timeout", "pause", "allow_decrease", "min_requests", "on_timeout"}
    shared = {"spec.analysis.metrics.weight"}
    missing = {name for name in unset(canary) if name.rpartition(".")[2] not in optional_in_some_steps} - shared
    assert not missing
    written = {name for step in canary.spec.steps for name in step.model_fields_set}
    assert optional_in_some_steps - {"on_timeout"} <= written
