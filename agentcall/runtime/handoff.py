"""Handing a conversation over to another agent.

The tool for it does nothing: when the calls of the turn are done, the run continues with the other
agent's model, instructions and tools. One agent takes over in a turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from agentcall.messages import Assistant, ToolResult, Transcript
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.planned_call import PlannedCall, refuse_call
from agentcall.runtime.prompts import ONE_HANDOFF_ONLY, format_handoff, format_handoff_description
from agentcall.tools.tool import Tool, make_tool


def create_handoff_tool(name: str, instructions: str) -> Tool:
    """Create the tool that hands the conversation over to the agent of this name."""

    def hand_over() -> str:
        return format_handoff(name)

    return make_tool(
        hand_over,
        name=f"transfer_to_{normalize_tool_name(name)}",
        description=format_handoff_description(name, instructions),
        sequential=True,
        idempotent=True,
        read_only=True,
    )


def normalize_tool_name(name: str) -> str:
    """Return an agent's name as the name of a tool."""
    return re.sub(r"[^\w-]+", "_", name).strip("_")[:50] or "agent"


def keep_first_handoff(planned: Sequence[PlannedCall], names: Collection[str]) -> list[PlannedCall]:
    """Refuse every handoff of a turn after the first one."""
    kept: list[PlannedCall] = []
    has_handoff = False
    for item in planned:
        is_handoff = item.call.name in names and item.decision not in ("refuse", "duplicate")
        if is_handoff and has_handoff:
            kept.append(refuse_call(item.call, ONE_HANDOFF_ONLY, fingerprint=item.fingerprint))
        else:
            kept.append(item)
        has_handoff = has_handoff or is_handoff
    return kept


def find_handoff(
    transcript: Transcript, handoffs: Mapping[str, Callable[[], AgentSpec]]
) -> Callable[[], AgentSpec] | None:
    """Return the agent that the last turn handed the conversation over to, if it did."""
    for index in reversed(range(len(transcript))):
        message = transcript[index]
        if isinstance(message, Assistant):
            return None
        if isinstance(message, ToolResult) and not message.is_error and message.name in handoffs:
            return handoffs[message.name]
    return None
