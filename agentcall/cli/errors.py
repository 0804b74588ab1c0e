"""Exit codes, and what went wrong as one line on standard error."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentcall.cli.terminal import write_note
from agentcall.display import strip_control_characters, to_single_line
from agentcall.errors import (
    AgentCallError,
    BadAnswer,
    CutAnswer,
    ModelError,
    ToolError,
    UnknownTool,
    UsageError,
)
from agentcall.result import MissingOutput, RunResult, StopReason, ToolFailure

UNFINISHED = 1
USAGE_ERROR = 2
UNREACHABLE = 3
WAITING = 4
INTERRUPTED = 130

_STOP_REASON_TEXTS: dict[StopReason, str] = {
    "max_requests": "it reached the limit of requests; --max-requests allows more",
    "max_tool_calls": "it reached the limit of tool calls",
    "max_tokens": "it reached a token limit",
    "content_filter": "the server's content filter stopped the answer",
    "loop": "the model repeated itself",
    "timeout": "it reached the time limit",
    "cancelled": "it was cancelled",
    "approval": "a call waits for approval",
    "blocked": "a check did not let it pass",
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
    """Print an error in red on standard error: on one line, or a UsageError on several."""
    from agentcall_server.errors import ServerError

    if isinstance(error, (AgentCallError, ServerError)):
        text = str(error) or type(error).__name__
    else:
        text = (
            f"agentcall failed: {type(error).__name__}: {error}; "
            "AGENTCALL_DEBUG=1 shows the traceback"
        )
    lines = text.splitlines() if isinstance(error, UsageError) else [text]
    for index, line in enumerate(lines):
        write_note(line if index else f"error: {line}", "red")


def print_tool_errors(failures: Sequence[ToolFailure], *, verbose: bool) -> None:
    """Print a line for each exception of a tool that is a mistake in it; or its traceback."""
    lines: list[str] = []
    for failure in failures:
        error, name = failure.exception, failure.call.name
        if isinstance(error, ToolError):  # a message that the tool means for the model
            continue
        if verbose or is_debugging():
            text = "".join(traceback.format_exception(_strip_own_frames(error)))
            sys.stderr.write(f"{name} raised an exception\n{strip_control_characters(text)}")
            continue
        summary = to_single_line(traceback.format_exception_only(error)[-1].strip(), 200)
        lines.append(f"tool {name} raised {summary}{_locate_error(error)}")
    for line in dict.fromkeys(lines):
        print_warning(f"{line}; -v shows the traceback")


def _strip_own_frames(error: BaseException) -> BaseException:
    """Return the error with a traceback that begins in the tool's own code."""
    frames, own = error.__traceback__, f"{Path(__file__).parents[1]}{os.sep}"
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(own):
        frames = frames.tb_next
    return error if frames is None else error.with_traceback(frames)


def _locate_error(error: BaseException) -> str:
    """Return the file and line that raised, in brackets; "" for an error of another process."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def log_to_stderr() -> None:
    """Write the log of agentcall to standard error: of a server, whose user reads nothing else."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("agentcall")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if is_debugging() else logging.WARNING)


def print_warning(text: str) -> None:
    """Print a warning in yellow, on one line of standard error."""
    write_note(text, "yellow")
