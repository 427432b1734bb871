from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from autopilot.local import topology
from autopilot.spec.mesh import Mesh

PORTS = {name: 20000 + number for number, name in enumerate(topology.port_names())}


def test_what_is_written_is_what_was_built(tmp_path: Path) -> None:
    mesh = topology.build(PORTS)
    topology.write(mesh, tmp_path / "mesh.yaml")
    text = (tmp_path / "mesh.yaml").read_text()
    assert text.startswith("# The mesh that `autopilot up` runs")
    assert Mesh.model_validate(YAML(typ="safe").load(text)) == mesh
    assert [file.name for file in tmp_path.iterdir()] == ["mesh.yaml"]


def test_arms_are_the_sidecars_and_sidecars_lead_to_the_applications() -> None:
    spec = topology.build(PORTS).spec
    reviews = spec.service("shop/reviews")
    assert reviews is not None
    assert reviews.weights == {"v1": 100}
    for version in ("v1", "v2"):
        proxy = next(proxy for proxy in spec.proxies if proxy.name == f"reviews-{version}")
        assert reviews.arms[version].endpoints == (proxy.inbound[0].address,)
        assert proxy.inbound[0].application == f"127.0.0.1:{PORTS[f'app:reviews-{version}']}"
        assert proxy.outbound[0].services == ("shop/ratings",)
    assert [proxy.name for proxy in spec.proxies] == topology.proxy_names()


def test_a_promotion_survives_and_what_does_not_fit_does_not(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    assert topology.kept_weights(file) == topology.BASE_WEIGHTS
    promoted = {**topology.BASE_WEIGHTS, "reviews": {"v1": 0.0, "v2": 100.0}}
    topology.write(topology.build(PORTS, promoted), file)
    assert topology.kept_weights(file) == promoted
    file.write_text("kind: Mesh\nspec: [")
    assert topology.kept_weights(file) == topology.BASE_WEIGHTS


def test_retries_are_set_and_what_held_before_is_told(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    mesh = topology.build(PORTS)
    topology.write(mesh, file)
    before = file.read_bytes()
    assert topology.set_retries(file, "shop/reviews", 2) == 0
    assert "retries: 2" in file.read_text()
    assert topology.set_retries(file, "shop/reviews", 0) == 2
    assert file.read_bytes() == before
    with pytest.raises(KeyError):
        topology.set_retries(file, "shop/nobody", 1)
