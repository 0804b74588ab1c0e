"""A registry of tools as an MCP server, for Claude Desktop, editors, and other frameworks.

Rules:
1. Calls are repaired, validated, limited and answered as in a run.
2. A tool with `requires_approval` is not served, as there is nobody here to ask. Serve it without
   that option if the client asks its user itself.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import orjson

from agentcall.mcp.transport import import_optional
from agentcall.messages import decode_image
from agentcall.runtime.executor import call_once
from agentcall.serving.http_security import AccessPolicy, ASGIApp, SecurityMiddleware
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import Tool


class MCPServer:
    """Serves tools over MCP.

    tools: anything that `ToolRegistry` accepts.
    deps: the tools' `RunContext.deps`.

    `skipped_tools` has the names of the tools that are not served.
    """

    def __init__(self, *tools: object, name: str = "agentcall", deps: object = None) -> None:
        registry = ToolRegistry(*tools)
        self.skipped_tools = tuple(tool.name for tool in registry if tool.options.requires_approval)
        self.registry = registry.without(*self.skipped_tools)
        self._deps = deps
        self._server = import_optional("mcp.server").Server(
            name,
            version=version("agentcall"),
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )

    async def run_stdio(self) -> None:
        """Serve the parent process over standard input and output, until it closes the input."""
        async with import_optional("mcp.server.stdio").stdio_server() as (read, write):
            options = self._server.create_initialization_options()
            await self._server.run(read, write, options)

    def app(self, access: AccessPolicy | None = None) -> ASGIApp:
        """Return an ASGI application that serves streamable HTTP at /mcp."""
        security = import_optional("mcp.server.transport_security").TransportSecuritySettings
        # SecurityMiddleware checks Host and Origin, and knows this server's names.
        app = self._server.streamable_http_app(
            transport_security=security(enable_dns_rebinding_protection=False)
        )
        return SecurityMiddleware(
            app, replace(access or AccessPolicy(), types=frozenset({"application/json"}))
        )

    async def _list_tools(self, context: Any, page: Any) -> Any:  # Any: types of the mcp package
        tools = [_describe_tool(tool) for tool in self.registry]
        return import_optional("mcp_types").ListToolsResult(tools=tools)

    async def _call_tool(self, context: Any, call: Any) -> Any:
        types = import_optional("mcp_types")
        arguments = orjson.dumps(call.arguments or {}).decode()
        result = await call_once(self.registry, call.name, arguments, deps=self._deps)
        content = [types.TextContent(type="text", text=result.text)]
        for mime_type, data in filter(None, map(decode_image, result.images)):
            encoded = base64.b64encode(data).decode()
            content.append(types.ImageContent(type="image", data=encoded, mime_type=mime_type))
        return types.CallToolResult(content=content, is_error=result.is_error)


def _describe_tool(tool: Tool) -> Any:
    types = import_optional("mcp_types")
    options = tool.options
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.parameters,
        annotations=types.ToolAnnotations(
            read_only_hint=options.read_only,
            idempotent_hint=options.idempotent,
            open_world_hint=bool(options.egress) or (None if options.untrusted else False),
        ),
    )
