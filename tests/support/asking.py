"""Asks a model as a run does, for tests of models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentcall import Tool
from agentcall.dialects.answer_parts import TextPart, ThinkingPart, ToolCallPart
from agentcall.dialects.dialect import PromptSpec
from agentcall.messages import Transcript, Usage, User
from agentcall.models.model import ModelRequest, ResponseEnd, ResponseEvent


@dataclass(frozen=True)
class Heard:
    """What the parts of one answer come to."""

    parts: tuple[ResponseEvent, ...]
    finish: str | None
    usage: Usage

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def thinking(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, ThinkingPart))

    @property
    def calls(self) -> list[ToolCallPart]:
        return [part for part in self.parts if isinstance(part, ToolCallPart)]


async def heard(answer: AsyncIterable[ResponseEvent]) -> Heard:
    """The whole answer."""
    parts = [part async for part in answer]
    last = parts[-1]
    assert isinstance(last, ResponseEnd)
    return Heard(tuple(parts), last.finish_reason, last.usage)


def question(
    stream: bool = False, tools: Sequence[Tool[Any]] = (), *, said: str = "hi"
) -> ModelRequest:
    """A request that says something and offers tools."""
    return ModelRequest(Transcript([User(said)]), PromptSpec("", tuple(tools)), stream=stream)


async def eventually(truth: Callable[[], bool]) -> None:
    """Waits at most three seconds until it is true."""
    for _ in range(300):
        if truth():
            return
        await asyncio.sleep(0.01)
    assert truth()
