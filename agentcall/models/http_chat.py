"""`HTTPChat`: a model on an OpenAI-compatible server, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection
from dataclasses import dataclass

from agentcall.dialects.dialect import Dialect
from agentcall.messages import JSON
from agentcall.models.capabilities import CHAT_PATH, DialectChoice, choose_dialect
from agentcall.models.chat_completions import ChatClient
from agentcall.models.http import HTTPEndpoint
from agentcall.models.model import ModelRequest, ResponseEvent
from agentcall.settings import ModelSettings


class HTTPChat:
    """A model on an OpenAI-compatible server.

    endpoint: the server, or its base URL, which usually ends in `/v1`.
    model: the model's name on the server, or the last part of its path; None selects the first
        model that the server lists.
    dialect: how tools are offered and calls are read; "auto" probes the server once.
    """

    def __init__(
        self,
        endpoint: HTTPEndpoint | str,
        model: str | None = None,
        *,
        dialect: Dialect | str = "auto",
        settings: ModelSettings | None = None,
    ) -> None:
        self.endpoint = endpoint if isinstance(endpoint, HTTPEndpoint) else HTTPEndpoint(endpoint)
        self.model = model
        self.dialect = dialect
        self._chat_client = ChatClient(
            _HTTPTransport(self.endpoint),
            self._choose_dialect,
            settings,
            url=self.endpoint.display_url,
        )

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one answer. Raises ModelError."""
        return self._chat_client.ask(request)

    @property
    def secrets(self) -> Collection[str]:
        """The server's keys and passwords, which no output may contain."""
        return self._chat_client.secrets

    async def resolve_dialect(self) -> DialectChoice:
        """Return the model's full name, the dialect and the reason; asks the server once."""
        return await self._chat_client.resolve_dialect()

    async def _choose_dialect(self) -> DialectChoice:
        return await choose_dialect(self.endpoint, self.model, self.dialect)

    def __repr__(self) -> str:
        return f"HTTPChat({self.endpoint.display_url!r}, {self.model!r})"


@dataclass(frozen=True, slots=True)
class _HTTPTransport:
    endpoint: HTTPEndpoint

    @property
    def secrets(self) -> Collection[str]:
        return self.endpoint.secrets

    def post(self, body: bytes) -> Awaitable[JSON]:
        return self.endpoint.post(CHAT_PATH, body)

    def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        return self.endpoint.stream(CHAT_PATH, body)
