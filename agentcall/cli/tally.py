"""What a run took, in one line."""

from __future__ import annotations

from agentcall.events import Event, ModelAnswered, Nested
from agentcall.messages import Usage


class Tally:
    """Counts the seconds that the model itself took, tools and approvals left out."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def see(self, event: Event) -> None:
        """Adds what an answer took."""
        while isinstance(event, Nested):  # an agent that is a tool has a model too
            event = event.event
        if isinstance(event, ModelAnswered):
            self._seconds += event.seconds

    def line(self, usage: Usage, seconds: float) -> str:
        """Requests, tokens in and out, tokens a second, tool calls and seconds."""
        rate = usage.output_tokens / self._seconds if self._seconds else 0.0
        parts = [
            counted(usage.requests, "request"),
            f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out",
            *([f"{rate:.1f} tokens/s"] if rate else []),
            counted(usage.tool_calls, "tool call"),
            f"{seconds:.1f} s",
        ]
        return " · ".join(parts)


def counted(number: int, noun: str) -> str:
    """A number of things: `1 request`, `2 requests`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def lasted(seconds: float) -> str:
    """A duration in few characters."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
