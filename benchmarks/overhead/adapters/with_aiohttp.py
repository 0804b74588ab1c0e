"""A loop by hand, with only aiohttp and json."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from benchmarks.overhead.adapters.by_hand import build_stream_body, make_run, read_text
from benchmarks.overhead.adapters.worker import Function, Job, Run, Stream, serve


class WithAiohttp:
    """One session for all runs, without a limit of connections."""

    packages = ("aiohttp",)

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, created in the running event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._session

    def run(self, job: Job) -> Run:
        """Prepare a run."""
        session, place = self.session, f"{job.url}/chat/completions"

        async def post(body: dict[str, Any]) -> dict[str, Any]:
            async with session.post(place, json=body) as response:
                return await response.json()

        return make_run(job, post)

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run."""
        session, place, body = self.session, f"{job.url}/chat/completions", build_stream_body(job)

        async def stream() -> AsyncIterator[str]:
            async with session.post(place, json=body) as response:
                async for line in response.content:
                    if text := read_text(line):
                        yield text

        return stream

    def schemas(self, functions: Sequence[Function]) -> object:
        """Return nothing: schemas are written by hand."""
        raise NotImplementedError


if __name__ == "__main__":
    serve(WithAiohttp())
