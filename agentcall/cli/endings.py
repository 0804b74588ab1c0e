"""Why a run ended without a plain final answer, in words."""

from __future__ import annotations

from typing import Any

from agentcall.result import MissingOutput, RunResult, StopReason

_STOP_REASON_TEXTS: dict[StopReason, str] = {
    "max_requests": "it reached the limit of requests; --max-requests allows more",
    "max_tool_calls": "it reached the limit of tool calls",
    "max_tokens": "it reached a token limit",
    "loop": "the model repeated itself",
    "timeout": "it reached the limit of seconds",
    "cancelled": "it was cancelled",
    "approval": "a call waits for approval",
    "error": "the model gave no answer that could be read",
}


def describe_ending(result: RunResult[Any]) -> str:
    """One line about it; nothing for a final answer."""
    words = _STOP_REASON_TEXTS.get(result.stop_reason)
    if words is None:
        return ""
    if result.pending:
        calls = f"{len(result.pending)} calls wait" if result.pending[1:] else "a call waits"
        return f"the run is not over: {calls} for approval"
    reason = f" ({result.answer.reason})" if isinstance(result.answer, MissingOutput) else ""
    return f"the run ended early: {words}{reason}"
