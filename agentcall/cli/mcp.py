"""`agentcall mcp`: tools served by the Model Context Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import OriginsOption

MCP_HELP = """Serve tools by the Model Context Protocol.

By standard input and output, as editors and desktop programs start it, or with --http at an
address. Tools that need approval are left out, as nobody is asked here.

\b
  agentcall mcp -t calculator -t current_time
  agentcall mcp -t my_tools.py --http 127.0.0.1:8765
  {"mcpServers": {"mine": {"command": "agentcall", "args": ["mcp", "-t", "/path/to/my_tools.py"]}}}

Beyond this machine (--http 0.0.0.0:8765) a key is needed: AGENTCALL_SERVE_KEYS, or one is made
and shown.
"""


@dataclass(frozen=True, slots=True)
class MCPOptions:
    """What `agentcall mcp` is told."""

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
        typer.Option("--http", metavar="HOST:PORT", help="Serve streamable HTTP at /mcp there."),
    ] = None
    origins: OriginsOption = None


def serve_mcp(options: MCPOptions) -> None:
    """Serves until it is stopped."""
    from agentcall.cli.loading import load_tools
    from agentcall.mcp import MCPServer
    from agentcall.runtime.runner import run_sync
    from agentcall.tools.registry import ToolRegistry

    found = load_tools(options.tools) if options.tools else ToolRegistry.discover()
    server = MCPServer(found)
    _warn_about_omissions(server.skipped_tools)
    if options.http is None:
        run_sync(server.run_stdio())
        return
    from agentcall.cli.serving import parse_address, serve_app

    address = parse_address(options.http)
    serve_app(server.app, address, path="/mcp", title="MCP", origins=options.origins or ())


def _warn_about_omissions(names: tuple[str, ...]) -> None:
    if names:
        from agentcall.cli.faults import print_warning

        print_warning(f"not served, as they need approval: {', '.join(names)}")
