"""The seam through which a run makes every model request and every tool call.

The default awaits. Another implementation may record and replay: keys are `run:turn` for a model
request and `run:turn:index` for a tool call, the same when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from agentcall.messages import ToolResult
from agentcall.turn import Turn


class Steps(Protocol):
    """Carries out the steps of a run."""

    async def model(self, key: str, ask: Callable[[], Awaitable[Turn]]) -> Turn:
        """The model's turn."""
        ...

    async def tool(self, key: str, call: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """The result of a tool call."""
        ...


class Direct:
    """Carries each step out, and keeps nothing."""

    async def model(self, key: str, ask: Callable[[], Awaitable[Turn]]) -> Turn:
        """Asks."""
        return await ask()

    async def tool(self, key: str, call: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """Calls."""
        return await call()
