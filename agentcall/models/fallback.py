"""Several models as one: the first that answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from agentcall.errors import ModelError, UsageError
from agentcall.models.protocol import (
    Model,
    ModelRequest,
    ResponseEvent,
    ResponseStart,
    collect_secrets,
)
from agentcall.models.shorthand import ModelLike, resolve_model


class Fallback:
    """Asks the models in order until one answers; each is a Model, a shorthand, or a list of these.

    Once a model has said something, its failure is the failure of the whole: what was said cannot
    be unsaid. A conversation too long for one model goes to the next, whose window may be larger.

    >>> models = Fallback("lmdeploy:internlm2_5-7b-chat", "embedded")
    """

    def __init__(self, *models: ModelLike) -> None:
        if not models:
            raise UsageError("Fallback needs at least one model")
        self.models: tuple[Model, ...] = tuple(map(resolve_model, models))

    @property
    def secrets(self) -> Collection[str]:
        """Those of all its models."""
        return collect_secrets(self.models)

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """The parts of the first answer. Raises the last model's ModelError."""
        *earlier, last = self.models
        for model in earlier:
            has_answered = False
            try:
                async for part in model.ask(request):
                    has_answered = has_answered or not isinstance(part, ResponseStart)
                    yield part
                return
            except ModelError:
                if has_answered:
                    raise
        async for part in last.ask(request):
            yield part
