"""The `Model` protocol: a model receives a `ModelRequest` and answers with a stream of parts."""

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
    """One request to a model: the conversation so far, the instructions and the tools.

    `stream` asks for text as it arrives; a model that cannot stream answers in one piece.
    """

    transcript: Transcript
    prompt: PromptSpec
    tool_choice: ToolChoice = "auto"
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """The dialect of an answer and the reason for it; an optional first part.

    `model` is the model's name on its server and `url` the server's URL without secrets; both are
    empty for a model without a server.
    """

    dialect: str
    reason: str
    model: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ResponseEnd:
    """The last part of every answer: the server's finish reason, and the tokens used.

    A `finish_reason` of None means that the answer was cut off: no call in it may be executed.
    """

    finish_reason: str | None
    usage: Usage


ResponseEvent: TypeAlias = MessagePart | ResponseStart | ResponseEnd


class Model(Protocol):
    """Anything that answers a conversation."""

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one answer as they become certain; `ResponseEnd` comes last.

        Raises ModelError if the model gives no answer.
        """
        ...


def collect_secrets(models: Iterable[Model]) -> Collection[str]:
    """Return the keys and passwords of these models, which no output may contain."""
    return {secret for model in models for secret in getattr(model, "secrets", ())}


async def close_response(answer: AsyncIterator[ResponseEvent]) -> None:
    """Close an answer that was abandoned before its end, if it is a generator."""
    close = getattr(answer, "aclose", None)
    if close is not None:
        await close()
