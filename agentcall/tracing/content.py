"""Messages as OpenTelemetry's GenAI conventions write them: roles with parts, as JSON text.

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
    encoded,
)
from agentcall.tool import Tool
from agentcall.turn import Turn


def messages_text(messages: Iterable[Message]) -> str:
    """A conversation."""
    return _text([{"role": _role(message), "parts": _parts(message)} for message in messages])


def turn_text(turn: Turn) -> str:
    """What a model answered."""
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in turn.calls)
    return answer_text(Assistant(turn.text, calls, turn.thinking), turn.finish or "error")


def answer_text(said: Assistant, finish: str) -> str:
    """What was answered, and how the answer ended."""
    return _text([{"role": "assistant", "parts": _parts(said), "finish_reason": finish}])


def instructions_text(instructions: str) -> str:
    """What an agent is told first."""
    return _text([_said(instructions)])


def tools_text(tools: Iterable[Tool]) -> str:
    """The tools that are offered."""
    return _text(
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


def _role(message: Message) -> str:
    match message:
        case System():
            return "system"
        case User():
            return "user"
        case Assistant():
            return "assistant"
        case ToolResult():
            return "tool"


def _parts(message: Message) -> list[JSON]:
    match message:
        case System(text):
            return [_said(text)]
        case User(content):
            return [_said(content)] if isinstance(content, str) else [*map(_part, content)]
        case ToolResult():
            part: JSON = {
                "type": "tool_call_response",
                "id": message.call_id,
                "response": message.text,
            }
            return [part]
        case Assistant(text, calls, thinking):
            thought: list[JSON] = [{"type": "reasoning", "content": thinking}] if thinking else []
            said = [_said(text)] if text else []
            return [*thought, *said, *(_called(c.id, c.name, c.arguments) for c in calls)]


def _said(text: str) -> JSON:
    return {"type": "text", "content": text}


def _part(part: Text | Image) -> JSON:
    if isinstance(part, Text):
        return _said(part.text)
    if not part.url.startswith("data:"):
        return {"type": "uri", "modality": "image", "uri": part.url}
    kind, _, data = part.url.removeprefix("data:").partition(";base64,")
    return {"type": "blob", "modality": "image", "mime_type": kind, "content": data}


def _called(identity: str, name: str, arguments: str) -> JSON:
    try:
        value: JSON = orjson.loads(arguments)
    except ValueError:
        value = arguments
    return {"type": "tool_call", "id": identity, "name": name, "arguments": value}


def _text(value: Sequence[JSON]) -> str:
    return encoded(value).decode()
