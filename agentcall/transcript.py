"""A run's append-only record, which encodes each message once.

Earlier messages are never rewritten, so the bytes of a request begin with the bytes of the one
before it, and the server's prefix cache hits. Each way of writing messages down (a dialect) has
its own buffer, filled as far as somebody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from agentcall.messages import JSON, Message, encode_json

RenderMessage: TypeAlias = Callable[[Message, Sequence[Message]], Iterable[dict[str, JSON]]]
"""Writes one message for the wire; the second argument is the conversation before it."""


@dataclass(slots=True)
class _Buffer:
    data: bytearray = field(default_factory=bytearray)
    count: int = 0


class Transcript:
    """Messages, in order; grows at its end only."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages: list[Message] = list(messages)
        self._buffers: dict[object, _Buffer] = {}

    def append(self, message: Message) -> None:
        """Adds a message at the end."""
        self._messages.append(message)

    def encode(self, key: object, render: RenderMessage) -> bytes:
        """The messages as JSON objects joined by commas, as `render` writes them.

        `key` names the way of writing: the same key has always to come with the same `render`.
        """
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = _Buffer()
        before = self._messages[: buffer.count]
        for message in self._messages[buffer.count :]:
            for wire in render(message, before):
                if buffer.data:
                    buffer.data += b","
                buffer.data += encode_json(wire)
            before.append(message)  # a copy for each message would cost their number squared
        buffer.count = len(self._messages)
        return bytes(buffer.data)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index: int) -> Message:
        return self._messages[index]
