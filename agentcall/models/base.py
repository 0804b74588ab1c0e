"""What a model is: something that answers a conversation, part by part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from agentcall.dialects.base import MessagePart, PromptSpec, ToolChoice
from agentcall.messages import Transcript, Usage


@dataclass(frozen=True, slots=True, eq=False)
class ModelRequest:
    """One question to a model: the conversation so far and what is offered.

    `stream` asks for text as it arrives; a model that cannot do so answers in one piece.
    """

    transcript: Transcript
    prompt: PromptSpec
    tool_choice: ToolChoice = "auto"
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """The dialect that a model speaks, and why; may come first in an answer.

    `model` is the model's name at its server, `place` the server's URL without any secret; both
    are empty where there is none.
    """

    dialect: str
    reason: str
    model: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ResponseEnd:
    """The last part of every answer: the server's finish_reason, and what the request used.

    A finish of None says that the answer has no proper end: nothing in it may be carried out.
    """

    finish_reason: str | None
    usage: Usage


ResponseEvent: TypeAlias = MessagePart | ResponseStart | ResponseEnd


class Model(Protocol):
    """Answers a conversation. Raises ModelError if there is no answer to be had."""

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """The parts of one answer as they become certain; `Ended` comes last."""
        ...


def collect_secrets(models: Iterable[Model]) -> Collection[str]:
    """What nothing that is shown of these models may hold: the keys and passwords in use."""
    return {secret for model in models for secret in getattr(model, "secrets", ())}


async def close_response(answer: AsyncIterator[ResponseEvent]) -> None:
    """Closes an answer that was left before its end, where it can be closed."""
    close = getattr(answer, "aclose", None)
    if close is not None:
        await close()
