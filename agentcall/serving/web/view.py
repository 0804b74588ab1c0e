"""What is to be seen in a tab of a browser."""

from __future__ import annotations

from dataclasses import dataclass

from agentcall.messages import Usage
from agentcall.serving.conversation import PendingApproval
from agentcall.serving.web.messages import ChatMessage
from agentcall.sessions import SessionSummary


@dataclass(frozen=True, slots=True)
class WebChatView:
    """What is to be seen.

    waiting: the call that a person is asked about, and `more` that wait behind it.
    usage: a line about tokens. draft: what stands in the box for words; None leaves it as it is.
    """

    session: str
    bubbles: tuple[ChatMessage, ...]
    sessions: tuple[SessionSummary, ...] = ()
    is_running: bool = False
    is_editing: bool = False
    waiting: PendingApproval | None = None
    more: int = 0
    usage: str = ""
    draft: str | None = None


def format_usage(usage: Usage) -> str:
    """What was used, in words."""
    calls = "" if usage.tool_calls == 1 else "s"
    called = f", {usage.tool_calls} tool call{calls}" if usage.tool_calls else ""
    return f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out{called}"
