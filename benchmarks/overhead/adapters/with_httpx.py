"""A loop by hand, with only httpx and json."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from typing import Any

from benchmarks.overhead.adapters.by_hand import build_stream_body, make_run, read_text
from benchmarks.overhead.adapters.worker import CLIENT_TIMEOUT, Function, Job, Run, Stream, serve

httpx: Any = import_module("httpx")  # Any: in this contestant's environment alone


class WithHttpx:
    """One client for all runs, without a limit of connections."""

    packages = ("httpx",)

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(limits=limits, timeout=CLIENT_TIMEOUT)

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        client, place = self._client, f"{job.url}/chat/completions"

        async def post(body: dict[str, Any]) -> dict[str, Any]:
            response = await client.post(place, json=body)
            response.raise_for_status()
            return response.json()

        return make_run(job, post)

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        client, place, body = self._client, f"{job.url}/chat/completions", build_stream_body(job)

        async def stream() -> AsyncIterator[str]:
            async with client.stream("POST", place, json=body) as response:
                async for line in response.aiter_lines():
                    if text := read_text(line):
                        yield text

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Return nothing: schemas are written by hand."""
        raise NotImplementedError


if __name__ == "__main__":
    serve(WithHttpx())
