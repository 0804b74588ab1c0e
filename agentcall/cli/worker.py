"""`agentcall worker`: takes durable runs from a queue, on as many machines as you like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import DatabaseOption

WORKER_HELP = """Take the runs that were left to an agent's workers, and bring them to their end.

Start as many workers on as many machines as you like, each with the same agent and journal. A run
whose worker dies is taken over by another one when its lease has run out.

\b
  agentcall worker -a shop:agent --db postgresql://me@db/runs

\b
Exit codes: 0 with --until-empty, 2 the command is wrong, 130 Ctrl-C or SIGTERM.
"""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What `agentcall worker` is told."""

    agent: Annotated[
        str,
        typer.Option(
            "-a", "--agent", metavar="PLACE", help="The Agent: module:name or file.py:name."
        ),
    ]
    db: DatabaseOption = None
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, metavar="N", help="Runs at the same time.")
    ] = 4
    lease: Annotated[
        float,
        typer.Option(
            "--lease", min=1, metavar="S", help="Seconds of silence after which it counts as dead."
        ),
    ] = 30.0
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End when no run of the queue is left open.")
    ] = False
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False


def start_worker(options: WorkerOptions) -> None:
    """Works until it is stopped."""
    from agentcall.cli.working import run_worker

    run_worker(options)
