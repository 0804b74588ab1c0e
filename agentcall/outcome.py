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
from agentcall.snapshot import MAX_ITEMS, listed, marked_snapshot, snapshot
from agentcall.tool import RunContext, Tool

Context: TypeAlias = RunContext[Any]  # Any: the user's own type
Values: TypeAlias = Mapping[str, object]

_PLAIN = frozenset({str, int, float, bool, type(None), dict, list})
"""Types of results that need not be asked whether they have to be awaited."""


class Through(Exception):
    """Raised by a tool that is an agent, and no failure of the tool: it concerns the run above."""


class Told(NamedTuple):
    """What the model is told of a call that has ended."""

    text: str
    is_error: bool = False
    untrusted: bool = False


class Unfinished(NamedTuple):
    """What a sync tool gave that has to be awaited in an event loop."""

    value: object


def called(tool: Tool, values: Values, context: Context) -> Told | Unfinished:
    """Calls a sync tool, and takes its result down before anybody can change it."""
    try:
        value = tool.call(values, context)
        if type(value) in _PLAIN:
            return _told(value)
        if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
            return Unfinished(cast("object", value))
        return _taken(tool, context, value)
    except BaseException as error:  # whatever a tool raises is the tool's failure
        return failed(tool, context, error)


async def called_async(tool: Tool, values: Values, context: Context) -> Told:
    """Calls an async tool, in this event loop."""
    try:
        return await awaited(tool, context, tool.call(values, context))
    except (asyncio.CancelledError, Through):
        raise
    except BaseException as error:  # as above
        return failed(tool, context, error)


async def awaited(tool: Tool, context: Context, value: object) -> Told:
    """What comes of a value that may have to be awaited."""
    try:
        if inspect.isawaitable(value):
            value = await value
        if isinstance(value, AsyncIterator):
            value = await _drained(cast("AsyncIterator[object]", value))
        return _taken(tool, context, value)
    except (asyncio.CancelledError, Through):
        raise
    except BaseException as error:  # as above; a task must not raise SystemExit
        return failed(tool, context, error)


def _taken(tool: Tool, context: Context, value: object) -> Told:
    """What a tool gave, as text."""
    if not isinstance(value, Untrusted):
        return _told(_followed(value))
    try:
        return _taken(tool, context, _followed(value.value))._replace(untrusted=True)
    except Exception as error:  # a generator's; its words are as untrusted as what it gives
        return failed(tool, context, error)._replace(untrusted=True)


def _told(value: object) -> Told:
    text, untrusted = marked_snapshot(value)
    return Told(text, untrusted=untrusted)


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


def failed(tool: Tool, context: Context, error: BaseException) -> Told:
    """What the model is told of an error of the tool."""
    name, (said, untrusted) = type(error).__name__, _words_of(error)
    if isinstance(error, ModelRetry):
        words = _retry_words(tool, context, said)
    elif isinstance(error, ToolError) and said:
        words = said
    else:
        words = f"{name}: {said}" if said else name
    return Told(words, is_error=True, untrusted=untrusted)


def _words_of(error: BaseException) -> tuple[str, bool]:
    """What an error says, and whether that is untrusted: any of its arguments is."""
    given, untrusted = marked_snapshot(error.args)
    try:
        said = given if untrusted else snapshot(str(error))
    except Exception:  # an error's own __str__ may raise anything
        return "", untrusted
    if untrusted and len(error.args) == 1:
        said = snapshot(error.args[0])
    return said.strip(), untrusted


def _retry_words(tool: Tool, context: Context, said: str) -> str:
    left = tool.marks.retries - context.retry
    if left > 0:
        return f"{said}\nPlease try again."
    return f"{said}\nDo not call {tool.name} again; answer without it."
