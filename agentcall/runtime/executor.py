"""Executes tool calls; every failure becomes a result that the model reads.

Rules:
1. Sync tools run in daemon threads, so that none blocks the loop or the end of the process.
2. A deadline ends the waiting. An async tool is cancelled, an isolated one is killed
   (`workers/process_pool.py`); a sync tool can only be notified, by `RunContext.cancelled`, and its
   result says so.
3. Nothing that a tool raises ends the process or the run, SystemExit and KeyboardInterrupt
   included; a cancelled run cancels its tools.
4. Results are serialized at once, where the tool ran: what is changed later does not count.
5. A call of an agent as a tool is not a step of its own: its run makes steps. It may pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from types import NoneType
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from agentcall.approvals import Question
from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.display import to_single_line
from agentcall.errors import Blocked, ModelRetry, ToolError, ToolTimeout, UsageError
from agentcall.events import ToolCallFinished, ToolCallStarted
from agentcall.messages import EnclosingCall, ToolCall, ToolResult, enclosing_call
from agentcall.repair import RefusedCall, repair_call
from agentcall.result import RunResult, ToolFailure
from agentcall.runtime.instrumentation import ToolSpan
from agentcall.runtime.planned_call import PlannedCall
from agentcall.runtime.prompts import (
    format_blocked_result,
    format_self_cancellation,
    format_timeout,
)
from agentcall.runtime.state import RunState, current_run
from agentcall.settings import Limits
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.serialize import truncate_text
from agentcall.tools.tool import RunContext, Tool
from agentcall.workers.invoke import (
    ControlFlowSignal,
    ToolOutput,
    await_result,
    call_async_tool,
    call_sync_tool,
    format_tool_error,
)
from agentcall.workers.process_pool import call_in_process
from agentcall.workers.threads import BRIEF_SECONDS, run_in_thread

if TYPE_CHECKING:  # few agents have hooks
    from agentcall.runtime.hooks import HookSet

_log = logging.getLogger("agentcall.tools")
logging.getLogger("agentcall").addHandler(logging.NullHandler())  # silent until it is configured

_CANCEL_SECONDS = 1.0
"""Seconds that a cancelled tool may take to clean up."""

_fast_tools: WeakSet[Tool] = WeakSet()
"""Sync tools whose last call returned at once."""


class AgentRunPaused(ControlFlowSignal):
    """Raised by an agent as a tool: its run waits for approval."""

    def __init__(self, result: RunResult[Any]) -> None:  # Any: there is no output yet
        super().__init__("the run waits for approval")
        self.result = result


class CallPaused(ControlFlowSignal):
    """Raised by a tool that `uses_run`: it waits for a person's answer, and is called again."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.text)
        self.question = question


