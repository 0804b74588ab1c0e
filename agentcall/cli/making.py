"""An agent out of the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from agentcall.agent import Agent
from agentcall.cli.loading import load_agent, load_tools


class AgentArguments(Protocol):
    """What a command line says of an agent; None where it says nothing."""

    @property
    def agent(self) -> str | None:
        """Where the user's own agent stands."""
        ...

    @property
    def tools(self) -> Sequence[str] | None:
        """Tools beside those of the agent."""
        ...

    @property
    def model(self) -> str | None:
        """The model."""
        ...

    @property
    def instructions(self) -> str | None:
        """What the model is told first."""
        ...

    @property
    def max_requests(self) -> int | None:
        """Requests to the model at most."""
        ...


def build_agent(arguments: AgentArguments) -> Agent[Any, Any]:  # Any: the user's own types
    """The agent that the words say. Raises UsageError."""
    agent: Agent[Any, Any] = load_agent(arguments.agent) if arguments.agent else Agent()
    tools = load_tools(arguments.tools or ())
    if tools:
        agent = replace(agent, tools=agent.registry.merge(tools))
    if arguments.model is not None:
        agent = replace(agent, model=arguments.model)
    if arguments.instructions is not None:
        agent = replace(agent, instructions=arguments.instructions)
    if arguments.max_requests is not None:
        agent = replace(agent, limits=replace(agent.limits, requests=arguments.max_requests))
    return agent
