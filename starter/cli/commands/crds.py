"""`autopilot crds`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import typer

from starter.client.errors import CommandError
from starter.views.output import note

Kind = Annotated[str | None, typer.Argument(metavar="[KIND]", help="Only this kind, for example MeshCanary.")]
Directory = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Write one file per kind to this folder.")
]


def crds(kind: Kind = None, output: Directory = None) -> int:
    """Print the CustomResourceDefinitions of our kinds, for `kubectl apply -f -`."""
    texts = {definition["metadata"]["name"]: to_yaml(definition) for definition in _definitions(kind)}
    if output is None:
        print("---\n".join(texts.values()), end="")
        return 0
    for name, text in texts.items():
        file = output / f"{name}.yaml"
        try:
            output.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"{file} cannot be written: {error.strerror or error}",
                hint="give a writable folder to --output, or omit it to print to standard output",
            ) from error
        note(f"wrote {file}")
    return 0


def to_yaml(definition: dict[str, Any]) -> str:
    """One definition as YAML, the same text every time."""
    from ruamel.yaml import YAML  # noqa: PLC0415

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 120
    writer.representer.ignore_aliases = lambda _: True
    stream = io.StringIO()
    writer.dump(definition, stream)
    return stream.getvalue()


def _definitions(kind: str | None) -> list[dict[str, Any]]:
    from autopilot.spec.crd.emit import crd  # noqa: PLC0415
    from autopilot.spec.crd.resources import resources  # noqa: PLC0415
    from autopilot.spec.load import models  # noqa: PLC0415
    from autopilot.spec.validation_messages import nearest  # noqa: PLC0415
    from autopilot.spec.values.units import shown  # noqa: PLC0415

    served = resources()
    known = [resource.kind for resource in served]
    if kind is None or kind in known:
        return [crd(resource) for resource in served if kind in {None, resource.kind}]
    if kind in models():
        raise CommandError(
            f"{kind} is not a Kubernetes resource: it describes a mesh in a local file",
            hint=f"resources: {', '.join(known)}",
        )
    raise CommandError(f"there is no kind {shown(kind)}", hint=nearest(kind, known))
