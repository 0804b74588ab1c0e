"""OpenAI's `tools` field, `tool_calls` and tool role; the server renders and parses.

Calls that the server failed to parse are read from the text. Format: POST /v1/chat/completions of
the OpenAI API reference. Content is never null and `tools` is never empty, as LMDeploy, vLLM and
several chat templates fail on those.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from agentcall.dialects.answer_parts import (
    MessageDelta,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallDelta,
    ToolCallPart,
)
from agentcall.dialects.answer_schema import create_response_format, is_answer_constrained
from agentcall.dialects.assembly import assemble_calls
from agentcall.dialects.dialect import (
    DialectReader,
    JSONObject,
    PromptSpec,
    RequestPrelude,
    ToolChoice,
    ToolSpecs,
)
from agentcall.dialects.parsers.response_parser import RetractedPart, TextReader, create_text_reader
from agentcall.dialects.prompt_safety import (
    escape_special_tokens,
    render_result_text,
    render_user_message,
)
from agentcall.messages import (
    Assistant,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    assistant_to_json,
    system_to_json,
    to_json,
    tool_result_to_json,
)


def append_answer_format(prompt: PromptSpec) -> str:
    """Append how the run ends: with a call, or with an answer that matches a JSON Schema."""
    if prompt.final:
        notice = (
            f"The task ends with a call of {' or '.join(prompt.final)}: make it as the last step, "
            "when nothing else is left to do. An answer in words does not end it."
        )
    elif prompt.answer_schema is None:
        return prompt.instructions
    else:
        schema = json.dumps(prompt.answer_schema, ensure_ascii=False)
        notice = (
            "When you give your final answer, write only one JSON value, without any other text, "
            f"that matches this JSON Schema:\n{schema}"
        )
    return f"{prompt.instructions}\n\n{notice}" if prompt.instructions else notice


def constrain_answer(prompt: PromptSpec, tool_choice: ToolChoice) -> JSONObject:
    """Return the field that holds a typed answer to its schema; none if a tool may be called."""
    if prompt.answer_schema is None or not is_answer_constrained(prompt, tool_choice):
        return {}
    return {"response_format": create_response_format(prompt.answer_schema)}


def append_tool_choice(text: str, prompt: PromptSpec, tool_choice: ToolChoice) -> str:
    """Append which tool the model has to call, for a server that cannot be told in a field."""
    if tool_choice in ("auto", "none") or not prompt.tools:
        return text
    subject = "a tool" if tool_choice == "required" else f"the tool {tool_choice}"
    notice = f"Call {subject} now: your next message is a call of {subject}, without an answer."
    return f"{text}\n\n{notice}" if text else notice


@dataclass(frozen=True, slots=True)
class NativeDialect:
    """The `tools` field, the `tool_calls` list and the `tool` role.

    thinking_keys: where the thinking that led to calls is sent back (`models/thinking.py`).
    sends_all_thinking: whether that of answers without calls is sent back as well.
    """

    name: str = "native"
    thinking_keys: tuple[str, ...] = field(default=("reasoning_content", "reasoning"), kw_only=True)
    sends_all_thinking: bool = field(default=False, kw_only=True)

    def create_prelude(self, prompt: PromptSpec, tool_choice: ToolChoice) -> RequestPrelude:
        """Return the system message, and the tools as a field."""
        fields: JSONObject = {}
        if prompt.tools:
            fields["tools"] = [tool.definition for tool in prompt.tools]
            if tool_choice in ("none", "required"):
                fields["tool_choice"] = tool_choice
            elif tool_choice != "auto":
                fields["tool_choice"] = {"type": "function", "function": {"name": tool_choice}}
        fields.update(constrain_answer(prompt, tool_choice))
        instructions = append_answer_format(prompt)
        system: list[JSONObject] = [system_to_json(instructions)] if instructions else []
        return RequestPrelude(tuple(system), fields)

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[JSONObject]:
        """Render a message in OpenAI's form, without our own annotations."""
        match message:
            case Assistant():
                wire = assistant_to_json(message.text, map(escape_call, message.calls))
                if message.thinking and (message.calls or self.sends_all_thinking):
                    for key in self.thinking_keys:
                        wire[key] = message.thinking
                return [wire]
            case ToolResult():
                return [
                    tool_result_to_json(message.call_id, message.name, render_result_text(message))
                ]
            case User():
                return [to_json(render_user_message(message))]
            case System():
                return [system_to_json(message.text)]

    def create_reader(self, prompt: PromptSpec) -> DialectReader:
        """Create a reader of native calls, or else of calls in the text in any family's format."""
        return NativeReader(prompt.tools)


