"""The task of a run. Imports only the standard library: each contestant's process imports it."""

from __future__ import annotations

from typing import NamedTuple

QUESTION = "Compute (3+5)*2"
ANSWER = "The result is 16."
STEP = "call_step"
"""The prefix of a tool call's id, before its number."""


class Task(NamedTuple):
    """A run: tool calls, then the answer.

    delay: milliseconds until the server answers, or between two chunks.
    chunks: number of chunks of the answer; 0 for an answer without a stream.
    tools: number of tools; the first one is called.
    output: characters of a tool's result.
    faults: percentage of the requests with each kind of fault: an HTTP 500, a reset connection, and
        arguments that are not JSON.
    dice: the seed of the faults.
    """

    steps: int = 2
    delay: int = 0
    chunks: int = 0
    tools: int = 2
    output: int = 2
    faults: int = 0
    dice: str = ""

    @property
    def model(self) -> str:
        """The model's name, which has the task for the server."""
        return f"mock.{self.steps}.{self.delay}.{self.chunks}.{self.faults}.{self.dice}."
