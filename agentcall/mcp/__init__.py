"""The Model Context Protocol, both ways: a server's tools as ours, and ours served to others.

Over the official `mcp` package (extra `mcp`): by the standard input and output of a command, or by
streamable HTTP.
"""

from agentcall.mcp.client import MCPTools
from agentcall.mcp.server import MCPServer

__all__ = ["MCPServer", "MCPTools"]
