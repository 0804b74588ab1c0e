"""Handing a conversation over: a tool for it, and what its call means for the run.

The tool itself does nothing but say whose turn it is; the run goes on with the other agent's model,
instructions and tools when the calls of the turn are done. One agent takes over in a turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from agentcall.judged import Judged
from agentcall.messages import Assistant, ToolResult
from agentcall.plan import Plan
from agentcall.tool import Tool, make_tool
from agentcall.transcript import Transcript

_LONGEST = 200
_ONE = "Not called: a conversation is handed over to one agent at a time."


def handoff_tool(name: str, instructions: str) -> Tool:
    """The tool that hands the conversation over to the agent of this name."""

    def hand_over() -> str:
        return f"You are {name} now, and the conversation is yours. Go on."

    first = instructions.strip().partition("\n")[0][:_LONGEST]
    return make_tool(
        hand_over,
        name=f"transfer_to_{tool_name(name)}",
        description=f"Hand the conversation over to {name}, who goes on with it."
        + (f" What {name} is told: {first}" if first else ""),
        sequential=True,
        idempotent=True,
        read_only=True,
    )


def tool_name(name: str) -> str:
    """An agent's name as the name of a tool."""
    return re.sub(r"[^\w-]+", "_", name).strip("_")[:50] or "agent"


def first_only(judged: Sequence[Judged], names: Collection[str]) -> list[Judged]:
    """The calls of a turn, with words in place of every handoff after the first."""
    return list(_one_handoff(judged, names))


def _one_handoff(judged: Sequence[Judged], names: Collection[str]) -> Iterator[Judged]:
    found = False
    for item in judged:
        is_handoff = item.call.name in names and not item.words
        yield item._replace(job=None, words=_ONE) if is_handoff and found else item
        found = found or is_handoff


def handed_to(
    transcript: Transcript, handoffs: Mapping[str, Callable[[], Plan]]
) -> Callable[[], Plan] | None:
    """The agent that the last turn handed the conversation over to, if it did."""
    for place in reversed(range(len(transcript))):
        message = transcript[place]
        if isinstance(message, Assistant):
            return None
        if isinstance(message, ToolResult) and not message.is_error and message.name in handoffs:
            return handoffs[message.name]
    return None
