"""Several models as one: the first that answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agentcall.errors import ContextOverflow, ModelError, UsageError
from agentcall.models.protocol import Answer, Chosen, Model, Request


class Fallback:
    """Asks the models in order until one answers.

    Once a model has said something, its failure is the failure of the whole: what was said cannot
    be unsaid. A conversation that is too long is no reason to ask the next one.
    """

    def __init__(self, *models: Model) -> None:
        if not models:
            raise UsageError("Fallback needs at least one model")
        self.models = models

    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of the first answer. Raises the last model's ModelError."""
        for index, model in enumerate(self.models):
            spoken = False
            try:
                async for part in model.ask(request):
                    spoken = spoken or not isinstance(part, Chosen)
                    yield part
                return
            except ContextOverflow:
                raise
            except ModelError:
                if spoken or index == len(self.models) - 1:
                    raise
