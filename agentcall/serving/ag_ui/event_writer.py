"""The events of a run as AG-UI events.

Source: the AG-UI specification 1.0, "Streaming Messages", "Runs and Steps", "Tool Calls",
"Reasoning" and "Interrupts and Resume".

Rules:
1. Whatever is opened is closed before the run finishes. At most one message is open.
2. A turn of the model is one message: its text, and its calls as `parentMessageId`.
3. The last event but one is the conversation, as far as the client may know it: text that was
   streamed and then discarded is not in it, so the client removes it; nor is an answer that a check
   did not let pass.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from agentcall.events import (
    AnswerDiscarded,
    ApprovalRequested,
    Event,
    HandedOver,
    ModelAnswered,
    ModelProgress,
    PartialOutput,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallStarted,
    ToolProgress,
    event_to_json,
)
from agentcall.messages import (
    JSON,
    Assistant,
    Image,
    ToolCall,
    ToolResult,
    Usage,
    encode_json,
    tool_call_to_json,
)
from agentcall.result import PendingCall, RunResult
from agentcall.runtime.output_choices import OUTPUT_TOOL
from agentcall.serving.ag_ui.run_input import RunAgentInput
from agentcall.serving.openai_api.response import format_answer
from agentcall.tools.serialize import to_json_value

PROTOCOL_VERSION = "1.0"

_DENIAL_SCHEMA: JSON = {
    "type": "object",
    "properties": {"approved": {"const": False}},
    "required": ["approved"],
}


class EventWriter:
    """Writes the server-sent events of one run.

    typed: whether the agent has a typed output. It is sent whole, as it may be repaired, and the
        call of a tool that only gives the output is not sent.
    may_change: whether hooks or checks may change or block an answer, which is then sent whole.
    """

    def __init__(self, run_input: RunAgentInput, *, typed: bool, may_change: bool) -> None:
        self._input = run_input
        self._is_typed = typed
        self._streams = not typed and not may_change
        self._shows_partial = not may_change
        self._open_text = self._open_thinking = ""
        self._turn_id = _new_id()
        self._turn_has_ended = False
        self._texts: dict[str, str] = {}
        self._call_turns: dict[str, str] = {}
        self._result_ids: dict[str, str] = {}
        self._thinking: dict[str, dict[str, JSON]] = {}

    def start(self) -> Iterator[bytes]:
        """Yield the first events."""
        yield _encode(
            "RUN_STARTED",
            threadId=self._input.thread_id,
            runId=self._input.run_id,
            protocolVersion=PROTOCOL_VERSION,
        )
        for denial in self._input.denials:
            yield _encode(
                "TOOL_CALL_RESULT",
                messageId=denial["id"],
                toolCallId=denial["toolCallId"],
                content=denial["content"],
                role="tool",
            )

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the events for an event of the run, except RunFinished."""
        match event:
            case TextDelta(text):
                if text and self._streams:
                    yield from self._write_text(text)
            case ThinkingDelta(text):
                if text:
                    yield from self._write_thinking(text)
            case ModelAnswered():
                yield from self._close()
                if self._turn_has_ended:  # it had neither text nor thinking
                    self._begin_turn()
                self._turn_has_ended = True
            case AnswerDiscarded():
                yield from self._close()
                self._texts.pop(self._turn_id, None)
                self._begin_turn()
            case _:
                yield from self._write_call_event(event)

    def _write_call_event(self, event: Event) -> Iterator[bytes]:
        match event:
            case ToolCallStarted(call):
                yield from self._write_call(call)
            case ApprovalRequested(call):
                if not any(call.id.startswith(f"{outer}/") for outer in self._call_turns):
                    yield from self._write_call(call)
            case ToolCallFinished(call, result) | ToolCallRefused(call, result):
                yield from self._write_call(call)
                yield from self._write_result(result)
            case ToolProgress() | HandedOver() | ModelProgress():
                yield _write_custom(event)
            case PartialOutput() if self._shows_partial:
                yield _write_custom(event)
            case _:
                pass

    def finish(self, result: RunResult[Any]) -> Iterator[bytes]:
        """Yield the events of a run that has ended with a result.

        A run that ended with an error is then closed by `fail`.
        """
        yield from self._close()
        answer = "" if result.pending or result.stop_reason == "error" else format_answer(result)
        if answer and self._texts.get(self._turn_id, "").strip() != answer.strip():
            # A typed output, or the reason why there is no answer, has not been streamed.
            self._begin_turn()
            yield from self._write_text(answer)
            yield from self._close()
        yield _encode("MESSAGES_SNAPSHOT", messages=self._list_messages(result, answer))
        if result.stop_reason == "error":
            return
        fields: dict[str, JSON] = {}
        if result.stop_reason == "final" and not isinstance(result.answer, str):
            fields["result"] = to_json_value(result.answer)
        if usage := _dump_usage(result.usage):
            fields["usage"] = [usage]
        yield _encode(
            "RUN_FINISHED",
            threadId=self._input.thread_id,
            runId=self._input.run_id,
            outcome=_build_outcome(result),
            **fields,
        )

    def _write_text(self, text: str) -> Iterator[bytes]:
        if self._turn_has_ended:
            self._begin_turn()
        if not self._open_text:
            yield from self._close()
            self._open_text = self._turn_id
            yield _encode("TEXT_MESSAGE_START", messageId=self._turn_id, role="assistant")
        self._texts[self._turn_id] = self._texts.get(self._turn_id, "") + text
        yield _encode("TEXT_MESSAGE_CONTENT", messageId=self._turn_id, delta=text)

    def _write_thinking(self, text: str) -> Iterator[bytes]:
        if self._turn_has_ended:
            self._begin_turn()
        if not self._open_thinking:
            yield from self._close()
            self._open_thinking = _new_id()
            self._thinking.setdefault(
                self._turn_id, {"id": self._open_thinking, "role": "reasoning", "content": ""}
            )
            yield _encode("REASONING_START", messageId=self._open_thinking)
            yield _encode(
                "REASONING_MESSAGE_START", messageId=self._open_thinking, role="reasoning"
            )
        yield _encode("REASONING_MESSAGE_CONTENT", messageId=self._open_thinking, delta=text)

    def _close(self) -> Iterator[bytes]:
        if self._open_text:
            yield _encode("TEXT_MESSAGE_END", messageId=self._open_text)
        if self._open_thinking:
            yield _encode("REASONING_MESSAGE_END", messageId=self._open_thinking)
            yield _encode("REASONING_END", messageId=self._open_thinking)
        self._open_text = self._open_thinking = ""

    def _begin_turn(self) -> None:
        self._turn_id = _new_id()
        self._turn_has_ended = False

    def _write_call(self, call: ToolCall) -> Iterator[bytes]:
        """Yield the events of a call, unless they have been sent."""
        is_output = self._is_typed and f"{call.name}_".startswith(f"{OUTPUT_TOOL}_")
        if is_output or call.id in self._call_turns:
            return
        yield from self._close()
        self._call_turns[call.id] = self._turn_id
        yield _encode(
            "TOOL_CALL_START",
            toolCallId=call.id,
            toolCallName=call.name,
            parentMessageId=self._turn_id,
        )
        if call.arguments:
            yield _encode("TOOL_CALL_ARGS", toolCallId=call.id, delta=call.arguments)
        yield _encode("TOOL_CALL_END", toolCallId=call.id)

    def _write_result(self, result: ToolResult) -> Iterator[bytes]:
        if result.call_id in self._result_ids or result.call_id not in self._call_turns:
            return
        self._result_ids[result.call_id] = _new_id()
        yield _encode(
            "TOOL_CALL_RESULT",
            messageId=self._result_ids[result.call_id],
            toolCallId=result.call_id,
            content=_dump_content(result),
            role="tool",
        )

    def _list_messages(self, result: RunResult[Any], answer: str) -> list[JSON]:
        """Return the conversation: the client's messages, and those that were streamed."""
        messages: list[Any] = [*self._input.shown, *self._input.denials]  # Any: JSON
        texts = dict(self._texts)
        for message in result.new_messages:
            match message:
                case Assistant():
                    messages += self._list_turn(message, texts)
                case ToolResult(call_id) if call_id in self._result_ids:
                    messages.append(_dump_result(message, self._result_ids[call_id]))
                case _:
                    pass
        if answer and self._turn_id in texts:  # it was made of a typed output, or of the reason
            messages.append({"id": self._turn_id, "role": "assistant", "content": answer})
        return messages

    def _list_turn(self, message: Assistant, texts: dict[str, str]) -> Iterator[dict[str, JSON]]:
        """Yield a message of the model, and its thinking; take its text from `texts`."""
        calls = [call for call in message.calls if call.id in self._call_turns]
        if calls:
            turn_id = self._call_turns[calls[0].id]
        else:
            same = (i for i, text in texts.items() if text.strip() == message.text.strip())
            turn_id = next(same, "")
        if not turn_id:
            return
        texts.pop(turn_id, None)
        if turn_id in self._thinking:
            yield {**self._thinking[turn_id], "content": message.thinking}
        wire: dict[str, JSON] = {"id": turn_id, "role": "assistant", "content": message.text}
        if calls:
            wire["toolCalls"] = [tool_call_to_json(call) for call in calls]
        yield wire


