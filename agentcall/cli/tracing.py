"""Traces that a command writes: those that an option asks for, and those of AGENTCALL_TRACE."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from agentcall.errors import UsageError


def trace_to(path: str | None, *, content: bool = False) -> AbstractContextManager[None]:
    """Writes the runs of a command to the file, if there is one. Raises UsageError."""
    if content and path is None:
        raise UsageError("--trace-content says what is in a trace; name its file with --trace FILE")
    if path is None:
        return nullcontext()
    from agentcall.tracing import write_trace

    return write_trace(path, content=content)


def trace_from_environment() -> AbstractContextManager[None]:
    """Writes the runs of any command to the file that AGENTCALL_TRACE names. Raises UsageError."""
    return trace_to(os.environ.get("AGENTCALL_TRACE") or None)
