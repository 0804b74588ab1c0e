"""Call a tool and convert its result or its error to text for the model.

Nothing here raises, except asyncio.CancelledError when the call is cancelled from outside, and
ControlFlowSignal when the tool is an agent.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

from agentcall.errors import ModelRetry, ToolError
from agentcall.messages import Image, Untrusted
from agentcall.tools.result import Result
from agentcall.tools.serialize import (
    MAX_ITEMS,
    SerializedOutput,
    list_items,
    serialize,
    serialize_output,
)
from agentcall.tools.tool import RunContext, Tool

ToolContext: TypeAlias = RunContext[Any]  # Any: the user's own type
ToolArguments: TypeAlias = Mapping[str, object]

_PLAIN_TYPES = frozenset({str, int, float, bool, type(None), dict, list})
"""Types of results that are certainly not awaitable."""


class ControlFlowSignal(Exception):
    """Raised by a tool that is an agent; it is not an error of the tool, but for the parent run."""


class ToolOutput(NamedTuple):
    """The result of a call as the model reads it; `untrusted` if it has untrusted content.

    exception: what the tool raised, for the developer.
    images: those that the text has notes for.
    data: what the tool gave the application; unsaved_data: the type of data that did not get here.
    """

    text: str
    is_error: bool = False
    untrusted: bool = False
    exception: BaseException | None = None
    images: tuple[Image, ...] = ()
    data: object = None
    unsaved_data: str = ""


class PendingAwaitable(NamedTuple):
    """The result of a sync tool that has to be awaited in an event loop."""

    value: object


def call_sync_tool(
    tool: Tool, values: ToolArguments, context: ToolContext
) -> ToolOutput | PendingAwaitable:
    """Call a sync tool, and serialize its result at once, before other code can change it."""
    try:
        value = tool.call(values, context)
        if type(value) in _PLAIN_TYPES:
            return _serialize_result(value)
        if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
            return PendingAwaitable(cast("object", value))
        return _normalize_result(tool, context, value)
    except BaseException as error:  # SystemExit too: any exception of a tool is its failure
        return format_tool_error(tool, context, error)


async def call_async_tool(tool: Tool, values: ToolArguments, context: ToolContext) -> ToolOutput:
    """Call an async tool in this event loop."""
    try:
        return await await_result(tool, context, tool.call(values, context))
    except (asyncio.CancelledError, ControlFlowSignal):
        raise
    except BaseException as error:  # see call_sync_tool
        return format_tool_error(tool, context, error)


async def await_result(tool: Tool, context: ToolContext, value: object) -> ToolOutput:
    """Await a result if necessary, and convert it to text."""
    try:
        if inspect.isawaitable(value):
            value = await value
        if type(value) in _PLAIN_TYPES:
            return _serialize_result(value)
        if isinstance(value, AsyncIterator):
            value = await _drain_async_generator(cast("AsyncIterator[object]", value))
        return _normalize_result(tool, context, value)
    except (asyncio.CancelledError, ControlFlowSignal):
        raise
    except BaseException as error:  # a task must not raise SystemExit: it would end the loop
        return format_tool_error(tool, context, error)


def _normalize_result(tool: Tool, context: ToolContext, value: object) -> ToolOutput:
    if not isinstance(value, Untrusted):
        return _serialize_result(_drain_generator(value))
    try:
        return _normalize_result(tool, context, _drain_generator(value.value))._replace(
            untrusted=True
        )
    except Exception as error:  # the error of a generator is as untrusted as its items
        return format_tool_error(tool, context, error)._replace(untrusted=True)


def _serialize_result(value: object) -> ToolOutput:
    text, untrusted, images, data = serialize_output(value)
    return ToolOutput(text, untrusted=untrusted, images=images, data=data)


def _drain_generator(value: object) -> object:
    """Return the items of a generator as a list; any other value unchanged."""
    return list_items(cast("Iterable[object]", value)) if inspect.isgenerator(value) else value


async def _drain_async_generator(values: AsyncIterator[object]) -> list[object]:
    items: list[object] = []
    async for item in values:
        if len(items) == MAX_ITEMS:
            return [*items, f"<cut after {MAX_ITEMS} items>"]
        items.append(item)
    return items


def format_tool_error(tool: Tool, context: ToolContext, error: BaseException) -> ToolOutput:
    """Return the error message that the model reads for an exception of the tool."""
    name = type(error).__name__
    message, untrusted, images, data = _read_error_message(error)
    if isinstance(error, ModelRetry) or (isinstance(error, ToolError) and error.retry):
        if tool.options.retries > context.retry:
            again = "try again" if isinstance(error, ModelRetry) else "make the same call again"
            text = f"{message}\nPlease {again}."
        else:
            text = f"{message}\nDo not call {tool.name} again; answer without it."
    elif isinstance(error, ToolError) and message:
        text = message
    else:
        text = f"{name}: {message}" if message else name
    return ToolOutput(text, True, untrusted, error, images, data)


def _read_error_message(error: BaseException) -> SerializedOutput:
    """Return the message of an error, with what its arguments contain."""
    argument = error.args[0] if len(error.args) == 1 else error.args
    output = serialize_output(argument)
    if output.is_untrusted or output.images or isinstance(argument, Result):
        return output._replace(text=output.text.strip())
    try:
        return output._replace(text=serialize(str(error)).strip())
    except Exception:  # the __str__ of a user's exception may raise anything
        return output._replace(text="")
