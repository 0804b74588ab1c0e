"""How full the model's window is, and how fast it writes: what a chat shows at its foot."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from agentcall.agent import Agent
from agentcall.events import Event, ModelAnswered
from agentcall.messages import Usage

_SHORT = 0.05
"""Seconds of writing below which a speed says nothing."""


class Gauge:
    """Reads off what the last answer took.

    context: tokens of the conversation by now. rate: tokens a second.
    """

    def __init__(self) -> None:
        self.context = 0
        self.rate = 0.0
        self._window: Future[int | None] | None = None

    def see(self, event: Event) -> None:
        """Takes down what an answer used."""
        if isinstance(event, ModelAnswered) and event.usage.input_tokens:
            used = event.usage
            self.context = used.total_tokens // max(used.requests, 1)
            self.rate = used.output_tokens / event.writing if event.writing > _SHORT else 0.0

    def look(self, agent: Agent[Any, Any]) -> None:  # Any: the user's own types
        """Asks how large the window is, once it is known which server answers; waits for nothing.

        Asked in a loop of its own, as some servers take their time.
        """
        if self._window is None:
            self._window = _asked(agent)

    @property
    def window(self) -> int | None:
        """The model's window in tokens; None as long as it is not known."""
        known = self._window is not None and self._window.done()
        return self._window.result() if known and self._window is not None else None

    def line(self, used: Usage) -> str:
        """All of it in one line, with what the conversation has used."""
        parts = [
            f"{used.input_tokens:,} tokens in, {used.output_tokens:,} out",
            *([f"{self.rate:.1f} tokens/s"] if self.rate else []),
            *([self._filled()] if self.context else []),
        ]
        return " · ".join(parts)

    def _filled(self) -> str:
        window = self.window
        if not window:
            return f"context {self.context:,}"
        return f"context {self.context:,} of {window:,} ({self.context * 100 // window}%)"


def _asked(agent: Agent[Any, Any]) -> Future[int | None] | None:
    import asyncio

    from agentcall.models.http_chat import HTTPChat
    from agentcall.models.shorthand import made_of
    from agentcall.models.window import window_of
    from agentcall.sync import background

    model = made_of(agent.plan.model)
    if not isinstance(model, HTTPChat):
        return None
    return asyncio.run_coroutine_threadsafe(window_of(model), background())
