"""`agentcall batch`: runs the tasks of a file and writes their results to another file."""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from agentcall.agent import Agent
from agentcall.cli.command import make_app
from agentcall.cli.errors import UNFINISHED
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.load import build_agent
from agentcall.cli.options import (
    AgentOption,
    InstructionsOption,
    MaxRequestsOption,
    ModelOption,
    ToolsOption,
)
from agentcall.cli.terminal import is_terminal
from agentcall.durable import DurableAgent
from agentcall.durable.batch import (
    MAX_FAILURES,
    BatchResults,
    BatchTask,
    ResultLine,
    parse_tasks,
    run_on_workers,
    run_tasks,
)
from agentcall.durable.journal import compute_digest
from agentcall.errors import ModelError, UsageError
from agentcall.models.fallback import RateLimitedModel

BATCH_HELP = """Run many tasks from a file, and write a line of JSON for each as it ends.

A task is a line of JSON: a text, or {"prompt": "...", "id": "..."}. Each is a durable run. If it is
killed or stopped, the same command continues: nothing is done twice, and nothing is lost. The tasks
run in this process; with a PostgreSQL journal they are queued for `agentcall worker`, and this
command waits for the results.

\b
  agentcall batch tasks.jsonl -o results.jsonl -t calculator
  agentcall batch tasks.jsonl -o results.jsonl -a shop.py:agent --concurrency 16 --rate 5/s
  agentcall batch tasks.jsonl -o results.jsonl -a shop.py:agent --db postgresql://me@db/runs

\b
Exit codes: 0 all tasks have a final answer, 1 some do not, 2 the command is wrong, 3 the model's
server failed ten tasks in a row, 130 Ctrl-C.
"""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Options of `agentcall batch`."""

    tasks_file: Annotated[
        str, typer.Argument(metavar="TASKS", help="The file of tasks; - is standard input.")
    ]
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The file of results.")
    ]
    model: ModelOption = None
    tools: ToolsOption = None
    agent: AgentOption = None
    instructions: InstructionsOption = None
    max_requests: MaxRequestsOption = None
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", min=1, metavar="N", help="Maximum number of tasks at the same time."
        ),
    ] = 8
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", metavar="N/s", help="Maximum rate of requests to the model: 5/s, 100/min."
        ),
    ] = None
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="URL",
            help="The journal. Default: a file beside the results, removed when all is done.",
        ),
    ] = None
    retry: Annotated[
        bool, typer.Option("--retry", help="Run the tasks again that have no final answer.")
    ] = False
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors.")] = False


_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|min|h))?")
_UNIT_SECONDS = {None: 1, "s": 1, "min": 60, "h": 3600}


def run_batch_file(options: BatchOptions) -> int:
    """Start or continue a batch and return the exit code. Raises UsageError."""
    output = Path(options.output).absolute()
    journal_file = output.with_name(f"{output.name}.runs.db")
    url = options.db or f"sqlite:///{journal_file}"
    is_shared = not url.startswith("sqlite:")
    # in a shared journal, the same command has to find its own runs again
    prefix = f"{compute_digest(socket.gethostname(), str(output))[:8]}-" if is_shared else ""
    tasks = parse_tasks(_read_tasks(options.tasks_file), prefix)
    agent = _limit_rate(build_agent(options), options.rate)
    with BatchResults(output) as results:
        if options.retry:
            results.remove(str(line["run_id"]) for line in results.lines if not _is_final(line))
        finished_ids = results.finished_ids
        open_tasks = [task for task in tasks if task.run_id not in finished_ids]
        with DurableAgent(agent, url) as durable, _report_interruption():
            if is_shared:
                lines = run_on_workers(durable, open_tasks)
            else:
                lines = run_tasks(durable, open_tasks, options.concurrency)
            with _open_progress(tasks, open_tasks, options) as progress:
                _write_results(lines, results, progress)
        code = _summarize(tasks, results, options)
    if code == 0 and options.db is None:
        for path in journal_file.parent.glob(f"{journal_file.name}*"):
            path.unlink()
    return code


def _read_tasks(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"the tasks {name} cannot be read: {error.strerror}") from error


def _limit_rate(agent: Agent[Any, Any], rate: str | None) -> Agent[Any, Any]:
    if rate is None:
        return agent
    match = _RATE.fullmatch(rate.replace(" ", ""))
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--rate {rate}: use a number above 0 and /s, /min or /h, such as 5/s")
    per_second = float(match[1]) / _UNIT_SECONDS[match[2]]
    return replace(agent, model=RateLimitedModel(agent.spec.model, per_second))


def _is_final(line: ResultLine) -> bool:
    return line["stop_reason"] == "final"


class _TaskProgress(Protocol):
    def advance(self, line: ResultLine) -> None: ...


def _write_results(
    lines: AsyncIterator[ResultLine], results: BatchResults, progress: _TaskProgress
) -> None:
    """Write the lines as they arrive. Raises KeyboardInterrupt at Ctrl-C."""

    async def write() -> None:
        async for line in lines:
            results.add(line)
            progress.advance(line)

    with InterruptibleLoop() as loop:
        loop.run(write())


@contextmanager
def _report_interruption() -> Generator[None, None, None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command continues\n")
        raise
    except (ModelError, UsageError):
        sys.stderr.write(
            f"stopped: {MAX_FAILURES} tasks failed in a row; --retry also runs them again\n"
        )
        raise


class _SilentProgress:
    def advance(self, line: ResultLine) -> None:
        """Show nothing."""


class _LineProgress:
    """Writes about twenty lines in all, for logs."""

    def __init__(self, done: int, total: int) -> None:
        self._done, self._total, self._failed = done, total, 0

    def advance(self, line: ResultLine) -> None:
        self._done += 1
        self._failed += not _is_final(line)
        if self._done == self._total or self._done % max(self._total // 20, 1) == 0:
            failed = f", {self._failed} without an answer" if self._failed else ""
            sys.stderr.write(f"{self._done} of {self._total}{failed}\n")
            sys.stderr.flush()


@contextmanager
def _open_progress(
    tasks: Sequence[BatchTask], open_tasks: Sequence[BatchTask], options: BatchOptions
) -> Generator[_TaskProgress, None, None]:
    """Yield a bar on a terminal, else plain lines."""
    done = len(tasks) - len(open_tasks)
    if options.quiet or not open_tasks:
        yield _SilentProgress()
    elif is_terminal(sys.stderr):
        with _open_progress_bar(done, len(tasks)) as bar:
            yield bar
    else:
        yield _LineProgress(done, len(tasks))


@contextmanager
def _open_progress_bar(done: int, total: int) -> Generator[_TaskProgress, None, None]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class BarProgress:
        failed = 0

        def advance(self, line: ResultLine) -> None:
            self.failed += not _is_final(line)
            shown = f"{self.failed} without an answer" if self.failed else ""
            progress.update(task, advance=1, failed=shown)

    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("", total=total, completed=done, failed="")
        yield BarProgress()


def _summarize(tasks: Sequence[BatchTask], results: BatchResults, options: BatchOptions) -> int:
    """Print how many tasks have an answer, and return the exit code."""
    run_ids = {task.run_id for task in tasks}
    lines = [line for line in results.lines if line["run_id"] in run_ids]
    reasons = Counter(str(line["stop_reason"]) for line in lines)
    if not options.quiet:
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        sys.stderr.write(f"{len(lines)} of {len(tasks)} tasks in {options.output}: {counts}\n")
    if reasons["final"] == len(tasks):
        return 0
    if not options.quiet:
        sys.stderr.write("--retry runs those without a final answer again\n")
    return UNFINISHED


app = make_app(BatchOptions, run_batch_file, BATCH_HELP)
