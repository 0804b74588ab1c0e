"""One turn of the model: its text, thinking and tool calls, and how its answer ended.

A model that has answered before and cannot be reached has `RECONNECT_SECONDS` to come back: a
server that restarts needs them, and a run of many steps is worth the wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import NamedTuple

from typing_extensions import assert_never

from agentcall.dialects.answer_parts import MalformedCallPart, TextPart, ThinkingPart, ToolCallPart
from agentcall.dialects.parsers.response_parser import RetractedPart
from agentcall.display import to_single_line
from agentcall.errors import BadAnswer, CutAnswer, ModelError, ModelUnreachable
from agentcall.events import (
    AnswerDiscarded,
    DialectChosen,
    Event,
    ModelAnswered,
    ModelProgress,
    ServerAdapted,
    TextDelta,
    ThinkingDelta,
)
from agentcall.messages import Usage
from agentcall.models.model import (
    BEFORE_ANSWER,
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseProgress,
    ResponseStart,
    close_response,
    measure_writing,
)

_log = logging.getLogger("agentcall.models")

RECONNECT_SECONDS = 30.0
_RETRY_PAUSE = 0.5

_NO_END = ResponseEnd(None, Usage(1))
_NO_USAGE = Usage()


class ModelTurn(NamedTuple):
    """One answer of a model; `finish` is None for an answer that was cut."""

    text: str
    thinking: str
    calls: tuple[ToolCallPart, ...]
    broken: tuple[MalformedCallPart, ...]
    finish: str | None
    usage: Usage


class ModelCaller:
    """Asks a model for its turns; `wasted_usage` is the usage of the answers it discarded.

    name: in the usage of a model that does not tell its name.
    """

    def __init__(
        self,
        model: Model,
        emit: Callable[[Event], None] | None = None,
        name: str = "",
    ) -> None:
        self._model = model
        self._name = name
        self._emit = emit
        self._dialect: tuple[str, str] | None = None
        self._adapted: set[str] = set()
        self._unreachable_since: float | None = None
        self._has_answered = False
        self.wasted_usage = _NO_USAGE

    async def request_turn(
        self, request: ModelRequest, reserve_retry: Callable[[], bool]
    ) -> ModelTurn:
        """Return a complete turn; retry an answer that is cut or garbled if `reserve_retry` allows.

        The turn's usage includes all attempts. Raises ModelError.
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
                usage, failure = Usage(1), error
            else:
                usage, self._unreachable_since = turn.usage, None
                if turn.finish is not None:
                    self._has_answered = True
                    if self.wasted_usage is not _NO_USAGE:
                        wasted = replace(self.wasted_usage, model=usage.model)
                        turn = turn._replace(usage=wasted + usage)
                    return turn
            self._has_answered = True
            self.wasted_usage += usage
            if not reserve_retry():
                raise failure
            _log.warning("asking the model again: %s", to_single_line(str(failure)))
            self._emit_event(AnswerDiscarded(str(failure)))

    async def request_once(self, request: ModelRequest) -> ModelTurn:
        """Return one answer of the model; its text is reported as it arrives."""
        parts: list[ResponseEvent] = []
        started_at, first_at = monotonic(), 0.0
        answer = self._model.ask(request)
        try:
            async for part in answer:
                if self._emit is not None:
                    if not first_at and not isinstance(part, BEFORE_ANSWER):
                        first_at = monotonic()
                    self._emit_part(part)
                parts.append(part)
        finally:
            await close_response(answer)
        turn = build_turn(parts)
        if not turn.usage.requests:  # a program continued (`models/code_mode.py`)
            return turn
        if not turn.usage.model:  # the model of an application, which measures nothing
            seconds = monotonic() - started_at
            waited = first_at - started_at if first_at else None
            name = next((part.model for part in parts if isinstance(part, ResponseStart)), "")
            usage = replace(
                turn.usage,
                seconds=seconds,
                writing=measure_writing(seconds, waited),
                first_token=waited,
                model=name or self._name,
            )
            turn = turn._replace(usage=usage)
        if self._emit is not None:
            self._emit(ModelAnswered(turn.usage, turn.usage.seconds, turn.usage.writing))
        return turn

    async def _wait_for_server(self, error: ModelUnreachable) -> None:
        """Wait a moment. Raises the error if the model never answered, or does not come back."""
        now = monotonic()
        if self._unreachable_since is None:
            self._unreachable_since = now
        if not self._has_answered or now - self._unreachable_since > RECONNECT_SECONDS:
            raise error
        _log.warning("waiting for the model's server: %s", to_single_line(str(error)))
        self._emit_event(AnswerDiscarded(str(error)))
        await asyncio.sleep(_RETRY_PAUSE)

    def _emit_part(self, part: ResponseEvent) -> None:
        match part:
            case TextPart(text):
                self._emit_event(TextDelta(text))
            case RetractedPart(thinking, text):
                self._emit_correction(thinking, text)
            case ThinkingPart(text):
                self._emit_event(ThinkingDelta(text))
            case ResponseProgress(stage, done, total):
                self._emit_event(ModelProgress(stage, done, total))
            case ResponseStart(dialect, reason, _, _, adaptations):
                if (dialect, reason) != self._dialect:
                    self._dialect = (dialect, reason)
                    self._emit_event(DialectChosen(dialect, reason))
                if adaptations:
                    self._emit_adaptations(adaptations)
            case _:
                pass

    def _emit_adaptations(self, adaptations: tuple[tuple[str, str], ...]) -> None:
        for name, reason in adaptations:
            if name not in self._adapted:
                self._adapted.add(name)
                self._emit_event(ServerAdapted(name, reason))

    def _emit_correction(self, thinking: str, text: str) -> None:
        """Discard the text that was reported, and report what it was in fact."""
        self._emit_event(
            AnswerDiscarded("it was thinking" if thinking else "it was parsed in another way")
        )
        if thinking:
            self._emit_event(ThinkingDelta(thinking))
        if text:
            self._emit_event(TextDelta(text))

    def _emit_event(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)


def build_turn(parts: list[ResponseEvent]) -> ModelTurn:
    """Build the turn from the parts of an answer."""
    text: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCallPart] = []
    broken: list[MalformedCallPart] = []
    end = _NO_END
    for part in parts:
        match part:
            case TextPart():
                text.append(part.text)
            case ToolCallPart():
                calls.append(part)
            case ResponseEnd():
                end = part
            case ResponseStart() | ResponseProgress():
                pass
            case RetractedPart():
                text, calls, broken = [part.kept_text], [], []
                thinking = [] if part.opener == "" else thinking
                thinking.append(part.text)
            case ThinkingPart():
                thinking.append(part.text)
            case MalformedCallPart():
                broken.append(part)
            case _:
                assert_never(part)
    return ModelTurn(
        "".join(text), "".join(thinking), tuple(calls), tuple(broken), end.finish_reason, end.usage
    )
