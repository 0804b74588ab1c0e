"""A batch: many tasks, each a durable run; here, or left to workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from agentcall.durable.ledger import Ledger
from agentcall.durable.runs import Durable
from agentcall.durable.tasks import Task, error_line, result_line
from agentcall.errors import AgentCallError, JournalError
from agentcall.messages import JSON

Line = dict[str, JSON]

MANY = 10
POLL = 0.5
"""Seconds between two looks at what the workers have done."""


async def carried_out(
    durable: Durable[Any, Any], tasks: Sequence[Task], concurrency: int
) -> AsyncIterator[Line]:
    """The result lines of tasks that run here, so many at a time, as they end.

    What goes wrong with a task is in its line. Raises JournalError; and where `MANY` tasks failed
    in a row, what the last one raised: so the others may go better later.
    """
    left = iter(tasks)
    ended: asyncio.Queue[_Ended] = asyncio.Queue()

    async def slot() -> None:
        for task in left:
            await ended.put(await _ended(durable, task))

    slots = [asyncio.ensure_future(slot()) for _ in range(concurrency)]
    in_a_row = 0
    try:
        for _ in tasks:
            line, error = await ended.get()
            in_a_row = in_a_row + 1 if error is not None else 0
            if line is not None:
                yield line
            if error is not None and (line is None or in_a_row == MANY):
                raise error
    finally:
        for one in slots:
            one.cancel()
        await asyncio.gather(*slots, return_exceptions=True)


class _Ended(NamedTuple):
    """What came of a task; without a line where the journal failed."""

    line: Line | None
    error: AgentCallError | None = None


async def _ended(durable: Durable[Any, Any], task: Task) -> _Ended:
    if task.fault:
        return _Ended(error_line(task, "BadTask", task.fault))
    try:
        result = await durable.run(task.prompt, run_id=task.run_id, messages=task.messages)
    except JournalError as error:
        return _Ended(None, error)
    except AgentCallError as error:
        return _Ended(error_line(task, type(error).__name__, str(error)), error)
    return _Ended(result_line(task, result))


async def left_to_workers(durable: Durable[Any, Any], tasks: Sequence[Task]) -> AsyncIterator[Line]:
    """The result lines of tasks that workers run, as they end; those that failed are tried again.

    Raises JournalError.
    """
    waiting = {task.run_id: task for task in tasks}
    for task in tasks:
        if task.fault:
            del waiting[task.run_id]
            yield error_line(task, "BadTask", task.fault)
        else:
            await durable.enqueue(task.prompt, run_id=task.run_id, messages=task.messages)
    queue = durable.agent.name
    failed = await durable.ask(lambda journal: journal.ended(queue, "failed"))
    for run_id in waiting.keys() & set(failed):
        await durable.reopen(run_id)
    while waiting:
        heads = await durable.ask(lambda journal: journal.ended(queue))
        for run_id in heads:
            task_ended = waiting.pop(run_id, None)
            if task_ended is not None:
                yield await _ended_line(durable, task_ended)
        if waiting:
            await asyncio.sleep(POLL)


async def _ended_line(durable: Durable[Any, Any], task: Task) -> Line:
    records = await durable.ask(lambda journal: journal.records(task.run_id))
    ledger = Ledger(task.run_id, records)
    if ledger.result is not None:
        return result_line(task, ledger.result)
    kind, message = ledger.error or ("Unknown", "")
    return error_line(task, kind, message)
