"""`agentcall web`: a chat with an agent in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import Host, Origins, Port, Running
from agentcall.cli.words import AgentOptions

HELP = """Chat with an agent in the browser.

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

    host: Host = "127.0.0.1"
    port: Port = 7860
    origins: Origins = None
    running: Running = 32
    waiting: Annotated[
        int, typer.Option("--waiting", min=1, help="Runs that may wait besides.")
    ] = 256


def web(options: WebOptions) -> None:
    """Serves until it is stopped."""
    from agentcall.cli import serving
    from agentcall.cli.launching import ensure_up
    from agentcall.cli.making import agent_of
    from agentcall.errors import MissingExtra
    from agentcall.gatekeeper import App, Terms

    try:
        from agentcall.web.app import WebChat
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the browser chat needs {error.name}: pip install 'agentcall[web]'"
        ) from error
    agent = agent_of(options)
    if options.launch:
        ensure_up(options.model)

    def make(terms: Terms) -> App:
        return WebChat(agent, terms=terms, running=options.running, waiting=options.waiting)

    address = serving.Address(options.host, options.port)
    serving.serve(
        make, address, path="/", what=agent.name, ticket="?token=", origins=options.origins or ()
    )
