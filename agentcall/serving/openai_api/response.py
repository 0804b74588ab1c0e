"""A run as a chat completion, whole or in chunks.

Source: OpenAI's API reference, the objects `chat.completion` and `chat.completion.chunk`;
`reasoning_content` is the field that LMDeploy, vLLM and DeepSeek use.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

import orjson

from agentcall.events import (
    AnswerDiscarded,
    ApprovalRequested,
    Event,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallStarted,
)
from agentcall.messages import JSON, Usage
from agentcall.result import MissingOutput, RunResult
from agentcall.tools.serialize import serialize

_MAX_RESULT_CHARS = 500


class CompletionWriter:
    """Writes the answer to one request.

    steps: whether the tool steps are told. streams: whether text is sent as it arrives; the text
    of a typed output is not, as it may be mended.
    """

    def __init__(self, completion_id: str, model: str, *, steps: bool, streams: bool) -> None:
        self._head: dict[str, JSON] = {
            "id": f"chatcmpl-{completion_id}",
            "created": int(time()),
            "model": model,
        }
        self._include_steps = steps
        self._streams = streams
        self._step_texts: list[str] = []
        self._text = ""
        self._needs_separator = False

    def build_completion(self, result: RunResult[Any]) -> dict[str, JSON]:  # Any: of any agent
        """The completion that a run came to."""
        message: dict[str, JSON] = {"role": "assistant", "content": format_answer(result)}
        if self._include_steps:
            message["reasoning_content"] = "".join(self._step_texts)
        choice: JSON = {"index": 0, "message": message, "finish_reason": get_finish_reason(result)}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": dump_usage(result.usage),
        }

    def record_step(self, event: Event) -> None:
        """Takes down a step for the whole completion."""
        if (step := format_step(event)) is not None:
            self._step_texts.append(step)

    def build_first_chunk(self) -> bytes:
        """The chunk that begins an answer."""
        return self._build_chunk({"role": "assistant", "content": ""})

    def build_chunks(self, event: Event) -> Iterator[bytes]:
        """What an event adds to the answer.

        Text is sent as it arrives. What the model said before a tool call, or what it took back,
        is in the answer too: a blank line sets it apart.
        """
        match event:
            case TextDelta(text) if text and self._streams:
                apart = "\n\n" if self._needs_separator and self._text else ""
                self._needs_separator = False
                self._text += text
                yield self._build_chunk({"content": apart + text})
            case AnswerDiscarded() | ToolCallStarted() | ToolCallRefused():
                self._needs_separator = True
            case _:
                pass
        step = format_step(event) if self._include_steps else None
        if step:
            yield self._build_chunk({"reasoning_content": step})

    def build_last_chunks(
        self, result: RunResult[Any], *, usage: bool
    ) -> Iterator[bytes]:  # Any: as above
        """The chunks that end an answer."""
        words = format_answer(result)
        if not self._text.endswith(words):  # it was not streamed: a typed output, or why none is
            yield self._build_chunk({"content": f"\n\n{words}" if self._text else words})
        yield self._build_chunk({}, get_finish_reason(result))
        if usage:
            body: dict[str, JSON] = {**self._head, "object": "chat.completion.chunk"}
            yield _encode_event({**body, "choices": [], "usage": dump_usage(result.usage)})
        yield b"data: [DONE]\n\n"

    def _build_chunk(self, delta: dict[str, JSON], finish: str | None = None) -> bytes:
        choice: JSON = {"index": 0, "delta": delta, "finish_reason": finish}
        return _encode_event({**self._head, "object": "chat.completion.chunk", "choices": [choice]})


def _encode_event(body: dict[str, JSON]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def format_answer(result: RunResult[Any]) -> str:  # Any: as above
    """The answer in words; of a run without one, why there is none."""
    if not isinstance(result.answer, MissingOutput):
        return serialize(result.answer)
    if result.pending:
        # Not the arguments nor the policy's words about them: a client sends this text back, and
        # what an attacker wanted to be called must not come into the conversation that way.
        names = list(dict.fromkeys(pending.call.name for pending in result.pending))
        need = f"{', '.join(names)} {'need' if names[1:] else 'needs'} a person's approval"
        return f"I stopped here: {need}, which cannot be given here."
    return f"There is no answer ({result.stop_reason}): {result.answer.reason}."


def get_finish_reason(result: RunResult[Any]) -> str:  # Any: as above
    """OpenAI's word for why the answer ended."""
    return "length" if result.stop_reason in ("max_tokens", "max_requests") else "stop"


def dump_usage(usage: Usage) -> JSON:
    """What the whole run used."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def format_step(event: Event) -> str | None:
    """A step of the run as a piece of reasoning text."""
    match event:
        case ThinkingDelta(text):
            return text
        case ToolCallStarted(call):
            return f"\n{call.name}({call.arguments})"
        case ToolCallFinished(_, result, seconds):
            mark = "failed" if result.is_error else "gave"
            return f" {mark} in {seconds:.2f} s: {result.text[:_MAX_RESULT_CHARS]}\n"
        case ApprovalRequested(call, reason):
            return f"\n{call.name} waits for approval{f': {reason}' if reason else ''}\n"
        case ToolCallRefused(call, result):
            return (
                f"\n{call.name}({call.arguments}) was refused: {result.text[:_MAX_RESULT_CHARS]}\n"
            )
        case _:
            return None
