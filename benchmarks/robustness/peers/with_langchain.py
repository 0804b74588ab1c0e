"""Drives langchain: `create_agent` with `ChatOpenAI`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.robustness.peers.worker import INSTRUCTIONS, KEY, MODEL, Task, serve

langchain_agents: Any = import_module("langchain.agents")  # Any: in this environment alone
langchain_openai: Any = import_module("langchain_openai")  # Any: as above


def drive(task: Task) -> object:
    """The text of the last message of a run."""
    model = langchain_openai.ChatOpenAI(
        model=MODEL, base_url=task.url, api_key=KEY, streaming=task.stream
    )
    agent = langchain_agents.create_agent(model, tools=list(task.tools), system_prompt=INSTRUCTIONS)
    state = agent.invoke({"messages": [{"role": "user", "content": task.question}]})
    return state["messages"][-1].text


if __name__ == "__main__":
    serve(drive, ("langchain", "langgraph", "langchain-openai", "openai"))
