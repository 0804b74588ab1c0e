"""A client of the chat completions API: encodes requests and reads answers, over any transport.

Rules:

1. If a server refuses an optional feature of a request (`stream_options`, or tools as a field), the
   client stops using it; without the tools field it changes the dialect.
2. A request is not repeated after the first part of its answer.
3. A stream that breaks ends without a finish reason.
4. If an answer shows that the server's chat template opens the thinking block, the next answer is
   assumed to begin inside one, until an answer shows the opposite.
5. `messages` is the last field of a request and grows only at its end, so that the bytes of a
   request begin with those of the request before it. What does not change in a run is encoded once.
6. A model that reads only text, or whose server refuses images, gets a line for each image. But an
   image in the question itself is an error: without it the question is another one.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
)
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, TypeAlias

import orjson

from agentcall.dialects.dialect import Dialect, DialectReader, JSONObject, PromptSpec, ToolChoice
from agentcall.dialects.images import render_with_images, render_without_images
from agentcall.dialects.native import NativeReader
from agentcall.dialects.parsers.response_parser import RetractedPart
from agentcall.errors import ContextOverflow, CutAnswer, ModelError, ModelRefused, UsageError
from agentcall.messages import JSON, Image, User, encode_json
from agentcall.models.capabilities import DialectChoice, choose_without_tools
from agentcall.models.errors import is_about_images, mask_secrets
from agentcall.models.model import ModelRequest, ResponseEvent, ResponseStart
from agentcall.models.response_reader import ResponseReader
from agentcall.settings import ModelSettings

LARGE_ANSWER_BYTES = 16_384
"""An answer, or a piece of one, of at least this size is parsed in a thread: a megabyte of text
that looks like many calls takes seconds."""
_LINGER_SECONDS = 0.25
"""Seconds to wait after [DONE] for the end of the stream, so that its connection can be reused."""

_NO_TOOLS_PATTERN = re.compile(
    r"tool.{0,60}(?:not support|unsupported|requires)|not support.{0,40}tool|--jinja"
    r"|tool-call-parser",
    re.IGNORECASE | re.DOTALL,
)


class ChatTransport(Protocol):
    """Sends chat requests to a server, with its own authentication and retries."""

    @property
    def secrets(self) -> Collection[str]:
        """Keys and passwords, which no error may contain."""
        ...

    def configure(self, headers: Mapping[str, str], timeout: float | None) -> ChatTransport:
        """Return a transport that also sends these headers, with this timeout if one is given."""
        ...

    def post(self, body: bytes) -> Awaitable[JSON]:
        """Send a request and return the JSON answer. Raises ModelError."""
        ...

    def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Send a request and yield the bytes of the answer.

        Raises ModelError; it is CutAnswer if the connection breaks after the answer has begun.
        """
        ...


