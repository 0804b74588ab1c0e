"""What a run took, in one line."""

from __future__ import annotations

from agentcall.events import Event, ModelAnswered, Nested
from agentcall.messages import Usage


class UsageSummary:
    """Counts the seconds that the model itself took, tools and approvals left out."""

    def __init__(self) -> None:
        self._model_seconds = 0.0

    def record(self, event: Event) -> None:
        """Adds what an answer took."""
        while isinstance(event, Nested):  # an agent that is a tool has a model too
            event = event.event
        if isinstance(event, ModelAnswered):
            self._model_seconds += event.seconds

    def format(self, usage: Usage, seconds: float) -> str:
        """Requests, tokens in and out, tokens a second, tool calls and seconds."""
        rate = usage.output_tokens / self._model_seconds if self._model_seconds else 0.0
        parts = [
            format_count(usage.requests, "request"),
            f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out",
            *([f"{rate:.1f} tokens/s"] if rate else []),
            format_count(usage.tool_calls, "tool call"),
            f"{seconds:.1f} s",
        ]
        return " · ".join(parts)


def format_count(number: int, noun: str) -> str:
    """A number of things: `1 request`, `2 requests`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """A duration in few characters."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
