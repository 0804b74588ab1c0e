"""A model of any provider, over a client of the `openai` package that the user brings.

Requests go through `client.post` with the body already written, so that the client's keys, hooks,
retries and transports stay, and its walk over the whole history, which costs more than all the
rest (docs/performance.md), does not happen. For speed give the client its aiohttp transport:
`AsyncOpenAI(http_client=DefaultAioHttpClient())`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection
from time import monotonic
from typing import Any, TypeVar

import orjson
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    OpenAIError,
)

from agentcall.dialects.base import Dialect, get_dialect
from agentcall.errors import BadAnswer, CutAnswer, ModelError, ModelTimeout, ModelUnreachable
from agentcall.messages import JSON
from agentcall.models.base import ModelRequest, ResponseEvent
from agentcall.models.capabilities import CHAT_PATH, DialectChoice
from agentcall.models.chat_completions import ChatClient
from agentcall.models.errors import build_not_json_error, parse_error_response, parse_retry_after
from agentcall.models.http import MAX_BYTES
from agentcall.models.stream import decode_json
from agentcall.models.url import extract_named_secrets, extract_url_secrets, redact_url
from agentcall.settings import ModelSettings

T = TypeVar("T")


class OpenAIChat:
    """A model behind an `AsyncOpenAI` client, or one of its kin such as `AsyncAzureOpenAI`.

    client: yours; its keys, retries (`max_retries`), hooks and timeouts for each try stay as they
        are, and it stays open.
    model: the model's name there.
    dialect: how tools are offered and calls are read; "auto" is "native", and a native one whose
        tools the server refuses is changed.
    timeout: seconds that one request may take from first try to last byte, retries and all.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        *,
        dialect: Dialect | str = "native",
        settings: ModelSettings | None = None,
        timeout: float = 600.0,
    ) -> None:
        self.model = model
        name = "native" if dialect == "auto" else dialect
        spoken = get_dialect(name) if isinstance(name, str) else name
        self._dialect_choice = DialectChoice(model, spoken, "the caller named it")
        self._transport = _OpenAITransport(client, timeout)
        self._chat_client = ChatClient(
            self._transport, self._choose_dialect, settings, url=self._transport.display_url
        )

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """The parts of one answer. Raises ModelError."""
        return self._chat_client.ask(request)

    @property
    def secrets(self) -> Collection[str]:
        """What nothing that is shown of the model may hold."""
        return self._chat_client.secrets

    async def resolve_dialect(self) -> DialectChoice:
        """The model's name, the dialect and why."""
        return await self._chat_client.resolve_dialect()

    async def _choose_dialect(self) -> DialectChoice:
        return self._dialect_choice

    def __repr__(self) -> str:
        return f"OpenAIChat({self._transport.display_url!r}, {self.model!r})"


class _OpenAITransport:
    """The client as a wire."""

    def __init__(self, client: AsyncOpenAI, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self.display_url = redact_url(str(client.base_url))

    @property
    def secrets(self) -> Collection[str]:
        client = self._client
        fields = [*client.default_headers.items(), *client.default_query.items()]
        return [
            client.api_key,
            *extract_named_secrets(fields),
            *extract_url_secrets(str(client.base_url)),
        ]

    async def post(self, body: bytes) -> JSON:
        """An answer that breaks off is asked for again, as the client does before it begins."""
        deadline = monotonic() + self._timeout
        tries = self._client.max_retries
        while True:
            try:
                data = b"".join([piece async for piece in self._stream_bytes(body, deadline)])
            except CutAnswer as cut:
                tries -= 1
                if tries < 0:
                    raise ModelUnreachable(str(cut)) from cut
                continue
            try:
                return decode_json(data)
            except ValueError:
                raise build_not_json_error(data, self.display_url) from None

    def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        return self._stream_bytes(body, monotonic() + self._timeout)

    async def _stream_bytes(self, body: bytes, deadline: float) -> AsyncGenerator[bytes, None]:
        response = (await self._open_stream(body, deadline)).response
        size = 0
        try:
            pieces = aiter(response.aiter_bytes())
            while (piece := await self._wait_until(deadline, anext(pieces, None))) is not None:
                size += len(piece)
                if size > MAX_BYTES:
                    raise BadAnswer(
                        f"the answer of {self.display_url} is longer than {MAX_BYTES} bytes"
                    )
                yield piece
        except ModelError:
            raise
        except Exception as error:  # whatever the client's transport raises
            kind = type(error).__name__
            raise CutAnswer(
                f"the connection to {self.display_url} broke: {kind}: {error}"
            ) from error
        finally:
            await response.aclose()

    async def _open_stream(self, body: bytes, deadline: float) -> AsyncStream[object]:
        request = self._client.post(
            CHAT_PATH,
            body=orjson.loads(body),
            cast_to=object,
            stream=True,  # says how the client takes the answer, not what the body asks for
            stream_cls=AsyncStream[object],
        )
        try:
            return await self._wait_until(deadline, request)
        except OpenAIError as error:
            raise _convert_error(error, self.display_url) from error

    async def _wait_until(self, deadline: float, awaitable: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(awaitable, deadline - monotonic())
        except asyncio.TimeoutError as error:
            raise ModelTimeout(
                f"{self.display_url} gave no whole answer in {self._timeout:g} seconds; "
                "give it more with timeout=, or a smaller task"
            ) from error


def _convert_error(error: OpenAIError, url: str) -> ModelError:
    """What the client raised, as an error of ours."""
    match error:
        case APIStatusError():
            headers: Any = error.response.headers  # Any: of httpx or httpx2, by the version
            wait = parse_retry_after(headers.get("retry-after"))
            data = error.response.content
            return parse_error_response(error.status_code, data, url=url, retry_after=wait)
        case APITimeoutError():
            return ModelTimeout(f"{url} did not answer before the client's own timeout")
        case APIConnectionError():
            why = error.__cause__ or error
            return ModelUnreachable(
                f"no server answers at {url} ({type(why).__name__}: {why}); is it running?"
            )
        case APIError():
            return BadAnswer(f"{url} gave an answer that is none: {error.message}")
        case _:
            return ModelError(f"the client could not ask {url}: {error}")
