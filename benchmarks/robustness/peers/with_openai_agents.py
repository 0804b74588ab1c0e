"""Drives openai-agents: `Runner`, chat completions, tracing off."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from benchmarks.robustness.peers.worker import INSTRUCTIONS, KEY, MODEL, Task, serve

agents: Any = import_module("agents")  # Any: installed in this peer's environment alone
openai: Any = import_module("openai")  # Any: as above


def drive(task: Task) -> object:
    """The final output of a run."""
    return asyncio.run(_driven(task))


async def _driven(task: Task) -> object:
    client = openai.AsyncOpenAI(base_url=task.url, api_key=KEY)
    agent = agents.Agent(
        name="assistant",
        instructions=INSTRUCTIONS,
        model=agents.OpenAIChatCompletionsModel(model=MODEL, openai_client=client),
        tools=[agents.function_tool(function) for function in task.tools],
    )
    if not task.stream:
        return (await agents.Runner.run(agent, task.question)).final_output
    result = agents.Runner.run_streamed(agent, task.question)
    async for _ in result.stream_events():
        pass
    return result.final_output


if __name__ == "__main__":
    agents.set_tracing_disabled(True)
    serve(drive, ("openai-agents", "openai"))
