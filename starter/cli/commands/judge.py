"""`autopilot judge replay`: any verdict can be recomputed by anyone, offline."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import OutputOption
from starter.client.errors import CommandError
from starter.views.output import emit, note, show, table
from starter.views.output_format import Output

if TYPE_CHECKING:
    from autopilot.reports.canary import CanaryReport


class Action(StrEnum):
    """What the judge is asked for."""

    REPLAY = "replay"


async def judge(
    action: Annotated[Action, typer.Argument(help="replay: judge the recorded ticks again.")],  # noqa: ARG001
    source: Annotated[str, typer.Argument(metavar="ID|FILE", help="A finished rollout, or a report in JSON.")],
    output: OutputOption = Output.TABLE,
) -> int:
    """Recompute every verdict of a finished rollout from the ticks in its report.

    Exit code 0 when all of them follow from the ticks, 1 when one does not.
    """
    from starter.client.replay import complete, rejudge  # noqa: PLC0415

    report = await _report(source)
    judged = rejudge(report)
    agreed = all(one.agrees for one in judged)
    if output.machine:
        rows = [
            {
                "step": one.step,
                "weight": one.weight,
                "ticks": one.ticks,
                "agrees": one.agrees,
                "recorded": one.recorded,
                "recomputed": one.recomputed,
            }
            for one in judged
        ]
        emit({"agrees": agreed, "complete": complete(report), "watches": rows}, output)
        return 0 if agreed else 1
    rows_shown = [
        [
            str(one.step),
            f"{one.weight:g} %",
            str(one.ticks),
            one.recorded.kind,
            "not from the judge" if one.from_elsewhere else one.recomputed.kind if one.recomputed else "nothing",
            "yes" if one.agrees else "NO",
            one.recorded.reason,
        ]
        for one in judged
    ]
    show(table(["step", "weight", "ticks", "recorded", "recomputed", "agrees", "reason"], rows_shown))
    if not complete(report):
        note("some samples were too many to keep: verdicts after them cannot be recomputed")
    note(f"{'every verdict follows' if agreed else 'not every verdict follows'} from the recorded ticks")
    return 0 if agreed else 1


async def _report(source: str) -> CanaryReport:
    from pydantic import ValidationError  # noqa: PLC0415

    from autopilot.reports.canary import CanaryReport  # noqa: PLC0415

    text = _read(Path(source))
    if text is not None:
        try:
            return CanaryReport.model_validate_json(text)
        except ValidationError as error:
            raise CommandError(
                f"{source} is not a rollout report", hint="`autopilot get ID -o json` writes one"
            ) from error
    from starter.client import operations  # noqa: PLC0415

    client = await operations.connect()
    found = await operations.report(client, await operations.resolve(client, source))
    if not isinstance(found, CanaryReport):
        raise CommandError(
            f"{source} is an experiment: its report holds every probe result, and no statistical test to recompute",
            hint=f"see `autopilot report {source}`",
        )
    return found


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
