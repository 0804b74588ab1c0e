"""`cassette`: a real model's answers are recorded into a file once, and played in tests.

What the server answered is recorded, as it arrived and before a dialect reads it: when a recording
is played, the same code reads and repairs the answers again. Requests are compared with the
recorded ones. A model without a server of its own (`Fallback`, `LoadBalancer`, a class of yours) is
recorded by the parts of its answers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Generator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import orjson

from agentcall.dialects.answer_parts import (
    MalformedCallPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from agentcall.dialects.dialect import Dialect, PromptSpec, get_dialect
from agentcall.dialects.native import NATIVE
from agentcall.dialects.parsers.response_parser import RetractedPart
from agentcall.errors import (
    BadAnswer,
    CutAnswer,
    ModelError,
    ModelRefused,
    RateLimited,
    ServerFailed,
    UsageError,
)
from agentcall.messages import JSON, Usage
from agentcall.models.capabilities import DialectChoice
from agentcall.models.chat_completions import ChatClient, ChatTransport, RequestEncoder
from agentcall.models.event_stream import decode_answer
from agentcall.models.model import (
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseProgress,
    ResponseStart,
    fetch_context_window,
)
from agentcall.models.resolve import ModelLike, get_resolved_model, prepare_model, resolve_model
from agentcall.settings import ModelSettings
from agentcall.testing.recording import (
    Exchange,
    Fields,
    RecordedReply,
    Recording,
    describe_differences,
    error_from_json,
    error_to_json,
    normalize_request,
    pieces_to_text,
    text_to_bytes,
)

CassetteMode: TypeAlias = Literal["auto", "play", "record", "off"]

MODE_VARIABLE = "AGENTCALL_CASSETTE"


@contextmanager
def cassette(
    path: str | os.PathLike[str], model: ModelLike | None = None, *, mode: CassetteMode = "auto"
) -> Generator[Model, None, None]:
    """Return a model that is recorded into a file, or played from it.

    with cassette("weather.json", "ollama:qwen3:8b") as model:
        result = Agent(model, tools=[weather]).run_sync("Do I need a coat in Oslo?")

    path: the file; it is written when the block ends without an exception. Keys and headers are not
        part of it, and what looks like a secret in a message is replaced by `***`.
    model: the model to record, as in `Agent`. It is not used when the file is played.
    mode: "auto" plays a file that exists and records one that does not; "play" never asks the
        model, "record" always does, "off" does so without a file. The variable AGENTCALL_CASSETTE
        replaces "auto".

    Raises UsageError, while the block runs, for a request that is not recorded: it says in what the
    request differs.
    """
    if not isinstance(cast("object", path), (str, os.PathLike)):
        raise UsageError(f"cassette({path!r:.100}): it has to be the path of a file")
    file = Path(path)
    match _choose_mode(mode, file):
        case "play":
            yield _Player(file, model)
        case "off":
            yield resolve_model(model)
        case _:
            recorder = _Recorder(resolve_model(model))
            yield recorder
            recorder.save(file)


def load_replies(path: str | os.PathLike[str]) -> list[RecordedReply]:
    """Return the answers of a recording as a script for `FakeServer` and `ScriptedModel`."""
    return [RecordedReply(each.answer) for each in Recording.load(Path(path)).exchanges]


def _choose_mode(mode: str, file: Path) -> CassetteMode:
    variable = os.environ.get(MODE_VARIABLE, "")
    source = f"mode={mode!r}"
    if mode == "auto" and variable:
        mode, source = variable.strip().lower(), f"{MODE_VARIABLE}={variable!r}"
    if mode not in get_args(CassetteMode):
        raise UsageError(f"{source}: it has to be one of {', '.join(get_args(CassetteMode))}")
    if mode == "play" and not file.exists():
        raise UsageError(
            f"there is no recording {file}; record it with the model at hand: run the test "
            f"with {MODE_VARIABLE}=record, and commit the file"
        )
    if mode == "auto":
        return "play" if file.exists() else "record"
    return cast("CassetteMode", mode)


class _Recorder:
    """A model that passes requests on to another one, and keeps them with their answers."""

    def __init__(self, source: Model) -> None:
        self._source = source
        self._recording = Recording()
        self._client: ChatClient | None = None
        self._is_prepared = False
        self._lock = threading.Lock()

    @property
    def secrets(self) -> Collection[str]:
        """The keys and passwords of the model."""
        return set(getattr(self._source, "secrets", ()))

    def save(self, file: Path) -> None:
        """Write the file, if the model was asked anything."""
        if self._recording.exchanges:
            self._recording.secrets.update(self.secrets)
            self._recording.save(file)

    async def fetch_context_window(self) -> int | None:
        """Return the window of the model, and keep it."""
        if not self._is_prepared:
            await asyncio.to_thread(self._prepare)
        window = await fetch_context_window(self._source)
        self._recording.window = window or self._recording.window
        return window

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of the model's answer."""
        if not self._is_prepared:
            await asyncio.to_thread(self._prepare)
        client = self._client
        if client is None:
            async for part in self._ask_in_parts(request):
                yield part
            return
        if self._recording.model is None:
            choice = await client.resolve_dialect()
            self._recording.model = _choice_to_json(choice, client.settings)
        async with aclosing(
            cast("AsyncGenerator[ResponseEvent, None]", client.ask(request))
        ) as answer:
            async for part in answer:
                yield part

    def _prepare(self) -> None:
        """Find the client whose requests are recorded; a shorthand creates it only now."""
        with self._lock:
            if self._is_prepared:
                return
            prepare_model(self._source, PromptSpec())
            found = get_resolved_model(self._source) or self._source
            client = getattr(found, "chat_client", None)
            if isinstance(client, ChatClient):
                self._client = client.copy(
                    lambda inner: _RecordingTransport(inner, self._recording)
                )
            self._is_prepared = True

    async def _ask_in_parts(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        parts: list[Fields] = []
        async for part in self._source.ask(request):
            if not isinstance(part, ResponseProgress):
                parts.append(_part_to_json(part))
            yield part
        self._recording.exchanges.append(Exchange(_encode_request(request), {"parts": parts}))


@dataclass(frozen=True, slots=True)
class _RecordingTransport:
    """Passes requests on to another transport, and keeps them with what the server answers."""

    inner: ChatTransport
    recording: Recording

    @property
    def secrets(self) -> Collection[str]:
        return self.inner.secrets

    def configure(self, headers: Mapping[str, str], timeout: float | None) -> _RecordingTransport:
        return _RecordingTransport(self.inner.configure(headers, timeout), self.recording)

    async def post(self, body: bytes) -> JSON:
        try:
            answer = await self.inner.post(body)
        except (ModelRefused, BadAnswer) as error:
            self._keep_error(body, error)
            raise
        self._keep(body, {"body": answer})
        return answer

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        pieces: list[bytes] = []
        is_complete = False
        try:
            async with aclosing(self.inner.stream(body)) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    yield piece
            is_complete = True
        except (ModelRefused, BadAnswer) as error:
            self._keep_error(body, error)
            raise
        finally:  # also after a connection that broke, and if the reader has left
            if pieces:
                is_complete = is_complete or b"[DONE]" in b"".join(pieces[-2:])
                answer: Fields = {"pieces": pieces_to_text(pieces)}
                self._keep(body, answer if is_complete else {**answer, "cut": True})

    def _keep_error(self, body: bytes, error: ModelError) -> None:
        # That a server was busy says nothing about its answer.
        if not isinstance(error, RateLimited) or isinstance(error, ServerFailed):
            self._keep(body, {"error": error_to_json(error)})

    def _keep(self, body: bytes, answer: Fields) -> None:
        self.recording.secrets.update(self.secrets)  # a request may have headers of its own
        self.recording.exchanges.append(Exchange(orjson.loads(body), answer))


class _Player:
    """A model that answers with a recording."""

    def __init__(self, file: Path, model: ModelLike | None) -> None:
        self._recording = Recording.load(file)
        self._tape = _Tape(file, self._recording)
        self._client: ChatClient | None = None
        if self._recording.model is not None:
            choice = _choice_from_json(self._recording.model, model)

            async def choose_dialect(_: ChatTransport) -> DialectChoice:
                return choice

            settings = ModelSettings.from_json(self._recording.model["settings"])
            self._client = ChatClient(_PlayingTransport(self._tape), choose_dialect, settings)

    async def fetch_context_window(self) -> int | None:
        """Return the window that the recorded model had."""
        return self._recording.window

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of the recorded answer. Raises UsageError if there is none."""
        return self._play_parts(request) if self._client is None else self._client.ask(request)

    async def _play_parts(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        for part in self._tape.find(_encode_request(request))["parts"]:
            yield _part_from_json(part)


class _Tape:
    """The exchanges of a recording that were not played yet."""

    def __init__(self, file: Path, recording: Recording) -> None:
        self._file = file
        self._remaining = list(recording.exchanges)
        self._count = len(recording.exchanges)

    def find(self, body: Fields) -> Fields:
        """Return the answer to a request, once. Raises UsageError if it is not recorded."""
        sent = normalize_request(body)
        for index, exchange in enumerate(self._remaining):
            if normalize_request(exchange.request) == sent:
                return self._remaining.pop(index).answer
        advice = f"record it anew: run the test with {MODE_VARIABLE}=record, or delete the file"
        if not self._remaining:
            raise UsageError(
                f"{self._file} has {self._count} answers, and all were played; this is one more "
                f"request. If the test has changed, {advice}"
            )
        number = self._count - len(self._remaining) + 1
        recorded = normalize_request(self._remaining[0].request)
        raise UsageError(
            f"{self._file} has no answer to this request; from its request {number} of "
            f"{self._count} it differs in\n{describe_differences(recorded, sent)}\n{advice}"
        )


@dataclass(frozen=True, slots=True)
class _PlayingTransport:
    """Answers requests with what a server answered before."""

    tape: _Tape
    secrets: tuple[str, ...] = ()

    def configure(self, headers: Mapping[str, str], timeout: float | None) -> _PlayingTransport:
        return self

    async def post(self, body: bytes) -> JSON:
        answer = self._find(body)
        if "pieces" not in answer:
            found: JSON = answer["body"]
            return found
        if answer.get("cut"):
            raise CutAnswer("the recorded stream ends too early")
        return decode_answer(b"".join(map(text_to_bytes, answer["pieces"])))

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        answer = self._find(body)
        if "pieces" not in answer:
            yield orjson.dumps(answer["body"])
            return
        for text in answer["pieces"]:
            yield text_to_bytes(text)
            await asyncio.sleep(0)
        if answer.get("cut"):
            raise CutAnswer("the recorded stream ends too early")

    def _find(self, body: bytes) -> Fields:
        answer = self.tape.find(orjson.loads(body))
        if "error" in answer:
            raise error_from_json(answer["error"])
        return answer


# The dialect, and the parts of answers, as JSON.


def _choice_to_json(choice: DialectChoice, settings: ModelSettings) -> Fields:
    return {
        "model": choice.model,
        "dialect": choice.dialect.name,
        "reason": choice.reason,
        "can_stream": choice.can_stream,
        "accepts_images": choice.accepts_images,
        "server": choice.server,
        "settings": settings.to_json(),
    }


def _choice_from_json(wire: Fields, model: ModelLike | None) -> DialectChoice:
    """Return the recorded choice; a dialect that is not ours is that of the given model."""
    saved: Fields = {name: value for name, value in wire.items() if name != "settings"}
    own = getattr(model, "dialect", None)
    dialect: Dialect
    if getattr(own, "name", None) == saved["dialect"]:
        dialect = cast("Dialect", own)
    else:
        dialect = get_dialect(saved["dialect"])
    saved["dialect"] = dialect
    return DialectChoice(**saved)


def _encode_request(request: ModelRequest) -> Fields:
    """Return the request as a server with OpenAI's protocol would get it."""
    return RequestEncoder(request.settings or ModelSettings()).build_body("", NATIVE, request, ())


_PARTS = {
    kind.__name__: kind
    for kind in (
        TextPart,
        ThinkingPart,
        ToolCallPart,
        MalformedCallPart,
        RetractedPart,
        ResponseStart,
    )
}
_COUNTS = ("requests", "input_tokens", "output_tokens", "cached_tokens")


def _part_to_json(part: ResponseEvent) -> Fields:
    if isinstance(part, ResponseEnd):
        counts = {name: getattr(part.usage, name) for name in _COUNTS}
        return {"kind": "ResponseEnd", "finish_reason": part.finish_reason, "usage": counts}
    return {"kind": type(part).__name__, **asdict(part)}


def _part_from_json(wire: Fields) -> ResponseEvent:
    kind = wire["kind"]
    if kind == "ResponseEnd":
        return ResponseEnd(wire["finish_reason"], Usage(**wire["usage"]))
    known: Any = _PARTS[kind]
    values = {each.name: wire[each.name] for each in fields(known) if each.name in wire}
    if kind == "ResponseStart":
        values["adaptations"] = tuple((name, reason) for name, reason in values["adaptations"])
    part: ResponseEvent = known(**values)
    return part