def write_failure(message: str, code: str | None) -> bytes:
    """Return the event that ends a run which failed."""
    return _encode("RUN_ERROR", message=message, **({"code": code} if code else {}))


def _new_id() -> str:
    return uuid.uuid4().hex


def _encode(kind: str, **fields: JSON) -> bytes:
    return b"data: " + encode_json({"type": kind, **fields}) + b"\n\n"


def _write_custom(event: ToolProgress | HandedOver | ModelProgress | PartialOutput) -> bytes:
    value = event_to_json(event)
    return _encode("CUSTOM", name=f"agentcall.{value.pop('type')}", value=value)


def _build_outcome(result: RunResult[Any]) -> JSON:
    """Return how the run ended: a limit or a check that stops a run does not complete it."""
    if result.pending:
        return {"type": "interrupt", "interrupts": list(_list_interrupts(result))}
    return {"type": "success" if result.stop_reason == "final" else "cancelled"}


def _list_interrupts(result: RunResult[Any]) -> Iterator[JSON]:
    for pending in result.own_pending:
        yield _build_interrupt(pending, pending.call.id)
    for paused in result.paused:
        for pending in paused.pending:
            yield _build_interrupt(pending, paused.call.id)


def _build_interrupt(pending: PendingCall, call_id: str) -> JSON:
    return {
        "id": pending.call.id,
        "reason": "tool_call" if pending.question is None else "input_required",
        "message": str(pending),
        "toolCallId": call_id,
        "responseSchema": _DENIAL_SCHEMA,
    }


def _dump_usage(usage: Usage) -> dict[str, JSON]:
    """Return the tokens of the run; what the server did not report is left out."""
    counts: dict[str, int] = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
        "cachedInputTokens": usage.cached_tokens,
    }
    return {name: count for name, count in counts.items() if count}


def _dump_result(result: ToolResult, message_id: str) -> dict[str, JSON]:
    wire: dict[str, JSON] = {
        "id": message_id,
        "role": "tool",
        "toolCallId": result.call_id,
        "content": _dump_content(result),
    }
    return {**wire, "error": result.text} if result.is_error else wire


def _dump_content(result: ToolResult) -> JSON:
    if not result.images:
        return result.text
    return [{"type": "text", "text": result.text}, *map(_dump_image, result.images)]


def _dump_image(image: Image) -> JSON:
    head, comma, data = image.url.partition(";base64,")
    source: dict[str, JSON] = {"type": "url", "value": image.url}
    if comma and head.startswith("data:"):
        source = {"type": "data", "value": data, "mimeType": head.removeprefix("data:")}
    return {"type": "image", "source": source}
