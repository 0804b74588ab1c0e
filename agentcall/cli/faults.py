"""What went wrong, as one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys

from agentcall.cli.plain import style_text
from agentcall.display import to_single_line
from agentcall.errors import (
    AgentCallError,
    BadAnswer,
    CutAnswer,
    ModelError,
    UnknownTool,
    UsageError,
)

UNFINISHED = 1
USAGE_ERROR = 2
UNREACHABLE = 3
WAITING = 4
INTERRUPTED = 130


def is_debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("AGENTCALL_DEBUG", "") not in ("", "0")


def get_exit_code(error: BaseException) -> int:
    """The exit code that says whose fault the error is."""
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

    if isinstance(error, (errors.UnknownModelName, errors.RuntimeMissing, errors.PortTaken)):
        return USAGE_ERROR
    if isinstance(error, (errors.NameTaken, errors.LMDeployUnavailable, errors.PlanError)):
        return USAGE_ERROR
    if isinstance(error, errors.LaunchError):
        return UNFINISHED
    return UNREACHABLE if isinstance(error, errors.ServerError) else UNFINISHED


def print_error(error: BaseException) -> None:
    """Says what went wrong, in red, on one line of standard error."""
    sys.stderr.write(
        style_text(f"error: {to_single_line(_format_error(error))}", "red", sys.stderr) + "\n"
    )


def print_warning(text: str) -> None:
    """Says what is worth knowing, in yellow, on one line of standard error."""
    sys.stderr.write(style_text(to_single_line(text), "yellow", sys.stderr) + "\n")


def _format_error(error: BaseException) -> str:
    from agentcall_server.errors import ServerError

    if isinstance(error, (AgentCallError, ServerError)):
        return str(error) or type(error).__name__
    return (
        f"agentcall failed: {type(error).__name__}: {error}; "
        "AGENTCALL_DEBUG=1 shows where it happened"
    )
