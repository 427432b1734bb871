"""A command line whose commands are only imported when they are used, so that `--help` answers at once.

The group knows of each command its name, a line of help and where its function is; the function's signature (typer's
options and arguments) is read when the command runs or is asked for its own help.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Entry:
    """One command."""

    name: str
    help: str
    source: str
    """`module:function`; the function may be async. Or `module:ENTRIES`: a group, whose commands these are."""
    section: str


class LazyGroup(TyperGroup):
    """The root of the command line, or a group in it; its commands stand in `entries`."""

    entries: Sequence[Entry] = ()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        """Names in their order."""
        return [entry.name for entry in self.entries]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """Imports the command; None where there is none of that name."""
        entry = next((entry for entry in self.entries if entry.name == cmd_name), None)
        return build(entry) if entry else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuses an unknown command, naming the nearest."""
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            near = get_close_matches(args[0], names, n=1)
            ctx.fail(f"there is no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """The commands by section, without importing one of them."""
        for section in dict.fromkeys(entry.section for entry in self.entries):
            with formatter.section(section):
                formatter.write_dl([(entry.name, entry.help) for entry in self.entries if entry.section == section])


def build(entry: Entry) -> Any:
    """Imports what the entry names, and makes typer's command or group of it."""
    module, _, name = entry.source.partition(":")
    function = getattr(import_module(module), name)
    if not callable(function):
        return _group(entry, function)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(entry.name, context_settings={"help_option_names": ["-h", "--help"]})(_synchronous(function))
    return typer.main.get_command(app)


def _group(entry: Entry, entries: Sequence[Entry]) -> Any:
    """A group whose commands are only imported when they are used, too."""
    app = typer.Typer(
        name=entry.name,
        cls=type("Group", (LazyGroup,), {"entries": entries}),
        add_completion=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=entry.help)(lambda: None)
    return typer.main.get_command(app)


def _synchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    if not inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return run
