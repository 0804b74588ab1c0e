"""A batch: many tasks, each a durable run; here, or left to workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from agentcall.durable.ledger import DurableRunState
from agentcall.durable.runs import DurableAgent
from agentcall.durable.tasks import BatchTask, build_error_line, build_result_line
from agentcall.errors import AgentCallError, JournalError
from agentcall.messages import JSON

ResultLine = dict[str, JSON]

MAX_FAILURES = 10
POLL_SECONDS = 0.5
"""Seconds between two looks at what the workers have done."""


async def run_tasks(
    durable: DurableAgent[Any, Any], tasks: Sequence[BatchTask], concurrency: int
) -> AsyncIterator[ResultLine]:
    """The result lines of tasks that run here, so many at a time, as they end.

    What goes wrong with a task is in its line. Raises JournalError; and where `MANY` tasks failed
    in a row, what the last one raised: so the others may go better later.
    """
    remaining = iter(tasks)
    outcomes: asyncio.Queue[_TaskOutcome] = asyncio.Queue()

    async def slot() -> None:
        for task in remaining:
            await outcomes.put(await _run_task(durable, task))

    slots = [asyncio.ensure_future(slot()) for _ in range(concurrency)]
    failures = 0
    try:
        for _ in tasks:
            line, error = await outcomes.get()
            failures = failures + 1 if error is not None else 0
            if line is not None:
                yield line
            if error is not None and (line is None or failures == MAX_FAILURES):
                raise error
    finally:
        for one in slots:
            one.cancel()
        await asyncio.gather(*slots, return_exceptions=True)


class _TaskOutcome(NamedTuple):
    """What came of a task; without a line where the journal failed."""

    line: ResultLine | None
    error: AgentCallError | None = None


async def _run_task(durable: DurableAgent[Any, Any], task: BatchTask) -> _TaskOutcome:
    if task.error:
        return _TaskOutcome(build_error_line(task, "BadTask", task.error))
    try:
        result = await durable.run(task.prompt, run_id=task.run_id, messages=task.messages)
    except JournalError as error:
        return _TaskOutcome(None, error)
    except AgentCallError as error:
        return _TaskOutcome(build_error_line(task, type(error).__name__, str(error)), error)
    return _TaskOutcome(build_result_line(task, result))


async def run_on_workers(
    durable: DurableAgent[Any, Any], tasks: Sequence[BatchTask]
) -> AsyncIterator[ResultLine]:
    """The result lines of tasks that workers run, as they end; those that failed are tried again.

    Raises JournalError.
    """
    waiting = {task.run_id: task for task in tasks}
    for task in tasks:
        if task.error:
            del waiting[task.run_id]
            yield build_error_line(task, "BadTask", task.error)
        else:
            await durable.enqueue(task.prompt, run_id=task.run_id, messages=task.messages)
    queue = durable.agent.name
    failed = await durable.query_journal(lambda journal: journal.list_ended(queue, "failed"))
    for run_id in waiting.keys() & set(failed):
        await durable.reopen(run_id)
    while waiting:
        heads = await durable.query_journal(lambda journal: journal.list_ended(queue))
        for run_id in heads:
            task_ended = waiting.pop(run_id, None)
            if task_ended is not None:
                yield await _read_result_line(durable, task_ended)
        if waiting:
            await asyncio.sleep(POLL_SECONDS)


async def _read_result_line(durable: DurableAgent[Any, Any], task: BatchTask) -> ResultLine:
    records = await durable.query_journal(lambda journal: journal.read_records(task.run_id))
    state = DurableRunState(task.run_id, records)
    if state.result is not None:
        return build_result_line(task, state.result)
    kind, message = state.error or ("Unknown", "")
    return build_error_line(task, kind, message)
