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
from agentcall.result import Missing, RunResult
from agentcall.snapshot import snapshot

_SHOWN = 500


class Writer:
    """Writes the answer to one request.

    steps: whether the tool steps are told. streams: whether text is sent as it arrives; the text
    of a typed output is not, as it may be mended.
    """

    def __init__(self, identity: str, model: str, *, steps: bool, streams: bool) -> None:
        self._head: dict[str, JSON] = {
            "id": f"chatcmpl-{identity}",
            "created": int(time()),
            "model": model,
        }
        self._steps = steps
        self._streams = streams
        self._told: list[str] = []
        self._said = ""
        self._is_apart = False

    def whole(self, result: RunResult[Any]) -> dict[str, JSON]:  # Any: of any agent
        """The completion that a run came to."""
        message: dict[str, JSON] = {"role": "assistant", "content": words_of(result)}
        if self._steps:
            message["reasoning_content"] = "".join(self._told)
        choice: JSON = {"index": 0, "message": message, "finish_reason": finish_of(result)}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage_json(result.usage),
        }

    def hear(self, event: Event) -> None:
        """Takes down a step for the whole completion."""
        if (step := step_of(event)) is not None:
            self._told.append(step)

    def first(self) -> bytes:
        """The chunk that begins an answer."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunks(self, event: Event) -> Iterator[bytes]:
        """What an event adds to the answer.

        Text is sent as it arrives. What the model said before a tool call, or what it took back,
        is in the answer too: a blank line sets it apart.
        """
        match event:
            case TextDelta(text) if text and self._streams:
                apart = "\n\n" if self._is_apart and self._said else ""
                self._is_apart = False
                self._said += text
                yield self._chunk({"content": apart + text})
            case AnswerDiscarded() | ToolCallStarted() | ToolCallRefused():
                self._is_apart = True
            case _:
                pass
        step = step_of(event) if self._steps else None
        if step:
            yield self._chunk({"reasoning_content": step})

    def last(self, result: RunResult[Any], *, usage: bool) -> Iterator[bytes]:  # Any: as above
        """The chunks that end an answer."""
        words = words_of(result)
        if not self._said.endswith(words):  # it was not streamed: a typed output, or why none is
            yield self._chunk({"content": f"\n\n{words}" if self._said else words})
        yield self._chunk({}, finish_of(result))
        if usage:
            body: dict[str, JSON] = {**self._head, "object": "chat.completion.chunk"}
            yield _event({**body, "choices": [], "usage": usage_json(result.usage)})
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, JSON], finish: str | None = None) -> bytes:
        choice: JSON = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**self._head, "object": "chat.completion.chunk", "choices": [choice]})


def _event(body: dict[str, JSON]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def words_of(result: RunResult[Any]) -> str:  # Any: as above
    """The answer in words; of a run without one, why there is none."""
    if not isinstance(result.answer, Missing):
        return snapshot(result.answer)
    if result.pending:
        # Not the arguments nor the policy's words about them: a client sends this text back, and
        # what an attacker wanted to be called must not come into the conversation that way.
        names = list(dict.fromkeys(pending.call.name for pending in result.pending))
        need = f"{', '.join(names)} {'need' if names[1:] else 'needs'} a person's approval"
        return f"I stopped here: {need}, which cannot be given here."
    return f"There is no answer ({result.stop_reason}): {result.answer.reason}."


def finish_of(result: RunResult[Any]) -> str:  # Any: as above
    """OpenAI's word for why the answer ended."""
    return "length" if result.stop_reason in ("max_tokens", "max_requests") else "stop"


def usage_json(usage: Usage) -> JSON:
    """What the whole run used."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def step_of(event: Event) -> str | None:
    """A step of the run as a piece of reasoning text."""
    match event:
        case ThinkingDelta(text):
            return text
        case ToolCallStarted(call):
            return f"\n{call.name}({call.arguments})"
        case ToolCallFinished(_, result, seconds):
            mark = "failed" if result.is_error else "gave"
            return f" {mark} in {seconds:.2f} s: {result.text[:_SHOWN]}\n"
        case ApprovalRequested(call, reason):
            return f"\n{call.name} waits for approval{f': {reason}' if reason else ''}\n"
        case ToolCallRefused(call, result):
            return f"\n{call.name}({call.arguments}) was refused: {result.text[:_SHOWN]}\n"
        case _:
            return None
