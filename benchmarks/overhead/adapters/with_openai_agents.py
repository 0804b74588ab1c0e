"""openai-agents: `Runner`, chat completions, tracing off."""

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

agents: Any = import_module("agents")  # Any: in this contestant's environment alone
openai: Any = import_module("openai")  # Any: as above


class WithOpenAIAgents:
    """One agent for all runs of a task, one client for all tasks."""

    packages = ("openai-agents", "openai")

    def __init__(self) -> None:
        self._client: Any = None

    def _agent(self, job: Job) -> Any:
        self._client = self._client or openai.AsyncOpenAI(
            base_url=job.url, api_key=KEY, timeout=CLIENT_TIMEOUT
        )
        model = agents.OpenAIChatCompletionsModel(model=job.task.model, openai_client=self._client)
        return agents.Agent(name="assistant", model=model, tools=self.schemas(job.functions))

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        agent = self._agent(job)

        async def run() -> object:
            return (await agents.Runner.run(agent, QUESTION, max_turns=10_000)).final_output

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        agent = self._agent(job)

        async def stream() -> AsyncIterator[object]:
            result = agents.Runner.run_streamed(agent, QUESTION)
            async for event in result.stream_events():
                is_raw = event.type == "raw_response_event"
                if is_raw and event.data.type == "response.output_text.delta":
                    yield event.data.delta

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Make tools of functions."""
        return [agents.function_tool(function) for function in functions]


if __name__ == "__main__":
    agents.set_tracing_disabled(True)
    serve(WithOpenAIAgents())
