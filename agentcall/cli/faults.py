"""What went wrong, as one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys

from agentcall.cli.plain import styled
from agentcall.errors import (
    AgentCallError,
    BadAnswer,
    CutAnswer,
    ModelError,
    UnknownTool,
    UsageError,
)
from agentcall.plaintext import line_of

UNFINISHED = 1
USAGE = 2
UNREACHED = 3
WAITING = 4
INTERRUPTED = 130


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("AGENTCALL_DEBUG", "") not in ("", "0")


def exit_code(error: BaseException) -> int:
    """The exit code that says whose fault the error is."""
    match error:
        case BadAnswer() | CutAnswer():
            return UNFINISHED
        case ModelError():
            return UNREACHED
        case UsageError() | UnknownTool():
            return USAGE
        case _:
            return _code_of_server_error(error)


def _code_of_server_error(error: BaseException) -> int:
    from agentcall_server import errors, refusals

    if isinstance(error, (errors.UnknownModel, errors.RuntimeMissing, errors.PortTaken)):
        return USAGE
    if isinstance(error, (errors.NameTaken, refusals.NoLMDeploy, refusals.PlanError)):
        return USAGE
    if isinstance(error, errors.LaunchError):
        return UNFINISHED
    return UNREACHED if isinstance(error, errors.ServerError) else UNFINISHED


def tell(error: BaseException) -> None:
    """Says what went wrong, in red, on one line of standard error."""
    sys.stderr.write(styled(f"error: {line_of(_words(error))}", "red", sys.stderr) + "\n")


def warn(words: str) -> None:
    """Says what is worth knowing, in yellow, on one line of standard error."""
    sys.stderr.write(styled(line_of(words), "yellow", sys.stderr) + "\n")


def _words(error: BaseException) -> str:
    from agentcall_server.errors import ServerError

    if isinstance(error, (AgentCallError, ServerError)):
        return str(error) or type(error).__name__
    return (
        f"agentcall failed: {type(error).__name__}: {error}; "
        "AGENTCALL_DEBUG=1 shows where it happened"
    )
