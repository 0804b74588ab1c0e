"""Runs that survive: `durable(agent, "sqlite:///runs.db").run(prompt, run_id="order-17")`."""

from __future__ import annotations

from agentcall.agent import Agent, Deps, Output
from agentcall.durable.durable_agent import DurableAgent

__all__ = ["DurableAgent", "durable"]


def durable(
    agent: Agent[Output, Deps], url: str = "sqlite:///runs.db", *, lease: float = 30.0
) -> DurableAgent[Output, Deps]:
    """Return an agent whose runs are recorded in the journal at the URL.

    url: `sqlite:///FILE`, or `postgresql://user@host:port/name` for many machines.
    lease: seconds after which another machine takes over the runs of a silent worker.
    """
    return DurableAgent(agent, url, lease=lease)
