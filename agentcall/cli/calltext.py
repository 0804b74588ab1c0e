"""The calls of a run that wait for a person, as the command line tells of them."""

from __future__ import annotations

from typing import Any

from agentcall.calltext import whole_call
from agentcall.plaintext import line_of
from agentcall.result import RunResult


def waiting_lines(
    result: RunResult[Any],  # Any: the output is not there yet
) -> list[str]:
    """The calls that wait, each with its id and all of its arguments."""
    return [
        f"waiting: {line_of(call.id)}  {whole_call(call, result.asked_by(call.id))}"
        for call in result.pending
    ]
