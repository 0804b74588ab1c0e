"""What a browser tab shows."""

from __future__ import annotations

from dataclasses import dataclass

from agentcall.messages import Usage
from agentcall.serving.conversation import PendingApproval
from agentcall.serving.web.chat_messages import ChatMessage
from agentcall.sessions import SessionSummary


@dataclass(frozen=True, slots=True)
class WebChatView:
    """A snapshot of what a tab shows.

    waiting: the call that the user is asked about; `more` is the number of others that wait.
    usage: a line about tokens.
    draft: the text of the input box; None leaves it unchanged.
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
    """Format the usage of a run for people."""
    plural = "" if usage.tool_calls == 1 else "s"
    calls = f", {usage.tool_calls} tool call{plural}" if usage.tool_calls else ""
    return f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out{calls}"
