"""Function-calling agents for people who run their own models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from agentcall.errors import AgentCallError, Blocked, ModelError, ModelRetry
from agentcall.messages import Image
from agentcall.tools.tool import RunContext, Tool, tool

if TYPE_CHECKING:  # a file of tools needs none of these, and they take most of the import time
    from agentcall.agent import Agent
    from agentcall.approvals import Approved, Denied, Edited
    from agentcall.events import RunFinished, TextDelta, ToolCallFinished
    from agentcall.result import PendingCall, RunResult
    from agentcall.runtime.hooks import Hooks
    from agentcall.runtime.inbox import Inbox
    from agentcall.runtime.session import Session
    from agentcall.sessions import SQLiteSession
    from agentcall.settings import Limits, ModelSettings
    from agentcall.tools.registry import ToolRegistry
    from agentcall.tools.result import Result
    from agentcall.tools.skill import Skill

_LATE = {
    "Agent": "agent",
    "Approved": "approvals",
    "Denied": "approvals",
    "Edited": "approvals",
    "Hooks": "runtime.hooks",
    "Inbox": "runtime.inbox",
    "Limits": "settings",
    "ModelSettings": "settings",
    "PendingCall": "result",
    "Result": "tools.result",
    "RunFinished": "events",
    "RunResult": "result",
    "SQLiteSession": "sessions",
    "Session": "runtime.session",
    "Skill": "tools.skill",
    "TextDelta": "events",
    "ToolCallFinished": "events",
    "ToolRegistry": "tools.registry",
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
    "Blocked",
    "Denied",
    "Edited",
    "Hooks",
    "Image",
    "Inbox",
    "Limits",
    "ModelError",
    "ModelRetry",
    "ModelSettings",
    "PendingCall",
    "Result",
    "RunContext",
    "RunFinished",
    "RunResult",
    "SQLiteSession",
    "Session",
    "Skill",
    "TextDelta",
    "Tool",
    "ToolCallFinished",
    "ToolRegistry",
    "tool",
]
