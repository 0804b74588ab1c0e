"""`HTTPChat`: a model on an OpenAI-compatible server, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from ssl import SSLContext
from time import monotonic
from typing import Any

from agentcall.dialects.dialect import Dialect
from agentcall.errors import ModelError, UsageError
from agentcall.messages import JSON
from agentcall.models.adaptations import REMEMBER_SECONDS, LearnedAdaptation, get_learned
from agentcall.models.capabilities import (
    CHAT_PATH,
    DialectChoice,
    choose_dialect,
    forget_choice,
    identify_server,
)
from agentcall.models.chat_completions import ChatClient, ChatTransport
from agentcall.models.context_window import fetch_context_window
from agentcall.models.http import HTTPEndpoint
from agentcall.models.model import ModelRequest, ResponseEvent
from agentcall.settings import ModelSettings, merge_headers

_RETRY_SECONDS = 1.0
_LOADS_LATE = ("ollama", "organization_owner")
"""Ollama and LM Studio know the window of a model once its first request has loaded it. They are
asked again after a second, as are servers that did not answer."""


class HTTPChat:
    """A model on an OpenAI-compatible server.

    endpoint: the server, or its base URL, which usually ends in `/v1`.
    model: the model's name on the server, or the last part of its path; None selects the first
        model that the server lists.
    dialect: how tools are offered and calls are read; "auto" probes the server once.
    settings: those of an agent or a run replace them, one by one.
    api_key, proxy, headers, ssl, timeout: of the connection to the server, as in `HTTPEndpoint`.

    >>> model = HTTPChat("https://gpu.example/v1", proxy="http://proxy.example:3128", timeout=60)
    """

    def __init__(
        self,
        endpoint: HTTPEndpoint | str,
        model: str | None = None,
        *,
        dialect: Dialect | str = "auto",
        settings: ModelSettings | None = None,
        api_key: str | None = None,
        proxy: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl: SSLContext | bool | str | PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        options: dict[str, Any] = {  # Any: of the fields of HTTPEndpoint, as they are typed above
            "api_key": api_key,
            "proxy": proxy,
            "headers": headers,
            "ssl": ssl,
            "timeout": timeout,
        }
        given = {name: value for name, value in options.items() if value is not None}
        if isinstance(endpoint, str):
            self.endpoint = HTTPEndpoint(endpoint, **given)
        else:
            self.endpoint = replace(endpoint, **given) if given else endpoint
        self.model = model
        self.dialect = dialect
        self.chat_client = ChatClient(
            _HTTPTransport(self.endpoint),
            self._choose_dialect,
            settings,
            url=self.endpoint.display_url,
            api_key=self.endpoint.api_key,
            forget_choice=self._forget_choice,
        )

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one answer. Raises ModelError."""
        return self.chat_client.ask(request)

    @property
    def secrets(self) -> Collection[str]:
        """The server's keys and passwords, which no output may contain."""
        return self.chat_client.secrets

    @property
    def learned(self) -> Sequence[LearnedAdaptation]:
        """What the server has refused, and what it is sent instead."""
        return self.chat_client.learned

    async def resolve_dialect(self) -> DialectChoice:
        """Return the model's full name, the dialect and the reason; asks the server once."""
        return await self.chat_client.resolve_dialect()

    async def fetch_context_window(self) -> int | None:
        """Return the window in tokens; None if the server does not report it or is down."""
        try:
            capabilities = await identify_server(self.endpoint, self.model)
        except (ModelError, UsageError):
            return None
        return await fetch_context_window(self.endpoint, capabilities)

    async def find_context_window(self) -> int | None:
        """As `fetch_context_window`; asked for once an hour, and LMDeploy is not probed."""
        learned = get_learned(self.endpoint.display_url, self.model or "", self.endpoint.api_key)
        known, now = learned.window, monotonic()
        if known is not None and now - known[1] < REMEMBER_SECONDS:
            return known[0]
        try:
            endpoint = replace(self.endpoint, tries=1)  # the answer does not depend on it
            capabilities = await identify_server(endpoint, self.model)
        except (ModelError, UsageError):
            return None
        window = await fetch_context_window(endpoint, capabilities, probe=False)
        if window is None and (capabilities.server in _LOADS_LATE or not capabilities.is_complete):
            now -= REMEMBER_SECONDS - _RETRY_SECONDS
        learned.window = window, now
        return window

    async def _choose_dialect(self, transport: ChatTransport) -> DialectChoice:
        endpoint = transport.endpoint if isinstance(transport, _HTTPTransport) else self.endpoint
        return await choose_dialect(endpoint, self.model, self.dialect)

    def _forget_choice(self) -> None:
        forget_choice(self.endpoint)

    def __repr__(self) -> str:
        return f"HTTPChat({self.endpoint.display_url!r}, {self.model!r})"


@dataclass(frozen=True, slots=True)
class _HTTPTransport:
    endpoint: HTTPEndpoint

    @property
    def secrets(self) -> Collection[str]:
        return self.endpoint.secrets

    def configure(self, headers: Mapping[str, str], timeout: float | None) -> _HTTPTransport:
        endpoint = self.endpoint
        return _HTTPTransport(
            replace(
                endpoint,
                headers=merge_headers(endpoint.headers, headers),
                timeout=endpoint.timeout if timeout is None else timeout,
            )
        )

    def post(self, body: bytes) -> Awaitable[JSON]:
        return self.endpoint.post(CHAT_PATH, body)

    def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        return self.endpoint.stream(CHAT_PATH, body)
