"""`agentcall worker`: runs the queued runs of an agent, on as many machines as needed."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from types import FrameType
from typing import Annotated

import typer

from agentcall.cli.command import make_app
from agentcall.cli.durable import resolve_journal_url
from agentcall.cli.errors import log_to_stderr, print_error, print_warning
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.load import load_agent
from agentcall.cli.options import DatabaseOption
from agentcall.cli.terminal import write_note
from agentcall.display import to_single_line
from agentcall.durable import durable
from agentcall.durable.worker import DurableWorker, WorkerResult
from agentcall.errors import AgentCallError

WORKER_HELP = """Run the runs that were queued for an agent's workers, each to its end.

Start as many workers on as many machines as you like, each with the same agent and journal. If a
worker dies, another one takes over its runs when the lease has expired.

\b
  agentcall worker -a shop:agent --db postgresql://me@db/runs

\b
Exit codes: 0 with --until-empty, 2 the command is wrong, 130 Ctrl-C or SIGTERM.
"""

_MAX_WIDTH = 200


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of `agentcall worker`."""

    agent: Annotated[
        str,
        typer.Option(
            "-a", "--agent", metavar="AGENT", help="The Agent: module:name or file.py:name."
        ),
    ]
    db: DatabaseOption = None
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", min=1, metavar="N", help="Maximum number of runs at the same time."
        ),
    ] = 4
    lease: Annotated[
        float,
        typer.Option(
            "--lease",
            min=1,
            metavar="S",
            help="Seconds without a sign of life after which another worker takes over.",
        ),
    ] = 30.0
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Exit when the queue has no open run.")
    ] = False
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors.")] = False


def run_worker(options: WorkerOptions) -> None:
    """Work until stopped, or until the queue is empty. Raises KeyboardInterrupt for SIGTERM."""
    agent = load_agent(options.agent)
    signal.signal(signal.SIGTERM, _interrupt)
    log_to_stderr()
    with durable(agent, resolve_journal_url(options.db), lease=options.lease) as runs:
        if not options.quiet:
            write_note(f"worker {os.getpid()} takes the runs of the agent {agent.name!r}")
        worker = DurableWorker(
            runs,
            _print_failure if options.quiet else _print_result,
            concurrency=options.concurrency,
        )
        with InterruptibleLoop() as loop:
            loop.run(worker.run(until_empty=options.until_empty))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def _print_result(report: WorkerResult) -> None:
    if report.result is None:
        _print_failure(report)
        return
    text = to_single_line(str(report.result), _MAX_WIDTH)
    write_note(f"{report.run_id}: {report.result.stop_reason}: {text}")
    for note in report.result.notes:
        print_warning(f"{report.run_id}: {note}")


def _print_failure(report: WorkerResult) -> None:
    if report.error is not None:
        run = f"{report.run_id}: " if report.run_id else ""
        print_error(AgentCallError(f"{run}{report.error}"))


app = make_app(WorkerOptions, run_worker, WORKER_HELP)
