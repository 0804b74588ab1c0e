"""The calls of a run that wait for a person, as the command line tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentcall.calltext import whole_call
from agentcall.plaintext import line_of
from agentcall.result import PendingCall, RunResult


def waiting_lines(
    result: RunResult[Any],  # Any: the output is not there yet
) -> list[str]:
    """The calls that wait, each with its id, all of its arguments, and why."""
    return [line for pending in result.pending for line in _lines(result, pending)]


def _lines(
    result: RunResult[Any],  # Any: as above
    pending: PendingCall,
) -> Iterator[str]:
    call = pending.call
    yield f"waiting: {line_of(call.id)}  {whole_call(call, result.asked_by(call.id))}"
    if pending.reason:
        yield f"  why: {line_of(pending.reason)}"
