"""`agentcall runs`: the durable runs of a journal, listed, shown, gone on with, cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.deciding import CommonResumeOptions
from agentcall.cli.flags import DatabaseOption
from agentcall.cli.options import make_command

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, resume and cancel durable runs.",
)

RunIdArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@dataclass(frozen=True, slots=True)
class RunListOptions:
    """What `agentcall runs list` is told."""

    db: DatabaseOption = None
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False


@dataclass(frozen=True, slots=True)
class RunShowOptions:
    """What `agentcall runs show` is told."""

    run_id: RunIdArgument
    db: DatabaseOption = None
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumeOptions(CommonResumeOptions):
    """What `agentcall runs resume` is told."""

    run_id: RunIdArgument
    db: DatabaseOption = None


@dataclass(frozen=True, slots=True)
class RunCancelOptions:
    """What `agentcall runs cancel` is told."""

    run_id: RunIdArgument
    db: DatabaseOption = None


def _list_runs_command(options: RunListOptions) -> None:
    from agentcall.cli.runlist import print_runs

    print_runs(options)


def _show_run_command(options: RunShowOptions) -> None:
    from agentcall.cli.runlist import print_run

    print_run(options)


def _resume_run_command(options: RunResumeOptions) -> None:
    from agentcall.cli.resuming import resume_durable_run

    code = resume_durable_run(options)
    if code:
        raise typer.Exit(code)


def _cancel_run_command(options: RunCancelOptions) -> None:
    from agentcall.cli.runlist import cancel_and_print

    cancel_and_print(options)


app.command("list", help="List the runs, the youngest first.")(
    make_command(RunListOptions, _list_runs_command)
)
app.command("show", help="Show what a run did, record by record.")(
    make_command(RunShowOptions, _show_run_command)
)
app.command(
    "resume",
    help="Go on with a run that was cut off or waits for approval, as it was begun; "
    "print the answer of one that ended. Without a decision it asks at the terminal."
    "\n\nExit codes as those of `agentcall run`.",
)(make_command(RunResumeOptions, _resume_run_command))
app.command("cancel", help="Cancel a run, also one that another process runs.")(
    make_command(RunCancelOptions, _cancel_run_command)
)
