"""Function-calling agents for people who run their own models."""

from agentcall.errors import AgentCallError, ModelRetry
from agentcall.tool import RunContext, Tool, tool

__all__ = ["AgentCallError", "ModelRetry", "RunContext", "Tool", "tool"]
