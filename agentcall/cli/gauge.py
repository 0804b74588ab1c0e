"""How full the model's window is, and how fast it writes: what a chat shows at its foot."""

from __future__ import annotations

import asyncio
from typing import Any

from agentcall.agent import Agent
from agentcall.events import Event, ModelAnswered
from agentcall.messages import Usage
from agentcall.models.context_window import fetch_model_window
from agentcall.models.http_chat import HTTPChat
from agentcall.models.resolve import get_resolved_model

_MIN_WRITING_SECONDS = 0.05
"""Seconds of writing below which a speed says nothing."""

_WINDOW_TIMEOUT = 1.0
"""Seconds that a chat waits for a server to tell its window; some have to be asked at length."""


class UsageMeter:
    """Reads off what the last answer took.

    context: tokens of the conversation by now. rate: tokens a second.
    """

    def __init__(self) -> None:
        self.context = 0
        self.rate = 0.0
        self._window_task: asyncio.Task[int | None] | None = None

    def record(self, event: Event) -> None:
        """Takes down what an answer used."""
        if isinstance(event, ModelAnswered) and event.usage.input_tokens:
            used = event.usage
            self.context = used.total_tokens // max(used.requests, 1)
            self.rate = (
                used.output_tokens / event.writing if event.writing > _MIN_WRITING_SECONDS else 0.0
            )

    async def fetch_window(self, agent: Agent[Any, Any]) -> None:  # Any: the user's own types
        """Asks once how large the window is, when it is known which server answers."""
        model = get_resolved_model(agent.spec.model)
        if self._window_task is None and isinstance(model, HTTPChat):
            self._window_task = asyncio.ensure_future(fetch_model_window(model))
            await asyncio.wait([self._window_task], timeout=_WINDOW_TIMEOUT)

    @property
    def window(self) -> int | None:
        """The model's window in tokens; None as long as it is not known."""
        asked = self._window_task
        if asked is None or not asked.done() or asked.cancelled() or asked.exception():
            return None
        return asked.result()

    def format(self, used: Usage) -> str:
        """All of it in one line, with what the conversation has used."""
        parts = [
            *([self._format_context()] if self.context else []),
            *([f"{self.rate:.1f} tokens/s"] if self.rate else []),
            f"{used.input_tokens:,} tokens in, {used.output_tokens:,} out",
        ]
        return " · ".join(parts)

    def _format_context(self) -> str:
        window = self.window
        if not window:
            return f"context {self.context:,}"
        return f"context {self.context:,} of {window:,} ({self.context * 100 // window}%)"
