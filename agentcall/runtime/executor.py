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

from agentcall.dialects.base import ToolCallPart
from agentcall.errors import ToolTimeout
from agentcall.events import Emit, ToolCallFinished, ToolCallStarted
from agentcall.messages import EnclosingCall, ToolCall, ToolResult, enclosing_call
from agentcall.repair import RefusedCall, repair_call
from agentcall.result import RunResult
from agentcall.runtime.checkpoint import ToolStep
from agentcall.runtime.context import AgentRunFailed, AgentRunPaused, RunScope, current_scope
from agentcall.runtime.hooks import ToolSpan
from agentcall.settings import Limits
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.serialize import truncate_text
from agentcall.tools.tool import RunContext, Tool
from agentcall.workers.invoke import (
    ToolOutput,
    await_result,
    call_async_tool,
    call_sync_tool,
    format_tool_error,
)
from agentcall.workers.process_pool import call_in_process
from agentcall.workers.threads import BRIEF_SECONDS, run_in_thread

_CANCEL_SECONDS = 1.0
"""Seconds in which a cancelled tool may put things in order."""

_fast_tools: WeakSet[Tool] = WeakSet()
"""Sync tools whose last call ended at once."""


class ToolInvocation(NamedTuple):
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
    return (await call_once(registry, name, arguments, deps=deps)).text


async def call_once(
    registry: ToolRegistry, name: str, arguments: str, *, deps: object = None
) -> ToolResult:
    """As `call_tool`, with whether it went well."""
    repaired = repair_call(ToolCallPart(name, arguments), registry.by_name)
    if isinstance(repaired, RefusedCall):
        return ToolResult("call_1", name, repaired.message, is_error=True, assessed=True)
    call = ToolCall("call_1", repaired.tool.name, repaired.arguments)
    context = RunContext(deps=deps, tool_call_id=call.id, tool_name=call.name)
    return await execute_call(
        ToolInvocation(call, repaired.tool, repaired.values, context), Limits().result_chars
    )


async def execute_calls(
    invocations: Sequence[ToolInvocation],
    limits: Limits,
    scope: RunScope,
    results: dict[str, ToolResult],
) -> dict[str, RunResult[Any]]:
    """Carries the jobs out, several at a time, sequential tools alone.

    Each result is put `into` a dict by its call's id as it comes, so that a cancelled run knows
    what was done. Gives the results of agents whose runs wait, by the ids of their calls.
    """
    paused: dict[str, RunResult[Any]] = {}

    async def execute_one(invocation: ToolInvocation) -> None:
        if not invocation.tool.options.delegates:
            results[invocation.call.id] = await scope.steps.call_tool(
                ToolStep(
                    invocation.context.idempotency_key, invocation.call, invocation.tool.options
                ),
                lambda: _execute_with_hooks(invocation, limits.result_chars, scope),
            )
            return
        token = current_scope.set(scope)
        try:
            results[invocation.call.id] = await _execute_with_hooks(
                invocation, limits.result_chars, scope
            )
        except AgentRunPaused as pause:
            paused[invocation.call.id] = pause.result
        except AgentRunFailed as raised:
            raise raised.error from None
        finally:
            current_scope.reset(token)

    for batch in _split_batches(invocations):
        if len(batch) == 1:
            await execute_one(batch[0])
        else:
            await _run_concurrently(batch, execute_one, limits.parallel or len(batch))
    return paused


async def _run_concurrently(
    batch: Sequence[ToolInvocation],
    execute: Callable[[ToolInvocation], Awaitable[None]],
    max_parallel: int,
) -> None:
    """Waits for all; when the run is cancelled or one fails, the others are cancelled."""
    gate = asyncio.Semaphore(max_parallel)

    async def run_one(invocation: ToolInvocation) -> None:
        async with gate:
            await execute(invocation)

    tasks = [asyncio.ensure_future(run_one(job)) for job in batch]
    try:
        await asyncio.gather(*tasks)
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)


def _split_batches(invocations: Sequence[ToolInvocation]) -> Iterable[Sequence[ToolInvocation]]:
    """The jobs cut so that each sequential one stands alone."""
    batch: list[ToolInvocation] = []
    for invocation in invocations:
        if invocation.tool.options.sequential:
            yield from filter(None, (batch, [invocation]))
            batch = []
        else:
            batch.append(invocation)
    if batch:
        yield batch


