"""What comes of calling a tool, as words for the model, whatever it gives or raises.

Nothing here raises, but asyncio.CancelledError where the call is cancelled from outside, and
Through where the tool is an agent.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

from agentcall.errors import ModelRetry, ToolError
from agentcall.messages import Untrusted
from agentcall.tools.serialize import MAX_ITEMS, list_items, serialize, serialize_with_provenance
from agentcall.tools.tool import RunContext, Tool

ToolContext: TypeAlias = RunContext[Any]  # Any: the user's own type
ToolArguments: TypeAlias = Mapping[str, object]

_PLAIN_TYPES = frozenset({str, int, float, bool, type(None), dict, list})
"""Types of results that need not be asked whether they have to be awaited."""


class ControlFlowSignal(Exception):
    """Raised by a tool that is an agent, and no failure of the tool: it concerns the run above."""


class ToolOutput(NamedTuple):
    """What the model is told of a call that has ended."""

    text: str
    is_error: bool = False
    untrusted: bool = False


class PendingAwaitable(NamedTuple):
    """What a sync tool gave that has to be awaited in an event loop."""

    value: object


def call_sync_tool(
    tool: Tool, values: ToolArguments, context: ToolContext
) -> ToolOutput | PendingAwaitable:
    """Calls a sync tool, and takes its result down before anybody can change it."""
    try:
        value = tool.call(values, context)
        if type(value) in _PLAIN_TYPES:
            return _serialize_result(value)
        if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
            return PendingAwaitable(cast("object", value))
        return _normalize_result(tool, context, value)
    except BaseException as error:  # whatever a tool raises is the tool's failure
        return format_tool_error(tool, context, error)


async def call_async_tool(tool: Tool, values: ToolArguments, context: ToolContext) -> ToolOutput:
    """Calls an async tool, in this event loop."""
    try:
        return await await_result(tool, context, tool.call(values, context))
    except (asyncio.CancelledError, ControlFlowSignal):
        raise
    except BaseException as error:  # as above
        return format_tool_error(tool, context, error)


async def await_result(tool: Tool, context: ToolContext, value: object) -> ToolOutput:
    """What comes of a value that may have to be awaited."""
    try:
        if inspect.isawaitable(value):
            value = await value
        if isinstance(value, AsyncIterator):
            value = await _drain_async_generator(cast("AsyncIterator[object]", value))
        return _normalize_result(tool, context, value)
    except (asyncio.CancelledError, ControlFlowSignal):
        raise
    except BaseException as error:  # as above; a task must not raise SystemExit
        return format_tool_error(tool, context, error)


def _normalize_result(tool: Tool, context: ToolContext, value: object) -> ToolOutput:
    """What a tool gave, as text."""
    if not isinstance(value, Untrusted):
        return _serialize_result(_drain_generator(value))
    try:
        return _normalize_result(tool, context, _drain_generator(value.value))._replace(
            untrusted=True
        )
    except Exception as error:  # a generator's; its words are as untrusted as what it gives
        return format_tool_error(tool, context, error)._replace(untrusted=True)


def _serialize_result(value: object) -> ToolOutput:
    text, untrusted = serialize_with_provenance(value)
    return ToolOutput(text, untrusted=untrusted)


def _drain_generator(value: object) -> object:
    """What a generator gives, as a list, or what it raises; any other value as it is."""
    return list_items(cast("Iterable[object]", value)) if inspect.isgenerator(value) else value


async def _drain_async_generator(values: AsyncIterator[object]) -> list[object]:
    """What an async generator gives, as a list."""
    items: list[object] = []
    async for item in values:
        if len(items) == MAX_ITEMS:
            return [*items, f"<cut after {MAX_ITEMS} items>"]
        items.append(item)
    return items


def format_tool_error(tool: Tool, context: ToolContext, error: BaseException) -> ToolOutput:
    """What the model is told of an error of the tool."""
    name, (said, untrusted) = type(error).__name__, _read_error_message(error)
    if isinstance(error, ModelRetry):
        words = _format_retry_message(tool, context, said)
    elif isinstance(error, ToolError) and said:
        words = said
    else:
        words = f"{name}: {said}" if said else name
    return ToolOutput(words, is_error=True, untrusted=untrusted)


def _read_error_message(error: BaseException) -> tuple[str, bool]:
    """What an error says, and whether that is untrusted: any of its arguments is."""
    given, untrusted = serialize_with_provenance(error.args)
    try:
        said = given if untrusted else serialize(str(error))
    except Exception:  # an error's own __str__ may raise anything
        return "", untrusted
    if untrusted and len(error.args) == 1:
        said = serialize(error.args[0])
    return said.strip(), untrusted


def _format_retry_message(tool: Tool, context: ToolContext, message: str) -> str:
    left = tool.options.retries - context.retry
    if left > 0:
        return f"{message}\nPlease try again."
    return f"{message}\nDo not call {tool.name} again; answer without it."
