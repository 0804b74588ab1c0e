"""A worker's life at the command line: one plain line for each run that it ended."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from agentcall.cli.faults import print_error, print_warning
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.keeping import resolve_journal_url
from agentcall.cli.loading import load_agent
from agentcall.cli.worker import WorkerOptions
from agentcall.display import to_single_line
from agentcall.durable import durable
from agentcall.durable.worker import DurableWorker, WorkerResult
from agentcall.errors import AgentCallError

_MAX_WIDTH = 200


def run_worker(options: WorkerOptions) -> None:
    """Works until it is stopped, or the queue is empty. Raises KeyboardInterrupt for SIGTERM."""
    agent = load_agent(options.agent)
    signal.signal(signal.SIGTERM, _interrupt)
    with durable(agent, resolve_journal_url(options.db), lease=options.lease) as runs:
        if not options.quiet:
            _print_line(f"worker {os.getpid()} takes the runs of the agent {agent.name!r}")
        worker = DurableWorker(
            runs,
            _print_failure if options.quiet else _print_result,
            concurrency=options.concurrency,
        )
        with InterruptibleLoop() as loop:
            loop.run(worker.run(until_empty=options.until_empty))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _print_result(done: WorkerResult) -> None:
    if done.result is None:
        _print_failure(done)
        return
    _print_line(
        f"{done.run_id}: {done.result.stop_reason}: {to_single_line(str(done.result), _MAX_WIDTH)}"
    )
    for note in done.result.notes:
        print_warning(f"{done.run_id}: {note}")


def _print_failure(done: WorkerResult) -> None:
    if done.error is not None:
        print_error(
            AgentCallError(f"{done.run_id}: {done.error}" if done.run_id else str(done.error))
        )


def _print_line(line: str) -> None:
    sys.stderr.write(to_single_line(line) + "\n")
    sys.stderr.flush()
