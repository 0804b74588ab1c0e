"""Models that wrap other models: `Fallback` asks in order, `RateLimitedModel` limits a rate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from time import monotonic

from agentcall.display import to_single_line
from agentcall.errors import ModelError, UsageError
from agentcall.models.model import (
    BEFORE_ANSWER,
    Model,
    ModelRequest,
    ResponseEvent,
    collect_secrets,
    find_context_window,
)
from agentcall.models.resolve import ModelLike, resolve_model

_log = logging.getLogger("agentcall.models")


class RateLimitedModel:
    """Limits how many requests per second are sent to a model.

    Requests are spaced evenly: each one waits until `1 / per_second` seconds after the start of
    the one before. Raises UsageError for a rate that is not above 0.
    """

    def __init__(self, model: Model, per_second: float) -> None:
        if not per_second > 0:
            raise UsageError(f"a rate of {per_second!r} requests a second is not above 0")
        self._model = model
        self._interval = 1 / per_second
        self._next_start = 0.0

    @property
    def secrets(self) -> Collection[str]:
        """The secrets of the model."""
        return collect_secrets([self._model])

    async def find_context_window(self) -> int | None:
        """Return the window of the model in tokens; None if it is not known."""
        return await find_context_window(self._model)

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Wait for the request's turn, then yield the parts of the model's answer."""
        now = monotonic()
        start = max(now, self._next_start)
        self._next_start = start + self._interval
        await asyncio.sleep(start - now)
        async for part in self._model.ask(request):
            yield part


class Fallback:
    """Asks the models in order until one answers; each is a Model, a shorthand, or a list of these.

    After a model's first part its failure is final, because the part has already been passed on.
    A conversation that is too long for one model goes to the next, whose window may be larger.

    >>> models = Fallback("lmdeploy:internlm2_5-7b-chat", "embedded")
    """

    def __init__(self, *models: ModelLike) -> None:
        if not models:
            raise UsageError("Fallback needs at least one model")
        self.models: tuple[Model, ...] = tuple(map(resolve_model, models))

    @property
    def secrets(self) -> Collection[str]:
        """The secrets of all models."""
        return collect_secrets(self.models)

    async def find_context_window(self) -> int | None:
        """Return the largest window of the models in tokens; None if one is not known."""
        windows = [await find_context_window(model) for model in self.models]
        known = [window for window in windows if window is not None]
        return max(known) if len(known) == len(windows) else None

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of the first answer. Raises the last model's ModelError."""
        *earlier, last = self.models
        for model in earlier:
            has_answered = False
            try:
                async for part in model.ask(request):
                    has_answered = has_answered or not isinstance(part, BEFORE_ANSWER)
                    yield part
                return
            except ModelError as error:
                if has_answered:
                    raise
                _log.warning("asking the next model: %s", to_single_line(str(error)))
        async for part in last.ask(request):
            yield part
