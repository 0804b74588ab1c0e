"""What a run is to do; the standard library alone, as every contestant's process reads it."""

from __future__ import annotations

from typing import NamedTuple

QUESTION = "Compute (3+5)*2"
ANSWER = "The result is 16."
STEP = "call_step"
"""How the id of a tool call begins; its number follows."""


class Task(NamedTuple):
    """A run: tool calls and then the answer.

    delay: milliseconds until the server answers, or between two chunks.
    chunks: how many the answer is streamed in; 0 for an answer in one piece.
    tools: how many are offered, the one that is called first.
    output: the characters that a call gives.
    faults: how many of a hundred requests meet each kind of fault: an HTTP 500, a connection that
        is reset, and arguments that are no JSON.
    dice: which faults come; the same for all who name the same number.
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
        """The name that makes the server do so."""
        return f"mock.{self.steps}.{self.delay}.{self.chunks}.{self.faults}.{self.dice}."
