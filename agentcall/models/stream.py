"""Reads chat completions, whole or in chunks, as servers really send them.

Format: the chat completion object and the chat completion chunk object of the OpenAI API
reference. Taken besides: flat error bodies and errors under HTTP 200 (LMDeploy), content as a list
of parts, arguments as an object, the legacy `function_call`, `reasoning_content` or `reasoning`.

Server-sent events: bytes in, the data of each event out.

Format: WHATWG HTML, 9.2 "Server-sent events". Lines end with LF, CR LF or CR, also where a piece
ends between the two; a field needs no space after its colon; comments and other fields are passed
over, and so are events without data.

From what a server sends to parts: completions through a dialect's reader.

Rules:
1. An answer has an end if the server named a finish_reason, or said `[DONE]`, or sent it whole.
   One that the server gave up ("error", "abort") has none.
2. Usage that the server does not report is counted at four bytes a token, so that it is always
   there.
3. Of several choices only one is read: the first that a stream has.
4. An answer that ended by its length before it began had no room: LMDeploy 0.5 says so of a
   conversation that is longer than the context, in place of an error.
5. What came is told by its first byte, as headers are often wrong: `{`, `[` and `<` begin no
   stream of events.
6. A message at the end of a stream may say all of it again: its text adds what was not said
   before, its calls take the place of those in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson

from agentcall.dialects.base import (
    DialectReader,
    MessageDelta,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallDelta,
    ToolCallPart,
)
from agentcall.errors import BadAnswer, ContextOverflow, ModelError, ModelRefused, RateLimited
from agentcall.messages import JSON, Usage
from agentcall.models.base import ResponseEnd, ResponseEvent
from agentcall.models.errors import build_not_json_error, parse_error_response, shorten_body

CompletionBody = Mapping[str, JSON]

_OTHER_ROLES = ("system", "developer", "user", "tool", "function")
"""Roles that a model does not speak in; a role that nobody knows is taken for its own."""


class CompletionChunk(NamedTuple):
    """What one body or chunk says: a delta, perhaps the end, perhaps the usage.

    is_message: the delta stood in `message`, and may say again what came before it.
    """

    delta: MessageDelta
    finish_reason: str | None = None
    usage: Usage | None = None
    is_message: bool = False


def decode_json(data: bytes) -> JSON:
    """The JSON of a body or an event. Raises ValueError.

    Lone surrogates, which servers send where a token ends inside a character, become U+FFFD.
    """
    try:
        value: JSON = orjson.loads(data)
    except ValueError:
        return _decode_leniently(data)
    return value


def _decode_leniently(data: bytes) -> JSON:
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deep") from error
    sound = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    value: JSON = json.loads(sound)
    return value


def parse_completion(body: JSON) -> CompletionChunk:
    """A whole completion. Raises ModelRefused or BadAnswer if it is none."""
    checked = _require_body(body)
    choice = _find_choice(checked, 0) or _find_choice(checked, find_first_choice(body))
    if choice is None:
        raise BadAnswer(f"the server's answer has no choices: {shorten_body(body)}")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer(f"the server's answer has no message: {shorten_body(body)}")
    text, thinking, calls, _ = _parse_delta(message)
    delta = MessageDelta(text, thinking, renumber_calls(calls) if calls else ())
    return CompletionChunk(delta, _get_finish_reason(choice), parse_usage(checked))


def renumber_calls(calls: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
    """The calls of a whole message are whole: each has a place of its own, whatever its id."""
    return tuple([ToolCallDelta(place, *call[1:]) for place, call in enumerate(calls)])


def parse_chunk(body: JSON, index: int = 0) -> CompletionChunk:
    """One chunk of a stream, of its choice with this index; one without it has the usage alone."""
    checked = _require_body(body)
    choice = _find_choice(checked, index)
    if choice is None:
        return CompletionChunk(MessageDelta(), None, parse_usage(checked))
    delta = choice.get("delta")
    spoken = delta or choice.get("message")
    said = _parse_delta(spoken) if isinstance(spoken, dict) else MessageDelta()
    return CompletionChunk(
        said, _get_finish_reason(choice), parse_usage(checked), is_message=not delta
    )


def _require_body(body: JSON) -> CompletionBody:
    if not isinstance(body, dict):
        raise BadAnswer(f"the server's answer is not a JSON object: {shorten_body(body)}")
    if body.get("object") == "error" or body.get("error"):
        raise _convert_embedded_error(parse_error_response(_get_error_status(body), body))
    return body


def _convert_embedded_error(error: ModelRefused) -> ModelError:
    """An error that stands inside an answer: what passes is asked again as a bad answer is."""
    return BadAnswer(str(error)) if isinstance(error, RateLimited) else error


def _get_error_status(body: CompletionBody) -> int:
    """The status that an error under HTTP 200 claims."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else body.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def find_first_choice(body: JSON) -> int | None:
    """The index of the choice to read: 0 if it is there, else that of the first; None for none."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return None
    indexes = [
        _parse_index(choice.get("index")) or 0 for choice in choices if isinstance(choice, dict)
    ]
    return 0 if 0 in indexes or not indexes else indexes[0]


def _find_choice(body: CompletionBody, index: int | None) -> CompletionBody | None:
    """The choice of this index: we never ask for more than one."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if not isinstance(choice, dict):
            raise BadAnswer(f"a choice is not a JSON object: {shorten_body(body)}")
        given = choice.get("index")
        if given == index or (_parse_index(given) or 0) == index:
            return choice
    return None


