"""`agentcall web`: a chat with an agent in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import HostOption, MaxRunningOption, OriginsOption, PortOption
from agentcall.cli.words import AgentOptions

WEB_HELP = """Chat with an agent in the browser.

Everything comes from this machine. Conversations are kept: those of `agentcall run --session` and
of other chats are in the list too.

\b
  agentcall web -t calculator
  agentcall web -a my_agents.py:agent --port 7861
  agentcall web -m embedded -t files=.

\b
Environment:
  AGENTCALL_SERVE_KEYS  the keys that people bring, NAME=KEY,NAME=KEY, in a link such as
                        http://host:7860/?token=KEY. Each name has its own conversations. Beyond
                        this machine (--host 0.0.0.0) one is needed; without any, one is made and
                        shown.
"""


@dataclass(frozen=True, slots=True)
class WebOptions(AgentOptions):
    """What `agentcall web` is told."""

    host: HostOption = "127.0.0.1"
    port: PortOption = 7860
    origins: OriginsOption = None
    running: MaxRunningOption = 32
    waiting: Annotated[
        int, typer.Option("--waiting", min=1, help="Runs that may wait besides.")
    ] = 256


def serve_web(options: WebOptions) -> None:
    """Serves until it is stopped."""
    from agentcall.cli import serving
    from agentcall.cli.launching import ensure_server
    from agentcall.cli.making import build_agent
    from agentcall.errors import MissingExtra
    from agentcall.serving.http_security import AccessPolicy, ASGIApp

    try:
        from agentcall.serving.web.app import WebChat
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the browser chat needs {error.name}: pip install 'agentcall[web]'"
        ) from error
    agent = build_agent(options)
    if options.launch:
        ensure_server(options.model)

    def make(terms: AccessPolicy) -> ASGIApp:
        return WebChat(agent, access=terms, running=options.running, waiting=options.waiting)

    address = serving.ListenAddress(options.host, options.port)
    serving.serve_app(
        make,
        address,
        path="/",
        title=agent.name,
        key_query="?token=",
        origins=options.origins or (),
    )
