"""Read chat completions, complete or streamed, into the parts of an answer.

Formats: `completion_body.py` for each body or chunk, `event_stream.py` for a stream. Rules:

1. An answer is complete if the server sent a finish reason or `[DONE]`, or did not stream. An
   answer that the server abandoned (finish reason "error" or "abort") is not.
2. Each count of tokens that the server does not report, or reports as zero, is estimated at four
   bytes per token. Of several reports the largest counts.
3. Only one of several choices is read: the first in the stream.
4. An answer with finish reason "length" and no content means that the conversation is longer than
   the context: LMDeploy 0.5 reports it so, instead of an error.
5. A stream is recognized by its first byte, because headers are often wrong: events never begin
   with `{`, `[` or `<`.
6. A message at the end of a stream may repeat all of it: its text adds only what is new, and its
   calls replace those received in pieces.
7. Nothing is read after `[DONE]`. Events that are JSON but not an object (`null`, `[]`) and
   keep-alives are skipped; any other event that is not JSON is an error, as text may be lost.
8. A plain answer may arrive as events or as one JSON object per line (NDJSON), whatever was asked
   for; so may a JSON object that events follow.
9. The time of an answer begins when its reader is made, just before the request is sent. Its first
   token is the first delta that is not empty, also of a call, which becomes a part much later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic

import orjson

from agentcall.dialects.answer_parts import (
    MalformedCallPart,
    MessageDelta,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from agentcall.dialects.dialect import DialectReader
from agentcall.errors import BadAnswer, ContextOverflow, RateLimited
from agentcall.messages import JSON, Usage
from agentcall.models.completion_body import (
    CompletionChunk,
    TokenCounts,
    decode_json,
    find_extra_contents,
    find_first_choice,
    parse_chunk,
    parse_completion,
    renumber_calls,
)
from agentcall.models.errors import (
    UnparsedAnswer,
    build_not_json_error,
    parse_error_response,
    shorten_body,
)
from agentcall.models.event_stream import (
    DONE,
    SSEDecoder,
    decode_answer,
    decode_event,
    is_keep_alive,
)
from agentcall.models.model import ResponseEnd, ResponseEvent, ResponseProgress, measure_writing

_ABORTED = "error"
_BYTES_PER_TOKEN = 4


class ResponseReader:
    """Reads one answer through a dialect's reader.

    Call `read_whole` once for a complete body. For a stream call `feed` for each piece, then
    `close` at its end, or `end` if the connection broke. `is_done` is whether `[DONE]` has been
    received. `request_bytes` is the size of the request, for the estimate of its tokens, and
    `model` the model's name, for the usage. `extra_contents` has what the server added to calls, by
    call id.
    """

    def __init__(self, reader: DialectReader, request_bytes: int, model: str = "") -> None:
        self._dialect_reader = reader
        self._request_bytes = request_bytes
        self._model = model
        self._started_at = monotonic()
        self._first_token_at = 0.0
        self._parts: list[MessagePart] = []
        self._finish_reason: str | None = None
        self._counts: TokenCounts | None = None
        self._sse_decoder: SSEDecoder | None = None
        self._buffer: list[bytes] = []
        self._deltas: list[MessageDelta] = []
        self._choice_index: int | None = None
        self.is_done = False
        self.extra_contents: dict[str, JSON] = {}

    def read_whole(self, body: JSON) -> list[ResponseEvent]:
        """Return the parts of an answer in one body, or in a list of events."""
        if isinstance(body, list) and body:
            parts = [part for event in body for part in self._read_event_body(event)]
            if len(body) > 1:
                return [*parts, *self.end()]
        else:
            chunk = parse_completion(body)
            if chunk.delta.calls and isinstance(body, dict):
                self.extra_contents = find_extra_contents(body)
            parts = list(self._read_chunk(chunk))
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
        is_first_line = not any(b"\n" in piece for piece in self._buffer)
        self._buffer.append(data)
        first = next((text[:1] for piece in self._buffer if (text := piece.lstrip())), b"")
        if first == b"{" and is_first_line and b"\n" in data:
            return _is_chunk(b"".join(self._buffer).lstrip().partition(b"\n")[0])
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
            body = decode_answer(data)
        except ValueError:
            raise build_not_json_error(data, "the server") from None
        return self.read_whole(body)

    def read_event(self, data: bytes) -> Sequence[ResponseEvent]:
        """Return the parts that one event of a stream completes."""
        if self.is_done:
            return ()
        try:
            body: JSON = orjson.loads(data)
        except ValueError:
            body = _decode_odd_event(data)
        return self._read_event_body(body)

    def _read_event_body(self, body: JSON) -> Sequence[ResponseEvent]:
        if not isinstance(body, dict):
            return self._read_odd_event(body)
        if "prompt_progress" in body:
            return _parse_progress(body["prompt_progress"])
        if self._choice_index is None:
            self._choice_index = find_first_choice(body)
        chunk = parse_chunk(body, self._choice_index or 0)
        if chunk.delta.calls:
            self.extra_contents.update(find_extra_contents(body))
        if chunk.is_message and chunk.finish_reason and any(chunk.delta):
            chunk = chunk._replace(delta=_remove_repeats(self._deltas, chunk.delta))
        return self._read_chunk(chunk)

    def _read_odd_event(self, body: JSON) -> Sequence[ResponseEvent]:
        """Read `[DONE]` or a list of chunks; skip a keep-alive."""
        if body == DONE:
            self._finish_reason = self._finish_reason or "stop"
            self.is_done = True
            return ()
        if isinstance(body, list):
            return [part for event in body for part in self._read_event_body(event)]
        if isinstance(body, str) and body and not is_keep_alive(body):
            raise BadAnswer(f"an event of the stream is only a text: {shorten_body(body)}")
        return ()

    def end(self) -> list[ResponseEvent]:
        """Return the last parts of an answer; its finish reason is None if it was cut off."""
        reason = None if self._finish_reason == _ABORTED else self._finish_reason
        if reason == "length" and not (self._deltas or (self._counts and self._counts.output)):
            raise ContextOverflow(
                "the server had no room for an answer: the conversation is longer than its context",
                status=200,
            )
        parts = self._dialect_reader.close(reason)
        self._parts += parts
        return [*parts, ResponseEnd(reason, self._build_usage())]

    def read_unparsed(self, error: UnparsedAnswer, reader: DialectReader) -> list[ResponseEvent]:
        """Return the end of an answer that the server could not parse, from the text in its error.

        Calls that were received in pieces do not count: they may be parts of one. Text that is only
        the end of the answer counts if it consists of whole calls. Whatever cannot be read is a
        malformed call, so that the model is informed. reader: a new one of the same dialect.
        """
        text = error.text
        if error.is_whole:
            text = text.removeprefix("".join(delta.text for delta in self._deltas))
        parts = [*reader.feed(MessageDelta(text)), *reader.close(None)]
        has_call = any(isinstance(part, ToolCallPart) for part in parts)
        is_read = has_call or any(isinstance(part, MalformedCallPart) for part in parts)
        if error.is_whole:
            is_read = is_read or any(isinstance(part, TextPart) for part in parts)
        elif not all(isinstance(part, ToolCallPart) for part in parts):
            is_read = False
        if not is_read:
            why = "" if text.strip() else f" ({error.body})"
            parts = [MalformedCallPart(text, f"the server failed to parse it{why}")]
        self._parts += parts
        return [*parts, ResponseEnd("stop", self._build_usage())]

    def _read_chunk(self, chunk: CompletionChunk) -> Sequence[MessagePart]:
        self._finish_reason = chunk.finish_reason or self._finish_reason
        if chunk.usage is not None:
            before = self._counts
            self._counts = chunk.usage if before is None else before.merge(chunk.usage)
        if any(chunk.delta):
            if not self._deltas:
                self._first_token_at = monotonic()
            self._deltas.append(chunk.delta)
        parts = self._dialect_reader.feed(chunk.delta)
        self._parts += parts
        return parts

    def _build_usage(self) -> Usage:
        """Return the usage, with an estimate for each count that the server did not report."""
        found, output, cached = self._counts or TokenCounts()
        if output is None:
            output = -(-sum(map(_measure_part, self._parts)) // _BYTES_PER_TOKEN)
        now, input_tokens = monotonic(), found or self._request_bytes // _BYTES_PER_TOKEN
        seconds = now - self._started_at
        is_streamed = self._sse_decoder is not None and self._first_token_at > 0
        first_token = self._first_token_at - self._started_at if is_streamed else None
        return Usage(
            1,
            input_tokens,
            output,
            cached or 0,
            seconds=seconds,
            writing=measure_writing(seconds, first_token),
            first_token=first_token,
            model=self._model,
        )


_MIN_PROGRESS_TOKENS = 64


def _parse_progress(progress: JSON) -> Sequence[ResponseEvent]:
    """Return the tokens of the prompt that llama.cpp has read, without those it had cached."""
    match progress:
        case {"total": int(total), "cache": int(cached), "processed": int(processed)}:
            is_worth_showing = total - cached >= _MIN_PROGRESS_TOKENS
            done = ResponseProgress("reading", processed - cached, total - cached)
            return (done,) if is_worth_showing else ()
        case _:
            return ()


def _decode_odd_event(data: bytes) -> JSON:
    """Return the JSON of an event that is not strictly JSON. Raises BadAnswer."""
    try:
        return decode_event(data)
    except ValueError:
        refusal = parse_error_response(500, data)
        if not isinstance(refusal, RateLimited):
            raise refusal from None
        text = data.decode("utf-8", "replace")
        raise BadAnswer(f"an event of the stream is not JSON: {shorten_body(text)}") from None


def _is_chunk(line: bytes) -> bool:
    """Whether a line of JSON is a chunk of a stream, and not a whole answer."""
    try:
        value = decode_json(line)
    except ValueError:
        return False
    match value:
        case {"choices": [{"delta": {}}, *_]} | {"done": False}:
            return True
        case _:
            return False


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