def _parse_index(index: JSON) -> int | None:
    """The index, which servers write as a number or as text; None if there is none."""
    if isinstance(index, str) and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _get_finish_reason(choice: CompletionBody) -> str | None:
    finish = choice.get("finish_reason")
    return finish if isinstance(finish, str) and finish else None


def _parse_delta(message: CompletionBody) -> MessageDelta:
    if message.get("role") in _OTHER_ROLES:
        raise BadAnswer(
            f"the server answered in the role {message['role']!r}: {shorten_body(message)}"
        )
    content = message.get("content") or message.get("refusal")
    thinking = message.get("reasoning_content") or message.get("reasoning")
    return MessageDelta(
        content if isinstance(content, str) else _join_text(content),
        thinking if isinstance(thinking, str) else "",
        _parse_tool_calls(message),
    )


def _parse_tool_calls(message: CompletionBody) -> tuple[ToolCallDelta, ...]:
    calls = message.get("tool_calls")
    if not calls:
        legacy = message.get("function_call")
        return (
            (_parse_tool_call({"index": 0, "function": legacy}),)
            if isinstance(legacy, dict)
            else ()
        )
    if not isinstance(calls, list):
        raise BadAnswer(f"tool_calls is not a list: {shorten_body(message)}")
    return tuple([_parse_tool_call(call) for call in calls if isinstance(call, dict)])


def _join_text(content: JSON) -> str:
    if not isinstance(content, Sequence):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _parse_tool_call(call: CompletionBody) -> ToolCallDelta:
    function = call.get("function")
    said = function if isinstance(function, dict) else call
    name, arguments = said.get("name"), said.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    index, identity = call.get("index"), call.get("id")
    return ToolCallDelta(
        index if type(index) is int else _parse_index(index),
        str(identity) if identity else "",
        name if isinstance(name, str) else "",
        arguments or "",
    )


def parse_usage(body: CompletionBody) -> Usage | None:
    """The usage that a body reports, as that of one request; None where it reports none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = _get_count(details, "cached_tokens") if isinstance(details, dict) else 0
    return Usage(
        1, _get_count(usage, "prompt_tokens"), _get_count(usage, "completion_tokens"), cached
    )


def _get_count(usage: CompletionBody, key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) else 0


_BOM = b"\xef\xbb\xbf"


class SSEDecoder:
    """Cuts a byte stream into the data of its events."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that this piece completes."""
        # A CR that ends the piece may be half of a CR LF: it waits.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) + 1
        if not end:
            self._rest.append(data)
            return []
        lines = b"".join((*self._rest, data[:end])).splitlines()
        self._rest = [data[end:]]
        return self._consume_lines(lines)

    def close(self) -> list[bytes]:
        """The data of events that the stream's end completes."""
        lines = b"".join(self._rest).splitlines()
        self._rest = []
        return self._consume_lines([*lines, b""])

    def _consume_lines(self, lines: list[bytes]) -> list[bytes]:
        """Takes lines in; gives the data of the events that they end."""
        events: list[bytes] = []
        for line in lines:
            if not line:
                event = b"\n".join(self._data)
                self._data.clear()
                if event:
                    events.append(event)
                continue
            text = line.removeprefix(_BOM)
            if text.startswith(b"data:"):
                self._data.append(text[6:] if text.startswith(b"data: ") else text[5:])
        return events


_DONE_EVENT = b"[DONE]"
_ABORT_REASONS = ("error", "abort")
_BYTES_PER_TOKEN = 4
_NO_ROOM_MESSAGE = (
    "the server had no room for an answer: the conversation is longer than its context"
)


