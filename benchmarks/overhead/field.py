"""The contestants: loops by hand, agentcall, and its peers, each in its own environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.robustness.installation import PEERS, Peer, find_python

AIOHTTP, AGENTCALL, OPENAI = "aiohttp by hand", "agentcall", "openai by hand"

_INSTALLED = {
    peer.name: peer
    for peer in (
        *PEERS,
        Peer("strands", "with_strands.py", ("strands-agents[openai]==1.62.0",)),
        Peer("raw", "with_openai.py", ("httpx==0.28.1", "openai==3.54.0")),
    )
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do the task.

    adapter: the module in `adapters` that does it.
    imports: the import statements of a user's file.
    peer: the packages to install; None for the environment that runs the benchmark.
    walk: whether the official client converts the whole conversation for every request.
    """

    name: str
    adapter: str
    imports: str
    peer: Peer | None = None
    walk: bool = True

    @property
    def python(self) -> Path:
        """The interpreter; its environment is created if necessary."""
        return Path(sys.executable) if self.peer is None else find_python(self.peer)

    @property
    def is_peer(self) -> bool:
        """Whether it is another framework than agentcall."""
        return self.name not in (AIOHTTP, AGENTCALL) and not self.name.endswith("by hand")

    def without_walk(self) -> Contestant:
        """Return the contestant with the conversion turned off."""
        return replace(self, walk=False)


def _peer(name: str, imports: str, installed: str = "") -> Contestant:
    adapter = f"with_{name.replace('-', '_')}"
    return Contestant(name, adapter, imports, _INSTALLED[installed or name])


OURS = (
    Contestant(AIOHTTP, "with_aiohttp", "import asyncio, json, aiohttp"),
    Contestant(AGENTCALL, "with_agentcall", "from agentcall import Agent, tool"),
)
FIELD = (
    *OURS,
    Contestant("httpx by hand", "with_httpx", "import asyncio, json, httpx", _INSTALLED["raw"]),
    Contestant(OPENAI, "with_openai", "from openai import AsyncOpenAI", _INSTALLED["raw"]),
    _peer(
        "openai-agents",
        "from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool",
    ),
    _peer(
        "pydantic-ai",
        "from pydantic_ai import Agent; from pydantic_ai.models.openai import OpenAIChatModel",
    ),
    _peer("smolagents", "from smolagents import OpenAIModel, ToolCallingAgent, tool"),
    _peer(
        "langchain",
        "from langchain.agents import create_agent; from langchain_openai import ChatOpenAI",
    ),
    _peer("agno", "from agno.agent import Agent; from agno.models.openai.like import OpenAILike"),
    _peer(
        "strands", "from strands import Agent, tool; from strands.models.openai import OpenAIModel"
    ),
)
