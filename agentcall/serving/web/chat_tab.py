"""One browser tab: its conversation, its running answer, and its view.

Rules:
1. The messages of a finished run are rendered from the session, so that a reload shows the same.
   Only two things are kept beside it: the duration of calls and, until the next question, an
   answer that was cut off, which the model does not see again.
2. A decision applies to the call that was shown, even if another call waits meanwhile.
3. An error in a run is shown, and the conversation continues.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

from agentcall.approvals import Decision
from agentcall.errors import AgentCallError
from agentcall.events import Event
from agentcall.messages import Content, Image, Text, Usage
from agentcall.result import MissingOutput
from agentcall.serving.conversation import (
    Conversation,
    PendingApproval,
    get_prompt,
    list_pending,
    sum_usage,
)
from agentcall.serving.web.chat_messages import (
    ChatMessage,
    ToolCallInfo,
    format_duration,
    render_answer,
    render_history,
    render_note,
    render_question,
)
from agentcall.serving.web.stream_state import ChatStreamState, poll_events
from agentcall.serving.web.view import WebChatView, format_usage
from agentcall.sessions import StoredRun

_LOG = logging.getLogger(__name__)
_MAX_SESSIONS = 100

PromptParts: TypeAlias = Sequence[Text | Image]


class ChatTab:
    """A conversation in a browser tab.

    Each action of the user is an async generator of views; it yields while a run makes progress.

    load_image: returns an image that the user has uploaded; raises UsageError for any other file.
    """

    def __init__(self, conversation: Conversation, load_image: Callable[[str], Image]) -> None:
        self.conversation = conversation
        self.load_image = load_image
        self._runs: set[asyncio.Task[None]] = set()
        self._view = WebChatView(conversation.session.id, ())
        self._is_editing = False
        self._note = self._usage = self._partial_answer = ""

    async def show(self) -> AsyncGenerator[WebChatView, None]:
        """Show the conversation."""
        yield await self._refresh()

    async def show_error(self, message: str) -> AsyncGenerator[WebChatView, None]:
        """Show an error of the user's input."""
        self._note = message
        yield await self._refresh()

    async def ask(self, prompt: PromptParts) -> AsyncGenerator[WebChatView, None]:
        """Ask a question; if the last one is being edited, replace it but keep its images."""
        if prompt and not self._is_running:
            replaced = await self._undo_last() if self._is_editing else ()
            if replaced is not None:
                images = [part for part in replaced if isinstance(part, Image)]
                async with aclosing(self._stream_answer([*images, *prompt])) as views:
                    async for view in views:
                        yield view
                return
        yield await self._refresh()

    async def retry(self) -> AsyncGenerator[WebChatView, None]:
        """Ask the last question again."""
        prompt = None if self._is_running else await self._undo_last()
        if prompt is None:
            yield await self._refresh()
            return
        async with aclosing(self._stream_answer(prompt)) as views:
            async for view in views:
                yield view

    async def decide(self, decision: Decision) -> AsyncGenerator[WebChatView, None]:
        """Resume the run whose call was shown."""
        pending = self._view.waiting
        if pending is None or self._is_running:
            yield await self._refresh()
            return
        events = self.conversation.decide({pending.call.id: decision}, pending.run_id)
        async with aclosing(self._stream_views(events, ChatStreamState(pending.run_id))) as views:
            async for view in views:
                yield view

    async def undo(self) -> AsyncGenerator[WebChatView, None]:
        """Remove the last question and its answer, and put the question into the input box."""
        prompt = None if self._is_running else await self._undo_last()
        yield replace(await self._refresh(), draft=None if prompt is None else _join_text(prompt))

    async def edit(self) -> AsyncGenerator[WebChatView, None]:
        """Put the last question into the input box to be replaced; a second call cancels that."""
        last = None if self._is_running else await asyncio.to_thread(self._find_last_question)
        self._is_editing = last is not None and not self._is_editing
        draft = _join_text(last) if last is not None and self._is_editing else ""
        yield replace(await self._refresh(), draft=draft)

    async def stop(self) -> AsyncGenerator[WebChatView, None]:
        """Stop the running answer."""
        await self.stop_runs()
        yield await self._refresh()

    async def start_new(self) -> AsyncGenerator[WebChatView, None]:
        """Start a new conversation."""
        await self.stop_runs()
        self.conversation.start_new()
        self._reset()
        yield replace(await self._refresh(), draft="")

    async def open_session(self, session: str) -> AsyncGenerator[WebChatView, None]:
        """Continue another conversation."""
        await self.stop_runs()
        self.conversation.open(session)
        self._reset()
        yield replace(await self._refresh(), draft="")

    async def stop_runs(self) -> None:
        """Stop all runs of this tab, for example when the browser has disconnected."""
        for task in self._runs:
            task.cancel()
        if self._runs:
            await asyncio.wait(self._runs)

    @property
    def _is_running(self) -> bool:
        return any(not task.done() for task in self._runs)

    def _reset(self) -> None:
        self._is_editing = False
        self._note = self._usage = self._partial_answer = ""

    async def _undo_last(self) -> PromptParts | None:
        """Remove the last question and return it, or note the error and return None."""
        self._reset()
        try:
            exchange = await self.conversation.undo()
        except AgentCallError as error:
            self._note = str(error)
            return None
        return _to_parts(get_prompt(exchange[0]))

    def _find_last_question(self) -> PromptParts | None:
        questions = [
            parts for run in self.conversation.history if (parts := _to_parts(get_prompt(run)))
        ]
        return questions[-1] if questions else None

    async def _stream_answer(self, prompt: PromptParts) -> AsyncGenerator[WebChatView, None]:
        part = prompt[0] if len(prompt) == 1 else None
        events = self.conversation.ask(part.text if isinstance(part, Text) else prompt)
        state = ChatStreamState()
        async with aclosing(self._stream_views(events, state, prompt)) as views:
            async for view in views:
                has_begun = state.run_id or view.is_running
                yield view if has_begun else replace(view, draft=_join_text(prompt))

    async def _stream_views(
        self, events: AsyncGenerator[Event, None], state: ChatStreamState, prompt: PromptParts = ()
    ) -> AsyncGenerator[WebChatView, None]:
        """Yield views while a run executes, and the final one."""
        started = time.monotonic()
        self._reset()
        try:
            runs = await asyncio.to_thread(lambda: self.conversation.history)
            pending = list_pending(runs)
            question = [render_question(tuple(prompt))] if prompt else []
            history: list[ChatMessage] = []
            hidden: frozenset[tuple[str, str]] | None = None
            async with aclosing(poll_events(events, state.apply, self._runs)) as updates:
                async for _ in updates:
                    # In threads, as a long conversation must not delay the other tabs.
                    if hidden != state.shown_calls:
                        hidden = state.shown_calls
                        history = await asyncio.to_thread(self._render_runs, runs, pending, hidden)
                    current = await asyncio.to_thread(lambda: tuple(state.render()))
                    yield replace(
                        self._view,
                        bubbles=(*history, *question, *current),
                        is_running=True,
                        is_editing=False,
                        waiting=None,
                        usage="",
                        draft="",
                    )
        except AgentCallError as error:
            self._note = str(error)
        except Exception as error:  # a tool or model may raise anything; the conversation stays
            _LOG.exception("a run failed")
            self._note = f"{type(error).__name__}: {error}"
        self._record_run(state, time.monotonic() - started)
        yield await self._refresh()

    def _render_runs(
        self,
        runs: Sequence[StoredRun],
        pending: Sequence[PendingApproval],
        hidden: Collection[tuple[str, str]] = (),
    ) -> list[ChatMessage]:
        """Render the session's runs, except the calls that the running answer shows itself."""
        waiting = {(item.run_id, item.call.id.partition("/")[0]) for item in pending}
        return render_history(runs, ToolCallInfo(waiting, hidden))

    def _record_run(self, state: ChatStreamState, seconds: float) -> None:
        result = state.result
        if result is None:
            self._partial_answer = state.partial_answer
            self._note = self._note or "stopped"
        else:
            if isinstance(result.answer, MissingOutput) and not result.pending:
                self._note = f"there is no answer ({result.stop_reason}): {result.answer.reason}"
            rate = result.usage.tokens_per_second
            speed = f", {rate:.0f} tokens/s" if rate else ""
            self._usage = f"{format_usage(result.usage)}, {format_duration(seconds)}{speed}"

    async def _refresh(self) -> WebChatView:
        """Return a new view from the session."""
        self._view = await asyncio.to_thread(self._build_view)
        return self._view

    def _build_view(self) -> WebChatView:
        conversation = self.conversation
        history = conversation.history
        pending = list_pending(history)
        partial = [render_answer(self._partial_answer)] if self._partial_answer else []
        notes = [render_note(self._note)] if self._note else []
        return WebChatView(
            conversation.session.id,
            (*self._render_runs(history, pending), *partial, *notes),
            tuple(conversation.session.list_sessions()[:_MAX_SESSIONS]),
            is_running=self._is_running,
            is_editing=self._is_editing,
            waiting=pending[0] if pending else None,
            more=max(len(pending) - 1, 0),
            usage=self._format_usage(sum_usage(history)),
        )

    def _format_usage(self, total: Usage) -> str:
        if not total.requests:
            return ""
        answer = [f"This answer: {self._usage}"] if self._usage else []
        conversation = (
            f"Conversation: {total.input_tokens:,} tokens in, {total.output_tokens:,} out"
        )
        return " · ".join([*answer, conversation])


def _to_parts(prompt: Content) -> PromptParts:
    if isinstance(prompt, str):
        return [Text(prompt)] if prompt else []
    return prompt


def _join_text(prompt: PromptParts) -> str:
    return "\n".join(part.text for part in prompt if isinstance(part, Text))
