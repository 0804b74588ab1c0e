"""One tab of a browser: a conversation, what runs in it, and what is to be seen.

Rules:
1. What is shown of a run that has ended comes from the session, so that a reload shows the same.
   Only how long calls took is remembered besides, and until the next question an answer that was
   cut off, which the model does not get to see again.
2. A person decides about the call that was shown, whatever has begun to wait since.
3. Whatever breaks a run is shown, and the conversation goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

from agentcall.agent import Prompt
from agentcall.approvals import Decision
from agentcall.errors import AgentCallError
from agentcall.events import Event
from agentcall.messages import Image, Text, Usage
from agentcall.result import MissingOutput
from agentcall.serving.conversation import (
    Conversation,
    PendingApproval,
    get_prompt,
    list_pending,
    sum_usage,
)
from agentcall.serving.web.messages import (
    ChatMessage,
    ToolCallInfo,
    format_duration,
    render_answer,
    render_history,
    render_note,
    render_question,
)
from agentcall.serving.web.stream import ChatStreamState, poll_events
from agentcall.serving.web.view import WebChatView, format_usage
from agentcall.sessions import StoredRun

_LOG = logging.getLogger(__name__)
_MAX_SESSIONS = 100

PromptParts: TypeAlias = Sequence[Text | Image]


class CallDurations(dict[tuple[str, str], float]):
    """How long calls took, by the run's id and the call's; the oldest are forgotten."""

    limit = 10_000

    def __setitem__(self, key: tuple[str, str], seconds: float) -> None:
        super().__setitem__(key, seconds)
        while len(self) > self.limit:
            del self[next(iter(self))]


class ChatTab:
    """A conversation in a browser.

    image: reads an image that its user has uploaded. Raises UsageError for any other file.
    """

    def __init__(
        self,
        conversation: Conversation,
        durations: CallDurations,
        load_image: Callable[[str], Image],
    ) -> None:
        self.conversation = conversation
        self.load_image = load_image
        self._durations = durations
        self._runs: set[asyncio.Task[None]] = set()
        self._view = WebChatView(conversation.session.id, ())
        self._is_editing = False
        self._note = self._usage = self._partial_answer = ""

    # What a person does. Each gives what is to be seen, again and again while a run goes on.

    async def show(self) -> AsyncGenerator[WebChatView, None]:
        """Shows the conversation as it is."""
        yield await self._refresh()

    async def show_error(self, message: str) -> AsyncGenerator[WebChatView, None]:
        """Shows what is wrong with what the person did."""
        self._note = message
        yield await self._refresh()

    async def ask(self, prompt: PromptParts) -> AsyncGenerator[WebChatView, None]:
        """Asks; where the last question is being edited, in its place and with its images."""
        if prompt and not self._is_running:
            old = await self._undo_last() if self._is_editing else ()
            if old is not None:
                images = [part for part in old if isinstance(part, Image)]
                async with aclosing(self._stream_answer([*images, *prompt])) as views:
                    async for view in views:
                        yield view
                return
        yield await self._refresh()

    async def retry(self) -> AsyncGenerator[WebChatView, None]:
        """Asks the last question anew."""
        prompt = None if self._is_running else await self._undo_last()
        if prompt is None:
            yield await self._refresh()
            return
        async with aclosing(self._stream_answer(prompt)) as views:
            async for view in views:
                yield view

    async def decide(self, decision: Decision) -> AsyncGenerator[WebChatView, None]:
        """Goes on with the run whose call was shown."""
        pending = self._view.waiting
        if pending is None or self._is_running:
            yield await self._refresh()
            return
        events = self.conversation.decide({pending.call.id: decision}, pending.run_id)
        async with aclosing(self._stream_views(events, ChatStreamState(pending.run_id))) as views:
            async for view in views:
                yield view

    async def undo(self) -> AsyncGenerator[WebChatView, None]:
        """Takes the last question back, with all that came of it, and puts it into the box."""
        prompt = None if self._is_running else await self._undo_last()
        yield replace(await self._refresh(), draft=None if prompt is None else _join_text(prompt))

    async def edit(self) -> AsyncGenerator[WebChatView, None]:
        """Puts the last question into the box; what is sent next takes its place. Twice: not."""
        last = None if self._is_running else await asyncio.to_thread(self._find_last_question)
        self._is_editing = last is not None and not self._is_editing
        draft = _join_text(last) if last is not None and self._is_editing else ""
        yield replace(await self._refresh(), draft=draft)

    async def stop(self) -> AsyncGenerator[WebChatView, None]:
        """Stops the answer that is on its way."""
        await self.stop_runs()
        yield await self._refresh()

    async def start_new(self) -> AsyncGenerator[WebChatView, None]:
        """Begins a new conversation."""
        await self.stop_runs()
        self.conversation.start_new()
        self._reset()
        yield replace(await self._refresh(), draft="")

    async def open_session(self, session: str) -> AsyncGenerator[WebChatView, None]:
        """Goes on with another conversation."""
        await self.stop_runs()
        self.conversation.open(session)
        self._reset()
        yield replace(await self._refresh(), draft="")

    async def stop_runs(self) -> None:
        """Stops what runs, as the browser has gone away."""
        for task in self._runs:
            task.cancel()
        if self._runs:
            await asyncio.wait(self._runs)

    # How it is done.

    @property
    def _is_running(self) -> bool:
        return any(not task.done() for task in self._runs)

    def _reset(self) -> None:
        self._is_editing = False
        self._note = self._usage = self._partial_answer = ""

    async def _undo_last(self) -> PromptParts | None:
        """The last question, after it was taken back; None if it could not be."""
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
        only = prompt[0] if len(prompt) == 1 else None
        events = self.conversation.ask(only.text if isinstance(only, Text) else prompt)
        live = ChatStreamState()
        async with aclosing(self._stream_views(events, live, prompt)) as views:
            async for view in views:
                has_begun = live.run_id or view.is_running
                yield view if has_begun else replace(view, draft=_join_text(prompt))

    async def _stream_views(
        self, events: AsyncGenerator[Event, None], live: ChatStreamState, prompt: PromptParts = ()
    ) -> AsyncGenerator[WebChatView, None]:
        """A run as it goes on, and what there is in the end."""
        began = time.monotonic()
        self._reset()
        try:
            runs = await asyncio.to_thread(lambda: self.conversation.history)
            pending = list_pending(runs)
            asked_messages = [render_question(tuple(prompt))] if prompt else []
            before, shown = await self._render_in_thread(runs, pending, live), live.shown_calls
            async with aclosing(poll_events(events, live.apply, self._runs)) as updates:
                async for _ in updates:
                    if shown != live.shown_calls:
                        before, shown = (
                            await self._render_in_thread(runs, pending, live),
                            live.shown_calls,
                        )
                    now = await asyncio.to_thread(lambda: tuple(live.render()))
                    yield replace(
                        self._view,
                        bubbles=(*before, *asked_messages, *now),
                        is_running=True,
                        is_editing=False,
                        waiting=None,
                        usage="",
                        draft="",
                    )
        except AgentCallError as error:
            self._note = str(error)
        except Exception as error:  # whatever it is, the conversation goes on
            _LOG.exception("a run failed")
            self._note = f"{type(error).__name__}: {error}"
        self._record_run(live, time.monotonic() - began)
        yield await self._refresh()

    async def _render_in_thread(
        self, runs: Sequence[StoredRun], pending: Sequence[PendingApproval], live: ChatStreamState
    ) -> list[ChatMessage]:
        """The same, in a thread: a long conversation must not hold up the others."""
        return await asyncio.to_thread(self._render_runs, runs, pending, live.shown_calls)

    def _render_runs(
        self,
        runs: Sequence[StoredRun],
        pending: Sequence[PendingApproval],
        hidden: Collection[tuple[str, str]] = (),
    ) -> list[ChatMessage]:
        """The runs of the session, but for the calls that the one that goes on shows itself."""
        waiting = {(each.run_id, each.call.id.partition("/")[0]) for each in pending}
        return render_history(runs, ToolCallInfo(waiting, hidden, self._durations))

    def _record_run(self, live: ChatStreamState, seconds: float) -> None:
        for one in live.tool_calls:
            if one.seconds is not None and len(one.path) == 1:
                self._durations[live.run_id, one.call.id] = one.seconds
        result = live.result
        if result is None:
            self._partial_answer = live.partial_answer
            self._note = self._note or "stopped"
        else:
            if isinstance(result.answer, MissingOutput) and not result.pending:
                self._note = f"there is no answer ({result.stop_reason}): {result.answer.reason}"
            speed = f", {live.tokens_per_second:.0f} tokens/s" if live.tokens_per_second else ""
            self._usage = f"{format_usage(result.usage)}, {format_duration(seconds)}{speed}"

    async def _refresh(self) -> WebChatView:
        """What there is to be seen, out of the session."""
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

    def _format_usage(self, whole: Usage) -> str:
        if not whole.requests:
            return ""
        last = [f"This answer: {self._usage}"] if self._usage else []
        all_runs = f"Conversation: {whole.input_tokens:,} tokens in, {whole.output_tokens:,} out"
        return " · ".join([*last, all_runs])


def _to_parts(prompt: Prompt) -> PromptParts:
    if isinstance(prompt, str):
        return [Text(prompt)] if prompt else []
    return [Text(part) if isinstance(part, str) else part for part in prompt]


def _join_text(prompt: PromptParts) -> str:
    return "\n".join(part.text for part in prompt if isinstance(part, Text))
