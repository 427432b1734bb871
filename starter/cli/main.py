"""The `autopilot` command: which commands there are, and what every one of them does when something goes wrong."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from starter.cli.errors import explain
from starter.cli.lazy_commands import Entry, LazyGroup
from starter.client.errors import ERROR

ROLLOUTS = "Rollouts and experiments"
COMMANDS = "Commands to a running operation"
PROCESSES = "Processes"
MACHINE = "This machine"

ENTRIES = (
    Entry("apply", "Start what a file describes.", "starter.cli.commands.apply:apply", ROLLOUTS),
    Entry("plan", "Show what a file would do; writes nothing.", "starter.cli.commands.plan:plan", ROLLOUTS),
    Entry("list", "List operations.", "starter.cli.commands.observe:list_", ROLLOUTS),
    Entry("get", "Show one operation as it stands, or as it ended.", "starter.cli.commands.observe:get", ROLLOUTS),
    Entry("watch", "Follow one operation live.", "starter.cli.commands.observe:watch", ROLLOUTS),
    Entry("status", "Give an operation's outcome as an exit code.", "starter.cli.commands.observe:status", ROLLOUTS),
    Entry("report", "Print the full report of a finished operation.", "starter.cli.commands.report:report", ROLLOUTS),
    Entry(
        "schedule",
        "Recurring operations: create, list, pause, run now.",
        "starter.cli.commands.schedule:ENTRIES",
        ROLLOUTS,
    ),
    Entry("judge", "Recompute the verdicts of a finished rollout.", "starter.cli.commands.judge:judge", ROLLOUTS),
    Entry(
        "pause", "Hold at the current step; harm still rolls back.", "starter.cli.commands.operations:pause", COMMANDS
    ),
    Entry("resume", "Continue after a pause.", "starter.cli.commands.operations:resume", COMMANDS),
    Entry("abort", "Restore the mesh and end the operation.", "starter.cli.commands.operations:abort", COMMANDS),
    Entry(
        "approve", "Approve the gate that an operation waits at.", "starter.cli.commands.operations:approve", COMMANDS
    ),
    Entry(
        "promote",
        "Continue past a pause, or skip the remaining steps.",
        "starter.cli.commands.operations:promote",
        COMMANDS,
    ),
    Entry(
        "prepare", "Write the proxies' configuration of a mesh file.", "starter.cli.commands.meshes:prepare", MACHINE
    ),
    Entry(
        "halt", "Stop everything: no starts, experiments are restored.", "starter.cli.commands.orders:halt", COMMANDS
    ),
    Entry("unhalt", "Release the halt.", "starter.cli.commands.orders:unhalt", COMMANDS),
    Entry(
        "capabilities",
        "What this mesh supports, and who restores it.",
        "starter.cli.commands.meshes:capabilities",
        MACHINE,
    ),
    Entry("leases", "Show leases; take a target back by hand.", "starter.cli.commands.leases:leases", MACHINE),
    Entry("audit", "Every change of a mesh, and who made it.", "starter.cli.commands.audit:audit", MACHINE),
    Entry("doctor", "Check what this machine lacks, and how to get it.", "starter.cli.commands.doctor:doctor", MACHINE),
    Entry("crds", "CustomResourceDefinitions for a Kubernetes cluster.", "starter.cli.commands.crds:crds", MACHINE),
    Entry("version", "Versions of this program and its parts.", "starter.cli.commands.version:version", MACHINE),
    Entry("up", "Start the embedded mesh, Temporal, worker and guard.", "starter.cli.commands.local:up", PROCESSES),
    Entry("down", "Stop them.", "starter.cli.commands.local:down", PROCESSES),
    Entry("demo", "Show good and bad versions under real traffic.", "starter.cli.commands.local:demo", PROCESSES),
    Entry(
        "worker",
        "Run the Temporal worker that executes operations.",
        "starter.cli.commands.processes:worker",
        PROCESSES,
    ),
    Entry("guard", "Restore expired leases; needs no Temporal.", "starter.cli.commands.processes:guard", PROCESSES),
)


class Autopilot(LazyGroup):
    """The root command."""

    entries = ENTRIES


app = typer.Typer(
    cls=Autopilot,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes of status, watch and apply --wait: 0 promoted or passed, 1 error, 2 rolled back or refuted, "
        "3 undecided or void, 4 aborted. "
        "Every other command: 0 done, 1 error."
    ),
)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an unexpected error.")] = False,
) -> None:
    """Canary rollouts and chaos experiments over service meshes; the base configuration is always restored.

    Temporal's address, TLS and API key come from Temporal's own variables and profiles (TEMPORAL_ADDRESS, …); ours are
    AUTOPILOT_MESH, AUTOPILOT_HOME, AUTOPILOT_PROMETHEUS and AUTOPILOT_CODEC.
    """
    del debug  # read by `run`


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line, and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(words, prog_name="autopilot", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        return ERROR
    except BrokenPipeError:
        sys.stderr.close()  # `autopilot list | head`: nobody reads on
        return ERROR
    except Exception as error:  # noqa: BLE001 - the one place that turns errors into messages
        failure = explain(error)
        if "--debug" in words:
            traceback.print_exception(error)
        print(failure, file=sys.stderr)
        return failure.code
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException) -> int:
    """Shows a wrong command line; its code is 1, for 2 says that a rollout was rolled back."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return ERROR
    print(f"error: {error.format_message()}", file=sys.stderr)
    if context is not None:
        print(f" hint: see `{context.command_path} --help`", file=sys.stderr)
    return ERROR


def main() -> None:
    """The console command."""
    code = run()
    if "temporalio.bridge.runtime" in sys.modules:
        # The SDK's threads may still call into an interpreter that is being torn down, which aborts the process with
        # a core dump after its work is done: leave without tearing down.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
