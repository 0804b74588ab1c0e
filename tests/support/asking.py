"""Asks a model as a run does, for tests of models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentcall import Tool
from agentcall.dialects.parts import Called, Said, Thought
from agentcall.dialects.protocol import Offer
from agentcall.messages import Usage, User
from agentcall.models.protocol import Answer, Ended, Request
from agentcall.transcript import Transcript


@dataclass(frozen=True)
class Heard:
    """What the parts of one answer come to."""

    parts: tuple[Answer, ...]
    finish: str | None
    usage: Usage

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Said))

    @property
    def thinking(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Thought))

    @property
    def calls(self) -> list[Called]:
        return [part for part in self.parts if isinstance(part, Called)]


async def heard(answer: AsyncIterable[Answer]) -> Heard:
    """The whole answer."""
    parts = [part async for part in answer]
    last = parts[-1]
    assert isinstance(last, Ended)
    return Heard(tuple(parts), last.finish, last.usage)


def question(stream: bool = False, tools: Sequence[Tool[Any]] = (), *, said: str = "hi") -> Request:
    """A request that says something and offers tools."""
    return Request(Transcript([User(said)]), Offer("", tuple(tools)), stream=stream)


async def eventually(truth: Callable[[], bool]) -> None:
    """Waits at most three seconds until it is true."""
    for _ in range(300):
        if truth():
            return
        await asyncio.sleep(0.01)
    assert truth()
