"""The loop that users write by hand: post the conversation, call the functions, repeat."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.overhead.adapters.worker import Job, Run
from benchmarks.overhead.task import QUESTION

Post = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def make_run(job: Job, post: Post) -> Run:
    """Return a run that uses `post`, which posts a body and returns the answer."""
    functions = {function.__name__: function for function in job.functions}
    fixed = {"model": job.task.model, "tools": job.definitions}

    async def run() -> str:
        messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
        while True:
            answer = await post({**fixed, "messages": messages})
            message = answer["choices"][0]["message"]
            messages.append(message)
            if not message.get("tool_calls"):
                return str(message["content"])
            for call in message["tool_calls"]:
                arguments = json.loads(call["function"]["arguments"])
                result = functions[call["function"]["name"]](**arguments)
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})

    return run


def build_stream_body(job: Job) -> dict[str, Any]:
    """Return the body of a request for a stream."""
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": job.task.model, "tools": job.definitions, "messages": messages, "stream": True}


def read_text(line: str | bytes) -> str:
    """Return the text of a line of a stream; empty if it is not an event with text."""
    if not line.startswith("data: {" if isinstance(line, str) else b"data: {"):
        return ""
    delta = json.loads(line[6:])["choices"][0]["delta"]
    return delta.get("content") or ""
