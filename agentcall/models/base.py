"""What a model is: something that answers a conversation, part by part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from agentcall.dialects.base import MessagePart, PromptSpec, ToolChoice
from agentcall.errors import UsageError
from agentcall.messages import JSON, Transcript, Usage

_RESERVED_FIELDS = ("model", "messages", "stream", "stream_options")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How the model samples; None leaves it to the server. `extra` are further request fields.

    Raises UsageError if `extra` has a field that is not a setting.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    extra: dict[str, JSON] = field(default_factory=dict[str, JSON])

    def __post_init__(self) -> None:
        reserved = [name for name in _RESERVED_FIELDS if name in self.extra]
        if reserved:
            raise UsageError(
                f"Settings.extra has {', '.join(reserved)}, which the request says itself; leave it"
            )

    def to_fields(self) -> dict[str, JSON]:
        """The settings as fields of a chat completion request."""
        settings = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": list(self.stop) or None,
        }
        return {**{k: v for k, v in settings.items() if v is not None}, **self.extra}


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
