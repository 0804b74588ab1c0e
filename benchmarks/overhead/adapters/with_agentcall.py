"""agentcall, as users write it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from agentcall import Agent, Limits, tool
from agentcall.events import TextDelta
from agentcall.models.http_chat import HTTPChat
from benchmarks.overhead.adapters.worker import Function, Job, Run, Stream, serve
from benchmarks.overhead.task import QUESTION

_LIMITS = Limits(requests=None, result_chars=None)


class WithAgentcall:
    """One agent for all runs of a task."""

    packages = ("agentcall", "aiohttp", "orjson", "pydantic")

    def _agent(self, job: Job) -> Agent[str, Any]:
        model = HTTPChat(job.url, job.task.model, dialect="native")
        return Agent(model, tools=[tool(each) for each in job.functions], limits=_LIMITS)

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        agent = self._agent(job)

        async def run() -> str:
            return (await agent.run(QUESTION)).output

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        agent = self._agent(job)

        async def stream() -> AsyncIterator[str]:
            async for event in agent.run_stream(QUESTION):
                if isinstance(event, TextDelta):
                    yield event.text

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Make tools of functions."""
        return [tool(function) for function in functions]


if __name__ == "__main__":
    serve(WithAgentcall())
