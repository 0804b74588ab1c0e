"""Exit codes, and what went wrong as one line on standard error."""

from __future__ import annotations

import os
from typing import Any

from agentcall.cli.terminal import write_note
from agentcall.errors import (
    AgentCallError,
    BadAnswer,
    CutAnswer,
    ModelError,
    UnknownTool,
    UsageError,
)
from agentcall.result import MissingOutput, RunResult, StopReason

UNFINISHED = 1
USAGE_ERROR = 2
UNREACHABLE = 3
WAITING = 4
INTERRUPTED = 130

_STOP_REASON_TEXTS: dict[StopReason, str] = {
    "max_requests": "it reached the limit of requests; --max-requests allows more",
    "max_tool_calls": "it reached the limit of tool calls",
    "max_tokens": "it reached a token limit",
    "loop": "the model repeated itself",
    "timeout": "it reached the time limit",
    "cancelled": "it was cancelled",
    "approval": "a call waits for approval",
    "error": "the model gave no answer that could be read",
}


def describe_ending(result: RunResult[Any]) -> str:  # Any: the agent's output type
    """Return one line on why a run has no final answer; "" if it has one."""
    reason = _STOP_REASON_TEXTS.get(result.stop_reason)
    if reason is None:
        return ""
    if result.pending:
        calls = f"{len(result.pending)} calls wait" if result.pending[1:] else "a call waits"
        return f"the run is not over: {calls} for approval"
    details = f" ({result.answer.reason})" if isinstance(result.answer, MissingOutput) else ""
    return f"the run ended early: {reason}{details}"


def is_debugging() -> bool:
    """Return whether AGENTCALL_DEBUG asks for tracebacks."""
    return os.environ.get("AGENTCALL_DEBUG", "") not in ("", "0")


def get_exit_code(error: BaseException) -> int:
    """Return the exit code for an error: the user's, the server's or the model's."""
    match error:
        case BadAnswer() | CutAnswer():
            return UNFINISHED
        case ModelError():
            return UNREACHABLE
        case UsageError() | UnknownTool():
            return USAGE_ERROR
        case _:
            return _get_server_exit_code(error)


def _get_server_exit_code(error: BaseException) -> int:
    from agentcall_server import errors

    match error:
        case errors.UnknownModelName() | errors.RuntimeMissing() | errors.PortTaken():
            return USAGE_ERROR
        case errors.NameTaken() | errors.LMDeployUnavailable() | errors.PlanError():
            return USAGE_ERROR
        case errors.LaunchError():
            return UNFINISHED
        case errors.ServerError():
            return UNREACHABLE
        case _:
            return UNFINISHED


def print_error(error: BaseException) -> None:
    """Print an error in red, on one line of standard error."""
    from agentcall_server.errors import ServerError

    if isinstance(error, (AgentCallError, ServerError)):
        text = str(error) or type(error).__name__
    else:
        text = (
            f"agentcall failed: {type(error).__name__}: {error}; "
            "AGENTCALL_DEBUG=1 shows the traceback"
        )
    write_note(f"error: {text}", "red")


def print_warning(text: str) -> None:
    """Print a warning in yellow, on one line of standard error."""
    write_note(text, "yellow")
