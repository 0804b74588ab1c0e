"""A running answer: its state from the events so far, as messages, and a poll of its events.

The events of a run come faster than a browser can show them. `poll_events` passes each to the
state at once, and yields at intervals so that the page is updated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from agentcall.events import (
    AnswerDiscarded,
    ApprovalRequested,
    ContextCompacted,
    ContextTrimmed,
    Event,
    HandedOver,
    LoopDetected,
    MessagesOmitted,
    ModelProgress,
    Nested,
    RunFinished,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallRepaired,
    ToolCallStarted,
    ToolProgress,
)
from agentcall.result import RunResult
from agentcall.serving.web.chat_messages import (
    ChatMessage,
    ToolCallView,
    render_answer,
    render_note,
    render_thinking,
    render_tool_call,
    render_waiting,
)

_MIN_INTERVAL = 0.06
"""The shortest time between two updates of the page."""

_MAX_PROGRESS = 100
"""Characters of a tool's progress."""


@dataclass(slots=True)
class _TextPart:
    """Text that is still arriving."""

    text: str
    is_thinking: bool = False


class ChatStreamState:
    """The state of a run, updated by its events; `run_id` is known before if it is resumed."""

    def __init__(self, run_id: str = "") -> None:
        self._parts: list[_TextPart | ToolCallView | str] = []
        self._repairs: dict[tuple[str, ...], str] = {}
        self._progress = ""
        self.run_id = run_id
        self.result: RunResult[Any] | None = None  # Any: of any agent

    @property
    def tool_calls(self) -> Iterator[ToolCallView]:
        """The tool calls so far."""
        return (part for part in self._parts if isinstance(part, ToolCallView))

    @property
    def shown_calls(self) -> frozenset[tuple[str, str]]:
        """The calls that `render` shows, by run id and call id."""
        return frozenset((self.run_id, view.path[0]) for view in self.tool_calls)

    @property
    def partial_answer(self) -> str:
        """The text so far of an answer that has not ended."""
        last = self._parts[-1] if self._parts else None
        return last.text if isinstance(last, _TextPart) and not last.is_thinking else ""

    def apply(self, event: Event) -> None:
        """Update the state with an event."""
        self._progress = event.format() if isinstance(event, ModelProgress) else ""
        match event:
            case TextDelta(text):
                self._append_text(text, is_thinking=False)
            case ThinkingDelta(text):
                self._append_text(text, is_thinking=True)
            case AnswerDiscarded():
                while self._parts and isinstance(self._parts[-1], _TextPart):
                    self._parts.pop()
            case LoopDetected(reason=reason):
                self._parts.append(f"the model repeats itself: {reason}")
            case HandedOver(before, after):
                self._parts.append(f"{before} hands over to {after}")
            case ContextTrimmed() | ContextCompacted() | MessagesOmitted():
                self._parts.append(_describe_context(event))
            case RunStarted() | RunFinished():
                self._apply_run_event(event)
            case _:
                self._apply_call_event(event, ())

    def render(self) -> Iterator[ChatMessage]:
        """Render the messages so far. May run in a thread while events arrive."""
        parts = tuple(self._parts)
        for index, part in enumerate(parts):
            match part:
                case ToolCallView():
                    yield render_tool_call(part)
                case _TextPart(text, is_thinking=True) if text.strip():
                    is_last = index == len(parts) - 1
                    yield render_thinking(text, status="pending" if is_last else "done")
                case _TextPart(text) if text.strip():
                    yield render_answer(text)
                case str():
                    yield render_note(part)
                case _:
                    pass
        if all(isinstance(part, ToolCallView) and part.result for part in parts[-1:]):
            yield render_waiting(self._progress)

    def _apply_run_event(self, event: RunStarted | RunFinished) -> None:
        match event:
            case RunStarted(run_id):
                self.run_id = run_id
            case RunFinished(result):
                self.result = result

    def _append_text(self, text: str, *, is_thinking: bool) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _TextPart) and last.is_thinking == is_thinking:
            last.text += text
        else:
            self._parts.append(_TextPart(text, is_thinking))

    def _apply_call_event(self, event: Event, parents: tuple[str, ...]) -> None:
        match event:
            case Nested(call_id=call_id, event=nested):
                self._apply_call_event(nested, (*parents, call_id))
            case ToolCallRepaired(call, rule):
                path = (*parents, call.id)
                self._repairs[path] = ", ".join(filter(None, [self._repairs.get(path), rule]))
            case ToolCallStarted(call):
                self._put_call(ToolCallView(call, path=(*parents, call.id)))
            case ToolProgress(call):
                path = (*parents, call.id)
                self._put_call(ToolCallView(call, path=path, progress=event.format(_MAX_PROGRESS)))
            case ApprovalRequested(call):
                self._put_call(ToolCallView(call, is_waiting=True, path=(*parents, call.id)))
            case ToolCallRefused(call, result):
                self._put_call(ToolCallView(call, result, path=(*parents, call.id)))
            case ToolCallFinished(call, result, seconds):
                self._put_call(ToolCallView(call, result, seconds, path=(*parents, call.id)))
            case _:
                pass

    def _put_call(self, view: ToolCallView) -> None:
        view = replace(view, repaired=self._repairs.get(view.path, ""))
        for index, part in enumerate(self._parts):
            if isinstance(part, ToolCallView) and part.path == view.path:
                self._parts[index] = view
                return
        self._parts.append(view)


async def poll_events(
    events: AsyncGenerator[Event, None],
    handle: Callable[[Event], None],
    tasks: set[asyncio.Task[None]],
) -> AsyncGenerator[None, None]:
    """Pass each event to `handle` at once, and yield at intervals while there are new ones.

    Raises what `events` raises. Leaving the loop ends the run.

    tasks: has the task that reads the events while it runs; cancelling the task ends the run.
    """
    has_news = asyncio.Event()
    has_news.set()

    async def read_events() -> None:
        async with aclosing(events):
            async for event in events:
                handle(event)
                has_news.set()

    task = asyncio.create_task(read_events())
    tasks.add(task)
    task.add_done_callback(lambda _: has_news.set())
    try:
        while not task.done():
            await has_news.wait()
            has_news.clear()
            started = time.monotonic()
            yield
            # A long conversation takes a while to render: leave half of the time to the run.
            await asyncio.sleep(max(_MIN_INTERVAL, time.monotonic() - started))
        if not task.cancelled():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
        tasks.discard(task)


def _describe_context(event: ContextTrimmed | ContextCompacted | MessagesOmitted) -> str:
    """Say what was done to a conversation to fit the model's window."""
    match event:
        case ContextTrimmed():
            return "a tool's result was shortened to fit the model's window"
        case ContextCompacted(before, after):
            return f"{before} messages were compacted to {after}"
        case MessagesOmitted(count):
            return f"the {count} oldest messages were left out of the request"
