"""Format messages as in OpenTelemetry's GenAI conventions: roles with parts, as JSON text.

Source: open-telemetry/semantic-conventions 1.41, docs/gen-ai, the JSON schemas
gen-ai-input-messages, gen-ai-output-messages and gen-ai-system-instructions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from agentcall.messages import (
    JSON,
    Assistant,
    Image,
    Message,
    System,
    Text,
    ToolCall,
    ToolResult,
    User,
    encode_json,
)
from agentcall.runtime.turn import ModelTurn
from agentcall.tools.tool import Tool


def format_messages(messages: Iterable[Message]) -> str:
    """Format a conversation, for `gen_ai.input.messages`."""
    return _dump_json(
        [{"role": _get_role(message), "parts": _build_parts(message)} for message in messages]
    )


def format_turn(turn: ModelTurn) -> str:
    """Format a model's answer, for `gen_ai.output.messages`."""
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in turn.calls)
    return format_answer(Assistant(turn.text, calls, turn.thinking), turn.finish or "error")


def format_answer(message: Assistant, finish: str) -> str:
    """Format an assistant message and its finish reason."""
    return _dump_json(
        [{"role": "assistant", "parts": _build_parts(message), "finish_reason": finish}]
    )


def format_instructions(instructions: str) -> str:
    """Format an agent's instructions, for `gen_ai.system_instructions`."""
    return _dump_json([_build_text_part(instructions)])


def format_tools(tools: Iterable[Tool]) -> str:
    """Format the tools of a request, for `gen_ai.tool.definitions`."""
    return _dump_json(
        [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            }
            for tool in tools
        ]
    )


def _get_role(message: Message) -> str:
    match message:
        case System():
            return "system"
        case User():
            return "user"
        case Assistant():
            return "assistant"
        case ToolResult():
            return "tool"


def _build_parts(message: Message) -> list[JSON]:
    match message:
        case System(text):
            return [_build_text_part(text)]
        case User(content):
            if isinstance(content, str):
                return [_build_text_part(content)]
            return [*map(_build_part, content)]
        case ToolResult():
            part: JSON = {
                "type": "tool_call_response",
                "id": message.call_id,
                "response": message.text,
            }
            return [part]
        case Assistant(text, calls, thinking):
            parts: list[JSON] = []
            if thinking:
                parts.append({"type": "reasoning", "content": thinking})
            if text:
                parts.append(_build_text_part(text))
            return parts + [_build_call_part(call) for call in calls]


def _build_text_part(text: str) -> JSON:
    return {"type": "text", "content": text}


def _build_part(part: Text | Image) -> JSON:
    if isinstance(part, Text):
        return _build_text_part(part.text)
    if not part.url.startswith("data:"):
        return {"type": "uri", "modality": "image", "uri": part.url}
    mime_type, _, data = part.url.removeprefix("data:").partition(";base64,")
    return {"type": "blob", "modality": "image", "mime_type": mime_type, "content": data}


def _build_call_part(call: ToolCall) -> JSON:
    try:
        arguments: JSON = orjson.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}


def _dump_json(value: Sequence[JSON]) -> str:
    return encode_json(value).decode()
