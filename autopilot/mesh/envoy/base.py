"""The base: `mesh.yaml`, read often and changed in one way only, a service's weights when a rollout is promoted."""

from __future__ import annotations

import io
import re
from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

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
    """Changes the weights of one service in the file and nothing else: comments and order stay.

    Raises:
        InvalidChange: no such service, or the result would be no valid mesh. Nothing was written.
    """
    text = path.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    dash = _dash_offset(text)
    yaml.indent(mapping=2, sequence=2 + dash, offset=dash)
    document = yaml.load(text)
    for service in document["spec"]["services"]:
        if f"{service.get('namespace', 'default')}/{service['name']}" == service_ref:
            break
    else:
        raise InvalidChange(f"{path} has no service {service_ref}")
    plain = {arm: int(weight) if float(weight).is_integer() else weight for arm, weight in weights.items() if weight}
    current = service["weights"]
    if dict(current) == plain:
        return
    if isinstance(current, CommentedMap):
        for arm in [arm for arm in current if arm not in plain]:
            del current[arm]
        current.update(plain)
    else:
        service["weights"] = plain
    try:
        Mesh.model_validate(document)
    except ValidationError as error:
        raise InvalidChange(f"weights {plain} for {service_ref} would break {path}: {error}") from error
    stream = io.StringIO()
    yaml.dump(document, stream)
    write_atomically(path, stream.getvalue())


def _dash_offset(text: str) -> int:
    """How far the file's author indents the dashes of a list below its key, so that writing back keeps the style."""
    found = re.search(r"^( *)services:[^\n]*\n(?: *(?:#[^\n]*)?\n)*( *)- ", text, re.MULTILINE)
    return max(0, len(found[2]) - len(found[1])) if found else 2
