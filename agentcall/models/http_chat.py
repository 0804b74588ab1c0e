"""A model on any OpenAI-compatible server, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection
from dataclasses import dataclass

from agentcall.dialects.protocol import Dialect
from agentcall.messages import JSON
from agentcall.models.dialogue import Dialogue
from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import PATH
from agentcall.models.probe import Choice, choose
from agentcall.models.protocol import Answer, Request, Settings


class HTTPChat:
    """A model on an OpenAI-compatible server.

    endpoint: the server, or its base URL, which usually ends in `/v1`.
    model: the model's name there; a name's last part will do; None takes the first it serves.
    dialect: how tools are offered and calls are read; "auto" asks the server once.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        model: str | None = None,
        *,
        dialect: Dialect | str = "auto",
        settings: Settings | None = None,
    ) -> None:
        self.endpoint = endpoint if isinstance(endpoint, Endpoint) else Endpoint(endpoint)
        self.model = model
        self.dialect = dialect
        self._dialogue = Dialogue(
            _Wire(self.endpoint), self._chosen, settings, place=self.endpoint.place
        )

    def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of one answer. Raises ModelError."""
        return self._dialogue.ask(request)

    @property
    def secrets(self) -> Collection[str]:
        """What nothing that is shown of the model may hold."""
        return self._dialogue.secrets

    async def choice(self) -> Choice:
        """The model's full name, the dialect and why; asked of the server once."""
        return await self._dialogue.choice()

    async def _chosen(self) -> Choice:
        return await choose(self.endpoint, self.model, self.dialect)

    def __repr__(self) -> str:
        return f"HTTPChat({self.endpoint.place!r}, {self.model!r})"


@dataclass(frozen=True, slots=True)
class _Wire:
    endpoint: Endpoint

    @property
    def secrets(self) -> Collection[str]:
        return self.endpoint.secrets

    def post(self, body: bytes) -> Awaitable[JSON]:
        return self.endpoint.post(PATH, body)

    def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        return self.endpoint.stream(PATH, body)
