"""`agentcall runs`: the durable runs of a journal, listed, shown, gone on with, cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.deciding import GoingOn
from agentcall.cli.flags import Db
from agentcall.cli.options import command_of

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, resume and cancel durable runs.",
)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What `agentcall runs list` is told."""

    db: Db = None
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """What `agentcall runs show` is told."""

    run_id: RunId
    db: Db = None
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOptions(GoingOn):
    """What `agentcall runs resume` is told."""

    run_id: RunId
    db: Db = None


@dataclass(frozen=True, slots=True)
class CancelOptions:
    """What `agentcall runs cancel` is told."""

    run_id: RunId
    db: Db = None


def _list(options: ListOptions) -> None:
    from agentcall.cli.runlist import show_list

    show_list(options)


def _show(options: ShowOptions) -> None:
    from agentcall.cli.runlist import show_run

    show_run(options)


def _resume(options: ResumeOptions) -> None:
    from agentcall.cli.resuming import resumed

    code = resumed(options)
    if code:
        raise typer.Exit(code)


def _cancel(options: CancelOptions) -> None:
    from agentcall.cli.runlist import cancel_run

    cancel_run(options)


app.command("list", help="List the runs, the youngest first.")(command_of(ListOptions, _list))
app.command("show", help="Show what a run did, record by record.")(command_of(ShowOptions, _show))
app.command(
    "resume",
    help="Go on with a run that was cut off or waits for approval, as it was begun; "
    "print the answer of one that ended. Without a decision it asks at the terminal."
    "\n\nExit codes as those of `agentcall run`.",
)(command_of(ResumeOptions, _resume))
app.command("cancel", help="Cancel a run, also one that another process runs.")(
    command_of(CancelOptions, _cancel)
)
