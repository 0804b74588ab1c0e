"""A worker's life at the command line: one plain line for each run that it ended."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from agentcall.cli.faults import tell, warn
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.keeping import journal_url
from agentcall.cli.loading import agent_from
from agentcall.cli.worker import WorkerOptions
from agentcall.durable import durable
from agentcall.durable.worker import Done, Worker
from agentcall.errors import AgentCallError
from agentcall.plaintext import line_of

_LONG = 200


def work(options: WorkerOptions) -> None:
    """Works until it is stopped, or the queue is empty. Raises KeyboardInterrupt for SIGTERM."""
    agent = agent_from(options.agent)
    signal.signal(signal.SIGTERM, _interrupt)
    with durable(agent, journal_url(options.db), lease=options.lease) as runs:
        if not options.quiet:
            _write(f"worker {os.getpid()} takes the runs of the agent {agent.name!r}")
        worker = Worker(runs, _quiet if options.quiet else _told, concurrency=options.concurrency)
        with InterruptibleLoop() as loop:
            loop.run(worker.work(until_empty=options.until_empty))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _told(done: Done) -> None:
    if done.result is None:
        _quiet(done)
        return
    _write(f"{done.run_id}: {done.result.stop_reason}: {line_of(str(done.result), _LONG)}")
    for note in done.result.notes:
        warn(f"{done.run_id}: {note}")


def _quiet(done: Done) -> None:
    if done.error is not None:
        tell(AgentCallError(f"{done.run_id}: {done.error}" if done.run_id else str(done.error)))


def _write(line: str) -> None:
    sys.stderr.write(line_of(line) + "\n")
    sys.stderr.flush()
