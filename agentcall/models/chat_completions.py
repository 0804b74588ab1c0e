"""A client of the chat completions API: encodes requests and reads answers, over any transport.

Rules:

1. If a server refuses the form of a request (`stream_options`, a role order, tools as a field),
   the client learns what to send instead (`adaptations.py`) and repeats the request; without the
   tools field it changes the dialect.
2. A request is not repeated after the first part of its answer.
3. A stream that breaks ends without a finish reason.
4. If an answer shows that the server's chat template opens the thinking block, the next answer is
   assumed to begin inside one, until an answer shows the opposite.
5. `messages` is the last field of a request and grows only at its end, so that the bytes of a
   request begin with those of the request before it. What does not change in a run is encoded once.
6. A model that reads only text, or whose server refuses images, gets a line for each image. But an
   image in the question itself is an error: without it the question is another one.
7. If the server's model is gone, the model is looked up again and the request repeated once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import orjson

from agentcall.dialects.answer_schema import is_answer_constrained
from agentcall.dialects.dialect import (
    ENDING_BY_CALL,
    Dialect,
    DialectReader,
    JSONObject,
    PromptSpec,
    StartAnswer,
    ToolChoice,
)
from agentcall.dialects.images import render_with_images, render_without_images
from agentcall.dialects.native import NativeReader
from agentcall.dialects.parsers.response_parser import RetractedPart
from agentcall.errors import CutAnswer, ModelError, ModelRefused, ModelUnreachable, UsageError
from agentcall.messages import (
    JSON,
    Assistant,
    Image,
    Message,
    RenderMessage,
    Transcript,
    User,
    encode_json,
)
from agentcall.models.adaptations import (
    NO_IMAGES,
    NO_TOOLS,
    PLAIN_ONLY,
    STREAM_ONLY,
    UNHELD_ANSWER,
    LearnedAdaptation,
    LearnedAdaptations,
    RequestBody,
    apply_adaptations,
    get_learned,
)
from agentcall.models.answer_check import AnswerCheck
from agentcall.models.capabilities import DialectChoice, choose_without_tools
from agentcall.models.errors import UnparsedAnswer, is_model_gone, mask_secrets
from agentcall.models.model import ModelRequest, ResponseEvent, ResponseStart
from agentcall.models.response_reader import ResponseReader
from agentcall.models.thinking import force_thinking, set_thinking_keys, switch_thinking
from agentcall.models.wire_messages import (
    WireMessages,
    attach_extra_contents,
    strip_private_keys,
)
from agentcall.settings import ModelSettings

LARGE_ANSWER_BYTES = 16_384
"""An answer, or a piece of one, of at least this size is parsed in a thread: a megabyte of text
that looks like many calls takes seconds."""
_LINGER_SECONDS = 0.25
"""Seconds to wait after [DONE] for the end of the stream, so that its connection can be reused."""


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

    choose_dialect: called by the first request, with its transport, to select the model and its
        dialect, and again after `forget_choice` when the server answers that the model is gone.
    url, api_key: the server's URL without secrets, and the key; clients of the same server, key and
        model share what they learn. Without a URL a client learns alone.
    """

    def __init__(
        self,
        transport: ChatTransport,
        choose_dialect: Callable[[ChatTransport], Awaitable[DialectChoice]],
        settings: ModelSettings | None,
        *,
        url: str = "",
        api_key: str = "",
        forget_choice: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings or ModelSettings()
        self._transport = transport
        self._configured: tuple[ModelSettings | None, ChatTransport] = None, transport
        self._transport = self._configure_transport(self._settings)
        self._url = url
        self._api_key = api_key
        self._choose_dialect = choose_dialect
        self._forget_choice = forget_choice
        self._encoder = RequestEncoder(self._settings)
        self._target: _Target | None = None
        self._thinking_opener = ""

    @property
    def settings(self) -> ModelSettings:
        """The model's own settings."""
        return self._settings

    def copy(self, wrap: Callable[[ChatTransport], ChatTransport]) -> ChatClient:
        """Return a client whose requests go through another transport, made of this one's.

        It learns of the server anew, and alone.
        """
        own = self._transport
        return ChatClient(wrap(own), lambda _: self._choose_dialect(own), self._settings)

    async def resolve_dialect(self) -> DialectChoice:
        """Return the model's name, the dialect and the reason."""
        target = self._target or await self._find_target(self._transport)
        return _adapt_choice(target.choice, target.knowledge.active)

    async def _find_target(self, transport: ChatTransport) -> _Target:
        choice = await self._choose_dialect(transport)
        dialect = set_thinking_keys(choice.dialect, choice.server, choice.model)
        if dialect is not choice.dialect:
            choice = replace(choice, dialect=dialect)
        self._encoder.server = choice.server
        if self._url:
            knowledge = get_learned(self._url, choice.model, self._api_key)
        else:
            knowledge = LearnedAdaptations()
        start = ResponseStart(choice.dialect.name, choice.reason, choice.model, self._url)
        self._target = _Target(choice, knowledge, start)
        return self._target

    @property
    def secrets(self) -> Collection[str]:
        """Keys and passwords that the transport uses."""
        return self._transport.secrets

    @property
    def learned(self) -> Sequence[LearnedAdaptation]:
        """What the server has refused, and what it is sent instead."""
        return () if self._target is None else self._target.knowledge.active

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one answer. Raises ModelError."""
        transport = self._transport
        if request.settings is not None:
            transport = self._configure_transport(request.settings)
        target = self._target or await self._find_target(transport)
        request = _start_answer(target.choice.dialect, request)
        attempts: list[_Attempt] = []
        parts: list[ResponseEvent] = []
        has_answered = False
        while True:
            attempt = _Attempt(target, request)
            if not attempt.choice.accepts_images:
                _require_no_image_in_question(attempt.choice.model, request)
            yield attempt.create_start()
            check = None if request.prompt.answer_schema is None else self._create_check(attempt)
            try:
                if attempt.request.stream and attempt.choice.can_stream:
                    stream = self._request_stream(transport, attempt)
                    async for part in _observe_stream(stream, check):
                        has_answered = True
                        yield part
                    break
                parts = await self._request_whole(transport, attempt)
                break
            except ModelError as error:
                failure = mask_secrets(error, transport.secrets)
                if isinstance(failure, ModelUnreachable):
                    target.knowledge.forget()
                if has_answered or not isinstance(failure, ModelRefused):
                    raise failure from error.__cause__
                attempts.append(attempt)
                target = await self._recover(failure, attempts, transport)
        target.knowledge.note_accepted(request.prompt)
        parts = parts if check is None else _conclude_check(check, parts, target.knowledge)
        for part in parts:
            yield part

    def _create_check(self, attempt: _Attempt) -> AnswerCheck | None:
        """Return what observes an answer that the server may hold to its type; None otherwise."""
        prompt = attempt.request.prompt
        if prompt.answer_schema is None or prompt.answer_mode != "auto":
            return None
        if attempt.choice.dialect.name == "constrained" or attempt.is_unheld:
            return None
        is_asked = is_answer_constrained(prompt, self._encoder.choose_tools(attempt.request))
        return AnswerCheck(prompt.answer_schema) if is_asked else None

    async def _recover(
        self, refused: ModelRefused, attempts: Sequence[_Attempt], transport: ChatTransport
    ) -> _Target:
        """Return what to repeat a request with, after the refusal of the last of the attempts.

        Raises the refusal if nothing new was learned from it, and the server has no other model.
        """
        last = attempts[-1]
        choice, knowledge, _ = last.target
        excluded: tuple[str, ...] = (NO_IMAGES,) if _asks_about_image(last.request) else ()
        if last.request.prompt.answer_mode == "schema":
            excluded = (*excluded, *UNHELD_ANSWER)
        body = last.build_body(self._encoder)
        lesson = knowledge.learn(refused, body, last.learned, excluded)
        if lesson is not None and all(lesson is not attempt.lesson for attempt in attempts):
            last.lesson = lesson
            return last.target
        has_images = last.choice.accepts_images and _has_earlier_images(last.request)
        if has_images and refused.status in (400, 413, 415, 422, 500, 501):
            # Perhaps it cannot read one of them: nothing is learned.
            return last.target._replace(choice=replace(choice, accepts_images=False))
        found: _Target | None = None
        if is_model_gone(refused):
            with suppress(ModelError, UsageError):
                self._forget_choice()
                found = await self._find_target(transport)
        if found is None or any(found.choice.model == each.choice.model for each in attempts):
            knowledge.unlearn(attempt.lesson for attempt in attempts)
            raise refused from None
        return found

    async def _request_whole(
        self, transport: ChatTransport, attempt: _Attempt
    ) -> list[ResponseEvent]:
        choice, request = attempt.choice, attempt.request
        body = self._encode(attempt)
        reader = ResponseReader(self._create_reader(choice, request), len(body), choice.model)
        try:
            answer = await transport.post(body)
            if _count_characters(answer) < LARGE_ANSWER_BYTES:
                parts = reader.read_whole(answer)
            else:
                parts = await asyncio.to_thread(reader.read_whole, answer)
        except UnparsedAnswer as error:
            parts = reader.read_unparsed(error, self._create_reader(choice, request))
        attempt.target.knowledge.keep_extra_contents(reader.extra_contents)
        for part in parts:
            if isinstance(part, RetractedPart):
                self._learn_opener(part)
        return parts

    async def _request_stream(
        self, transport: ChatTransport, attempt: _Attempt
    ) -> AsyncIterator[ResponseEvent]:
        choice, request = attempt.choice, attempt.request
        body = self._encode(attempt)
        reader = ResponseReader(self._create_reader(choice, request), len(body), choice.model)
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
                rest = await _call_in_thread_if(length >= LARGE_ANSWER_BYTES, reader.close)
            except CutAnswer:
                rest = await _call_in_thread_if(length >= LARGE_ANSWER_BYTES, reader.end)
            except UnparsedAnswer as error:
                rest = reader.read_unparsed(error, self._create_reader(choice, request))
        attempt.target.knowledge.keep_extra_contents(reader.extra_contents)
        for part in rest:
            if isinstance(part, RetractedPart):
                self._learn_opener(part)
            yield part

    def _encode(self, attempt: _Attempt) -> bytes:
        choice = attempt.choice
        dialect = choice.dialect
        if attempt.request.prompt.final:
            dialect = getattr(dialect, ENDING_BY_CALL, dialect)
        return self._encoder.encode(
            choice.model,
            dialect,
            attempt.request,
            attempt.learned,
            with_images=choice.accepts_images,
            extra_contents=attempt.target.knowledge.extra_contents,
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
        if (
            self._thinking_opener
            and isinstance(reader, NativeReader)
            and not self._encoder.turns_thinking_off(request)
        ):
            reader.assume_thinking(self._thinking_opener)
        return reader

    def _learn_opener(self, part: RetractedPart) -> None:
        """Remember how the chat template begins an answer, if the part shows it."""
        if part.opener is not None:
            self._thinking_opener = part.opener


class _Target(NamedTuple):
    """Where requests are sent: the model, its dialect, and what is known of its server.

    start: the first part of an answer, if nothing was learned of the server.
    """

    choice: DialectChoice
    knowledge: LearnedAdaptations
    start: ResponseStart


class _Attempt:
    """One sending of a request: as the caller made it, and as the server accepts it.

    lesson: what the refusal of this attempt taught.
    """

    __slots__ = ("choice", "learned", "lesson", "request", "target")

    def __init__(self, target: _Target, request: ModelRequest) -> None:
        self.target = target
        self.choice = target.choice
        self.request = request
        self.learned = target.knowledge.active
        self.lesson: LearnedAdaptation | None = None
        if self.learned and request.prompt.answer_mode == "schema":
            self.learned = tuple(each for each in self.learned if each.name not in UNHELD_ANSWER)
        if self.learned:
            self.choice = _adapt_choice(target.choice, self.learned)
            self.request = _adapt_stream(request, self.learned)
            if request.holds_answer and self.is_unheld:
                self.request = replace(self.request, holds_answer=False)

    @property
    def is_unheld(self) -> bool:
        """Whether the server is known not to hold an answer to its JSON Schema."""
        return any(each.name in UNHELD_ANSWER for each in self.learned)

    def create_start(self) -> ResponseStart:
        """Return the first part of an answer."""
        if not self.learned:
            return self.target.start
        return replace(
            self.target.start,
            dialect=self.choice.dialect.name,
            reason=self.choice.reason,
            adaptations=tuple([(item.name, item.reason) for item in self.learned]),
        )

    def build_body(self, encoder: RequestEncoder) -> RequestBody:
        """Return the body that was sent, with private keys."""
        choice = self.choice
        return encoder.build_body(
            choice.model,
            choice.dialect,
            self.request,
            self.learned,
            with_images=choice.accepts_images,
            extra_contents=self.target.knowledge.extra_contents,
        )


def _adapt_choice(choice: DialectChoice, learned: Sequence[LearnedAdaptation]) -> DialectChoice:
    """Return the choice for a server that may have refused tools or images."""
    for each in learned:
        if each.name == NO_TOOLS and choice.dialect.name == "native":
            choice = choose_without_tools(choice, each.words)
        elif each.name == NO_IMAGES:
            choice = replace(choice, accepts_images=False)
    return choice


def _adapt_stream(request: ModelRequest, learned: Sequence[LearnedAdaptation]) -> ModelRequest:
    """Return the request, streamed or not as the server accepts it."""
    stream = request.stream
    for each in learned:
        if each.name in (STREAM_ONLY, PLAIN_ONLY):
            stream = each.name == STREAM_ONLY
    return request if stream == request.stream else replace(request, stream=stream)


async def _call_in_thread_if(
    is_long: bool, read: Callable[[], list[ResponseEvent]]
) -> list[ResponseEvent]:
    return await asyncio.to_thread(read) if is_long else read()


def _start_answer(dialect: Dialect, request: ModelRequest) -> ModelRequest:
    """Return the request of a turn that the dialect has written in a conversation of its own."""
    start: StartAnswer | None = getattr(dialect, "start_answer", None)
    own = None if start is None else start(request.prompt, tuple(request.transcript))
    if own is None:
        return request
    prompt, messages = own
    return replace(request, prompt=prompt, transcript=Transcript(messages), tool_choice="auto")


def _count_characters(answer: Any) -> int:  # Any: an odd form has none
    """Return the number of characters of an answer's text; 0 if it has none."""
    try:
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return 0
    return len(text) if isinstance(text, str) else 0


def _require_no_image_in_question(model: str, request: ModelRequest) -> None:
    """Raise UsageError if the question has an image: without it, it is another question."""
    if _asks_about_image(request):
        raise UsageError(
            f"{model} reads only text, but the question has an image; use a vision model such as "
            "InternVL2, or remove the image"
        )


def _asks_about_image(request: ModelRequest) -> bool:
    """Whether the last message is the user's and has an image."""
    transcript = request.transcript
    last = transcript[len(transcript) - 1] if transcript.has_images else None
    content = last.content if isinstance(last, User) else ""
    return any(isinstance(part, Image) for part in content)


def _has_earlier_images(request: ModelRequest) -> bool:
    """Whether there are images, but not in the question itself."""
    return request.transcript.has_images and not _asks_about_image(request)


async def _drain_stream(pieces: AsyncGenerator[bytes, None]) -> None:
    """Wait briefly for the end of a stream after [DONE], so that its connection can be reused."""

    async def read_rest() -> None:
        async for _ in pieces:
            pass

    try:
        await asyncio.wait_for(read_rest(), _LINGER_SECONDS)
    except (CutAnswer, asyncio.TimeoutError):
        return


_HeadKey: TypeAlias = "tuple[str, Dialect, PromptSpec, ToolChoice, bool, ModelSettings | None]"


class RequestEncoder:
    """Encodes request bodies; caches all fields but the messages for the last few prompts.

    server: the kind of the server, once it is known.
    """

    server = ""

    def __init__(self, settings: ModelSettings, capacity: int = 16) -> None:
        self._settings = settings
        self._forces_thinking = settings.send_thinking is not None
        self._capacity = capacity
        self._heads: OrderedDict[_HeadKey, tuple[bytes, bytes]] = OrderedDict()

    def encode(
        self,
        model: str,
        dialect: Dialect,
        request: ModelRequest,
        learned: Sequence[LearnedAdaptation] = (),
        *,
        with_images: bool = True,
        extra_contents: Mapping[str, JSON] | None = None,
    ) -> bytes:
        """Encode a whole request as JSON.

        learned: how the server wants it, if it has refused OpenAI's form.
        with_images: whether the model sees images.
        extra_contents: what the server has added to calls, by call id.
        """
        if learned:
            body = self.build_body(
                model,
                dialect,
                request,
                learned,
                with_images=with_images,
                extra_contents=extra_contents,
            )
            messages = strip_private_keys(cast("WireMessages", body.pop("messages")))
            return encode_json({**body, "messages": messages})
        head, opening = self._encode_head(model, dialect, request)
        transcript = request.transcript
        if request.settings is not None or self._forces_thinking:
            dialect = self._force_thinking(dialect, request)
        if not transcript.has_images:
            encoded = transcript.encode(dialect, dialect.render)
        else:
            render = _get_image_renderer(dialect, with_images=with_images)
            encoded = transcript.encode((dialect, with_images), render)
        separator = b"," if opening and encoded else b""
        return b'%b"messages":[%b%b%b]}' % (head, opening, separator, encoded)

    def build_body(
        self,
        model: str,
        dialect: Dialect,
        request: ModelRequest,
        learned: Sequence[LearnedAdaptation],
        *,
        with_images: bool = True,
        extra_contents: Mapping[str, JSON] | None = None,
    ) -> RequestBody:
        """Return a request as JSON values, changed by what was learned; with private keys."""
        fields, messages = self._build_head(model, dialect, request)
        dialect = self._force_thinking(dialect, request)
        render: RenderMessage = dialect.render
        if request.transcript.has_images:
            render = _get_image_renderer(dialect, with_images=with_images)
        before: list[Message] = []
        for message in request.transcript:
            for rendered in render(message, before):
                if isinstance(message, Assistant) and message.thinking:
                    rendered["_thinking"] = message.thinking
                if extra_contents:
                    attach_extra_contents(rendered, extra_contents)
                messages.append(rendered)
            before.append(message)
        return apply_adaptations({**fields, "messages": messages}, learned)

    def turns_thinking_off(self, request: ModelRequest) -> bool:
        """Whether the settings of a request turn the model's thinking off."""
        own = None if request.settings is None else request.settings.thinking
        return (self._settings.thinking if own is None else own) is False

    def _force_thinking(self, dialect: Dialect, request: ModelRequest) -> Dialect:
        """Return the dialect, which sends thinking back as the settings say."""
        own = None if request.settings is None else request.settings.send_thinking
        sends = self._settings.send_thinking if own is None else own
        return dialect if sends is None else force_thinking(dialect, sends=sends)

    def _encode_head(
        self, model: str, dialect: Dialect, request: ModelRequest
    ) -> tuple[bytes, bytes]:
        """Return the fields before the messages, and the messages that the dialect begins with."""
        tool_choice = self.choose_tools(request)
        key = (model, dialect, request.prompt, tool_choice, request.stream, request.settings)
        head = self._heads.get(key)
        if head is None:
            fields, opening = self._build_head(model, dialect, request)
            messages = b",".join(map(orjson.dumps, opening))
            head = self._heads[key] = (encode_json(fields)[:-1] + b",", messages)
            if len(self._heads) > self._capacity:
                self._heads.popitem(last=False)
        return head

    def choose_tools(self, request: ModelRequest) -> ToolChoice:
        """Return whether the model may call tools."""
        if request.holds_answer:
            return "none"
        if self._settings.tool_choice is None:
            return request.tool_choice or "auto"
        return _merge_tool_choice(self._settings.tool_choice, request)

    def _build_head(
        self, model: str, dialect: Dialect, request: ModelRequest
    ) -> tuple[JSONObject, WireMessages]:
        """Return the fields before the messages, and the messages that the dialect begins with."""
        tool_choice, settings = self.choose_tools(request), request.settings
        _check_tool_choice(tool_choice, request.prompt)
        prelude = dialect.create_prelude(request.prompt, tool_choice)
        merged = self._settings if settings is None else self._settings.merge(settings)
        fields = {"model": model, **_merge_fields(dialect.name, prelude.fields, merged)}
        if merged.thinking is not None or merged.reasoning_effort is not None:
            fields = switch_thinking(fields, merged.thinking, self.server, model)
        if request.stream:
            fields["stream"] = True
            fields["stream_options"] = {"include_usage": True}
        return fields, list(prelude.messages)


def _observe_stream(
    stream: AsyncIterator[ResponseEvent], check: AnswerCheck | None
) -> AsyncIterator[ResponseEvent]:
    return stream if check is None else check.observe_stream(stream)


def _conclude_check(
    check: AnswerCheck, parts: list[ResponseEvent], knowledge: LearnedAdaptations
) -> list[ResponseEvent]:
    """Return the parts of an answer; remember that the server has not held it, if it has not."""
    for part in parts:
        check.observe(part)
    violation = check.find_violation()
    if violation is not None:
        knowledge.learn_ignored_format(violation)
    return parts


def _get_image_renderer(dialect: Dialect, *, with_images: bool) -> RenderMessage:
    wrap = render_with_images if with_images else render_without_images
    return wrap(dialect.render)


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
