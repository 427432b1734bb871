"""The plan of an operation whose kind draws none of its own: its target, and what stands against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.model import Target
from starter.views.plan_parts import outlook

if TYPE_CHECKING:
    from autopilot.mesh.port import Mesh
    from starter.client.manifests import Manifest


async def plan(mesh: Mesh, manifest: Manifest, problems: list[str]) -> dict[str, Any]:
    """The plan for programs; writes nothing."""
    meta, spec = manifest.document.metadata, manifest.document.spec
    target = Target(mesh=mesh.name, namespace=meta.namespace, service=spec.target.service)
    holders: tuple[str, ...] = ()
    try:
        holders = (await mesh.observe(target)).holders
    except InvalidChange as error:
        if not problems:  # otherwise the check has named it
            problems.append(f"{manifest.file}: {manifest.ref}: {error}")
    return {
        "workflow_id": f"{manifest.kind.name}/{mesh.name}/{meta.namespace}/{meta.name}",
        "kind": manifest.kind.document,
        "file": manifest.file,
        "target": str(target),
        "holders": holders,
        "problems": problems,
    }


def picture(value: dict[str, Any]) -> Group:
    """The same for people."""
    first = Text.assemble((value["workflow_id"], "bold"), f"  {value['kind']} on {value['target']}")
    return Group(first, *outlook(None, value["holders"], value["problems"]), Text(""))
