"""The endpoint as an ASGI application: serve it, or mount it in FastAPI or Starlette.

Rules:
1. A request is a run of its own: nothing is kept between requests, so users are kept apart.
2. So many run at a time and so many wait; the rest are told when to come back (503), and whoever
   takes more than a key may, too (429).
3. Whoever goes away cancels the run.
4. An error says what was wrong in OpenAI's form; of our own servers and tools it tells no more.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, TypeVar, cast

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agentcall.agent import Agent
from agentcall.endpoint.answer import Writer
from agentcall.endpoint.asked import Asked, Unfit, read_request
from agentcall.endpoint.counts import TYPE, Counts
from agentcall.errors import Busy, ModelError, ModelTimeout, RateLimited
from agentcall.events import Event, RunFinished
from agentcall.gatekeeper import USER, Gatekeeper, Terms
from agentcall.places import Places
from agentcall.result import RunResult

T = TypeVar("T")

_LARGE = 2**18


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many runs go on at a time, how many may wait, and how many of both a key may have."""

    running: int = 32
    waiting: int = 256
    per_key: int | None = None


class Endpoint:
    """Serves an agent as the model `name`.

    terms: who may ask; without keys everybody is one user.
    deps: makes what tools get as `RunContext.deps`, of the request (Starlette's).
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: of any output and deps
        *,
        name: str | None = None,
        terms: Terms | None = None,
        capacity: Capacity | None = None,
        deps: Callable[[Request], object] | None = None,
    ) -> None:
        self._agent = agent
        self._name = name or agent.name
        self._capacity = capacity or Capacity()
        self._deps = deps
        self._places = Places(running=self._capacity.running, waiting=self._capacity.waiting)
        self._taken: Counter[str] = Counter()
        self._counts = Counts(self._places)
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={404: _no_such_path, 405: _no_such_path},
        )
        own = replace(
            terms or Terms(),
            open_paths=frozenset({"/health"}),
            types=frozenset({"application/json"}),
        )
        self._app = Gatekeeper(cast("Any", app), own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _complete(self, request: Request) -> Response:
        try:
            asked = await self._asked(await request.body())
            answer = await self._answered(request, asked)
        except (_Gone, ClientDisconnect):
            answer = Response(status_code=499)
        except (Unfit, Busy, ModelError) as error:
            answer = _refusal(error)
        self._counts.answered(answer.status_code)
        return answer

    async def _asked(self, body: bytes) -> Asked:
        """The request in a body; a large one is read in a thread, so that others are answered."""
        if len(body) > _LARGE:
            return await asyncio.to_thread(read_request, body, self._name)
        return read_request(body, self._name)

    async def _answered(self, request: Request, asked: Asked) -> Response:
        streams = self._agent.output_type is str
        writer = Writer(uuid.uuid4().hex, self._name, steps=asked.steps, streams=streams)
        if not asked.stream:
            result = await _unless_gone(request, self._whole(request, asked, writer))
            return JSONResponse(writer.whole(result))
        # the first chunk waits for a place, so that whoever gets none is told by the status
        chunks = self._streamed(request, asked, writer)
        first = await _unless_gone(request, anext(chunks))
        return StreamingResponse(_after(first, chunks), media_type="text/event-stream")

    async def _whole(
        self, request: Request, asked: Asked, writer: Writer
    ) -> RunResult[Any]:  # Any: as above
        async with self._place(request), self._run(request, asked) as run:
            async for event in run:
                writer.hear(event)
            return run.result

    async def _streamed(
        self, request: Request, asked: Asked, writer: Writer
    ) -> AsyncGenerator[bytes, None]:
        async with self._place(request), self._run(request, asked) as run:
            yield writer.first()
            try:
                async for event in run:
                    for chunk in writer.chunks(event):
                        yield chunk
            except ModelError as error:
                yield b"data: " + bytes(_refusal(error).body) + b"\n\n"
                return
            for chunk in writer.last(run.result, usage=asked.usage):
                yield chunk

    @asynccontextmanager
    async def _run(self, request: Request, asked: Asked) -> AsyncGenerator[_Run, None]:
        """A run, which is counted however it ends, and cancelled if it is left."""
        deps = self._deps(request) if self._deps else None
        began = monotonic()
        async with aclosing(self._agent.run_stream(messages=asked.messages, deps=deps)) as events:
            run = _Run(events)
            try:
                yield run
            finally:
                if run.ended is not None:
                    self._counts.ended(run.ended, monotonic() - began)

    @asynccontextmanager
    async def _place(self, request: Request) -> AsyncGenerator[None, None]:
        """A place for a run of the request's user. Raises Busy, Unfit."""
        user, most = str(request.scope.get(USER, "")), self._capacity.per_key
        if most is not None and self._taken[user] >= most:
            raise Unfit(
                f"this key has {most} requests under way, which is all it may",
                status=429,
                code="rate_limit_exceeded",
            )
        self._taken[user] += 1
        try:
            async with self._places.one():
                yield
        finally:
            self._taken[user] -= 1

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def _model(self, request: Request) -> Response:
        if request.path_params["name"] == self._name:
            return JSONResponse(self._card())
        return _error(f"there is {self._name!r}", 404, "model_not_found", "model")

    def _card(self) -> dict[str, object]:
        return {"id": self._name, "object": "model", "created": 0, "owned_by": "agentcall"}

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        return Response(self._counts.text(), media_type=TYPE)


class _Run:
    """The events of a run, and its result once it has ended."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events
        self.ended: RunResult[Any] | None = None  # Any: as above

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for event in self._events:
            if isinstance(event, RunFinished):
                self.ended = event.result
            yield event

    @property
    def result(self) -> RunResult[Any]:  # Any: as above
        if self.ended is None:
            raise RuntimeError("a run ended without its last event")
        return self.ended


class _Gone(Exception):
    """The client has gone away."""


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when the client goes away. Raises _Gone."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _Gone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


def _refusal(error: Unfit | Busy | ModelError) -> JSONResponse:
    match error:
        case Unfit():
            answer = _error(str(error), error.status, error.code, error.param)
            if error.status == 429:
                answer.headers["Retry-After"] = "1"
            return answer
        case Busy(retry_after=seconds):
            answer = _error(str(error), 503, "overloaded")
        case RateLimited(status=429, retry_after=seconds):
            answer = _error("the agent's model has too many requests", 429, "rate_limit_exceeded")
        case ModelTimeout():
            return _error("the agent's model did not answer in time", 504, "upstream_timeout")
        case _:
            return _error("the agent's model cannot be asked", 502, "upstream_error")
    answer.headers["Retry-After"] = f"{max(seconds or 1, 1):.0f}"
    return answer


def _error(
    words: str, status: int, code: str | None = None, param: str | None = None
) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": words, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status)


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _error(f"{request.method} {request.url.path} is not answered here", status, None)
