"""`agentcall batch`: runs the tasks of a file and writes their results to another file."""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from agentcall.agent import Agent
from agentcall.cli.command import make_app
from agentcall.cli.errors import UNFINISHED, print_warning
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.load import build_agent, parse_settings
from agentcall.cli.options import AgentOptions
from agentcall.cli.terminal import is_terminal, write_note
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
from agentcall.errors import ModelError, UsageError
from agentcall.models.fallback import RateLimitedModel
from agentcall.storage.codec import compute_digest

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions(AgentOptions):
    """Options of `agentcall batch`."""

    tasks_file: Annotated[
        str, typer.Argument(metavar="TASKS", help="The file of tasks; - is standard input.")
    ]
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The file of results.")
    ]
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


_MAX_ERRORS = 3
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
                lines = run_on_workers(durable, open_tasks, parse_settings(options))
            else:
                lines = run_tasks(durable, open_tasks, options.concurrency)
            done = len(tasks) - len(open_tasks)
            with (
                _open_progress(len(tasks), done, quiet=options.quiet) as advance,
                InterruptibleLoop() as loop,
            ):
                loop.run(_write_results(lines, results, advance))
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


async def _write_results(
    lines: AsyncIterator[ResultLine], results: BatchResults, advance: Callable[[ResultLine], None]
) -> None:
    async for line in lines:
        results.add(line)
        advance(line)


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


@contextmanager
def _open_progress(
    total: int, done: int, *, quiet: bool
) -> Generator[Callable[[ResultLine], None], None, None]:
    """Yield what shows each result: a bar on a terminal, about twenty lines in all for logs."""
    failed = 0
    if quiet or done == total:
        yield lambda line: None
        return
    if is_terminal(sys.stderr):
        with _open_progress_bar(total, done) as advance_bar:
            yield advance_bar
        return

    def advance(line: ResultLine) -> None:
        nonlocal done, failed
        done += 1
        failed += not _is_final(line)
        if done == total or done % max(total // 20, 1) == 0:
            write_note(f"{done} of {total}" + (f", {failed} without an answer" if failed else ""))

    yield advance


@contextmanager
def _open_progress_bar(
    total: int, done: int
) -> Generator[Callable[[ResultLine], None], None, None]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    failed = 0

    def advance(line: ResultLine) -> None:
        nonlocal failed
        failed += not _is_final(line)
        shown = f"{failed} without an answer" if failed else ""
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
        yield advance


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
        _print_first_errors(lines)
        sys.stderr.write("--retry runs those without a final answer again\n")
    return UNFINISHED


def _print_first_errors(lines: Sequence[ResultLine]) -> None:
    """Print the first errors that differ, each with the task that it belongs to."""
    shown: dict[str, str] = {}
    for line in lines:
        error = line["error"]
        if isinstance(error, Mapping):
            shown.setdefault(str(error["message"]), str(line["id"]))
    for message, task_id in list(shown.items())[:_MAX_ERRORS]:
        print_warning(f"task {task_id}: {message}")


app = make_app(BatchOptions, run_batch_file, BATCH_HELP)
