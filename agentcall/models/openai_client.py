"""`OpenAIChat`: a model of any provider, over the user's client of the `openai` package.

Requests go through `client.post` with an encoded body. The client's keys, hooks, retries and
transports stay in use, but its conversion of the whole history, which takes longer than all the
rest (docs/performance.md), is skipped. The fastest transport is aiohttp's:
`AsyncOpenAI(http_client=DefaultAioHttpClient())`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar

import orjson
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from agentcall.dialects.dialect import Dialect, get_dialect
from agentcall.errors import (
    BadAnswer,
    CutAnswer,
    MissingExtra,
    ModelError,
    ModelTimeout,
    ModelUnreachable,
)
from agentcall.messages import JSON
from agentcall.models.adaptations import LearnedAdaptation
from agentcall.models.capabilities import CHAT_PATH, DialectChoice
from agentcall.models.chat_completions import ChatClient, ChatTransport
from agentcall.models.errors import build_not_json_error, parse_error_response, parse_retry_after
from agentcall.models.event_stream import decode_answer
from agentcall.models.http import MAX_BYTES
from agentcall.models.model import ModelRequest, ResponseEvent
from agentcall.models.url import extract_named_secrets, extract_url_secrets, redact_url
from agentcall.settings import ModelSettings, merge_headers

try:
    from openai import (
        APIConnectionError,
        APIError,
        APIStatusError,
        APITimeoutError,
        AsyncOpenAI,
        AsyncStream,
        OpenAIError,
    )
except ModuleNotFoundError as error:
    raise MissingExtra.for_feature("OpenAIChat", "openai", error) from None

T = TypeVar("T")


class OpenAIChat:
    """A model behind an `AsyncOpenAI` client or a subclass such as `AsyncAzureOpenAI`.

    client: the user's client; its keys, retries (`max_retries`), hooks and timeouts for each
        attempt apply. It is not closed.
    model: the model's name at the provider.
    dialect: how tools are offered and calls are read; "auto" means "native". A native dialect is
        replaced when the server refuses tools.
    settings: those of an agent or a run replace them, one by one.
    timeout: seconds for one request from its first attempt to its last byte, retries included.
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
        if isinstance(dialect, str):
            dialect = get_dialect("native" if dialect == "auto" else dialect)
        self._dialect_choice = DialectChoice(model, dialect, "the caller named it")
        self._transport = _OpenAITransport(client, timeout)
        self.chat_client = ChatClient(
            self._transport,
            self._choose_dialect,
            settings,
            url=self._transport.display_url,
            api_key=client.api_key,
        )

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one answer. Raises ModelError."""
        return self.chat_client.ask(request)

    @property
    def secrets(self) -> Collection[str]:
        """The client's keys and passwords, which no output may contain."""
        return self.chat_client.secrets

    @property
    def learned(self) -> Sequence[LearnedAdaptation]:
        """What the server has refused, and what it is sent instead."""
        return self.chat_client.learned

    async def resolve_dialect(self) -> DialectChoice:
        """Return the model's name, the dialect and the reason."""
        return await self.chat_client.resolve_dialect()

    async def _choose_dialect(self, _transport: ChatTransport) -> DialectChoice:
        return self._dialect_choice

    def __repr__(self) -> str:
        return f"OpenAIChat({self._transport.display_url!r}, {self.model!r})"


class _OpenAITransport:
    """The client as a `ChatTransport`."""

    def __init__(
        self, client: AsyncOpenAI, timeout: float, options: Mapping[str, Any] | None = None
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._options: Any = options or {}  # Any: openai does not export their type
        self.display_url = redact_url(str(client.base_url))

    def configure(self, headers: Mapping[str, str], timeout: float | None) -> _OpenAITransport:
        headers = merge_headers(self._options.get("headers", {}), headers)
        options = {**self._options, "headers": headers}
        if timeout is not None:
            options["timeout"] = timeout  # else the client's own may end an attempt earlier
        return _OpenAITransport(self._client, timeout or self._timeout, options)

    @property
    def secrets(self) -> Collection[str]:
        client = self._client
        headers = {**client.default_headers, **self._options.get("headers", {})}
        fields = [*headers.items(), *client.default_query.items()]
        return [
            client.api_key,
            *extract_named_secrets(fields),
            *extract_url_secrets(str(client.base_url)),
        ]

    async def post(self, body: bytes) -> JSON:
        """Post a request; an answer that breaks off is requested again.

        The client itself retries only until an answer begins.
        """
        deadline = monotonic() + self._timeout
        read_answer = retry(
            retry=retry_if_exception_type(CutAnswer),
            stop=stop_after_attempt(self._client.max_retries + 1),
            reraise=True,
        )(self._read_answer)
        try:
            data = await read_answer(body, deadline)
        except CutAnswer as error:
            raise ModelUnreachable(str(error)) from error
        try:
            return decode_answer(data)
        except ValueError:
            raise build_not_json_error(data, self.display_url) from None

    async def _read_answer(self, body: bytes, deadline: float) -> bytes:
        return b"".join([piece async for piece in self._stream_bytes(body, deadline)])

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
        except Exception as error:  # the client's transport may raise anything
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
            options=self._options,
            stream=True,  # the client returns bytes as they arrive, also of plain JSON
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
                f"{self.display_url} gave no complete answer in {self._timeout:g} seconds; "
                "give it more time with timeout=, or a smaller task"
            ) from error


def _convert_error(error: OpenAIError, url: str) -> ModelError:
    """Convert an error of the openai package to a ModelError."""
    match error:
        case APIStatusError():
            headers: Any = error.response.headers  # Any: of httpx or httpx2, by openai's version
            retry_after = parse_retry_after(headers.get("retry-after"))
            data = error.response.content
            return parse_error_response(error.status_code, data, url=url, retry_after=retry_after)
        case APITimeoutError():
            return ModelTimeout(f"{url} did not answer before the client's own timeout")
        case APIConnectionError():
            reason = error.__cause__ or error
            return ModelUnreachable(
                f"no server answers at {url} ({type(reason).__name__}: {reason}); is it running?"
            )
        case APIError():
            return BadAnswer(f"{url} gave an invalid answer: {error.message}")
        case _:
            return ModelError(f"the client could not send a request to {url}: {error}")