NATIVE = NativeDialect()


def escape_call(call: ToolCall) -> ToolCall:
    r"""Return the call with special tokens in its arguments escaped, also those written as \u."""
    arguments = call.arguments
    if "\\u" in arguments:  # a server that renders them decodes them first
        with suppress(ValueError):
            arguments = json.dumps(json.loads(arguments), ensure_ascii=False)
    escaped = escape_special_tokens(arguments)
    return call if escaped is call.arguments else replace(call, arguments=escaped)


class NativeReader:
    """Collects `tool_calls` pieces and parses the text, whose calls count only without native ones.

    Most answers contain only calls or only text: the text reader is created when text arrives.
    """

    def __init__(self, tools: ToolSpecs, family: str | None = None) -> None:
        self._tools = tools
        self._family = family
        self._assumed_opener = ""
        self._text_reader: TextReader | None = None
        self._pieces: list[ToolCallDelta] = []
        self._text_calls: list[MessagePart] = []
        self._thinking: list[str] = []
        self._has_text = False

    def assume_thinking(self, opener: str) -> None:
        """Assume that the chat template of the server opened the thinking with this tag."""
        self._assumed_opener = opener

    def feed(self, delta: MessageDelta) -> Sequence[MessagePart]:
        """Return text and thinking that are certain; calls are returned at the end."""
        text, thinking, calls, is_all = delta
        parts: list[MessagePart] = []
        if thinking:
            self._thinking.append(thinking)
            parts.append(ThinkingPart(thinking))
        if is_all:  # some servers stream pieces and then send all calls once more
            self._pieces.clear()
        self._pieces += calls
        if text:
            self._has_text = self._has_text or not text.isspace()
            self._text_reader = self._text_reader or self._create_text_reader(
                self._assumed_opener, is_assumed=True
            )
            parts += self._release_parts(self._text_reader.feed(text))
        return parts

    def close(self, finish_reason: str | None) -> Sequence[MessagePart]:
        """Return the rest of the text, and the native calls or else those in the text."""
        rest = self._text_reader.close(finish_reason) if self._text_reader else []
        parts = self._release_parts(rest)
        native = assemble_calls(self._pieces, self._tools) if self._pieces else []
        return [*parts, *(native or self._text_calls or self._recover_calls(finish_reason))]

    def _create_text_reader(self, opener: str, *, is_assumed: bool) -> TextReader:
        return create_text_reader(self._tools, self._family, opener=opener, is_assumed=is_assumed)

    def _recover_calls(self, finish_reason: str | None) -> list[MessagePart]:
        """Return calls at the end of the thinking, if the answer has no text of its own."""
        if self._has_text or not self._thinking:
            return []
        reader = self._create_text_reader(_THINK_TAG, is_assumed=False)
        parts = [*reader.feed("".join(self._thinking)), *reader.close(finish_reason)]
        return [part for part in parts if isinstance(part, ToolCallPart)]

    def _release_parts(self, parts: Sequence[MessagePart]) -> list[MessagePart]:
        """Return the parts that can be shown now; hold back the calls, or drop retracted ones."""
        released: list[MessagePart] = []
        for part in parts:
            if isinstance(part, RetractedPart):
                self._text_calls.clear()
                released = [p for p in released if isinstance(p, ThinkingPart)]
            (released if isinstance(part, (TextPart, ThinkingPart)) else self._text_calls).append(
                part
            )
        return released


_THINK_TAG = "<think>"
