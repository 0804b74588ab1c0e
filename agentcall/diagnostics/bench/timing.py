"""Times the answers of a model from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic

from agentcall.messages import Usage
from agentcall.models.base import (
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseStart,
    close_response,
)


@dataclass(frozen=True, slots=True)
class AnswerTiming:
    """One whole answer; times in seconds since the request was made.

    `first` and `last` are when the first and the last part came, `parts` how many there were.
    """

    seconds: float
    first: float
    last: float
    parts: int
    usage: Usage

    @property
    def rate(self) -> float | None:
        """Tokens a second once the first was there; None where it did not come in pieces."""
        pieces = self.parts > 1 and self.last > self.first and self.usage.output_tokens > 1
        return (self.usage.output_tokens - 1) / (self.last - self.first) if pieces else None


class TimedModel:
    """A model that answers as another does, and keeps the time of each whole answer in `spans`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.timings: list[AnswerTiming] = []

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """The other's parts. Raises ModelError."""
        began = monotonic()
        times: list[float] = []
        answer = self._model.ask(request)
        try:
            async for part in answer:
                if isinstance(part, ResponseEnd):
                    self._record(part, began, times)
                elif not isinstance(part, ResponseStart):
                    times.append(monotonic() - began)
                yield part
        finally:
            await close_response(answer)

    def _record(self, end: ResponseEnd, began: float, times: list[float]) -> None:
        if end.finish_reason is None:
            return
        now = monotonic() - began
        first, last = (times[0], times[-1]) if times else (now, now)
        self.timings.append(AnswerTiming(now, first, last, len(times), end.usage))
