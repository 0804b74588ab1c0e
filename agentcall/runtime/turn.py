"""One turn of the model: what it said, thought and called, and how its answer ended.

A model that has answered before and cannot be reached has `RETURN` seconds to come back: a server
that is started anew needs them, and a run of many steps is worth the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from agentcall.dialects.base import MalformedCallPart, TextPart, ThinkingPart, ToolCallPart
from agentcall.dialects.parsers.stream import RetractedPart
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
from agentcall.models.base import (
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseStart,
    close_response,
)

RECONNECT_SECONDS = 30.0
_RETRY_PAUSE = 0.5


class ModelTurn(NamedTuple):
    """What one answer came to; `finish` is None for an answer that was cut."""

    text: str
    thinking: str
    calls: tuple[ToolCallPart, ...]
    broken: tuple[MalformedCallPart, ...]
    finish: str | None
    usage: Usage


class ModelCaller:
    """Asks a model for its turns; `lost` is what those answers used that were of no use."""

    def __init__(self, model: Model, emit: Callable[[Event], None] | None = None) -> None:
        self._model = model
        self._emit = emit
        self._dialect: tuple[str, str] | None = None
        self._unreachable_since: float | None = None
        self._has_answered = False
        self.wasted_usage = _NO_USAGE

    async def request_turn(
        self, request: ModelRequest, reserve_retry: Callable[[], bool]
    ) -> ModelTurn:
        """A turn with an end; an answer that is cut or garbled is asked for `again`, where it may.

        The turn's usage is that of all tries. Raises ModelError.
        """
        self.wasted_usage = _NO_USAGE
        while True:
            failure: ModelError = CutAnswer("the stream ended before the answer did")
            try:
                turn = await self.request_once(request)
            except ModelUnreachable as error:
                await self._wait_for_server(error)
                continue
            except BadAnswer as error:
                usage = Usage(1)
                failure = error
            else:
                usage, self._unreachable_since = turn.usage, None
                if turn.finish is not None:
                    self._has_answered = True
                    return (
                        turn
                        if self.wasted_usage is _NO_USAGE
                        else turn._replace(usage=self.wasted_usage + usage)
                    )
            self._has_answered = True
            self.wasted_usage += usage
            if not reserve_retry():
                raise failure
            self._emit_event(AnswerDiscarded(str(failure)))

    async def request_once(self, request: ModelRequest) -> ModelTurn:
        """What the model answers once; its text is told as it arrives."""
        parts: list[ResponseEvent] = []
        clock = None if self._emit is None else _ResponseTimer()
        answer = self._model.ask(request)
        try:
            async for part in answer:
                if clock is not None:
                    self._emit_part(part, clock)
                parts.append(part)
        finally:
            await close_response(answer)
        return build_turn(parts)

    async def _wait_for_server(self, error: ModelUnreachable) -> None:
        """Waits a moment. Raises the error of a model that never answered, or is gone for good."""
        now = monotonic()
        self._unreachable_since = (
            now if self._unreachable_since is None else self._unreachable_since
        )
        if not self._has_answered or now - self._unreachable_since > RECONNECT_SECONDS:
            raise error
        self._emit_event(AnswerDiscarded(str(error)))
        await asyncio.sleep(_RETRY_PAUSE)

    def _emit_part(self, part: ResponseEvent, clock: _ResponseTimer) -> None:
        match part:
            case ResponseEnd(_, usage):
                self._emit_event(clock.finish(usage))
            case TextPart(text):
                self._emit_event(TextDelta(text))
            case RetractedPart(thinking, said):
                self._emit_correction(thinking, said)
            case ThinkingPart(text):
                self._emit_event(ThinkingDelta(text))
            case ResponseStart(dialect, reason) if (dialect, reason) != self._dialect:
                self._dialect = (dialect, reason)
                self._emit_event(DialectChosen(dialect, reason))
            case _:
                pass
        clock.observe(part)

    def _emit_correction(self, thinking: str, said: str) -> None:
        """What was told of the answer so far is void; this is what it was."""
        self._emit_event(
            AnswerDiscarded("it was thinking" if thinking else "it was read otherwise")
        )
        if thinking:
            self._emit_event(ThinkingDelta(thinking))
        if said:
            self._emit_event(TextDelta(said))

    def _emit_event(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)


class _ResponseTimer:
    """How long an answer takes, and how long of that it is being written."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._first = 0.0

    def observe(self, part: ResponseEvent) -> None:
        """The first part that is of the answer itself counts."""
        if not self._first and not isinstance(part, ResponseStart):
            self._first = monotonic()

    def finish(self, usage: Usage) -> ModelAnswered:
        """The answer is over."""
        now = monotonic()
        return ModelAnswered(usage, now - self._began, now - (self._first or now))


def build_turn(parts: list[ResponseEvent]) -> ModelTurn:
    """The turn that the parts of an answer make."""
    text: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCallPart] = []
    broken: list[MalformedCallPart] = []
    ended = _NO_END
    for part in parts:
        match part:
            case TextPart():
                text.append(part.text)
            case ToolCallPart():
                calls.append(part)
            case ResponseEnd():
                ended = part
            case ResponseStart():
                pass
            case RetractedPart():
                text, calls, broken = [part.kept_text], [], []
                thinking = [] if part.opener == "" else thinking
                thinking.append(part.text)
            case ThinkingPart():
                thinking.append(part.text)
            case MalformedCallPart():
                broken.append(part)
    answer, thoughts = "".join(text), "".join(thinking)
    return ModelTurn(
        answer, thoughts, tuple(calls), tuple(broken), ended.finish_reason, ended.usage
    )


_NO_END = ResponseEnd(None, Usage(1))
_NO_USAGE = Usage()
