"""Handing a conversation over: a tool for it, and what its call means for the run.

The tool itself does nothing but say whose turn it is; the run goes on with the other agent's model,
instructions and tools when the calls of the turn are done. One agent takes over in a turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from agentcall.messages import Assistant, ToolResult, Transcript
from agentcall.runtime.spec import AgentSpec
from agentcall.runtime.tool_calls import PlannedCall
from agentcall.tools.tool import Tool, make_tool

_MAX_INSTRUCTIONS = 200
_ONE_HANDOFF_ONLY = "Not called: a conversation is handed over to one agent at a time."


def create_handoff_tool(name: str, instructions: str) -> Tool:
    """The tool that hands the conversation over to the agent of this name."""

    def hand_over() -> str:
        return f"You are {name} now, and the conversation is yours. Go on."

    first = instructions.strip().partition("\n")[0][:_MAX_INSTRUCTIONS]
    return make_tool(
        hand_over,
        name=f"transfer_to_{normalize_tool_name(name)}",
        description=f"Hand the conversation over to {name}, who goes on with it."
        + (f" What {name} is told: {first}" if first else ""),
        sequential=True,
        idempotent=True,
        read_only=True,
    )


def normalize_tool_name(name: str) -> str:
    """An agent's name as the name of a tool."""
    return re.sub(r"[^\w-]+", "_", name).strip("_")[:50] or "agent"


def keep_first_handoff(planned: Sequence[PlannedCall], names: Collection[str]) -> list[PlannedCall]:
    """The calls of a turn, with words in place of every handoff after the first."""
    return list(_iter_one_handoff(planned, names))


def _iter_one_handoff(
    planned: Sequence[PlannedCall], names: Collection[str]
) -> Iterator[PlannedCall]:
    found = False
    for item in planned:
        is_handoff = item.call.name in names and not item.message
        yield (
            item._replace(invocation=None, message=_ONE_HANDOFF_ONLY)
            if is_handoff and found
            else item
        )
        found = found or is_handoff


def find_handoff(
    transcript: Transcript, handoffs: Mapping[str, Callable[[], AgentSpec]]
) -> Callable[[], AgentSpec] | None:
    """The agent that the last turn handed the conversation over to, if it did."""
    for place in reversed(range(len(transcript))):
        message = transcript[place]
        if isinstance(message, Assistant):
            return None
        if isinstance(message, ToolResult) and not message.is_error and message.name in handoffs:
            return handoffs[message.name]
    return None
