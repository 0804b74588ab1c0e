"""The result of a run as a chat completion, whole or in chunks.

Source: OpenAI's API reference, the objects `chat.completion` and `chat.completion.chunk`;
`reasoning_content` is the field that LMDeploy, vLLM and DeepSeek use.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

import orjson
from typing_extensions import assert_never

from agentcall.events import (
    AnswerDiscarded,
    ApprovalRequested,
    Event,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallStarted,
    ToolProgress,
)
from agentcall.messages import JSON, Usage
from agentcall.result import MissingOutput, RunResult
from agentcall.tools.serialize import serialize

_MAX_RESULT_CHARS = 500


class CompletionWriter:
    """Builds the response to one request.

    steps: whether to include the tool steps.
    streams: whether text is sent as it arrives. That of a typed output isn't, as it may be
        repaired, nor that of an agent whose hooks or checks may change or block an answer.
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
        """Return the completion of a whole run."""
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
        """Record a step for `build_completion`."""
        if (step := format_step(event)) is not None:
            self._step_texts.append(step)

    def build_first_chunk(self) -> bytes:
        """Return the first chunk, which has the role."""
        return self._build_chunk({"role": "assistant", "content": ""})

    def build_chunks(self, event: Event) -> Iterator[bytes]:
        """Yield the chunks for an event.

        Text that the model wrote before a tool call, or whose answer was discarded, has already
        been sent. A blank line separates it from the answer.
        """
        match event:
            case TextDelta(text) if text and self._streams:
                separator = "\n\n" if self._needs_separator and self._text else ""
                self._needs_separator = False
                self._text += text
                yield self._build_chunk({"content": separator + text})
            case AnswerDiscarded() | ToolCallStarted() | ToolCallRefused():
                self._needs_separator = True
            case _:
                pass
        step = format_step(event) if self._include_steps else None
        if step:
            yield self._build_chunk({"reasoning_content": step})

    def build_last_chunks(self, result: RunResult[Any], *, usage: bool) -> Iterator[bytes]:
        """Yield the chunks that end the answer."""
        answer = format_answer(result)
        # A typed output, or the reason why there is no answer, has not been streamed.
        if not self._text.endswith(answer):
            yield self._build_chunk({"content": f"\n\n{answer}" if self._text else answer})
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


def format_answer(result: RunResult[Any]) -> str:
    """Return the answer as text, or the reason why there is none."""
    if not isinstance(result.answer, MissingOutput):
        return serialize(result.answer)
    if result.pending:
        # Leave out the arguments and the policy's reason: the client sends this text back, and an
        # attacker's arguments must not enter the conversation that way.
        names = list(dict.fromkeys(pending.call.name for pending in result.pending))
        need = f"{', '.join(names)} {'need' if names[1:] else 'needs'} a person's approval"
        return f"I stopped here: {need}, which cannot be given here."
    return f"There is no answer ({result.stop_reason}): {result.answer.reason}."


def get_finish_reason(result: RunResult[Any]) -> str:
    """Return OpenAI's `finish_reason`."""
    match result.stop_reason:
        case "max_tokens" | "max_requests":
            return "length"
        case "content_filter" | "blocked":
            return "content_filter"
        case "final" | "max_tool_calls" | "loop" | "timeout" | "cancelled" | "approval" | "error":
            return "stop"
        case _:
            assert_never(result.stop_reason)


def dump_usage(usage: Usage) -> JSON:
    """Return the usage of the whole run in OpenAI's form."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def format_step(event: Event) -> str | None:
    """Return a step of the run as reasoning text, or None for an event that is not a step."""
    match event:
        case ThinkingDelta(text):
            return text
        case ToolCallStarted(call):
            return f"\n{call.name}({call.arguments})"
        case ToolProgress():
            return f" {event.format(_MAX_RESULT_CHARS)};"
        case ToolCallFinished(_, result, seconds):
            verb = "failed" if result.is_error else "returned"
            return f" {verb} in {seconds:.2f} s: {result.text[:_MAX_RESULT_CHARS]}\n"
        case ApprovalRequested(call, reason):
            return f"\n{call.name} waits for approval{f': {reason}' if reason else ''}\n"
        case ToolCallRefused(call, result):
            return (
                f"\n{call.name}({call.arguments}) was refused: {result.text[:_MAX_RESULT_CHARS]}\n"
            )
        case _:
            return None
