"""A model that is asked no faster than somebody allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from time import monotonic

from agentcall.errors import UsageError
from agentcall.models.protocol import Model, ModelRequest, ResponseEvent, collect_secrets


class RateLimitedModel:
    """The model, its requests begun at least so far apart as `per_second` says.

    Raises UsageError for a rate that is not above 0.
    """

    def __init__(self, model: Model, per_second: float) -> None:
        if not per_second > 0:
            raise UsageError(f"a rate of {per_second!r} requests a second is not above 0")
        self._model = model
        self._interval = 1 / per_second
        self._next_start = 0.0

    @property
    def secrets(self) -> Collection[str]:
        """Those of the model."""
        return collect_secrets([self._model])

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """The parts of the model's answer, once it may be asked."""
        now = monotonic()
        begin = max(now, self._next_start)
        self._next_start = begin + self._interval
        await asyncio.sleep(begin - now)
        async for part in self._model.ask(request):
            yield part
