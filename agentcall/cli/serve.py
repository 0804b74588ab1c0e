"""`agentcall serve`: an agent behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import HostOption, MaxRunningOption, OriginsOption, PortOption
from agentcall.cli.words import AgentOptions

SERVE_HELP = """Serve an agent to clients that speak OpenAI's API.

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
    host: HostOption = "127.0.0.1"
    port: PortOption = 8001
    origins: OriginsOption = None
    running: MaxRunningOption = 32
    waiting: Annotated[
        int, typer.Option("--waiting", min=0, help="Runs that may wait besides.")
    ] = 256
    per_key: Annotated[
        int | None, typer.Option("--per-key", min=1, help="Runs of one key at the same time.")
    ] = None


def serve_endpoint(options: ServeOptions) -> None:
    """Serves until it is stopped."""
    from agentcall.cli import serving
    from agentcall.cli.launching import ensure_server
    from agentcall.cli.making import build_agent
    from agentcall.serving.http_security import AccessPolicy, ASGIApp
    from agentcall.serving.openai_api import Capacity, OpenAIEndpoint

    agent = build_agent(options)
    if options.launch:
        ensure_server(options.model)
    capacity = Capacity(options.running, options.waiting, options.per_key)

    def make(terms: AccessPolicy) -> ASGIApp:
        return OpenAIEndpoint(agent, name=options.name, access=terms, capacity=capacity)

    address = serving.ListenAddress(options.host, options.port)
    serving.serve_app(
        make,
        address,
        path="/v1",
        title=f"{options.name or agent.name}",
        origins=options.origins or (),
    )
