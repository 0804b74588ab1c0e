"""`agentcall mcp`: tools served over the Model Context Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.command import make_app
from agentcall.cli.options import OriginsOption
from agentcall.cli.serve import parse_address, serve_app

MCP_HELP = """Serve tools over the Model Context Protocol.

Over standard input and output, as editors and desktop programs start it, or over HTTP with --http.
Tools that need approval are left out, as nobody can be asked.

\b
  agentcall mcp -t calculator -t current_time
  agentcall mcp -t my_tools.py --http 127.0.0.1:8765
  {"mcpServers": {"mine": {"command": "agentcall", "args": ["mcp", "-t", "/path/to/my_tools.py"]}}}

Beyond this machine (--http 0.0.0.0:8765) a key is required: AGENTCALL_SERVE_KEYS, or one is
generated and printed.
"""


@dataclass(frozen=True, slots=True)
class MCPOptions:
    """Options of `agentcall mcp`."""

    tools: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--tool",
            metavar="TOOL",
            help="A ready tool's name, module, module:name, file.py or file.py:name. Repeatable. "
            "Default: all ready tools.",
        ),
    ] = None
    http: Annotated[
        str | None,
        typer.Option(
            "--http", metavar="HOST:PORT", help="Serve streamable HTTP at /mcp of this address."
        ),
    ] = None
    origins: OriginsOption = None


def serve_mcp(options: MCPOptions) -> None:
    """Serve until stopped."""
    from agentcall.cli.errors import log_to_stderr, print_warning
    from agentcall.cli.load import load_tools
    from agentcall.mcp import MCPServer
    from agentcall.runtime.runner import run_sync
    from agentcall.tools.registry import ToolRegistry

    server = MCPServer(load_tools(options.tools) if options.tools else ToolRegistry.discover())
    if server.skipped_tools:
        print_warning(f"not served, as they need approval: {', '.join(server.skipped_tools)}")
    if options.http is None:
        log_to_stderr()
        run_sync(server.run_stdio())
        return
    address = parse_address(options.http)
    serve_app(
        server.app, address, path="/mcp", title="MCP", origins=options.origins or (), extra="mcp"
    )


app = make_app(MCPOptions, serve_mcp, MCP_HELP)
