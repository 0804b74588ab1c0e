"""A loop by hand with the official client, as in its own examples."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from typing import Any

from benchmarks.overhead.adapters.by_hand import build_stream_body
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

openai: Any = import_module("openai")  # Any: in this contestant's environment alone


class WithOpenAI:
    """One client for all runs."""

    packages = ("openai", "httpx2")

    def __init__(self) -> None:
        self._client: Any = None

    def _completions(self, job: Job) -> Any:
        self._client = self._client or openai.AsyncOpenAI(
            base_url=job.url, api_key=KEY, timeout=CLIENT_TIMEOUT
        )
        return self._client.chat.completions

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        completions = self._completions(job)
        functions = {function.__name__: function for function in job.functions}
        model, tools = job.task.model, job.definitions

        async def run() -> str:
            messages: list[Any] = [{"role": "user", "content": QUESTION}]
            while True:
                answer = await completions.create(model=model, messages=messages, tools=tools)
                message = answer.choices[0].message
                messages.append(message)
                if not message.tool_calls:
                    return str(message.content)
                for call in message.tool_calls:
                    arguments = json.loads(call.function.arguments)
                    result = functions[call.function.name](**arguments)
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

        return run

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        completions, body = self._completions(job), build_stream_body(job)

        async def stream() -> AsyncIterator[str]:
            async for chunk in await completions.create(**body):
                if text := chunk.choices[0].delta.content:
                    yield text

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Return nothing: schemas are written by hand."""
        raise NotImplementedError


if __name__ == "__main__":
    serve(WithOpenAI())
