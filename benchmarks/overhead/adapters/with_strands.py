"""strands: `Agent.invoke_async` with `OpenAIModel` over one client."""

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

strands: Any = import_module("strands")  # Any: in this contestant's environment alone
models: Any = import_module("strands.models.openai")  # Any: as above
openai: Any = import_module("openai")  # Any: as above


class WithStrands:
    """An agent holds its conversation: each run takes one that is free."""

    packages = ("strands-agents", "openai")

    def __init__(self) -> None:
        self._client: Any = None

    def _make(self, job: Job, tools: Sequence[Any]) -> Any:
        self._client = self._client or openai.AsyncOpenAI(
            base_url=job.url, api_key=KEY, timeout=CLIENT_TIMEOUT
        )
        model = models.OpenAIModel(
            client=self._client, model_id=job.task.model, stream=job.task.chunks > 0
        )
        return strands.Agent(model, tools=tools, callback_handler=None)

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        tools, free = self.schemas(job.functions), []

        async def run() -> str:
            agent = free.pop() if free else self._make(job, tools)
            agent.messages.clear()
            answer = str(await agent.invoke_async(QUESTION))
            free.append(agent)
            return answer

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        agent = self._make(job, self.schemas(job.functions))

        async def stream() -> AsyncIterator[object]:
            agent.messages.clear()
            async for event in agent.stream_async(QUESTION):
                if "data" in event:
                    yield event["data"]

        return stream

    def schemas(self, functions: Sequence[Function]) -> list[Any]:
        """Make tools of functions."""
        return [strands.tool(function) for function in functions]


if __name__ == "__main__":
    serve(WithStrands())
