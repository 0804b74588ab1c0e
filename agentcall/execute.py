"""Carries out tool calls; every failure becomes a result that the model reads.

Rules:
1. Sync tools run in daemon threads, so that none holds up the loop or the end of the process.
2. A deadline ends the waiting. An async tool is cancelled at it, an isolated one killed (`apart`);
   a sync one can only be told, by `RunContext.cancelled`, and the result says so.
3. Nothing that a tool raises ends the process or the run, SystemExit and KeyboardInterrupt
   included; a cancelled run cancels its tools.
4. Results are turned into text at once, where the tool ran: what is changed later does not count.
5. A tool that is an agent is no step: its run makes steps of its own. It may wait for approval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from time import perf_counter
from typing import Any, NamedTuple
from weakref import WeakSet

from agentcall.apart import call_apart
from agentcall.dialects.parts import Called
from agentcall.errors import ToolTimeout
from agentcall.events import Emit, ToolCallFinished, ToolCallStarted
from agentcall.limits import Limits
from agentcall.messages import ToolCall, ToolResult
from agentcall.origin import Lineage, Pause, Raised, lineage
from agentcall.outcome import Told, awaited, called, called_async, failed
from agentcall.registry import ToolRegistry
from agentcall.repair import Refused, repair
from agentcall.result import RunResult
from agentcall.snapshot import capped
from agentcall.steps import ToolStep
from agentcall.taint import CallAround, call_around
from agentcall.tool import RunContext, Tool
from agentcall.watch import Calling
from agentcall.workers import BRIEF, in_thread

_GRACE = 1.0
"""Seconds in which a cancelled tool may put things in order."""

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
        return ToolResult("call_1", name, asked.words, is_error=True, assessed=True)
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
                ToolStep(job.context.idempotency_key, job.call, job.tool.marks),
                lambda: _watched(job, limits.result_chars, home),
            )
            return
        token = lineage.set(home)
        try:
            into[job.call.id] = await _watched(job, limits.result_chars, home)
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


async def _watched(job: Job, limit: int | None, home: Lineage) -> ToolResult:
    """The result of a call, with whoever watches around it."""
    if home.watcher is None:
        return await _told(job, limit, home.emit)
    with home.watcher.around(Calling(home.agent, job.call, job.tool)) as note:
        result = await _told(job, limit, home.emit)
        note(result)
        return result


async def _told(job: Job, limit: int | None, emit: Emit | None) -> ToolResult:
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
    around = CallAround(job.context.tainted)
    before = call_around.get()
    call_around.set(around)
    try:
        if job.tool.marks.isolated:
            told = await call_apart(job.tool, job.call.arguments, job.context, limit)
        else:
            told = await _before_deadline(job)
            told = told._replace(text=capped(told.text, limit))
    finally:
        call_around.set(
            before
        )  # no token: who is closed at the program's end is in another context
    return _result(job, told, has_read=around.has_read)


def _result(job: Job, told: Told, *, has_read: bool) -> ToolResult:
    """What the model is given; untrusted are also the errors of a tool whose results may be.

    has_read: whether an agent that the tool ran has read untrusted content. It may have got that
    from the conversation, so it says something of the tool only where that is clean.
    """
    call, tool = job.call, job.tool
    is_agent = has_read or tool.marks.delegates
    untrusted = told.untrusted or has_read or tool.marks.untrusted
    if untrusted and not (is_agent and job.context.tainted):
        tool.gave_untrusted = True
    elif told.is_error:
        untrusted = untrusted or tool.may_be_untrusted
    return ToolResult(call.id, call.name, told.text, told.is_error, untrusted, assessed=True)


async def _before_deadline(job: Job) -> Told:
    tool, values, context = job.tool, job.values, job.context
    limit = tool.marks.timeout
    if tool.is_async:
        return await _in_task(job, called_async(tool, values, context), limit)
    began, was_brief = perf_counter(), tool in _brief
    try:
        outcome = await in_thread(lambda: called(tool, values, context), limit, is_brief=was_brief)
    except TimeoutError:
        context.cancel()
        return _late(job)
    except asyncio.CancelledError:
        context.cancel()
        raise
    except RuntimeError as error:  # the system gives no more threads
        return failed(tool, context, error)
    took = perf_counter() - began
    if was_brief != (took < BRIEF):
        (_brief.discard if was_brief else _brief.add)(tool)
    if isinstance(outcome, Told):
        return outcome
    left = None if limit is None else max(limit - took, 0)
    return await _in_task(job, awaited(tool, context, outcome.value), left)


async def _in_task(job: Job, work: Coroutine[None, None, Told], seconds: float | None) -> Told:
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
        return Told(f"{job.tool.name} cancelled itself", is_error=True)
    return task.result()


async def _stop(task: asyncio.Task[Told]) -> None:
    """Cancels a call, and waits a moment for it to end: it may not want to."""
    task.cancel()
    await asyncio.wait({task}, timeout=_GRACE)


def _late(job: Job) -> Told:
    return failed(job.tool, job.context, ToolTimeout(_late_words(job)))


def _late_words(job: Job) -> str:
    told = f"{job.tool.name} did not end within {job.tool.marks.timeout:g} seconds"
    return told if job.tool.is_async else f"{told}; it may still be running"
