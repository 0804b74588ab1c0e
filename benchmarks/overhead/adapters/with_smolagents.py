"""smolagents: `ToolCallingAgent` with `OpenAIModel`, in threads, as it has no async door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from benchmarks.overhead.adapters.worker import (
    CLIENT_TIMEOUT,
    KEY,
    Function,
    Job,
    Run,
    Stream,
    serve,
)
from benchmarks.overhead.task import QUESTION

smolagents: Any = import_module("smolagents")  # Any: in this contestant's environment alone


class WithSmolagents:
    """An agent holds its conversation: each run takes one that is free."""

    packages = ("smolagents", "openai")

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(32)

    def _make(self, job: Job, tools: Sequence[Any], *, stream: bool) -> Any:
        model = smolagents.OpenAIModel(
            model_id=job.task.model,
            api_base=job.url,
            api_key=KEY,
            client_kwargs={"timeout": CLIENT_TIMEOUT},
        )
        return smolagents.ToolCallingAgent(
            tools=tools, model=model, max_steps=10_000, stream_outputs=stream, verbosity_level=0
        )

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        tools, free = self.schemas(job.functions), []

        def work() -> object:
            agent = free.pop() if free else self._make(job, tools, stream=False)
            answer = agent.run(QUESTION)
            free.append(agent)
            return answer

        async def run() -> object:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        agent = self._make(job, self.schemas(job.functions), stream=True)

        async def stream() -> AsyncIterator[object]:
            for event in agent.run(QUESTION, stream=True):
                if isinstance(event, smolagents.ChatMessageStreamDelta) and event.content:
                    yield event.content

        return stream

    def schemas(self, functions: Sequence[Function]) -> list[Any]:
        """Make tools of functions."""
        return [smolagents.tool(function) for function in functions]


if __name__ == "__main__":
    serve(WithSmolagents())
