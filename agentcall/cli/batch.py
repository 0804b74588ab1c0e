"""`agentcall batch`: many tasks from a file, their results into a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import (
    AgentOption,
    InstructionsOption,
    MaxRequestsOption,
    ModelOption,
    ToolsOption,
)

BATCH_HELP = """Carry out many tasks, and write a line of JSON for each as it ends.

A task is a line of JSON: a text, or {"prompt": "...", "id": "..."}. Each is a durable run. Killed
or stopped, the same command goes on where it was: nothing is done twice, and nothing is lost.
Without a server it all happens in this process; with a PostgreSQL journal it is left to
`agentcall worker`, and this command waits for the results.

\b
  agentcall batch tasks.jsonl -o results.jsonl -t calculator
  agentcall batch tasks.jsonl -o results.jsonl -a shop.py:agent --concurrency 16 --rate 5/s
  agentcall batch tasks.jsonl -o results.jsonl -a shop.py:agent --db postgresql://me@db/runs

\b
Exit codes: 0 every task has its final answer, 1 some have not, 2 the command is wrong, 3 the
model's server failed ten tasks in a row, 130 Ctrl-C.
"""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What `agentcall batch` is told."""

    tasks_file: Annotated[str, typer.Argument(metavar="TASKS", help="The tasks, a line each.")]
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The results, a line each.")
    ]
    model: ModelOption = None
    tools: ToolsOption = None
    agent: AgentOption = None
    instructions: InstructionsOption = None
    max_requests: MaxRequestsOption = None
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, metavar="N", help="Tasks at the same time.")
    ] = 8
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="N/s", help="Requests to the model at most: 5/s, 100/min."),
    ] = None
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="URL",
            help="The journal. Default: a file beside the results, gone when all is done.",
        ),
    ] = None
    retry: Annotated[
        bool, typer.Option("--retry", help="Try the tasks again that have no final answer.")
    ] = False
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False


def batch(options: BatchOptions) -> None:
    """Carries the tasks out and exits with the code that HELP says."""
    from agentcall.cli.batching import run_batch_file

    code = run_batch_file(options)
    if code:
        raise typer.Exit(code)
