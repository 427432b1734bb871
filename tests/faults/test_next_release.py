"""What the crash suite puts beside an operation: it is in nobody's way, and stays as it was written."""

from __future__ import annotations

from pathlib import Path

from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from tests.faults.events import next_release
from tests.mesh.conftest import MESH, REVIEWS, published, split, take


async def test_an_operation_beside_records_of_the_next_release(tmp_path: Path) -> None:
    mesh_file = tmp_path / "mesh.yaml"
    mesh_file.write_text(MESH, encoding="utf-8")
    prepare(mesh_file)
    mesh = EnvoyMesh(mesh_file)
    base = published(mesh.ledger)
    written = next_release.write(mesh_file)
    lease = take(mesh.ledger)
    mesh.ledger.apply(lease, split(10))
    await mesh.renew(lease)
    assert await mesh.sweep() == []
    assert mesh.ledger.weights(REVIEWS)["v2"] == 10
    await mesh.lift(lease)
    assert await mesh.sweep() == []
    assert published(mesh.ledger) == base
    assert written.changed() == []
    assert {one.where for one in await mesh.unreadable()} == {str(path) for path in written.files}
    await mesh.close()
