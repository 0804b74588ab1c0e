"""The `Model` protocol: a model receives a `ModelRequest` and answers with a stream of parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from agentcall.dialects.answer_parts import MessagePart
from agentcall.dialects.dialect import PromptSpec, ToolChoice
from agentcall.messages import Message, Transcript, Usage
from agentcall.settings import ModelSettings


@dataclass(frozen=True, slots=True, eq=False)
class ModelRequest:
    """One request to a model: the conversation so far, the instructions and the tools.

    tool_choice: "auto", "none", "required" or a tool's name; None leaves it to the model's own
        settings, and is "auto" without any.
    stream: asks for text as it arrives; a model that cannot stream answers in one piece.
    settings: those of the agent and the run, which replace the model's own, one by one. Their
        `tool_choice` is in `tool_choice` already.
    holds_answer: the next answer has to be of the prompt's type: where the server can hold the
        model to it, no tool is offered.
    whole: the conversation with all that the transcript has shortened or left out, for a program,
        which reads whole results; None if that is nothing.
    is_step: no request may be made: a program continues, or has ended without an answer.
    begin: the index of the run's first message in the whole conversation.
    """

    transcript: Transcript
    prompt: PromptSpec
    tool_choice: ToolChoice | None = "auto"
    stream: bool = False
    settings: ModelSettings | None = None
    holds_answer: bool = False
    whole: Sequence[Message] | None = None
    is_step: bool = False
    begin: int = 0


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """The dialect of an answer and the reason for it; an optional first part.

    `model` is the model's name on its server and `url` the server's URL without secrets; both are
    empty for a model without a server. `adaptations` has, for each form of a request that the
    server has refused, the name of what is sent instead, and the reason.
    """

    dialect: str
    reason: str
    model: str = ""
    url: str = ""
    adaptations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ResponseProgress:
    """What happens before an answer begins, and how much of it is done, if that is known.

    fetching: the model's file, in bytes. loading: the file into memory. reading: the conversation,
    in tokens.
    """

    stage: Literal["fetching", "loading", "reading"]
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class ResponseEnd:
    """The last part of every answer: the server's finish reason, and the tokens used.

    A `finish_reason` of None means that the answer was cut off: no call in it may be executed.
    """

    finish_reason: str | None
    usage: Usage


ResponseEvent: TypeAlias = MessagePart | ResponseStart | ResponseProgress | ResponseEnd


PROGRAM_STEP = "program"
"""The finish reason of a turn that is a step of a program (`code_mode.py`): until the program ends,
no request is made."""

BEFORE_ANSWER = (ResponseStart, ResponseProgress)
"""Parts after which another model may still be asked instead."""


class Model(Protocol):
    """Anything that answers a conversation."""

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one answer as they become certain; `ResponseEnd` comes last.

        Raises ModelError if the model gives no answer.
        """
        ...


_ONE_PIECE_SECONDS = 0.01


def measure_writing(seconds: float, first_token: float | None) -> float:
    """Return how long an answer was written, of the `seconds` of its request.

    first_token: when its first token came; None if it was not streamed. An answer that came in one
    piece was written in all of the time, as far as one can see.
    """
    writing = seconds - (first_token or 0.0)
    return writing if writing > _ONE_PIECE_SECONDS else seconds


def collect_secrets(models: Iterable[Model]) -> Collection[str]:
    """Return the keys and passwords of these models, which no output may contain."""
    return {secret for model in models for secret in getattr(model, "secrets", ())}


async def fetch_context_window(model: Model) -> int | None:
    """Return the window of a model in tokens; None if the model cannot tell."""
    fetch = getattr(model, "fetch_context_window", None)
    window: int | None = None if fetch is None else await fetch()
    return window


async def find_context_window(model: Model) -> int | None:
    """As `fetch_context_window`, for a run: it costs little, and is remembered by the model."""
    find = getattr(model, "find_context_window", None)
    window: int | None = await (fetch_context_window(model) if find is None else find())
    return window


async def close_response(answer: AsyncIterator[ResponseEvent]) -> None:
    """Close an answer that was abandoned before its end, if it is a generator."""
    close = getattr(answer, "aclose", None)
    if close is not None:
        await close()
