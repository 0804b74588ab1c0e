"""One turn of the model: what it said, thought and called, and how its answer ended.

A model that has answered before and cannot be reached has `RETURN` seconds to come back: a server
that is started anew needs them, and a run of many steps is worth the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from agentcall.dialects.parts import Broken, Called, Said, Thought
from agentcall.dialects.reading import Reconsidered
from agentcall.errors import BadAnswer, CutAnswer, ModelError, ModelUnreachable
from agentcall.events import (
    AnswerDiscarded,
    DialectChosen,
    Event,
    ModelAnswered,
    TextDelta,
    ThinkingDelta,
)
from agentcall.messages import Usage
from agentcall.models.protocol import Answer, Chosen, Ended, Model, Request, closed

RETURN = 30.0
_PAUSE = 0.5


class Turn(NamedTuple):
    """What one answer came to; `finish` is None for an answer that was cut."""

    text: str
    thinking: str
    calls: tuple[Called, ...]
    broken: tuple[Broken, ...]
    finish: str | None
    usage: Usage


class Listener:
    """Asks a model for its turns; `lost` is what those answers used that were of no use."""

    def __init__(self, model: Model, emit: Callable[[Event], None] | None = None) -> None:
        self._model = model
        self._emit = emit
        self._dialect: tuple[str, str] | None = None
        self._gone: float | None = None
        self._has_answered = False
        self.lost = _NOTHING

    async def whole(self, request: Request, again: Callable[[], bool]) -> Turn:
        """A turn with an end; an answer that is cut or garbled is asked for `again`, where it may.

        The turn's usage is that of all tries. Raises ModelError.
        """
        self.lost = _NOTHING
        while True:
            fault: ModelError = CutAnswer("the stream ended before the answer did")
            try:
                turn = await self.turn(request)
            except ModelUnreachable as error:
                await self._wait_for_return(error)
                continue
            except BadAnswer as error:
                spent = Usage(1)
                fault = error
            else:
                spent, self._gone = turn.usage, None
                if turn.finish is not None:
                    self._has_answered = True
                    return turn if self.lost is _NOTHING else turn._replace(usage=self.lost + spent)
            self._has_answered = True
            self.lost += spent
            if not again():
                raise fault
            self._tell(AnswerDiscarded(str(fault)))

    async def turn(self, request: Request) -> Turn:
        """What the model answers once; its text is told as it arrives."""
        parts: list[Answer] = []
        clock = None if self._emit is None else _Clock()
        answer = self._model.ask(request)
        try:
            async for part in answer:
                if clock is not None:
                    self._tell_part(part, clock)
                parts.append(part)
        finally:
            await closed(answer)
        return turn_of(parts)

    async def _wait_for_return(self, error: ModelUnreachable) -> None:
        """Waits a moment. Raises the error of a model that never answered, or is gone for good."""
        now = monotonic()
        self._gone = now if self._gone is None else self._gone
        if not self._has_answered or now - self._gone > RETURN:
            raise error
        self._tell(AnswerDiscarded(str(error)))
        await asyncio.sleep(_PAUSE)

    def _tell_part(self, part: Answer, clock: _Clock) -> None:
        match part:
            case Ended(_, usage):
                self._tell(clock.stopped(usage))
            case Said(text):
                self._tell(TextDelta(text))
            case Reconsidered(thinking, said):
                self._tell_again(thinking, said)
            case Thought(text):
                self._tell(ThinkingDelta(text))
            case Chosen(dialect, reason) if (dialect, reason) != self._dialect:
                self._dialect = (dialect, reason)
                self._tell(DialectChosen(dialect, reason))
            case _:
                pass
        clock.hear(part)

    def _tell_again(self, thinking: str, said: str) -> None:
        """What was told of the answer so far is void; this is what it was."""
        self._tell(AnswerDiscarded("it was thinking" if thinking else "it was read otherwise"))
        if thinking:
            self._tell(ThinkingDelta(thinking))
        if said:
            self._tell(TextDelta(said))

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)


class _Clock:
    """How long an answer takes, and how long of that it is being written."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._first = 0.0

    def hear(self, part: Answer) -> None:
        """The first part that is of the answer itself counts."""
        if not self._first and not isinstance(part, Chosen):
            self._first = monotonic()

    def stopped(self, usage: Usage) -> ModelAnswered:
        """The answer is over."""
        now = monotonic()
        return ModelAnswered(usage, now - self._began, now - (self._first or now))


def turn_of(parts: list[Answer]) -> Turn:
    """The turn that the parts of an answer make."""
    text: list[str] = []
    thinking: list[str] = []
    calls: list[Called] = []
    broken: list[Broken] = []
    ended = _CUT
    for part in parts:
        match part:
            case Said():
                text.append(part.text)
            case Called():
                calls.append(part)
            case Ended():
                ended = part
            case Chosen():
                pass
            case Reconsidered():
                text, calls, broken = [part.said], [], []
                thinking = [] if part.opener == "" else thinking
                thinking.append(part.text)
            case Thought():
                thinking.append(part.text)
            case Broken():
                broken.append(part)
    said, thought = "".join(text), "".join(thinking)
    return Turn(said, thought, tuple(calls), tuple(broken), ended.finish, ended.usage)


_CUT = Ended(None, Usage(1))
_NOTHING = Usage()
