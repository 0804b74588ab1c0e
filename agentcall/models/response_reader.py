"""Read chat completions, complete or streamed, into the parts of an answer.

Formats: the chat completion object and the chat completion chunk object of the OpenAI API
reference; server-sent events (WHATWG HTML, section 9.2). Also accepted, as servers send them: flat
error bodies and errors under HTTP 200 (LMDeploy), content as a list of parts, arguments as an
object, the legacy `function_call`, `reasoning_content` or `reasoning`. Rules:

1. An answer is complete if the server sent a finish reason or `[DONE]`, or did not stream. An
   answer that the server abandoned (finish reason "error" or "abort") is not.
2. Usage that the server does not report is estimated at four bytes per token.
3. Only one of several choices is read: the first in the stream.
4. An answer with finish reason "length" and no content means that the conversation is longer than
   the context: LMDeploy 0.5 reports it so, instead of an error.
5. A stream is recognized by its first byte, because headers are often wrong: events never begin
   with `{`, `[` or `<`.
6. A message at the end of a stream may repeat all of it: its text adds only what is new, and its
   calls replace those received in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson

from agentcall.dialects.answer_parts import (
    MessageDelta,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallDelta,
    ToolCallPart,
)
from agentcall.dialects.dialect import DialectReader
from agentcall.errors import BadAnswer, ContextOverflow, RateLimited
from agentcall.messages import JSON, Usage
from agentcall.models.errors import build_not_json_error, parse_error_response, shorten_body
from agentcall.models.model import ResponseEnd, ResponseEvent

CompletionBody = Mapping[str, JSON]

_OTHER_ROLES = ("system", "developer", "user", "tool", "function")
"""Roles that an answer cannot have; an unknown role is accepted as the model's own."""


_DONE_EVENT = b"[DONE]"
_ABORT_REASONS = ("error", "abort")
_BYTES_PER_TOKEN = 4


class ResponseReader:
    """Reads one answer through a dialect's reader.

    Call `read_whole` once for a complete body. For a stream call `feed` for each piece, then
    `close` at its end, or `end` if the connection broke. `is_done` is whether `[DONE]` has been
    received. `request_bytes` is the size of the request, for the estimate of its tokens.
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
        """Return the parts of an answer in one body."""
        parts = self._read_chunk(parse_completion(body))
        self._finish_reason = self._finish_reason or "stop"
        return [*parts, *self.end()]

    def feed(self, data: bytes) -> Iterator[ResponseEvent]:
        """Yield the parts that become certain with these bytes."""
        if self._sse_decoder is None:
            if not self._is_event_stream(data):
                return
            self._sse_decoder, data = SSEDecoder(), b"".join(self._buffer)
        for event in self._sse_decoder.feed(data):
            yield from self.read_event(event)

    def _is_event_stream(self, data: bytes) -> bool:
        """Whether the bytes so far begin a stream of events; if not, they are kept for `close`."""
        self._buffer.append(data)
        first = next((text[:1] for piece in self._buffer if (text := piece.lstrip())), b"")
        return first != b"" and first not in b"{[<"

    def feed_all(self, data: bytes) -> list[ResponseEvent]:
        """Return the parts of `feed` as a list, for a call in a thread."""
        return list(self.feed(data))

    def close(self) -> list[ResponseEvent]:
        """Return the remaining parts and the end of an answer that was received to its end."""
        if self._sse_decoder is not None:
            events = self._sse_decoder.close()
            parts = [part for event in events for part in self.read_event(event)]
            return [*parts, *self.end()]
        data = b"".join(self._buffer)
        if not data.strip():
            return self.end()
        try:
            body = decode_json(data)
        except ValueError:
            raise build_not_json_error(data, "the server") from None
        return self.read_whole(body)

    def read_event(self, data: bytes) -> Sequence[ResponseEvent]:
        """Return the parts that one event of a stream completes."""
        if data.strip() == _DONE_EVENT:
            self._finish_reason = self._finish_reason or "stop"
            self.is_done = True
            return ()
        body = _decode_event(data)
        if self._choice_index is None:
            self._choice_index = find_first_choice(body)
        chunk = parse_chunk(body, self._choice_index or 0)
        if chunk.is_message and chunk.finish_reason and any(chunk.delta):
            chunk = chunk._replace(delta=_remove_repeats(self._deltas, chunk.delta))
        return self._read_chunk(chunk)

    def end(self) -> list[ResponseEvent]:
        """Return the last parts of an answer; its finish reason is None if it was cut off."""
        reason = None if self._finish_reason in _ABORT_REASONS else self._finish_reason
        if reason == "length" and not (self._deltas or (self._usage and self._usage.output_tokens)):
            raise ContextOverflow(
                "the server had no room for an answer: the conversation is longer than its context",
                status=200,
            )
        parts = self._dialect_reader.close(reason)
        self._parts += parts
        return [*parts, ResponseEnd(reason, self._usage or self._estimate_usage())]

    def _read_chunk(self, chunk: CompletionChunk) -> Sequence[MessagePart]:
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage
        if any(chunk.delta):
            self._deltas.append(chunk.delta)
        parts = self._dialect_reader.feed(chunk.delta)
        self._parts += parts
        return parts

    def _estimate_usage(self) -> Usage:
        size = sum(map(_measure_part, self._parts))
        return Usage(1, self._request_bytes // _BYTES_PER_TOKEN, -(-size // _BYTES_PER_TOKEN))


def _decode_event(data: bytes) -> JSON:
    try:
        return decode_json(data)
    except ValueError:
        text = data.decode("utf-8", "replace")
        raise BadAnswer(f"an event of the stream is not JSON: {shorten_body(text)}") from None


def _remove_repeats(before: Sequence[MessageDelta], delta: MessageDelta) -> MessageDelta:
    """Return what a final message adds to the deltas before it."""
    text = "".join(previous.text for previous in before)
    thinking = "".join(previous.thinking for previous in before)
    return MessageDelta(
        delta.text.removeprefix(text),
        delta.thinking.removeprefix(thinking),
        renumber_calls(delta.calls),
        is_all=bool(delta.calls),
    )


def _measure_part(part: MessagePart) -> int:
    """Return the size of a part in bytes."""
    match part:
        case TextPart(text) | ThinkingPart(text):
            return len(text.encode())
        case ToolCallPart():
            return len(part.name) + len(part.arguments.encode())
        case _:
            return len(part.text.encode())


class CompletionChunk(NamedTuple):
    """The content of one body or chunk: a delta, and the finish reason and usage if it has them.

    is_message: the delta was a whole `message`, which may repeat the deltas before it.
    """

    delta: MessageDelta
    finish_reason: str | None = None
    usage: Usage | None = None
    is_message: bool = False


def decode_json(data: bytes) -> JSON:
    """Decode the JSON of a body or an event. Raises ValueError.

    Lone surrogates, which servers send when a token ends inside a character, become U+FFFD.
    """
    try:
        value: JSON = orjson.loads(data)
    except ValueError:  # orjson also refuses lone surrogates and NaN, which json accepts
        try:
            text = json.dumps(json.loads(data), ensure_ascii=False)
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error
        value = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value


def parse_completion(body: JSON) -> CompletionChunk:
    """Parse a complete answer. Raises ModelRefused or BadAnswer."""
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
    """Give each call of a whole message its own index: they are complete, and not pieces."""
    return tuple([ToolCallDelta(index, *call[1:]) for index, call in enumerate(calls)])


def parse_chunk(body: JSON, index: int = 0) -> CompletionChunk:
    """Parse one chunk of a stream: its choice with this index, if it has one, and its usage."""
    checked = _require_body(body)
    choice = _find_choice(checked, index)
    if choice is None:
        return CompletionChunk(MessageDelta(), None, parse_usage(checked))
    delta = choice.get("delta")
    message = delta or choice.get("message")
    return CompletionChunk(
        _parse_delta(message) if isinstance(message, dict) else MessageDelta(),
        _get_finish_reason(choice),
        parse_usage(checked),
        is_message=not delta,
    )


def _require_body(body: JSON) -> CompletionBody:
    if not isinstance(body, dict):
        raise BadAnswer(f"the server's answer is not a JSON object: {shorten_body(body)}")
    error = body.get("error")
    if error or body.get("object") == "error":  # an error under HTTP 200, or inside a stream
        code = error.get("code") if isinstance(error, dict) else body.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        refusal = parse_error_response(status, body)
        # The answer has begun, so a transient error cannot be retried here: the run repeats the
        # request after a BadAnswer.
        raise BadAnswer(str(refusal)) if isinstance(refusal, RateLimited) else refusal
    return body


def find_first_choice(body: JSON) -> int | None:
    """Return the index of the choice to read: 0 if there is one, else the first; None if none."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return None
    indexes = [
        _parse_index(choice.get("index")) or 0 for choice in choices if isinstance(choice, dict)
    ]
    return 0 if 0 in indexes or not indexes else indexes[0]


