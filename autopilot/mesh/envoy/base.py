"""The base: `mesh.yaml`, read often and changed in one way only, a service's weights when a rollout is promoted."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from autopilot.mesh.envoy.files import write_atomically
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.spec.mesh import Mesh


def read_mesh(path: Path) -> Mesh:
    """Reads the base.

    Raises:
        MeshError: there is no such file, or it describes no mesh.
    """
    try:
        return Mesh.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise MeshError(f"there is no mesh file {path}; describe your mesh there (see examples/mesh.yaml)") from None
    except (OSError, YAMLError, ValidationError) as error:
        raise MeshError(f"{path} describes no mesh: {error}") from error


def set_weights(path: Path, service_ref: str, weights: dict[str, float]) -> None:
    """Changes the weights of one service in the file, number by number: not a byte elsewhere changes.

    Raises:
        InvalidChange: no such service, or the result would be no valid mesh. Nothing was written.
    """
    text = path.read_text(encoding="utf-8")
    node = _weights_node(YAML().compose(text), service_ref)
    if node is None:
        raise InvalidChange(f"{path} has no service {service_ref} with weights of its own")
    wanted = {arm: f"{weight:.10g}" for arm, weight in weights.items()}
    edits: list[tuple[int, int, str]] = []
    for key, value in node.value:
        new = wanted.pop(key.value, "0")
        if float(value.value) != float(new):
            edits.append((value.start_mark.index, value.end_mark.index, new))
    added = {arm: new for arm, new in wanted.items() if float(new)}
    if added:
        _, last = node.value[-1]
        between = ", " if node.flow_style else "\n" + " " * node.start_mark.column
        edits.append((last.end_mark.index,) * 2 + ("".join(f"{between}{arm}: {new}" for arm, new in added.items()),))
    if not edits:
        return
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    try:
        Mesh.model_validate(YAML(typ="safe").load(text))
    except (YAMLError, ValidationError) as error:
        raise InvalidChange(f"weights {weights} for {service_ref} would break {path}: {error}") from error
    write_atomically(path, text)


def _weights_node(document: Node | None, service_ref: str) -> MappingNode | None:
    services = _child(_child(document, "spec"), "services")
    for service in services.value if isinstance(services, SequenceNode) else ():
        name, namespace = _child(service, "name"), _child(service, "namespace")
        if f"{namespace.value if namespace else 'default'}/{name.value if name else ''}" == service_ref:
            weights = _child(service, "weights")
            return weights if isinstance(weights, MappingNode) and weights.value else None
    return None


def _child(node: Node | None, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)
