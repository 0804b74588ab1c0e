"""Carries out tool calls; every failure becomes a result that the model reads.

Rules:
1. Sync tools run in daemon threads, so that none holds up the loop or the end of the process.
2. A deadline ends the waiting. An async tool is cancelled at it; a sync one cannot be, and the
   result says so.
3. Nothing that a tool raises ends the process or the run, SystemExit and KeyboardInterrupt
   included; a cancelled run cancels its tools.
4. Results are turned into text at once, where the tool ran: what is changed later does not count.
5. A tool that is an agent is no step: its run makes steps of its own. It may wait for approval.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, cast
from weakref import WeakSet

from agentcall.dialects.parts import Called
from agentcall.errors import ModelRetry, ToolError, ToolTimeout
from agentcall.events import Emit, ToolCallFinished, ToolCallStarted
from agentcall.limits import Limits
from agentcall.messages import ToolCall, ToolResult
from agentcall.origin import Lineage, Pause, Raised, Through, lineage
from agentcall.registry import ToolRegistry
from agentcall.repair import Refused, repair
from agentcall.result import RunResult
from agentcall.snapshot import MAX_ITEMS, capped, listed, snapshot
from agentcall.taint import Untrusted
from agentcall.tool import RunContext, Tool
from agentcall.workers import BRIEF, in_thread

_GRACE = 1.0
"""Seconds in which a cancelled tool may put things in order."""
_PLAIN = frozenset({str, int, float, bool, type(None), dict, list})
"""Types of results that need not be asked whether they have to be awaited."""

_brief: WeakSet[Tool] = WeakSet()
"""Sync tools whose last call ended at once."""


class Job(NamedTuple):
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
    return (await lone_result(registry, name, arguments, deps=deps)).text


async def lone_result(
    registry: ToolRegistry, name: str, arguments: str, *, deps: object = None
) -> ToolResult:
    """As `call_tool`, with whether it went well."""
    asked = repair(Called(name, arguments), registry.by_name)
    if isinstance(asked, Refused):
        return ToolResult("call_1", name, asked.words, is_error=True)
    call = ToolCall("call_1", asked.tool.name, asked.arguments)
    context = RunContext(deps=deps, tool_call_id=call.id, tool_name=call.name)
    return await carry_out(Job(call, asked.tool, asked.values, context), Limits().result_chars)


async def carry_out_all(
    jobs: Sequence[Job], limits: Limits, home: Lineage, into: dict[str, ToolResult]
) -> dict[str, RunResult[Any]]:
    """Carries the jobs out, several at a time, sequential tools alone.

    Each result is put `into` a dict by its call's id as it comes, so that a cancelled run knows
    what was done. Gives the results of agents whose runs wait, by the ids of their calls.
    """
    waiting: dict[str, RunResult[Any]] = {}

    async def one(job: Job) -> None:
        if not job.tool.marks.delegates:
            into[job.call.id] = await home.steps.tool(
                job.context.idempotency_key, lambda: _watched(job, limits.result_chars, home.emit)
            )
            return
        token = lineage.set(home)
        try:
            into[job.call.id] = await _watched(job, limits.result_chars, home.emit)
        except Pause as pause:
            waiting[job.call.id] = pause.result
        except Raised as raised:
            raise raised.error from None
        finally:
            lineage.reset(token)

    for batch in _batches(jobs):
        if len(batch) == 1:
            await one(batch[0])
        else:
            await _together(batch, one, limits.parallel or len(batch))
    return waiting


async def _together(batch: Sequence[Job], one: Callable[[Job], Awaitable[None]], most: int) -> None:
    """Waits for all; when the run is cancelled or one fails, the others are cancelled."""
    gate = asyncio.Semaphore(most)

    async def in_turn(job: Job) -> None:
        async with gate:
            await one(job)

    tasks = [asyncio.ensure_future(in_turn(job)) for job in batch]
    try:
        await asyncio.gather(*tasks)
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


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


async def _watched(job: Job, limit: int | None, emit: Emit | None) -> ToolResult:
    if emit is None:
        return await carry_out(job, limit)
    emit(ToolCallStarted(job.call))
    started = perf_counter()
    result = await carry_out(job, limit)
    emit(ToolCallFinished(job.call, result, perf_counter() - started))
    return result


async def carry_out(job: Job, limit: int | None) -> ToolResult:
    """The result of one call, at most `limit` characters of it and a note.

    Raises nothing, but asyncio.CancelledError where the run is cancelled, and Through where the
    tool is an agent.
    """
    told = await _before_deadline(job)
    untrusted = told.untrusted or job.tool.marks.untrusted
    text = capped(told.text, limit)
    return ToolResult(job.call.id, job.call.name, text, told.is_error, untrusted)


class _Told(NamedTuple):
    """What the model is told of a call that has ended."""

    text: str
    is_error: bool = False
    untrusted: bool = False


async def _before_deadline(job: Job) -> _Told:
    limit = job.tool.marks.timeout
    if job.tool.is_async:
        return await _in_task(job, _async(job), limit)
    began, was_brief = perf_counter(), job.tool in _brief
    try:
        outcome = await in_thread(lambda: _called(job), limit, is_brief=was_brief)
    except TimeoutError:
        return _late(job)
    except RuntimeError as error:  # the system gives no more threads
        return _failed(job, error)
    took = perf_counter() - began
    if was_brief != (took < BRIEF):
        (_brief.discard if was_brief else _brief.add)(job.tool)
    if isinstance(outcome, _Told):
        return outcome
    left = None if limit is None else max(limit - took, 0)
    return await _in_task(job, _awaited(job, outcome.value), left)


async def _in_task(job: Job, work: Coroutine[None, None, _Told], seconds: float | None) -> _Told:
    """What comes of a coroutine within so many seconds; it gets context variables of its own."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _stop(task)
        raise
    if not done:
        await _stop(task)
        return _late(job)
    if task.cancelled():
        return _Told(f"{job.tool.name} cancelled itself", is_error=True)
    return task.result()


