"""`plan` names the secrets that an experiment's probes send, and reads none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autopilot.mesh.envoy.prepare import prepare
from starter.cli.main import run
from tests.mesh.conftest import MESH

EXAMPLE = (Path(__file__).parents[2] / "examples" / "chaos-secret.yaml").read_text()
REF = "kubernetes: {name: checkout-token, key: token}"
SECRET = "hunter2hunter2"  # noqa: S105 - made up


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        (REF, "key token of Secret shop/checkout-token"),
        ("env: CHECKOUT_TOKEN", "environment variable CHECKOUT_TOKEN"),
        ("file: FILE", "file FILE"),
    ],
)
def test_plan_names_secrets_and_shows_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], ref: str, said: str
) -> None:
    mesh, secret, file = tmp_path / "mesh.yaml", tmp_path / "token", tmp_path / "experiment.yaml"
    mesh.write_text(MESH.replace("maxUnattended: 60s", "maxUnattended: 5m"))
    prepare(mesh)
    secret.write_text(SECRET)
    monkeypatch.setenv("CHECKOUT_TOKEN", SECRET)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("AUTOPILOT_MESH", str(mesh))
    text = EXAMPLE.replace("service: ratings", "service: reviews").replace(REF, ref)
    file.write_text(text.replace("FILE", str(secret)))
    wanted = f"{said.replace('FILE', str(secret))} (header authorization of probe order)"
    assert run(["plan", "-f", str(file), "-o", "json"]) == 0
    for_programs = capsys.readouterr().out
    assert json.loads(for_programs)[0]["secrets"] == [wanted]
    assert run(["plan", "-f", str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"the worker reads and sends: {wanted}" in " ".join(shown.split())
    assert SECRET not in for_programs + shown
