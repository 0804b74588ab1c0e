"""One turn of the model: what it said, thought and called, and how its answer ended."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass

from agentcall.dialects.parts import Broken, Called, Said, Thought
from agentcall.events import DialectChosen, Event, TextDelta, ThinkingDelta
from agentcall.messages import Usage
from agentcall.models.protocol import Answer, Chosen, Ended


@dataclass(frozen=True, slots=True)
class Turn:
    """What one answer came to; `finish` is None for an answer that was cut."""

    text: str
    thinking: str
    calls: tuple[Called, ...]
    broken: tuple[Broken, ...]
    finish: str | None
    usage: Usage


async def heard(parts: AsyncIterable[Answer], emit: Callable[[Event], None] | None) -> Turn:
    """The turn that the parts of an answer make; its text is emitted as it arrives."""
    text: list[str] = []
    thinking: list[str] = []
    calls: list[Called] = []
    broken: list[Broken] = []
    ended = Ended(None, Usage(1))
    async for part in parts:
        if emit is not None:
            _emit(part, emit)
        match part:
            case Said():
                text.append(part.text)
            case Thought():
                thinking.append(part.text)
            case Called():
                calls.append(part)
            case Broken():
                broken.append(part)
            case Ended():
                ended = part
            case Chosen():
                pass
    return Turn(
        "".join(text), "".join(thinking), tuple(calls), tuple(broken), ended.finish, ended.usage
    )


def _emit(part: Answer, emit: Callable[[Event], None]) -> None:
    match part:
        case Said(text):
            emit(TextDelta(text))
        case Thought(text):
            emit(ThinkingDelta(text))
        case Chosen(dialect, reason):
            emit(DialectChosen(dialect, reason))
        case _:
            pass