def _find_choice(body: CompletionBody, index: int | None) -> CompletionBody | None:
    """Return the choice with this index; None if there is none."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if not isinstance(choice, dict):
            raise BadAnswer(f"a choice is not a JSON object: {shorten_body(body)}")
        choice_index = choice.get("index")
        if choice_index == index or (_parse_index(choice_index) or 0) == index:
            return choice
    return None


def _parse_index(index: JSON) -> int | None:
    """Return the index, which servers send as a number or as text; None if there is none."""
    if isinstance(index, str) and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _get_finish_reason(choice: CompletionBody) -> str | None:
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) and reason else None


def _parse_delta(message: CompletionBody) -> MessageDelta:
    if message.get("role") in _OTHER_ROLES:
        raise BadAnswer(
            f"the server answered with the role {message['role']!r}: {shorten_body(message)}"
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
    fields = function if isinstance(function, dict) else call
    name, arguments = fields.get("name"), fields.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    index, call_id = call.get("index"), call.get("id")
    return ToolCallDelta(
        index if type(index) is int else _parse_index(index),
        str(call_id) if call_id else "",
        name if isinstance(name, str) else "",
        arguments or "",
    )


def parse_usage(body: CompletionBody) -> Usage | None:
    """Return the usage of one request that a body reports; None if it reports none."""
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
    """Splits a byte stream into the data of its events.

    Lines end with LF, CR LF or CR. Comments, other fields and events without data are skipped.
    """

    def __init__(self) -> None:
        self._incomplete_line: list[bytes] = []
        self._data_lines: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that these bytes complete."""
        # A CR at the end may be the first half of a CR LF: the line is kept as incomplete.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) + 1
        if not end:
            self._incomplete_line.append(data)
            return []
        lines = b"".join((*self._incomplete_line, data[:end])).splitlines()
        self._incomplete_line = [data[end:]]
        return self._consume_lines(lines)

    def close(self) -> list[bytes]:
        """Return the data of the events that the end of the stream completes."""
        lines = b"".join(self._incomplete_line).splitlines()
        self._incomplete_line = []
        return self._consume_lines([*lines, b""])

    def _consume_lines(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for line in lines:
            if not line:
                event = b"\n".join(self._data_lines)
                self._data_lines.clear()
                if event:
                    events.append(event)
                continue
            text = line.removeprefix(_BOM)
            if text.startswith(b"data:"):  # the space after the colon is optional
                self._data_lines.append(text[6:] if text.startswith(b"data: ") else text[5:])
        return events
