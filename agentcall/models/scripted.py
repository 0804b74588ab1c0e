"""A model that plays a script: for tests and for the examples in the docs. No network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from agentcall.dialects.parts import Called, Part, Said, Thought
from agentcall.errors import UsageError
from agentcall.messages import JSON, Message, Usage
from agentcall.models.protocol import Answer, Ended, Request


@dataclass(frozen=True, slots=True)
class Line:
    """One answer of a script: its parts, how it ends, and what it claims to have used."""

    parts: tuple[Part, ...]
    finish: str | None = "stop"
    usage: Usage = Usage(1, 10, 5)  # noqa: RUF009 - frozen

    def __add__(self, other: Line) -> Line:
        return Line((*self.parts, *other.parts), other.finish, other.usage)


def say(text: str, *, thinking: str = "") -> Line:
    """An answer in words."""
    thought = (Thought(thinking),) if thinking else ()
    return Line((*thought, Said(text)))


def call(name: str, /, **arguments: JSON) -> Line:
    """An answer that calls a tool; add several for parallel calls."""
    return Line((Called(name, json.dumps(arguments, ensure_ascii=False)),), "tool_calls")


Script: TypeAlias = "Iterable[Line] | Callable[[tuple[Message, ...]], Line]"


class ScriptedModel:
    """Answers with the lines of a script in order, or with what a function makes of the messages.

    `requests` keeps each request's messages and offer, for a test to look at.
    """

    def __init__(self, script: Script) -> None:
        self._script = script if callable(script) else iter(tuple(script))
        self.requests: list[Request] = []
        self.seen: list[tuple[Message, ...]] = []

    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of the next line. Raises UsageError when the script is over."""
        messages = tuple(request.transcript)
        self.requests.append(request)
        self.seen.append(messages)
        line = self._script(messages) if callable(self._script) else next(self._script, None)
        if line is None:
            raise UsageError(f"the script is over; it was asked {len(self.seen)} times")
        for part in line.parts:
            yield part
        yield Ended(line.finish, line.usage)