class ResponseReader:
    """Listens to one answer: once `whole`, or `feed` until `close`, or `end` where it breaks off.

    `sent` is how many bytes the request had; `done` says that the server has said all.
    """

    def __init__(self, reader: DialectReader, request_bytes: int) -> None:
        self._dialect_reader = reader
        self._request_bytes = request_bytes
        self._parts: list[MessagePart] = []
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._sse_decoder: SSEDecoder | None = None
        self._buffer: list[bytes] = []
        self._deltas: list[MessageDelta] = []
        self._choice_index: int | None = None
        self.is_done = False

    def read_whole(self, body: JSON) -> list[ResponseEvent]:
        """The parts of an answer that came in one body."""
        parts = self._read_chunk(parse_completion(body))
        self._finish_reason = self._finish_reason or "stop"
        return [*parts, *self.end()]

    def feed(self, data: bytes) -> Iterator[ResponseEvent]:
        """The parts that are certain once these bytes are known."""
        if self._sse_decoder is None:
            if not self._is_event_stream(data):
                return
            self._sse_decoder, data = SSEDecoder(), b"".join(self._buffer)
        for event in self._sse_decoder.feed(data):
            yield from self.read_event(event)

    def _is_event_stream(self, data: bytes) -> bool:
        """Whether what has come is a stream of events; until then it is kept as a page."""
        self._buffer.append(data)
        first = next((bare[:1] for page in self._buffer if (bare := page.lstrip())), b"")
        return first != b"" and first not in b"{[<"

    def feed_all(self, data: bytes) -> list[ResponseEvent]:
        """Like `feed`, read at once."""
        return list(self.feed(data))

    def close(self) -> list[ResponseEvent]:
        """What is left, and the end."""
        if self._sse_decoder is not None:
            rest = [part for event in self._sse_decoder.close() for part in self.read_event(event)]
            return [*rest, *self.end()]
        data = b"".join(self._buffer)
        if not data.strip():
            return self.end()
        try:
            body = decode_json(data)
        except ValueError:
            raise build_not_json_error(data, "the server") from None
        return self.read_whole(body)

    def read_event(self, data: bytes) -> Sequence[ResponseEvent]:
        """The parts that one event of a stream completes."""
        if data.strip() == _DONE_EVENT:
            self._finish_reason = self._finish_reason or "stop"
            self.is_done = True
            return ()
        body = _decode_event(data)
        if self._choice_index is None:
            self._choice_index = find_first_choice(body)
        piece = parse_chunk(body, self._choice_index or 0)
        if piece.is_message and piece.finish_reason and any(piece.delta):
            piece = piece._replace(delta=_remove_repeats(self._deltas, piece.delta))
        return self._read_chunk(piece)

    def end(self) -> list[ResponseEvent]:
        """The end, where an answer is over or broke off: a proper one only if that was said."""
        finish = None if self._finish_reason in _ABORT_REASONS else self._finish_reason
        if (
            finish == "length"
            and not self._deltas
            and not (self._usage and self._usage.output_tokens)
        ):
            raise ContextOverflow(_NO_ROOM_MESSAGE, status=200)
        rest = self._dialect_reader.close(finish)
        self._parts += rest
        return [*rest, ResponseEnd(finish, self._usage or self._estimate_usage())]

    def _read_chunk(self, piece: CompletionChunk) -> Sequence[MessagePart]:
        self._finish_reason = piece.finish_reason or self._finish_reason
        self._usage = piece.usage or self._usage
        if any(piece.delta):
            self._deltas.append(piece.delta)
        parts = self._dialect_reader.feed(piece.delta)
        self._parts += parts
        return parts

    def _estimate_usage(self) -> Usage:
        heard = sum(map(_measure_part, self._parts))
        return Usage(1, self._request_bytes // _BYTES_PER_TOKEN, -(-heard // _BYTES_PER_TOKEN))


def _decode_event(data: bytes) -> JSON:
    try:
        return decode_json(data)
    except ValueError:
        text = data.decode("utf-8", "replace")
        raise BadAnswer(f"an event of the stream is not JSON: {shorten_body(text)}") from None


def _remove_repeats(before: Sequence[MessageDelta], delta: MessageDelta) -> MessageDelta:
    """What a message adds to the pieces before it."""
    text = "".join(each.text for each in before)
    thinking = "".join(each.thinking for each in before)
    return MessageDelta(
        delta.text.removeprefix(text),
        delta.thinking.removeprefix(thinking),
        renumber_calls(delta.calls),
        is_all=bool(delta.calls),
    )


def _measure_part(part: MessagePart) -> int:
    match part:
        case TextPart(text) | ThinkingPart(text):
            return len(text.encode())
        case ToolCallPart():
            return len(part.name) + len(part.arguments.encode())
        case _:
            return len(part.text.encode())
