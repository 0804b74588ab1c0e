"""pydantic-ai: `Agent.run` and `Agent.run_stream`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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

pydantic_ai: Any = import_module("pydantic_ai")  # Any: in this contestant's environment alone
models: Any = import_module("pydantic_ai.models.openai")  # Any: as above
providers: Any = import_module("pydantic_ai.providers.openai")  # Any: as above
openai: Any = import_module("openai")  # Any: as above

_LIMITS = pydantic_ai.UsageLimits(request_limit=None)


class WithPydanticAI:
    """One agent for all runs of a task, one client for all tasks."""

    packages = ("pydantic-ai-slim", "openai")

    def __init__(self) -> None:
        self._provider: Any = None

    def _agent(self, job: Job) -> Any:
        self._provider = self._provider or providers.OpenAIProvider(
            openai_client=openai.AsyncOpenAI(base_url=job.url, api_key=KEY, timeout=CLIENT_TIMEOUT)
        )
        model = models.OpenAIChatModel(job.task.model, provider=self._provider)
        return pydantic_ai.Agent(model, tools=list(job.functions))

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        agent = self._agent(job)

        async def run() -> object:
            return (await agent.run(QUESTION, usage_limits=_LIMITS)).output

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        agent = self._agent(job)

        async def stream() -> AsyncIterator[object]:
            async with agent.run_stream(QUESTION) as result:
                async for text in result.stream_text(delta=True, debounce_by=None):
                    yield text

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Make tools of functions, with their schemas."""
        return [pydantic_ai.Tool(function) for function in functions]


if __name__ == "__main__":
    serve(WithPydanticAI())