class ChatClient:
    """Sends the requests of one model over a transport.

    choose_dialect: called once, by the first request, with its transport, to select the model and
        its dialect.
    url: the server's URL without secrets, for tracing.
    """

    def __init__(
        self,
        transport: ChatTransport,
        choose_dialect: Callable[[ChatTransport], Awaitable[DialectChoice]],
        settings: ModelSettings | None,
        *,
        url: str = "",
    ) -> None:
        self._settings = settings or ModelSettings()
        self._transport = transport
        self._configured: tuple[ModelSettings | None, ChatTransport] = None, transport
        self._transport = self._configure_transport(self._settings)
        self._url = url
        self._choose_dialect = choose_dialect
        self._encoder = RequestEncoder(self._settings)
        self._dialect_choice: DialectChoice | None = None
        self._thinking_opener = ""

    async def resolve_dialect(self, transport: ChatTransport | None = None) -> DialectChoice:
        """Return the model's name, the dialect and the reason."""
        if self._dialect_choice is None:
            self._dialect_choice = await self._choose_dialect(transport or self._transport)
        return self._dialect_choice

    @property
    def secrets(self) -> Collection[str]:
        """Keys and passwords that the transport uses."""
        return self._transport.secrets

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one answer. Raises ModelError."""
        transport = self._transport
        if request.settings is not None:
            transport = self._configure_transport(request.settings)
        choice = self._dialect_choice or await self.resolve_dialect(transport)
        if not choice.accepts_images and _asks_about_image(request):
            raise UsageError(
                f"{choice.model} reads only text, but the question has an image; use a vision "
                "model such as InternVL2, or remove the image"
            )
        has_answered = False
        while True:
            yield ResponseStart(choice.dialect.name, choice.reason, choice.model, self._url)
            try:
                if request.stream and choice.can_stream:
                    async for part in self._request_stream(transport, choice, request):
                        has_answered = True
                        yield part
                    return
                parts = await self._request_whole(transport, choice, request)
                break
            except ModelRefused as refused:
                adapted = None if has_answered else self._adapt(refused, choice, request)
                if adapted is None:
                    raise mask_secrets(refused, transport.secrets) from None
                choice = adapted
            except ModelError as error:
                raise mask_secrets(error, transport.secrets) from error.__cause__
        for part in parts:
            yield part

    async def _request_whole(
        self, transport: ChatTransport, choice: DialectChoice, request: ModelRequest
    ) -> list[ResponseEvent]:
        body = self._encode(choice, request)
        reader = ResponseReader(self._create_reader(choice, request), len(body))
        answer = await transport.post(body)
        if _count_characters(answer) < LARGE_ANSWER_BYTES:
            parts = reader.read_whole(answer)
        else:
            parts = await asyncio.to_thread(reader.read_whole, answer)
        for part in parts:
            if isinstance(part, RetractedPart):
                self._learn_opener(part)
        return parts

    async def _request_stream(
        self, transport: ChatTransport, choice: DialectChoice, request: ModelRequest
    ) -> AsyncIterator[ResponseEvent]:
        body = self._encode(choice, request)
        reader = ResponseReader(self._create_reader(choice, request), len(body))
        length = 0
        async with aclosing(transport.stream(body)) as pieces:
            try:
                async for data in pieces:
                    length += len(data)
                    if len(data) < LARGE_ANSWER_BYTES:
                        parts = reader.feed(data)
                    else:
                        parts = iter(await asyncio.to_thread(reader.feed_all, data))
                    for part in parts:
                        if isinstance(part, RetractedPart):
                            self._learn_opener(part)
                        yield part
                    if reader.is_done:
                        await _drain_stream(pieces)
                        break
                end = reader.close
            except CutAnswer:
                end = reader.end
            rest = end() if length < LARGE_ANSWER_BYTES else await asyncio.to_thread(end)
        for part in rest:
            if isinstance(part, RetractedPart):
                self._learn_opener(part)
            yield part

    def _encode(self, choice: DialectChoice, request: ModelRequest) -> bytes:
        return self._encoder.encode(
            choice.model, choice.dialect, request, with_images=choice.accepts_images
        )

    def _configure_transport(self, settings: ModelSettings) -> ChatTransport:
        """Return the transport with the headers and the timeout of the settings."""
        if not settings.extra_headers and settings.timeout is None:
            return self._transport
        known, transport = self._configured
        if known is not settings:
            transport = self._transport.configure(settings.extra_headers, settings.timeout)
            self._configured = settings, transport
        return transport

    def _create_reader(self, choice: DialectChoice, request: ModelRequest) -> DialectReader:
        reader = choice.dialect.create_reader(request.prompt)
        if self._thinking_opener and isinstance(reader, NativeReader):
            reader.assume_thinking(self._thinking_opener)
        return reader

    def _learn_opener(self, part: RetractedPart) -> None:
        """Remember how the chat template begins an answer, if the part shows it."""
        if part.opener is not None:
            self._thinking_opener = part.opener

    def _adapt(
        self, refused: ModelRefused, choice: DialectChoice, request: ModelRequest
    ) -> DialectChoice | None:
        """Return the choice to retry a refused request with, or None if the refusal is final."""
        if isinstance(refused, ContextOverflow):
            return None
        encoder, message = self._encoder, refused.body.lower()
        if request.stream and encoder.asks_stream_usage and "stream_options" in message:
            encoder.asks_stream_usage = False
            return choice
        can_omit_images = choice.accepts_images and _has_earlier_images(request)
        if can_omit_images and is_about_images(refused.body):
            self._dialect_choice = replace(choice, accepts_images=False)
            return self._dialect_choice
        if request.prompt.tools and choice.dialect.name == "native" and _is_about_tools(refused):
            self._dialect_choice = choose_without_tools(choice, refused.body)
            return self._dialect_choice
        if can_omit_images and refused.status in (400, 413, 415, 422, 500, 501):
            return replace(choice, accepts_images=False)  # perhaps it cannot read one of them
        return None


def _count_characters(answer: JSON) -> int:
    """Return the number of characters of an answer's text; 0 if it has none."""
    match answer:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return len(text)
        case _:
            return 0


def _asks_about_image(request: ModelRequest) -> bool:
    """Whether the last message is the user's and has an image."""
    transcript = request.transcript
    last = transcript[len(transcript) - 1] if transcript.has_images else None
    content = last.content if isinstance(last, User) else ""
    return any(isinstance(part, Image) for part in content)


def _has_earlier_images(request: ModelRequest) -> bool:
    """Whether there are images, but not in the question itself."""
    return request.transcript.has_images and not _asks_about_image(request)


def _is_about_tools(refused: ModelRefused) -> bool:
    """Whether a server refused a request because of its tools field."""
    if refused.status in (400, 422, 501):
        return "tool" in refused.body.lower()
    return refused.status == 500 and _NO_TOOLS_PATTERN.search(refused.body) is not None


