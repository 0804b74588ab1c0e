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

from agentcall.dialects.parts import Called, Delta, Part, Said, Thought
from agentcall.dialects.protocol import Reader
from agentcall.errors import BadAnswer, ContextOverflow
from agentcall.messages import JSON, Usage
from agentcall.models.completion import Piece, chunk, each_apart, first_choice, parsed, whole
from agentcall.models.protocol import Answer, Ended
from agentcall.models.refusal import excerpt, no_json
from agentcall.models.sse import EventReader

_DONE = b"[DONE]"
_GIVEN_UP = ("error", "abort")
_BYTES_A_TOKEN = 4
_NO_ROOM = "the server had no room for an answer: the conversation is longer than its context"


class Hearing:
    """Listens to one answer: once `whole`, or `feed` until `close`, or `end` where it breaks off.

    `sent` is how many bytes the request had; `done` says that the server has said all.
    """

    def __init__(self, reader: Reader, sent: int) -> None:
        self._reader = reader
        self._sent = sent
        self._heard: list[Part] = []
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._events: EventReader | None = None
        self._page: list[bytes] = []
        self._deltas: list[Delta] = []
        self._choice: int | None = None
        self.done = False

    def whole(self, body: JSON) -> list[Answer]:
        """The parts of an answer that came in one body."""
        parts = self._piece(whole(body))
        self._finish = self._finish or "stop"
        return [*parts, *self.end()]

    def feed(self, data: bytes) -> Iterator[Answer]:
        """The parts that are certain once these bytes are known."""
        if self._events is None:
            if not self._begins_events(data):
                return
            self._events, data = EventReader(), b"".join(self._page)
        for event in self._events.feed(data):
            yield from self.event(event)

    def _begins_events(self, data: bytes) -> bool:
        """Whether what has come is a stream of events; until then it is kept as a page."""
        self._page.append(data)
        first = next((bare[:1] for page in self._page if (bare := page.lstrip())), b"")
        return first != b"" and first not in b"{[<"

    def close(self) -> list[Answer]:
        """What is left, and the end."""
        if self._events is not None:
            rest = [part for event in self._events.close() for part in self.event(event)]
            return [*rest, *self.end()]
        data = b"".join(self._page)
        if not data.strip():
            return self.end()
        try:
            body = parsed(data)
        except ValueError:
            raise no_json(data, "the server") from None
        return self.whole(body)

    def event(self, data: bytes) -> Sequence[Answer]:
        """The parts that one event of a stream completes."""
        if data.strip() == _DONE:
            self._finish = self._finish or "stop"
            self.done = True
            return ()
        body = _event(data)
        if self._choice is None:
            self._choice = first_choice(body)
        piece = chunk(body, self._choice or 0)
        if piece.is_message and piece.finish and any(piece.delta):
            piece = piece._replace(delta=_added(self._deltas, piece.delta))
        return self._piece(piece)

    def end(self) -> list[Answer]:
        """The end, where an answer is over or broke off: a proper one only if that was said."""
        finish = None if self._finish in _GIVEN_UP else self._finish
        if (
            finish == "length"
            and not self._deltas
            and not (self._usage and self._usage.output_tokens)
        ):
            raise ContextOverflow(_NO_ROOM, status=200)
        rest = self._reader.close(finish)
        self._heard += rest
        return [*rest, Ended(finish, self._usage or self._estimate())]

    def _piece(self, piece: Piece) -> Sequence[Part]:
        self._finish = piece.finish or self._finish
        self._usage = piece.usage or self._usage
        if any(piece.delta):
            self._deltas.append(piece.delta)
        parts = self._reader.feed(piece.delta)
        self._heard += parts
        return parts

    def _estimate(self) -> Usage:
        heard = sum(map(_size, self._heard))
        return Usage(1, self._sent // _BYTES_A_TOKEN, -(-heard // _BYTES_A_TOKEN))


def _event(data: bytes) -> JSON:
    try:
        return parsed(data)
    except ValueError:
        text = data.decode("utf-8", "replace")
        raise BadAnswer(f"an event of the stream is not JSON: {excerpt(text)}") from None


def _added(before: Sequence[Delta], delta: Delta) -> Delta:
    """What a message adds to the pieces before it."""
    text = "".join(each.text for each in before)
    thinking = "".join(each.thinking for each in before)
    return Delta(
        delta.text.removeprefix(text),
        delta.thinking.removeprefix(thinking),
        each_apart(delta.calls),
        is_all=bool(delta.calls),
    )


def _size(part: Part) -> int:
    match part:
        case Said(text) | Thought(text):
            return len(text.encode())
        case Called():
            return len(part.name) + len(part.arguments.encode())
        case _:
            return len(part.text.encode())
