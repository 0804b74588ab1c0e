"""Drives smolagents: `ToolCallingAgent` with `OpenAIModel`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.robustness.peers.worker import INSTRUCTIONS, KEY, MODEL, Task, serve

smolagents: Any = import_module("smolagents")  # Any: in this peer's environment alone


def drive(task: Task) -> object:
    """The final answer of a run."""
    agent = smolagents.ToolCallingAgent(
        tools=[smolagents.tool(function) for function in task.tools],
        model=smolagents.OpenAIModel(model_id=MODEL, api_base=task.url, api_key=KEY),
        instructions=INSTRUCTIONS,
        stream_outputs=task.stream,
        verbosity_level=0,
    )
    return agent.run(task.question)


if __name__ == "__main__":
    serve(drive, ("smolagents", "openai"))
