"""From what a server sends to parts: completions through a dialect's reader.

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

from collections.abc import Iterator, Sequence

from agentcall.dialects.parts import MessageDelta, MessagePart, TextPart, ThinkingPart, ToolCallPart
from agentcall.dialects.protocol import DialectReader
from agentcall.errors import BadAnswer, ContextOverflow
from agentcall.messages import JSON, Usage
from agentcall.models.completion import (
    CompletionChunk,
    decode_json,
    find_first_choice,
    parse_chunk,
    parse_completion,
    renumber_calls,
)
from agentcall.models.protocol import ResponseEnd, ResponseEvent
from agentcall.models.refusal import build_not_json_error, shorten_body
from agentcall.models.sse import SSEDecoder

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
