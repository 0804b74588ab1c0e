"""A run that goes on, as bubbles: what its events have told so far.

A run that is looked at from time to time.
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
    ContextTrimmed,
    Event,
    HandedOver,
    LoopDetected,
    ModelAnswered,
    Nested,
    RunFinished,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallRepaired,
    ToolCallStarted,
)
from agentcall.result import RunResult
from agentcall.serving.web.messages import (
    ChatMessage,
    ToolCallView,
    render_answer,
    render_note,
    render_thinking,
    render_tool_call,
    render_waiting,
)

_MIN_INTERVAL = 0.06
"""Seconds between two looks at least: more often nobody sees."""


async def poll_events(
    events: AsyncGenerator[Event, None],
    handle: Callable[[Event], None],
    tasks: set[asyncio.Task[None]],
) -> AsyncGenerator[None, None]:
    """Hands each event to `see` at once, and yields from time to time where there is something new.

    runs: gets the task that follows the events, for as long as it does; cancelling it ends the run,
        and so does leaving the loop. Raises what the events raise.
    """
    has_news = asyncio.Event()
    has_news.set()

    async def follow() -> None:
        async with aclosing(events):
            async for event in events:
                handle(event)
                has_news.set()

    task = asyncio.create_task(follow())
    tasks.add(task)
    task.add_done_callback(lambda _: has_news.set())
    try:
        while not task.done():
            await has_news.wait()
            has_news.clear()
            shown_at = time.monotonic()
            yield
            # a long conversation takes a while to be shown; the run has half of the time
            await asyncio.sleep(max(_MIN_INTERVAL, time.monotonic() - shown_at))
        if not task.cancelled():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
        tasks.discard(task)


_MIN_SECONDS = 0.1
"""Seconds in which too little is written to say how fast."""


@dataclass(slots=True)
class _TextPart:
    """Text that arrives piece by piece."""

    text: str
    is_thinking: bool = False


class ChatStreamState:
    """Follows a run by its events; `run_id` is that of one that goes on."""

    def __init__(self, run_id: str = "") -> None:
        self._parts: list[_TextPart | ToolCallView | str] = []
        self._repairs: dict[tuple[str, ...], str] = {}
        self._output_tokens, self._writing_seconds = 0, 0.0
        self.run_id = run_id
        self.result: RunResult[Any] | None = None  # Any: of whatever agent

    @property
    def tool_calls(self) -> Iterator[ToolCallView]:
        """The tool calls so far."""
        return (part for part in self._parts if isinstance(part, ToolCallView))

    @property
    def shown_calls(self) -> frozenset[tuple[str, str]]:
        """The calls that are shown here, each by the id of the run and its own."""
        return frozenset((self.run_id, one.path[0]) for one in self.tool_calls)

    @property
    def partial_answer(self) -> str:
        """What was said of an answer that has not ended."""
        last = self._parts[-1] if self._parts else None
        return last.text if isinstance(last, _TextPart) and not last.is_thinking else ""

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second, while the model wrote; None where that cannot be said."""
        return (
            self._output_tokens / self._writing_seconds
            if self._writing_seconds > _MIN_SECONDS
            else None
        )

    def apply(self, event: Event) -> None:
        """Takes in what happened."""
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
            case ContextTrimmed():
                self._parts.append("a tool's result was shortened to fit the model's window")
            case RunStarted() | ModelAnswered() | RunFinished():
                self._apply_run_event(event)
            case _:
                self._apply_call_event(event, ())

    def render(self) -> Iterator[ChatMessage]:
        """What there is to show; it may be read in a thread while more comes."""
        parts = tuple(self._parts)
        for place, part in enumerate(parts):
            match part:
                case ToolCallView():
                    yield render_tool_call(part)
                case _TextPart(text, is_thinking=True) if text.strip():
                    is_last = place == len(parts) - 1
                    yield render_thinking(text, status="pending" if is_last else "done")
                case _TextPart(text) if text.strip():
                    yield render_answer(text)
                case str():
                    yield render_note(part)
                case _:
                    pass
        if all(isinstance(part, ToolCallView) and part.result for part in parts[-1:]):
            yield render_waiting()

    def _apply_run_event(self, event: RunStarted | ModelAnswered | RunFinished) -> None:
        match event:
            case RunStarted(run_id):
                self.run_id = run_id
            case ModelAnswered(usage, _, writing):
                self._output_tokens += usage.output_tokens
                self._writing_seconds += writing
            case RunFinished(result):
                self.result = result

    def _append_text(self, text: str, *, is_thinking: bool) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _TextPart) and last.is_thinking == is_thinking:
            last.text += text
        else:
            self._parts.append(_TextPart(text, is_thinking))

    def _apply_call_event(self, event: Event, inside: tuple[str, ...]) -> None:
        match event:
            case Nested(call_id=call_id, event=below):
                self._apply_call_event(below, (*inside, call_id))
            case ToolCallRepaired(call, rule):
                path = (*inside, call.id)
                self._repairs[path] = ", ".join(filter(None, [self._repairs.get(path), rule]))
            case ToolCallStarted(call):
                self._put_call(ToolCallView(call, path=(*inside, call.id)))
            case ApprovalRequested(call):
                self._put_call(ToolCallView(call, is_waiting=True, path=(*inside, call.id)))
            case ToolCallRefused(call, result):
                self._put_call(ToolCallView(call, result, path=(*inside, call.id)))
            case ToolCallFinished(call, result, seconds):
                self._put_call(ToolCallView(call, result, seconds, path=(*inside, call.id)))
            case _:
                pass

    def _put_call(self, view: ToolCallView) -> None:
        view = replace(view, repaired=self._repairs.get(view.path, ""))
        for place, part in enumerate(self._parts):
            if isinstance(part, ToolCallView) and part.path == view.path:
                self._parts[place] = view
                return
        self._parts.append(view)
