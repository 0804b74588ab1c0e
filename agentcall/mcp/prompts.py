"""The prompts of an MCP server: conversations that a person starts with, by name and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentcall.mcp.connection import Client, MCPConnectionError
from agentcall.mcp.content import read_part
from agentcall.mcp.listing import list_items
from agentcall.messages import Assistant, Image, Message, Text, User

LIST_PROMPTS_METHOD, GET_PROMPT_METHOD = "prompts/list", "prompts/get"
MAX_MESSAGES = 200
MAX_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class MCPPromptArgument:
    """An argument of a prompt, which is a text."""

    name: str
    description: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class MCPPrompt:
    """A prompt that a server offers."""

    name: str
    description: str = ""
    arguments: tuple[MCPPromptArgument, ...] = ()


async def list_prompts(client: Client, label: str) -> tuple[MCPPrompt, ...]:
    """Return the prompts of a server; none if it has none."""
    if client.server_capabilities.prompts is None:
        return ()
    return tuple(
        MCPPrompt(
            prompt.name,
            prompt.description or prompt.title or "",
            tuple(
                MCPPromptArgument(a.name, a.description or "", bool(a.required))
                for a in prompt.arguments or ()
            ),
        )
        for prompt in await list_items(client.list_prompts, "prompts", label)
    )


def read_prompt_messages(
    messages: Sequence[Any], name: str, label: str, *, untrusted: bool
) -> tuple[Message, ...]:
    """Return the messages of a prompt, as `Agent.run(messages=...)` takes them.

    Raises MCPConnectionError for more than `MAX_MESSAGES` messages or `MAX_CHARS` characters.
    """
    subject = f"the prompt {name[:80]} of the MCP server {label}"
    if not messages:
        raise MCPConnectionError(f"{subject} has no messages")
    if len(messages) > MAX_MESSAGES:
        raise MCPConnectionError(
            f"{subject} has {len(messages)} messages, more than {MAX_MESSAGES}"
        )
    parts = [read_part(message.content) for message in messages]
    size = sum(len(part) for part in parts if isinstance(part, str))
    if size > MAX_CHARS:
        raise MCPConnectionError(f"{subject} has {size} characters, more than {MAX_CHARS}")
    return tuple(
        _to_message(message.role, part, untrusted)
        for message, part in zip(messages, parts, strict=True)
    )


def _to_message(role: str, part: str | Image, untrusted: bool) -> Message:
    if role == "assistant":
        text = part if isinstance(part, str) else f"<{part.description}>"
        return Assistant(text, untrusted=untrusted, assessed=True)
    if isinstance(part, str):
        return User((Text(part, untrusted),))
    return User((Image(part.url, part.detail, untrusted),))
