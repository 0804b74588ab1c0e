"""A registry of tools as an MCP server, for Claude Desktop, editors, and other frameworks.

Rules:
1. What is called is repaired, validated, bounded and told as in a run.
2. A tool that needs approval is not served: nobody is asked here. Serve it with that mark off where
   the client asks its user itself.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import orjson

from agentcall.mcp.transport import import_optional
from agentcall.runtime.executor import call_once
from agentcall.serving.http_security import AccessPolicy, ASGIApp, SecurityMiddleware
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import Tool


class MCPServer:
    """Serves tools by MCP.

    tools: whatever `ToolRegistry` takes.
    deps: what the tools get as `RunContext.deps`.
    """

    def __init__(self, *tools: object, name: str = "agentcall", deps: object = None) -> None:
        registry = ToolRegistry(*tools)
        self.skipped_tools = tuple(
            found.name for found in registry if found.options.requires_approval
        )
        self.registry = registry.without(*self.skipped_tools)
        self._deps = deps
        self._server = import_optional("mcp.server").Server(
            name,
            version=version("agentcall"),
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )

    async def run_stdio(self) -> None:
        """Serves the process that started this one, until it closes our standard input."""
        async with import_optional("mcp.server.stdio").stdio_server() as (read, write):
            options = self._server.create_initialization_options()
            await self._server.run(read, write, options)

    def app(self, access: AccessPolicy | None = None) -> ASGIApp:
        """An ASGI application that serves streamable HTTP at /mcp."""
        security = import_optional("mcp.server.transport_security").TransportSecuritySettings
        # the gatekeeper looks at Host and Origin, with the names that this server has
        app = self._server.streamable_http_app(
            transport_security=security(enable_dns_rebinding_protection=False)
        )
        return SecurityMiddleware(
            app, replace(access or AccessPolicy(), types=frozenset({"application/json"}))
        )

    async def _list_tools(self, context: Any, page: Any) -> Any:  # Any: types of the mcp package
        tools = [_describe_tool(found) for found in self.registry]
        return import_optional("mcp_types").ListToolsResult(tools=tools)

    async def _call_tool(self, context: Any, asked: Any) -> Any:  # Any: as above
        types = import_optional("mcp_types")
        arguments = orjson.dumps(asked.arguments or {}).decode()
        told = await call_once(self.registry, asked.name, arguments, deps=self._deps)
        content = [types.TextContent(type="text", text=told.text)]
        return types.CallToolResult(content=content, is_error=told.is_error)


def _describe_tool(found: Tool) -> Any:  # Any: as above
    types = import_optional("mcp_types")
    marks = found.options
    return types.Tool(
        name=found.name,
        description=found.description,
        input_schema=found.parameters,
        annotations=types.ToolAnnotations(
            read_only_hint=marks.read_only,
            idempotent_hint=marks.idempotent,
            open_world_hint=bool(marks.egress) or (None if marks.untrusted else False),
        ),
    )
