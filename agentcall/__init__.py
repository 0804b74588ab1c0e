"""Function-calling agents for people who run their own models."""

from agentcall.agent import Agent
from agentcall.approval import Approved, Denied, Edited
from agentcall.errors import AgentCallError, ModelError, ModelRetry
from agentcall.limits import Limits
from agentcall.messages import Image
from agentcall.registry import ToolRegistry
from agentcall.result import RunResult
from agentcall.tool import RunContext, Tool, tool

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
    "RunContext",
    "RunResult",
    "Tool",
    "ToolRegistry",
    "tool",
]
