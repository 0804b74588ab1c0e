"""A model that is asked no faster than somebody allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from time import monotonic

from agentcall.errors import UsageError
from agentcall.models.protocol import Answer, Model, Request, secrets_of


class Paced:
    """The model, its requests begun at least so far apart as `per_second` says.

    Raises UsageError for a rate that is not above 0.
    """

    def __init__(self, model: Model, per_second: float) -> None:
        if not per_second > 0:
            raise UsageError(f"a rate of {per_second!r} requests a second is not above 0")
        self._model = model
        self._apart = 1 / per_second
        self._next = 0.0

    @property
    def secrets(self) -> Collection[str]:
        """Those of the model."""
        return secrets_of([self._model])

    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of the model's answer, once it may be asked."""
        now = monotonic()
        begin = max(now, self._next)
        self._next = begin + self._apart
        await asyncio.sleep(begin - now)
        async for part in self._model.ask(request):
            yield part
