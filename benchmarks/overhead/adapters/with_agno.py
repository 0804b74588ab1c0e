"""agno: `Agent.arun` with `OpenAILike`, telemetry off."""

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

agno_agent: Any = import_module("agno.agent")  # Any: in this contestant's environment alone
agno_models: Any = import_module("agno.models.openai.like")  # Any: as above
agno_tools: Any = import_module("agno.tools.function")  # Any: as above


class WithAgno:
    """One agent for all runs of a task."""

    packages = ("agno", "openai")

    def _agent(self, job: Job) -> Any:
        model = agno_models.OpenAILike(
            id=job.task.model, base_url=job.url, api_key=KEY, timeout=CLIENT_TIMEOUT
        )
        return agno_agent.Agent(model=model, tools=list(job.functions), telemetry=False)

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        agent = self._agent(job)

        async def run() -> object:
            return (await agent.arun(QUESTION)).content

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        agent = self._agent(job)

        async def stream() -> AsyncIterator[object]:
            async for event in agent.arun(QUESTION, stream=True):
                if event.event == "RunContent" and event.content:
                    yield event.content

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Make tools of functions, with their schemas."""
        return [agno_tools.Function.from_callable(function).to_dict() for function in functions]


if __name__ == "__main__":
    serve(WithAgno())
