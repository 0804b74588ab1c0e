"""`agentcall serve`: an agent behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import Host, Origins, Port, Running
from agentcall.cli.words import AgentOptions

HELP = """Serve an agent to clients that speak OpenAI's API.

The agent's tools are called here; clients get plain completions.

\b
  agentcall serve -a my_agents.py:agent
  agentcall serve -m embedded -t calculator --port 8001
  curl http://127.0.0.1:8001/v1/models

\b
Environment:
  AGENTCALL_SERVE_KEYS  the keys that clients bring, NAME=KEY,NAME=KEY. Beyond this machine
                        (--host 0.0.0.0) one is needed; without any, one is made and shown.
"""


@dataclass(frozen=True, slots=True)
class ServeOptions(AgentOptions):
    """What `agentcall serve` is told."""

    name: Annotated[
        str | None, typer.Option("--name", help="What clients call it. Default: the agent's name.")
    ] = None
    host: Host = "127.0.0.1"
    port: Port = 8001
    origins: Origins = None
    running: Running = 32
    waiting: Annotated[
        int, typer.Option("--waiting", min=0, help="Runs that may wait besides.")
    ] = 256
    per_key: Annotated[
        int | None, typer.Option("--per-key", min=1, help="Runs of one key at the same time.")
    ] = None


def serve(options: ServeOptions) -> None:
    """Serves until it is stopped."""
    from agentcall.cli import serving
    from agentcall.cli.launching import ensure_up
    from agentcall.cli.making import agent_of
    from agentcall.endpoint import Capacity, Endpoint
    from agentcall.gatekeeper import App, Terms

    agent = agent_of(options)
    if options.launch:
        ensure_up(options.model)
    capacity = Capacity(options.running, options.waiting, options.per_key)

    def make(terms: Terms) -> App:
        return Endpoint(agent, name=options.name, terms=terms, capacity=capacity)

    address = serving.Address(options.host, options.port)
    serving.serve(
        make,
        address,
        path="/v1",
        what=f"{options.name or agent.name}",
        origins=options.origins or (),
    )