async def _drain_stream(pieces: AsyncGenerator[bytes, None]) -> None:
    """Wait briefly for the end of a stream after [DONE], so that its connection can be reused."""

    async def read_rest() -> None:
        async for _ in pieces:
            pass

    try:
        await asyncio.wait_for(read_rest(), _LINGER_SECONDS)
    except (CutAnswer, asyncio.TimeoutError):
        return


_HeadKey: TypeAlias = (
    "tuple[str, Dialect, PromptSpec, ToolChoice, bool, bool, ModelSettings | None]"
)


class RequestEncoder:
    """Encodes request bodies; caches all fields but the messages for the last few prompts.

    `asks_stream_usage` is whether streams are requested with their usage, which old servers refuse.
    """

    def __init__(self, settings: ModelSettings, capacity: int = 16) -> None:
        self.asks_stream_usage = True
        self._settings = settings
        self._capacity = capacity
        self._heads: OrderedDict[_HeadKey, tuple[bytes, bytes]] = OrderedDict()

    def encode(
        self, model: str, dialect: Dialect, request: ModelRequest, *, with_images: bool = True
    ) -> bytes:
        """Encode a whole request as JSON; `with_images` is whether the model sees images."""
        head, opening = self._encode_head(model, dialect, request)
        transcript = request.transcript
        if not transcript.has_images:
            messages = transcript.encode(dialect, dialect.render)
        elif with_images:
            messages = transcript.encode((dialect, True), render_with_images(dialect.render))
        else:
            messages = transcript.encode((dialect, False), render_without_images(dialect.render))
        separator = b"," if opening and messages else b""
        return b'%b"messages":[%b%b%b]}' % (head, opening, separator, messages)

    def _encode_head(
        self, model: str, dialect: Dialect, request: ModelRequest
    ) -> tuple[bytes, bytes]:
        """Return the fields before the messages, and the messages that the dialect begins with."""
        stream, asks_usage, settings = request.stream, self.asks_stream_usage, request.settings
        tool_choice = request.tool_choice or "auto"
        if self._settings.tool_choice is not None:
            tool_choice = _merge_tool_choice(self._settings.tool_choice, request)
        key = (model, dialect, request.prompt, tool_choice, stream, asks_usage, settings)
        head = self._heads.get(key)
        if head is None:
            _check_tool_choice(tool_choice, request.prompt)
            prelude = dialect.create_prelude(request.prompt, tool_choice)
            merged = self._settings if settings is None else self._settings.merge(settings)
            fields = {"model": model, **_merge_fields(dialect.name, prelude.fields, merged)}
            if stream:
                fields["stream"] = True
                if asks_usage:
                    fields["stream_options"] = {"include_usage": True}
            messages = b",".join(map(orjson.dumps, prelude.messages))
            head = self._heads[key] = (encode_json(fields)[:-1] + b",", messages)
            if len(self._heads) > self._capacity:
                self._heads.popitem(last=False)
        return head


def _merge_tool_choice(own: ToolChoice, request: ModelRequest) -> ToolChoice:
    """Return the choice of a request to a model that has one of its own, for the first turn."""
    if request.tool_choice is None:
        return own
    has_choice = request.settings is not None and request.settings.tool_choice is not None
    return "none" if own == "none" and not has_choice else request.tool_choice


def _check_tool_choice(choice: ToolChoice, prompt: PromptSpec) -> None:
    """Raise UsageError for the name of a tool that is not offered."""
    names = [tool.name for tool in prompt.tools]
    if choice not in ("auto", "none", "required", *names):
        raise UsageError(
            f"tool_choice={choice!r}: no such tool is offered ({', '.join(names) or 'none is'}); "
            'it is "auto", "none", "required", or the name of a tool'
        )


def _merge_fields(name: str, dialect: Mapping[str, JSON], settings: ModelSettings) -> JSONObject:
    """Merge the fields of the dialect of this name and of the settings, and their stop words.

    Stop words are joined because a request's replace those of the server's chat template. Raises
    UsageError for a field that the dialect needs with another value.
    """
    fields = settings.to_fields()
    for key in settings.extra_body:
        if key in dialect and dialect[key] != fields[key]:
            raise UsageError(
                f"ModelSettings(extra_body={{{key!r}: ...}}): the dialect {name} sends "
                f"{dialect[key]!r:.100}; remove it, or choose another dialect"
            )
    if "tools" not in dialect:  # OpenAI and vLLM refuse it without tools
        fields.pop("parallel_tool_calls", None)
    stops: list[JSON] = list(dict.fromkeys([*_get_stops(dialect), *_get_stops(fields)]))
    return {**dialect, **fields, **({"stop": stops} if stops else {})}


def _get_stops(fields: Mapping[str, JSON]) -> list[str]:
    stop = fields.get("stop")
    if isinstance(stop, str):
        return [stop]
    return [word for word in stop if isinstance(word, str)] if isinstance(stop, list) else []