async def _execute_with_hooks(
    invocation: ToolInvocation, limit: int | None, scope: RunScope
) -> ToolResult:
    """The result of a call, with whoever watches around it."""
    if scope.instrumentation is None:
        return await _execute_with_events(invocation, limit, scope.emit)
    with scope.instrumentation.observe(
        ToolSpan(scope.agent, invocation.call, invocation.tool)
    ) as record:
        result = await _execute_with_events(invocation, limit, scope.emit)
        record(result)
        return result


async def _execute_with_events(
    invocation: ToolInvocation, limit: int | None, emit: Emit | None
) -> ToolResult:
    if emit is None:
        return await execute_call(invocation, limit)
    emit(ToolCallStarted(invocation.call))
    started = perf_counter()
    result = await execute_call(invocation, limit)
    emit(ToolCallFinished(invocation.call, result, perf_counter() - started))
    return result


async def execute_call(invocation: ToolInvocation, limit: int | None) -> ToolResult:
    """The result of one call, at most `limit` characters of it and a note.

    Raises nothing, but asyncio.CancelledError where the run is cancelled, and Through where the
    tool is an agent.
    """
    enclosing = EnclosingCall(invocation.context.tainted)
    before = enclosing_call.get()
    enclosing_call.set(enclosing)
    try:
        if invocation.tool.options.isolated:
            output = await call_in_process(
                invocation.tool, invocation.call.arguments, invocation.context, limit
            )
        else:
            output = await _invoke_with_timeout(invocation)
            output = output._replace(text=truncate_text(output.text, limit))
    finally:
        enclosing_call.set(
            before
        )  # no token: who is closed at the program's end is in another context
    return _to_tool_result(invocation, output, has_read=enclosing.has_read_untrusted)


def _to_tool_result(
    invocation: ToolInvocation, output: ToolOutput, *, has_read: bool
) -> ToolResult:
    """What the model is given; untrusted are also the errors of a tool whose results may be.

    has_read: whether an agent that the tool ran has read untrusted content. It may have got that
    from the conversation, so it says something of the tool only where that is clean.
    """
    call, tool = invocation.call, invocation.tool
    is_agent = has_read or tool.options.delegates
    untrusted = output.untrusted or has_read or tool.options.untrusted
    if untrusted and not (is_agent and invocation.context.tainted):
        tool.has_returned_untrusted = True
    elif output.is_error:
        untrusted = untrusted or tool.is_untrusted_source
    return ToolResult(call.id, call.name, output.text, output.is_error, untrusted, assessed=True)


async def _invoke_with_timeout(invocation: ToolInvocation) -> ToolOutput:
    tool, values, context = invocation.tool, invocation.values, invocation.context
    limit = tool.options.timeout
    if tool.is_async:
        return await _await_with_timeout(invocation, call_async_tool(tool, values, context), limit)
    began, was_fast = perf_counter(), tool in _fast_tools
    try:
        outcome = await run_in_thread(
            lambda: call_sync_tool(tool, values, context), limit, is_brief=was_fast
        )
    except TimeoutError:
        context.cancel()
        return _fail_on_timeout(invocation)
    except asyncio.CancelledError:
        context.cancel()
        raise
    except RuntimeError as error:  # the system gives no more threads
        return format_tool_error(tool, context, error)
    took = perf_counter() - began
    if was_fast != (took < BRIEF_SECONDS):
        (_fast_tools.discard if was_fast else _fast_tools.add)(tool)
    if isinstance(outcome, ToolOutput):
        return outcome
    left = None if limit is None else max(limit - took, 0)
    return await _await_with_timeout(invocation, await_result(tool, context, outcome.value), left)


async def _await_with_timeout(
    invocation: ToolInvocation, work: Coroutine[None, None, ToolOutput], seconds: float | None
) -> ToolOutput:
    """What comes of a coroutine within so many seconds; it gets context variables of its own."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _cancel_task(task)
        raise
    if not done:
        await _cancel_task(task)
        return _fail_on_timeout(invocation)
    if task.cancelled():
        return ToolOutput(f"{invocation.tool.name} cancelled itself", is_error=True)
    return task.result()


async def _cancel_task(task: asyncio.Task[ToolOutput]) -> None:
    """Cancels a call, and waits a moment for it to end: it may not want to."""
    task.cancel()
    await asyncio.wait({task}, timeout=_CANCEL_SECONDS)


def _fail_on_timeout(invocation: ToolInvocation) -> ToolOutput:
    return format_tool_error(
        invocation.tool, invocation.context, ToolTimeout(_format_timeout(invocation))
    )


def _format_timeout(invocation: ToolInvocation) -> str:
    message = (
        f"{invocation.tool.name} did not end within {invocation.tool.options.timeout:g} seconds"
    )
    return message if invocation.tool.is_async else f"{message}; it may still be running"
