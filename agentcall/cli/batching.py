"""A batch at the command line: its files, its journal, its progress."""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from agentcall.agent import Agent
from agentcall.cli.batch import BatchOptions
from agentcall.cli.faults import UNFINISHED
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.making import build_agent
from agentcall.cli.plain import is_terminal
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

_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|min|h))?")
_UNIT_SECONDS = {None: 1, "s": 1, "min": 60, "h": 3600}


def run_batch_file(options: BatchOptions) -> int:
    """Carries a batch out, or goes on with it; gives the exit code. Raises UsageError."""
    output = Path(options.output).absolute()
    own = output.with_name(f"{output.name}.runs.db")
    url = options.db or f"sqlite:///{own}"
    is_shared = not url.startswith("sqlite:")
    tasks = parse_tasks(
        _read_tasks(options.tasks_file), _make_run_id_prefix(output) if is_shared else ""
    )
    agent = _limit_rate(build_agent(options), options.rate)
    with BatchResults(output) as results:
        if options.retry:
            results.remove(str(line["run_id"]) for line in results.lines if not _is_final(line))
        done = results.finished_ids
        left = [task for task in tasks if task.run_id not in done]
        with DurableAgent(agent, url) as durable, _report_interruption():
            if is_shared:
                lines = run_on_workers(durable, left)
            else:
                lines = run_tasks(durable, left, options.concurrency)
            with _open_progress(tasks, left, options) as progress:
                _write_results(lines, results, progress)
        code = _summarize(tasks, results, options)
    if code == 0 and options.db is None:
        for path in own.parent.glob(f"{own.name}*"):
            path.unlink()
    return code


def _read_tasks(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"the tasks {name} cannot be read: {error.strerror}") from error


def _make_run_id_prefix(output: Path) -> str:
    """A name for the batch, the same when the command is given again."""
    return f"{compute_digest(socket.gethostname(), str(output))[:8]}-"


def _limit_rate(agent: Agent[Any, Any], rate: str | None) -> Agent[Any, Any]:
    if rate is None:
        return agent
    found = _RATE.fullmatch(rate.replace(" ", ""))
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--rate {rate}: use a number above 0 and /s, /min or /h, such as 5/s")
    return replace(
        agent, model=RateLimitedModel(agent.spec.model, float(found[1]) / _UNIT_SECONDS[found[2]])
    )


def _is_final(line: ResultLine) -> bool:
    return line["stop_reason"] == "final"


class _TaskProgress(Protocol):
    def advance(self, line: ResultLine) -> None: ...


def _write_results(
    lines: AsyncIterator[ResultLine], results: BatchResults, progress: _TaskProgress
) -> None:
    """Writes the lines as they come. Raises KeyboardInterrupt at Ctrl-C."""

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
        sys.stderr.write("stopped; the same command goes on\n")
        raise
    except (ModelError, UsageError):
        sys.stderr.write(
            f"stopped: {MAX_FAILURES} tasks failed in a row; --retry goes on with them, too\n"
        )
        raise


class _SilentProgress:
    def advance(self, line: ResultLine) -> None:
        """Shows nothing."""


class _LineProgress:
    """A plain line now and then, for logs."""

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
    tasks: Sequence[BatchTask], left: Sequence[BatchTask], options: BatchOptions
) -> Generator[_TaskProgress, None, None]:
    """A bar on a terminal, else plain lines."""
    done = len(tasks) - len(left)
    if options.quiet or not left:
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
    """Says how many tasks have their answer; gives the exit code."""
    ours = {task.run_id for task in tasks}
    lines = [line for line in results.lines if line["run_id"] in ours]
    ends = Counter(str(line["stop_reason"]) for line in lines)
    if not options.quiet:
        counts = ", ".join(f"{count} {end}" for end, count in ends.most_common())
        sys.stderr.write(f"{len(lines)} of {len(tasks)} tasks in {options.output}: {counts}\n")
    if ends["final"] == len(tasks):
        return 0
    if not options.quiet:
        sys.stderr.write("--retry tries those without a final answer again\n")
    return UNFINISHED