class AgentRunFailed(ControlFlowSignal):
    """Raised by an agent as a tool: its run raised an error that ends the run above as well."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


async def call_tool(
    registry: ToolRegistry, name: str, arguments: str, *, deps: object = None
) -> str:
    """Execute one call and return its result as text, as a model would read it.

    The name and the JSON arguments are repaired and validated as in a run; the text says what
    cannot be repaired. Raises nothing.
    """
    return (await call_once(registry, name, arguments, deps=deps)).text


async def call_once(
    registry: ToolRegistry, name: str, arguments: str, *, deps: object = None
) -> ToolResult:
    """As `call_tool`, with the flags of the result."""
    repaired = repair_call(ToolCallPart(name, arguments), registry.by_name)
    if isinstance(repaired, RefusedCall):
        return ToolResult("call_1", name, repaired.message, is_error=True, assessed=True)
    call = ToolCall("call_1", repaired.tool.name, repaired.arguments)
    context = RunContext(deps=deps, tool_call_id=call.id, tool_name=call.name)
    planned = PlannedCall(call, "run", repaired.tool, repaired.values, context)
    return await execute_call(planned, Limits().result_chars)


async def execute_calls(planned: Iterable[PlannedCall], state: RunState) -> set[str]:
    """Execute the calls that are to run: several at a time, sequential tools alone.

    Each result is put into `state.results` as it arrives, so that a cancelled run has it. Returns
    the ids of the calls that wait: of agents, whose results are in `state.paused_runs`, and of
    tools that ask a person, whose questions are in `state.questions`.
    """
    paused: set[str] = set()
    limits = state.spec.limits

    async def execute_one(item: PlannedCall) -> None:
        if not item.tool.options.uses_run:
            state.results[item.call.id] = await state.steps.call_tool(
                item, lambda: execute_observed(item, None, state)
            )
            if state.fatal_error is not None:
                raise state.fatal_error
            return
        await _execute_in_run(item, state, paused)
        if state.fatal_error is not None:
            raise state.fatal_error

    for batch in _split_batches(planned):
        if len(batch) == 1:
            await execute_one(batch[0])
        else:
            await _run_concurrently(batch, execute_one, limits.parallel or len(batch))
    return paused


async def _execute_in_run(item: PlannedCall, state: RunState, paused: set[str]) -> None:
    """Execute a call that uses the run; if it waits, add its id to `paused`."""
    token = current_run.set(state)
    try:
        if item.tool.options.delegates:
            state.results[item.call.id] = await execute_observed(item, None, state)
        else:
            state.results[item.call.id] = await state.steps.call_tool(
                item, lambda: execute_observed(item, None, state)
            )
    except CallPaused as pause:
        paused.add(item.call.id)
        state.questions = {**state.questions, item.call.id: pause.question}
    except AgentRunPaused as pause:
        paused.add(item.call.id)
        state.paused_runs[item.call.id] = pause.result
    except AgentRunFailed as failure:
        raise failure.error from None
    finally:
        current_run.reset(token)


async def _run_concurrently(
    batch: Sequence[PlannedCall],
    execute: Callable[[PlannedCall], Awaitable[None]],
    max_parallel: int,
) -> None:
    """Wait for all calls; when the run is cancelled or one call raises, cancel the others."""
    semaphore = asyncio.Semaphore(max_parallel)

    async def run_one(item: PlannedCall) -> None:
        async with semaphore:
            await execute(item)

    tasks = [asyncio.ensure_future(run_one(item)) for item in batch]
    try:
        await asyncio.gather(*tasks)
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)


def _split_batches(planned: Iterable[PlannedCall]) -> Iterable[Sequence[PlannedCall]]:
    """Yield the calls that run, in batches; a call of a sequential tool is a batch of its own."""
    batch: list[PlannedCall] = []
    for item in planned:
        if item.decision != "run":
            continue
        if item.tool.options.sequential:
            yield from filter(None, (batch, [item]))
            batch = []
        else:
            batch.append(item)
    if batch:
        yield batch


async def execute_observed(item: PlannedCall, limit: int | None, state: RunState) -> ToolResult:
    """Execute a call within the instrumentation of the run, and report its start and end."""
    if state.instrumentation is None:
        return await _execute_with_events(item, limit, state)
    with state.instrumentation.observe(ToolSpan(state.spec.name, item.call, item.tool)) as record:
        result = await _execute_with_events(item, limit, state)
        record(result)
        return result


async def _execute_with_events(item: PlannedCall, limit: int | None, state: RunState) -> ToolResult:
    hooks, progress = state.spec.hooks, state.progress
    if state.emit is None or progress is None:
        result, exception = await execute_once(item, limit)
        if exception is not None:
            result = _handle_exception(item, result, exception, state)
        return result if hooks is None else await _change_result(item, result, state, hooks)
    state.emit(ToolCallStarted(item.call))
    progress.begin(item.call)
    try:
        result, exception = await execute_once(item, limit)
    finally:
        progress.end(item.call.id)
    if exception is not None:
        result = _handle_exception(item, result, exception, state)
    if hooks is not None:
        result = await _change_result(item, result, state, hooks)
    state.emit(ToolCallFinished(item.call, result, result.seconds or 0.0, exception))
    return result


async def _change_result(
    item: PlannedCall, result: ToolResult, state: RunState, hooks: HookSet
) -> ToolResult:
    """Return the result of a call as the hooks change it; their errors end the run afterwards."""
    try:
        return await hooks.change_result(item.context, item.call, result)
    except ModelRetry as error:
        return replace(result, text=str(error), is_error=True, images=())
    except Blocked as error:  # of this run alone
        state.fatal_error = state.fatal_error or error
        text = format_blocked_result(str(error))
        return replace(result, text=text, is_error=True, images=())
    except Exception as error:
        state.end_with_error(error, "a hook")
        return result


def _handle_exception(
    item: PlannedCall, result: ToolResult, exception: BaseException, state: RunState
) -> ToolResult:
    """Record a tool's exception, and let the agent's `on_tool_error` decide about it."""
    failure = ToolFailure(item.call, exception, state.spec.agent)
    state.record_tool_error(failure)
    handle = state.spec.on_tool_error
    if handle is None or isinstance(exception, ToolError):  # a ToolError is a message to the model
        return result
    try:
        text = cast("object", handle(failure))
        if not isinstance(text, (str, NoneType)):
            raise UsageError(f"on_tool_error returned {text!r}; return a text or None, or raise")
    except Exception as error:
        state.end_with_error(error)
        return result
    if text is None:
        return result
    return replace(result, text=text)


def _log_exception(item: PlannedCall, exception: BaseException, text: str) -> None:
    """Log a tool's exception: a mistake in the tool with its traceback."""
    name, call_id = item.call.name, item.call.id
    if isinstance(exception, ToolTimeout):
        _log.warning("%s (call %s)", to_single_line(text), call_id)
    elif isinstance(exception, ToolError):
        _log.info("tool %s (call %s) reports: %s", name, call_id, to_single_line(text))
    else:
        _log.error("tool %s (call %s) raised an exception", name, call_id, exc_info=exception)


