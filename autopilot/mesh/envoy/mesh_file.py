"""The base: `mesh.yaml`, read often and changed in one way only, a service's weights when a rollout is promoted.

A commit cannot be refused any more when it comes to writing: so a file whose weights could not be changed in place is
refused when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from autopilot.mesh.envoy.atomic_files import write_atomically
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.spec.errors import SpecError
from autopilot.spec.input_safety.yaml_limits import MAX_BYTES, Composed
from autopilot.spec.load import load_one
from autopilot.spec.mesh import Mesh

_MARK = "\ufeff"
"""Some editors begin a file with it."""


@dataclass(frozen=True, slots=True)
class _Base:
    """The file's text, the mesh that it describes, and where each service's weights stand in it."""

    text: str
    mesh: Mesh
    weights: dict[str, MappingNode]
    """By the service's `namespace/name`."""


def read_mesh(path: Path) -> Mesh:
    """Reads the base.

    Raises:
        MeshError: there is no such file, or it describes no mesh, or none whose weights can be changed in place.
    """
    return _base(path).mesh


def set_weights(path: Path, service_ref: str, weights: dict[str, float]) -> None:
    """Changes the weights of one service in the file, number by number: not a byte elsewhere changes.

    Raises:
        InvalidChange: no such service, or the result would be no valid mesh. Nothing was written.
        MeshError: as `read_mesh`, or the disk refused. Nothing was written.
    """
    base = _base(path)
    service = base.mesh.spec.service(service_ref)
    if service is None:
        raise InvalidChange(f"{path} has no service {service_ref} with its own weights; write them there")
    wanted = {arm: f"{weight:.10g}" for arm, weight in weights.items()}
    text = _edited(base.text, base.weights[service_ref], service.weights, wanted)
    if text == base.text:
        return
    try:
        after = _parsed(text.removeprefix(_MARK), str(path)).mesh
    except SpecError as error:
        raise InvalidChange(f"weights {weights} for {service_ref} would make {path} invalid: {error}") from error
    expected = {arm: float(new) for arm, new in wanted.items()}
    kept = {arm: expected.get(arm, 0.0) for arm in (*service.weights, *(arm for arm in expected if expected[arm]))}
    if after != base.mesh.with_service(service_ref, weights=kept):
        raise InvalidChange(
            f"weights {weights} for {service_ref} would also change other values in {path}; write the "
            "weights without anchors and aliases"
        )
    write_atomically(path, text)


def _edited(text: str, node: MappingNode, before: dict[str, float], wanted: dict[str, str]) -> str:
    """The text with other numbers; an arm that is not wanted gets none of the traffic."""
    mark = len(_MARK) if text.startswith(_MARK) else 0
    edits: list[tuple[int, int, str]] = []
    for key, value in node.value:
        new = wanted.get(key.value, "0")
        if before[key.value] != float(new):
            edits.append((value.start_mark.index, value.end_mark.index, new))
    added = {arm: new for arm, new in wanted.items() if arm not in before and float(new)}
    if added:
        _, last = node.value[-1]
        line_end = "\r\n" if "\r\n" in text else "\n"
        between = ", " if node.flow_style else line_end + " " * node.start_mark.column
        edits.append((last.end_mark.index,) * 2 + ("".join(f"{between}{arm}: {new}" for arm, new in added.items()),))
    for start, end, new in sorted(edits, reverse=True):
        text = text[: mark + start] + new + text[mark + end :]
    return text


def _base(path: Path) -> _Base:
    """The file as it is now.

    Raises:
        MeshError: as `read_mesh`.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        text = raw.decode("utf-8")  # with the line ends that it has
    except FileNotFoundError:
        raise MeshError(f"mesh file {path} does not exist; describe your mesh there (see examples/mesh.yaml)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError(f"{path} cannot be read: {error}") from error
    if len(raw) > MAX_BYTES:  # what was cut off would be lost when weights are written
        raise MeshError(f"{path} is larger than {MAX_BYTES >> 20} MiB; describe several meshes instead")
    try:
        return replace(_parsed(text.removeprefix(_MARK), str(path)), text=text)
    except SpecError as error:
        raise MeshError(f"{path} is not a valid mesh file:\n{error}") from error


def _parsed(text: str, file: str) -> _Base:
    """The mesh, once it is known that every service's weights can be changed in place.

    Raises:
        SpecError: it is no mesh, or they cannot.
    """
    mesh, source = load_one(Mesh, text, file)
    services = _child(_child(source.node, "spec"), "services")
    nodes = services.value if isinstance(services, SequenceNode) else []
    weights: dict[str, MappingNode] = {}
    problems = []
    for index, service in enumerate(mesh.spec.services):
        node = _child(nodes[index], "weights") if index < len(nodes) else None
        if isinstance(node, MappingNode) and source.composed is not None and _plain(node, source.composed):
            weights[service.ref] = node
            continue
        hint = "write plain numbers, without anchors, aliases and `<<`: a promoted rollout changes them in this file"
        problems.append(source.problem(("spec", "services", index, "weights"), "is not written out", hint=hint))
    if problems:
        raise SpecError(problems)
    return _Base(text, mesh, weights)


def _plain(node: MappingNode, composed: Composed) -> bool:
    """Whether what the node says stands there and nowhere else, each number on one line."""
    values = [value for _, value in node.value]
    return (
        bool(values)
        and not any(composed.is_aliased(each) for each in (node, *values))
        and all(
            isinstance(value, ScalarNode) and value.style in {None, "", "'", '"'} and _on_one_line(value)
            for value in values
        )
    )


def _on_one_line(node: Node) -> bool:
    return bool(node.start_mark.line == node.end_mark.line)


def _child(node: Node | None, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)
