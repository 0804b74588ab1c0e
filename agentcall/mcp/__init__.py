"""The Model Context Protocol: use the tools of an MCP server, or serve tools to MCP clients.

Built on the official `mcp` package (extra `mcp`), over the standard input and output of a command
or streamable HTTP.
"""

from agentcall.mcp.client import MCPTools
from agentcall.mcp.elicitation import MCPQuestion
from agentcall.mcp.prompts import MCPPrompt, MCPPromptArgument
from agentcall.mcp.resources import MCPResource
from agentcall.mcp.sampling import SamplingRequest
from agentcall.mcp.server import MCPServer

__all__ = [
    "MCPPrompt",
    "MCPPromptArgument",
    "MCPQuestion",
    "MCPResource",
    "MCPServer",
    "MCPTools",
    "SamplingRequest",
]
