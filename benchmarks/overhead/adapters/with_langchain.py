"""langgraph, by langchain's `create_agent`, with `ChatOpenAI`."""

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

langchain_agents: Any = import_module("langchain.agents")  # Any: in this environment alone
langchain_openai: Any = import_module("langchain_openai")  # Any: as above
langchain_tools: Any = import_module("langchain_core.utils.function_calling")  # Any: as above

_ASKED = {"messages": [{"role": "user", "content": QUESTION}]}
_CONFIG = {"recursion_limit": 100_000}


class WithLangchain:
    """One graph for all runs of a task."""

    packages = ("langgraph", "langchain", "langchain-openai", "openai")

    def _agent(self, job: Job) -> Any:
        model = langchain_openai.ChatOpenAI(
            model=job.task.model,
            base_url=job.url,
            api_key=KEY,
            timeout=CLIENT_TIMEOUT,
            streaming=job.task.chunks > 0,
        )
        return langchain_agents.create_agent(model, tools=list(job.functions))

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        agent = self._agent(job)

        async def run() -> object:
            return (await agent.ainvoke(_ASKED, _CONFIG))["messages"][-1].text

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        agent = self._agent(job)

        async def stream() -> AsyncIterator[object]:
            async for message, _ in agent.astream(_ASKED, _CONFIG, stream_mode="messages"):
                if message.text:
                    yield message.text

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Make tools of functions, with their schemas."""
        return [langchain_tools.convert_to_openai_tool(function) for function in functions]


if __name__ == "__main__":
    serve(WithLangchain())
