"""From what a server sends to parts: pieces of completions through a dialect's reader.

Rules:
1. An answer has an end if the server named a finish_reason, or said `[DONE]`, or sent it whole.
2. Usage that the server does not report is counted at four bytes a token, so that it is always
   there.
3. Of several choices only the first is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from agentcall.dialects.parts import Called, Part, Said, Thought
from agentcall.dialects.protocol import Reader
from agentcall.errors import BadAnswer
from agentcall.messages import JSON, Usage
from agentcall.models.completion import Piece, chunk, excerpt, whole
from agentcall.models.protocol import Answer, Ended

DONE = b"[DONE]"
_BYTES_A_TOKEN = 4


class Hearing:
    """Listens to one answer; `sent` is how many bytes the request had."""

    def __init__(self, reader: Reader, sent: int) -> None:
        self._reader = reader
        self._sent = sent
        self._heard = 0
        self._finish: str | None = None
        self._usage: Usage | None = None

    def whole(self, body: JSON) -> Iterator[Answer]:
        """The parts of an answer that came in one body."""
        piece = whole(body)
        yield from self._piece(piece)
        self._finish = self._finish or "stop"
        yield from self.end()

    def event(self, data: bytes) -> Iterator[Answer]:
        """The parts that one event of a stream completes."""
        if data.strip() == DONE:
            self._finish = self._finish or "stop"
            return
        try:
            body = orjson.loads(data)
        except ValueError:
            text = data.decode("utf-8", "replace")
            raise BadAnswer(f"an event of the stream is not JSON: {excerpt(text)}") from None
        yield from self._piece(chunk(body))

    def end(self) -> Iterator[Answer]:
        """What is left, and the end."""
        yield from self._counted(self._reader.close(self._finish))
        yield Ended(self._finish, self._usage or self._estimate())

    def _piece(self, piece: Piece) -> Iterator[Answer]:
        self._finish = piece.finish or self._finish
        self._usage = piece.usage or self._usage
        yield from self._counted(self._reader.feed(piece.delta))

    def _counted(self, parts: Sequence[Part]) -> Iterator[Part]:
        for part in parts:
            self._heard += _size(part)
            yield part

    def _estimate(self) -> Usage:
        return Usage(1, self._sent // _BYTES_A_TOKEN, -(-self._heard // _BYTES_A_TOKEN))


def _size(part: Part) -> int:
    match part:
        case Said(text) | Thought(text):
            return len(text.encode())
        case Called():
            return len(part.name) + len(part.arguments.encode())
        case _:
            return len(part.text)