async def execute_call(item: PlannedCall, limit: int | None) -> ToolResult:
    """Execute one call; its result has at most `limit` characters and a note.

    Raises asyncio.CancelledError if the run is cancelled, ControlFlowSignal if the tool is an
    agent whose run pauses or fails, and nothing else.
    """
    return (await execute_once(item, limit))[0]


async def execute_once(
    item: PlannedCall, limit: int | None
) -> tuple[ToolResult, BaseException | None]:
    """As `execute_call`; also return what the tool raised."""
    tool, context = item.tool, item.context
    enclosing = EnclosingCall(context.tainted)
    before = enclosing_call.get()
    enclosing_call.set(enclosing)
    started_at = perf_counter()
    try:
        if tool.options.attempts == 1:
            output = await _invoke(item, limit)
        else:
            from agentcall.tools.retry import call_with_retries  # late, as few tools have attempts

            output = await call_with_retries(lambda: _invoke(item, limit), tool.options.attempts)
    finally:
        # Not reset(token): a coroutine that the interpreter closes at its end runs in another
        # context, where the token is invalid.
        enclosing_call.set(before)
    context.call_state.is_closed = True
    seconds = perf_counter() - started_at
    if output.exception is not None:
        _log_exception(item, output.exception, output.text)
    result = ToolResult(
        item.call.id,
        item.call.name,
        output.text,
        output.is_error,
        _is_untrusted(item, output, enclosing),
        assessed=True,
        images=output.images,
        seconds=seconds,
        data=output.data,
        unsaved_data=output.unsaved_data,
    )
    return result, output.exception


def _is_untrusted(item: PlannedCall, output: ToolOutput, enclosing: EnclosingCall) -> bool:
    """Whether a result has untrusted content; if so, the tool is known for it from now on."""
    tool = item.tool
    if not (output.untrusted or enclosing.has_read_untrusted or tool.options.untrusted):
        # The error of a tool that may return untrusted content may quote it.
        return output.is_error and tool.is_untrusted_source
    # An agent may have got the untrusted content from this conversation: its result says something
    # about the tool only if the conversation is clean.
    is_agent = enclosing.has_read_untrusted or tool.options.delegates
    if not (is_agent and item.context.tainted):
        tool.has_returned_untrusted = True
    return True


async def _invoke(item: PlannedCall, limit: int | None) -> ToolOutput:
    """Call the tool once, where it runs."""
    if item.tool.options.isolated:
        return await call_in_process(item.tool, item.call.arguments, item.context, limit)
    output = await _invoke_with_timeout(item)
    if limit is None:
        return output
    return output._replace(text=truncate_text(output.text, limit))


async def _invoke_with_timeout(item: PlannedCall) -> ToolOutput:
    tool, values, context = item.tool, item.values, item.context
    limit = tool.options.timeout
    if tool.is_async:
        return await _await_with_timeout(item, call_async_tool(tool, values, context), limit)
    started, was_fast = perf_counter(), tool in _fast_tools
    try:
        outcome = await run_in_thread(
            lambda: call_sync_tool(tool, values, context), limit, is_brief=was_fast
        )
    except TimeoutError:
        context.cancel()
        return _fail_on_timeout(item)
    except asyncio.CancelledError:
        context.cancel()
        raise
    except RuntimeError as error:  # the system has no more threads
        return format_tool_error(tool, context, error)
    seconds = perf_counter() - started
    if was_fast != (seconds < BRIEF_SECONDS):
        (_fast_tools.discard if was_fast else _fast_tools.add)(tool)
    if isinstance(outcome, ToolOutput):
        return outcome
    left = None if limit is None else max(limit - seconds, 0)
    return await _await_with_timeout(item, await_result(tool, context, outcome.value), left)


async def _await_with_timeout(
    item: PlannedCall, work: Coroutine[None, None, ToolOutput], seconds: float | None
) -> ToolOutput:
    """Await a coroutine for at most `seconds`, in a task with its own context variables."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _cancel_task(task)
        raise
    if not done:
        await _cancel_task(task)
        return _fail_on_timeout(item)
    if task.cancelled():
        text = format_self_cancellation(item.tool.name)
        return ToolOutput(text, is_error=True, exception=asyncio.CancelledError(text))
    return task.result()


async def _cancel_task(task: asyncio.Task[ToolOutput]) -> None:
    """Cancel a call and wait a moment for it to end; it may suppress the cancellation."""
    task.cancel()
    await asyncio.wait({task}, timeout=_CANCEL_SECONDS)


def _fail_on_timeout(item: PlannedCall) -> ToolOutput:
    tool = item.tool
    message = format_timeout(tool.name, tool.options.timeout, may_be_running=not tool.is_async)
    return format_tool_error(tool, item.context, ToolTimeout(message))
