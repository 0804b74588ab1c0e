"""Carries out tool calls; every failure becomes a result that the model reads.

Rules:
1. Sync tools run in daemon threads, so that none holds up the loop or the end of the process.
2. A deadline ends the waiting. An async tool is cancelled at it; a sync one cannot be, and the
   result says so.
3. Nothing that a tool raises ends the process or the run, SystemExit and KeyboardInterrupt
   included; a cancelled run cancels its tools.
4. Results are turned into text at once, and come in the order of the calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, TypeAlias, cast

from agentcall.dialects.parts import Called
from agentcall.errors import ModelRetry, ToolTimeout
from agentcall.events import Event, ToolCallFinished, ToolCallStarted
from agentcall.limits import Limits
from agentcall.messages import ToolCall, ToolResult
from agentcall.registry import ToolRegistry
from agentcall.repair import Refused, repair
from agentcall.snapshot import MAX_ITEMS, capped, snapshot
from agentcall.steps import Steps
from agentcall.tool import RunContext, Tool

Emit: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A call that is ready to be carried out: valid, of a real tool, with its context."""

    call: ToolCall
    tool: Tool
    values: dict[str, object]
    context: RunContext[Any]  # Any: the user's own type


async def call_tool(
    registry: ToolRegistry, name: str, arguments: str, *, deps: object = None
) -> str:
    """Carries out one call and gives its result as text, as a model would read it.

    The name and the JSON arguments are repaired and validated as in a run; what cannot be is said
    in the text. Nothing is raised.
    """
    asked = repair(Called(name, arguments), registry.by_name)
    if isinstance(asked, Refused):
        return asked.words
    call = ToolCall("call_1", asked.tool.name, asked.arguments)
    context = RunContext(deps=deps, tool_call_id=call.id, tool_name=call.name)
    result = await carry_out(Job(call, asked.tool, asked.values, context), Limits().result_chars)
    return result.text


async def carry_out_all(
    jobs: Sequence[Job], limits: Limits, steps: Steps, emit: Emit | None = None
) -> list[ToolResult]:
    """The results of the jobs, in their order; several at a time, sequential tools alone."""
    gate = asyncio.Semaphore(limits.parallel)

    async def one(job: Job) -> ToolResult:
        async with gate:
            return await steps.tool(
                job.context.idempotency_key, lambda: _watched(job, limits.result_chars, emit)
            )

    results: list[ToolResult] = []
    for batch in _batches(jobs):
        if len(batch) == 1:
            results.append(await one(batch[0]))
        else:
            results.extend(await _together([one(job) for job in batch]))
    return results


def _batches(jobs: Sequence[Job]) -> Iterable[Sequence[Job]]:
    """The jobs cut so that each sequential one stands alone."""
    batch: list[Job] = []
    for job in jobs:
        if job.tool.marks.sequential:
            yield from filter(None, (batch, [job]))
            batch = []
        else:
            batch.append(job)
    if batch:
        yield batch


async def _together(awaitables: Iterable[Awaitable[ToolResult]]) -> list[ToolResult]:
    """All results; when the run is cancelled, so is every call, and each is waited for."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _watched(job: Job, limit: int, emit: Emit | None) -> ToolResult:
    if emit is None:
        return await carry_out(job, limit)
    emit(ToolCallStarted(job.call))
    started = perf_counter()
    result = await carry_out(job, limit)
    emit(ToolCallFinished(job.call, result, perf_counter() - started))
    return result


async def carry_out(job: Job, limit: int) -> ToolResult:
    """The result of one call, at most `limit` characters of it and a note; never raises."""
    try:
        value = await _before_deadline(job)
        text, is_error = snapshot(value), False
    except ModelRetry as retry:
        text, is_error = _retry_words(job, retry), True
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # whatever a tool raises is the tool's failure
        text, is_error = _failure_words(error), True
    return ToolResult(job.call.id, job.call.name, capped(text, limit), is_error)


async def _before_deadline(job: Job) -> object:
    """What the tool gives. Raises what it raises, or ToolTimeout."""
    work = _guarded(job) if job.tool.is_async else _in_thread(job)
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=job.tool.marks.timeout)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        raise ToolTimeout(_late_words(job))
    if task.cancelled():
        raise ModelRetry("the tool cancelled itself")
    outcome = task.result()
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a tool gave or raised; carried as a value, as a task must not raise SystemExit."""

    value: object = None
    error: BaseException | None = None


async def _guarded(job: Job) -> _Outcome:
    try:
        value = job.tool.call(job.values, job.context)
        if inspect.isawaitable(value):
            value = await value
        return _Outcome(await _drained(value))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # see _Outcome
        return _Outcome(error=error)


async def _drained(value: object) -> object:
    """What an async generator gives, as a list; any other value as it is."""
    if not isinstance(value, AsyncIterator):
        return value
    items: list[object] = []
    async for item in cast("AsyncIterator[object]", value):
        items.append(item)
        if len(items) >= MAX_ITEMS:
            break
    return items


async def _in_thread(job: Job) -> _Outcome:
    """The outcome of a sync tool, run in a daemon thread with this task's context variables."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Outcome] = loop.create_future()
    context = contextvars.copy_context()

    def settle(outcome: _Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    def work() -> None:
        outcome = context.run(_called, job)
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=work, name=f"tool {job.tool.name}", daemon=True).start()
    outcome = await future
    if inspect.isawaitable(outcome.value):
        return _Outcome(await outcome.value)
    return outcome


def _called(job: Job) -> _Outcome:
    try:
        value = job.tool.call(job.values, job.context)
        if inspect.isgenerator(value):
            value = list(islice(value, MAX_ITEMS))
        return _Outcome(value)
    except BaseException as error:  # see _Outcome
        return _Outcome(error=error)


def _retry_words(job: Job, retry: ModelRetry) -> str:
    left = job.tool.marks.retries - job.context.retry
    if left > 0:
        return f"{retry}\nPlease try again."
    return f"{retry}\nDo not call {job.tool.name} again; answer without it."


def _late_words(job: Job) -> str:
    told = f"{job.tool.name} did not end within {job.tool.marks.timeout:g} seconds"
    return told if job.tool.is_async else f"{told}; it may still be running"


def _failure_words(error: BaseException) -> str:
    said = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {said}" if said else name
