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
from agentcall.approval import Decision
from agentcall.errors import AgentCallError
from agentcall.events import Event
from agentcall.messages import Image, Text, Usage
from agentcall.result import Missing
from agentcall.session import KeptRun, SQLiteSession
from agentcall.talk import Talk, Waiting, asked
from agentcall.web.bubbles import Bubble, Marks, answer, duration, history, note, question
from agentcall.web.live import Live
from agentcall.web.view import View, counted
from agentcall.web.watch import watched

_LOG = logging.getLogger(__name__)
_LISTED = 100

Asked: TypeAlias = Sequence[Text | Image]


class Times(dict[tuple[str, str], float]):
    """How long calls took, by the run's id and the call's; the oldest are forgotten."""

    most = 10_000

    def __setitem__(self, key: tuple[str, str], seconds: float) -> None:
        super().__setitem__(key, seconds)
        while len(self) > self.most:
            del self[next(iter(self))]


class Tab:
    """A conversation in a browser.

    image: reads an image that its user has uploaded. Raises UsageError for any other file.
    """

    def __init__(self, talk: Talk, times: Times, image: Callable[[str], Image]) -> None:
        self.talk = talk
        self.image = image
        self._times = times
        self._runs: set[asyncio.Task[None]] = set()
        self._view = View(talk.session.id, ())
        self._is_editing = False
        self._note = self._usage = self._unfinished = ""

    # What a person does. Each gives what is to be seen, again and again while a run goes on.

    async def look(self) -> AsyncGenerator[View, None]:
        """Shows the conversation as it is."""
        yield await self._now()

    async def tell(self, words: str) -> AsyncGenerator[View, None]:
        """Shows what is wrong with what the person did."""
        self._note = words
        yield await self._now()

    async def ask(self, prompt: Asked) -> AsyncGenerator[View, None]:
        """Asks; where the last question is being edited, in its place and with its images."""
        if prompt and not self._is_running:
            old = await self._taken_back() if self._is_editing else ()
            if old is not None:
                images = [part for part in old if isinstance(part, Image)]
                async with aclosing(self._asked([*images, *prompt])) as views:
                    async for view in views:
                        yield view
                return
        yield await self._now()

    async def retry(self) -> AsyncGenerator[View, None]:
        """Asks the last question anew."""
        prompt = None if self._is_running else await self._taken_back()
        if prompt is None:
            yield await self._now()
            return
        async with aclosing(self._asked(prompt)) as views:
            async for view in views:
                yield view

    async def decide(self, decision: Decision) -> AsyncGenerator[View, None]:
        """Goes on with the run whose call was shown."""
        shown = self._view.waiting
        if shown is None or self._is_running:
            yield await self._now()
            return
        events = self.talk.decide({shown.call.id: decision}, shown.run_id)
        async with aclosing(self._played(events, Live(shown.run_id))) as views:
            async for view in views:
                yield view

    async def undo(self) -> AsyncGenerator[View, None]:
        """Takes the last question back, with all that came of it, and puts it into the box."""
        taken = None if self._is_running else await self._taken_back()
        yield replace(await self._now(), draft=None if taken is None else _words(taken))

    async def edit(self) -> AsyncGenerator[View, None]:
        """Puts the last question into the box; what is sent next takes its place. Twice: not."""
        last = None if self._is_running else await asyncio.to_thread(self._last_question)
        self._is_editing = last is not None and not self._is_editing
        draft = _words(last) if last is not None and self._is_editing else ""
        yield replace(await self._now(), draft=draft)

    async def stop(self) -> AsyncGenerator[View, None]:
        """Stops the answer that is on its way."""
        await self.leave()
        yield await self._now()

    async def begin(self) -> AsyncGenerator[View, None]:
        """Begins a new conversation."""
        await self.leave()
        self.talk.clear()
        self._forget()
        yield replace(await self._now(), draft="")

    async def open(self, session: str) -> AsyncGenerator[View, None]:
        """Goes on with another conversation."""
        await self.leave()
        kept = self.talk.session
        self.talk.session = SQLiteSession(session, kept.store.path, wait=kept.wait)
        self._forget()
        yield replace(await self._now(), draft="")

    async def leave(self) -> None:
        """Stops what runs, as the browser has gone away."""
        for task in self._runs:
            task.cancel()
        if self._runs:
            await asyncio.wait(self._runs)

    # How it is done.

    @property
    def _is_running(self) -> bool:
        return any(not task.done() for task in self._runs)

    def _forget(self) -> None:
        self._is_editing = False
        self._note = self._usage = self._unfinished = ""

    async def _taken_back(self) -> Asked | None:
        """The last question, after it was taken back; None if it could not be."""
        self._forget()
        try:
            exchange = await self.talk.undo()
        except AgentCallError as error:
            self._note = str(error)
            return None
        return _parts(asked(exchange[0]))

    def _last_question(self) -> Asked | None:
        questions = [parts for run in self.talk.history if (parts := _parts(asked(run)))]
        return questions[-1] if questions else None

    async def _asked(self, prompt: Asked) -> AsyncGenerator[View, None]:
        only = prompt[0] if len(prompt) == 1 else None
        events = self.talk.ask(only.text if isinstance(only, Text) else prompt)
        live = Live()
        async with aclosing(self._played(events, live, prompt)) as views:
            async for view in views:
                has_begun = live.run_id or view.is_running
                yield view if has_begun else replace(view, draft=_words(prompt))

    async def _played(
        self, events: AsyncGenerator[Event, None], live: Live, asked: Asked = ()
    ) -> AsyncGenerator[View, None]:
        """A run as it goes on, and what there is in the end."""
        began = time.monotonic()
        self._forget()
        try:
            runs, pending = await asyncio.to_thread(lambda: (self.talk.history, self.talk.pending))
            said = [question(tuple(asked))] if asked else []
            before, shown = await self._drawn(runs, pending, live), live.shown
            async with aclosing(watched(events, live.see, self._runs)) as looks:
                async for _ in looks:
                    if shown != live.shown:
                        before, shown = await self._drawn(runs, pending, live), live.shown
                    now = await asyncio.to_thread(lambda: tuple(live.bubbles()))
                    yield replace(
                        self._view,
                        bubbles=(*before, *said, *now),
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
        self._remember(live, time.monotonic() - began)
        yield await self._now()

    async def _drawn(
        self, runs: Sequence[KeptRun], pending: Sequence[Waiting], live: Live
    ) -> list[Bubble]:
        """The same, in a thread: a long conversation must not hold up the others."""
        return await asyncio.to_thread(self._bubbles, runs, pending, live.shown)

    def _bubbles(
        self,
        runs: Sequence[KeptRun],
        pending: Sequence[Waiting],
        hidden: Collection[tuple[str, str]] = (),
    ) -> list[Bubble]:
        """The runs of the session, but for the calls that the one that goes on shows itself."""
        waiting = {(each.run_id, each.call.id.partition("/")[0]) for each in pending}
        return history(runs, Marks(waiting, hidden, self._times))

    def _remember(self, live: Live, seconds: float) -> None:
        for one in live.steps:
            if one.seconds is not None and len(one.path) == 1:
                self._times[live.run_id, one.call.id] = one.seconds
        result = live.result
        if result is None:
            self._unfinished = live.unfinished
            self._note = self._note or "stopped"
        else:
            if isinstance(result.answer, Missing) and not result.pending:
                self._note = f"there is no answer ({result.stop_reason}): {result.answer.reason}"
            speed = f", {live.speed:.0f} tokens/s" if live.speed else ""
            self._usage = f"{counted(result.usage)}, {duration(seconds)}{speed}"

    async def _now(self) -> View:
        """What there is to be seen, out of the session."""
        self._view = await asyncio.to_thread(self._seen)
        return self._view

    def _seen(self) -> View:
        talk = self.talk
        pending = talk.pending
        left = [answer(self._unfinished)] if self._unfinished else []
        noted = [note(self._note)] if self._note else []
        return View(
            talk.session.id,
            (*self._bubbles(talk.history, pending), *left, *noted),
            talk.session.store.list()[:_LISTED],
            is_running=self._is_running,
            is_editing=self._is_editing,
            waiting=pending[0] if pending else None,
            more=max(len(pending) - 1, 0),
            usage=self._usage_line(talk.usage),
        )

    def _usage_line(self, whole: Usage) -> str:
        if not whole.requests:
            return ""
        last = [f"This answer: {self._usage}"] if self._usage else []
        all_runs = f"Conversation: {whole.input_tokens:,} tokens in, {whole.output_tokens:,} out"
        return " · ".join([*last, all_runs])


def _parts(prompt: Prompt) -> Asked:
    if isinstance(prompt, str):
        return [Text(prompt)] if prompt else []
    return [Text(part) if isinstance(part, str) else part for part in prompt]


def _words(prompt: Asked) -> str:
    return "\n".join(part.text for part in prompt if isinstance(part, Text))
