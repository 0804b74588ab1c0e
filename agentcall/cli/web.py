"""`agentcall web`: a chat with an agent in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.command import make_app
from agentcall.cli.options import (
    HostOption,
    LaunchOptions,
    MaxRunningOption,
    OriginsOption,
    PortOption,
)
from agentcall.cli.serve import ListenAddress, serve_app
from agentcall.serving.http_security import AccessPolicy, ASGIApp

WEB_HELP = """Chat with an agent in the browser.

The page loads nothing from other machines. Conversations are saved; those of `agentcall run
--session` and of other chats are in the list too.

\b
  agentcall web -t calculator
  agentcall web -a my_agents.py:agent --port 7861
  agentcall web -m embedded -t files=.

\b
Environment:
  AGENTCALL_SERVE_KEYS  the keys of users, NAME=KEY,NAME=KEY, in a link such as
                        http://host:7860/?token=KEY. Each name has its own conversations. Beyond
                        this machine (--host 0.0.0.0) a key is required; without any, one is
                        generated and printed.
"""


@dataclass(frozen=True, slots=True)
class WebOptions(LaunchOptions):
    """Options of `agentcall web`."""

    host: HostOption = "127.0.0.1"
    port: PortOption = 7860
    origins: OriginsOption = None
    running: MaxRunningOption = 32
    waiting: Annotated[
        int, typer.Option("--waiting", min=1, help="Maximum number of runs that wait for a place.")
    ] = 256


def serve_web(options: WebOptions) -> None:
    """Serve until stopped."""
    from agentcall.cli.load import build_agent
    from agentcall.cli.model_server import ensure_server, prepare_in_background
    from agentcall.serving.web.app import WebChat

    agent = build_agent(options)
    if options.launch:
        ensure_server(options.model)
    prepare_in_background(agent)

    def make_chat(access: AccessPolicy) -> ASGIApp:
        return WebChat(agent, access=access, running=options.running, waiting=options.waiting)

    serve_app(
        make_chat,
        ListenAddress(options.host, options.port),
        path="/",
        title=agent.name,
        key_query="?token=",
        origins=options.origins or (),
        extra="web",
    )


app = make_app(WebOptions, serve_web, WEB_HELP)