async def _stop(task: asyncio.Task[_Told]) -> None:
    """Cancels a call, and waits a moment for it to end: it may not want to."""
    task.cancel()
    await asyncio.wait({task}, timeout=_GRACE)


async def _async(job: Job) -> _Told:
    """What comes of an async tool, in the event loop."""
    try:
        return await _awaited(job, job.tool.call(job.values, job.context))
    except (asyncio.CancelledError, Through):
        raise
    except BaseException as error:  # whatever a tool raises is the tool's failure
        return _failed(job, error)


async def _awaited(job: Job, value: object) -> _Told:
    try:
        if inspect.isawaitable(value):
            value = await value
        if isinstance(value, AsyncIterator):
            value = await _drained(cast("AsyncIterator[object]", value))
        return _taken(value)
    except (asyncio.CancelledError, Through):
        raise
    except BaseException as error:  # as above; a task must not raise SystemExit
        return _failed(job, error)


def _taken(value: object) -> _Told:
    """What a tool gave, as text."""
    if isinstance(value, Untrusted):
        return _Told(snapshot(_followed(value.value)), untrusted=True)
    return _Told(snapshot(_followed(value)))


def _followed(value: object) -> object:
    """What a generator gives, as a list, or what it raises; any other value as it is."""
    return listed(cast("Iterable[object]", value)) if inspect.isgenerator(value) else value


async def _drained(values: AsyncIterator[object]) -> list[object]:
    """What an async generator gives, as a list."""
    items: list[object] = []
    async for item in values:
        if len(items) == MAX_ITEMS:
            return [*items, f"<cut after {MAX_ITEMS} items>"]
        items.append(item)
    return items


class _Unfinished(NamedTuple):
    """What a sync tool gave that has to be awaited in the event loop."""

    value: object


def _called(job: Job) -> _Told | _Unfinished:
    """Calls a sync tool, and takes its result down before anybody can change it."""
    try:
        value = job.tool.call(job.values, job.context)
        if type(value) in _PLAIN:
            return _Told(snapshot(value))
        if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
            return _Unfinished(cast("object", value))
        return _taken(value)
    except BaseException as error:  # whatever a tool raises is the tool's failure
        return _failed(job, error)


def _failed(job: Job, error: BaseException) -> _Told:
    name, said = type(error).__name__, _words_of(error)
    if isinstance(error, ModelRetry):
        return _Told(_retry_words(job, said), is_error=True)
    if isinstance(error, ToolError) and said:
        return _Told(said, is_error=True)
    return _Told(f"{name}: {said}" if said else name, is_error=True)


def _words_of(error: BaseException) -> str:
    try:
        return snapshot(str(error)).strip()
    except Exception:  # an error's own __str__ may raise anything
        return ""


def _retry_words(job: Job, said: str) -> str:
    left = job.tool.marks.retries - job.context.retry
    if left > 0:
        return f"{said}\nPlease try again."
    return f"{said}\nDo not call {job.tool.name} again; answer without it."


def _late(job: Job) -> _Told:
    return _failed(job, ToolTimeout(_late_words(job)))


def _late_words(job: Job) -> str:
    told = f"{job.tool.name} did not end within {job.tool.marks.timeout:g} seconds"
    return told if job.tool.is_async else f"{told}; it may still be running"
