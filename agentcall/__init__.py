"""Function-calling agents for people who run their own models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from agentcall.errors import AgentCallError, ModelError, ModelRetry
from agentcall.messages import Image
from agentcall.tool import RunContext, Tool, tool

if TYPE_CHECKING:  # these cost three times the rest to import, and a file of tools needs none
    from agentcall.agent import Agent
    from agentcall.approval import Approved, Denied, Edited
    from agentcall.limits import Limits
    from agentcall.memory import Session
    from agentcall.registry import ToolRegistry
    from agentcall.result import PendingCall, RunResult
    from agentcall.session import SQLiteSession

_LATE = {
    "Agent": "agent",
    "Approved": "approval",
    "Denied": "approval",
    "Edited": "approval",
    "Limits": "limits",
    "PendingCall": "result",
    "RunResult": "result",
    "SQLiteSession": "session",
    "Session": "memory",
    "ToolRegistry": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'agentcall' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"agentcall.{_LATE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Agent",
    "AgentCallError",
    "Approved",
    "Denied",
    "Edited",
    "Image",
    "Limits",
    "ModelError",
    "ModelRetry",
    "PendingCall",
    "RunContext",
    "RunResult",
    "SQLiteSession",
    "Session",
    "Tool",
    "ToolRegistry",
    "tool",
]
