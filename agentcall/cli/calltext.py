"""The calls of a run that wait for a person, as the command line tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentcall.display import format_full_call, to_single_line
from agentcall.result import PendingCall, RunResult


def format_pending_calls(
    result: RunResult[Any],  # Any: the output is not there yet
) -> list[str]:
    """The calls that wait, each with its id, all of its arguments, and why."""
    return [line for pending in result.pending for line in _format_pending_call(result, pending)]


def _format_pending_call(
    result: RunResult[Any],  # Any: as above
    pending: PendingCall,
) -> Iterator[str]:
    call = pending.call
    yield (
        f"waiting: {to_single_line(call.id)}  "
        f"{format_full_call(call, result.get_agent_path(call.id))}"
    )
    if pending.reason:
        yield f"  why: {to_single_line(pending.reason)}"
