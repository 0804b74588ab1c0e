"""Drives pydantic-ai: `Agent.run`, streamed by an event handler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from importlib import import_module
from typing import Any

from benchmarks.robustness.peers.worker import INSTRUCTIONS, KEY, MODEL, Task, serve

pydantic_ai: Any = import_module("pydantic_ai")  # Any: in this peer's environment alone
models: Any = import_module("pydantic_ai.models.openai")  # Any: as above
providers: Any = import_module("pydantic_ai.providers.openai")  # Any: as above


def drive(task: Task) -> object:
    """The output of a run."""
    return asyncio.run(_driven(task))


async def _driven(task: Task) -> object:
    provider = providers.OpenAIProvider(base_url=task.url, api_key=KEY)
    model = models.OpenAIChatModel(MODEL, provider=provider)
    agent = pydantic_ai.Agent(model, instructions=INSTRUCTIONS, tools=list(task.tools))
    handler = _ignore if task.stream else None
    return (await agent.run(task.question, event_stream_handler=handler)).output


async def _ignore(context: object, events: AsyncIterable[object]) -> None:
    del context
    async for _ in events:
        pass


if __name__ == "__main__":
    serve(drive, ("pydantic-ai-slim", "openai"))
