"""The endpoint as an ASGI application: serve it, or mount it in FastAPI or Starlette.

Rules:
1. Each request is one run. Nothing is stored between requests, so users are isolated.
2. The number of running and waiting requests is limited. A request beyond the limit gets a 503
   with Retry-After, and one beyond its key's limit a 429.
3. A client that disconnects cancels its run.
4. Errors have OpenAI's form, and reveal nothing about the servers and tools behind the agent.
5. /metrics is in Prometheus' text format; names follow its guide (base units, `_total`).
"""

from __future__ import annotations

import asyncio
import collections
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agentcall.agent import Agent
from agentcall.errors import (
    ConcurrencyLimitExceeded,
    ContextOverflow,
    ModelError,
    ModelTimeout,
    RateLimited,
)
from agentcall.events import Event, RunFinished
from agentcall.result import RunResult
from agentcall.serving.concurrency import ConcurrencyLimiter
from agentcall.serving.http_security import USER_SCOPE_KEY, AccessPolicy, SecurityMiddleware
from agentcall.serving.openai_api.request import CompletionRequest, InvalidRequest, parse_request
from agentcall.serving.openai_api.response import CompletionWriter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class EndpointMetrics:
    """The Prometheus metrics of one endpoint, in their own registry."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "agentcall_requests",
            "Requests, by status of the response.",
            ["status"],
            registry=registry,
        )
        self._runs = Counter("agentcall_runs", "Runs, by stop reason.", ["stop"], registry=registry)
        self._tokens = Counter("agentcall_tokens", "Tokens used.", ["direction"], registry=registry)
        self._calls = Counter("agentcall_tool_calls", "Tool calls executed.", registry=registry)
        self._seconds = Histogram("agentcall_run_seconds", "Duration of runs.", registry=registry)
        running = Gauge("agentcall_running", "Runs that are executing.", registry=registry)
        running.set_function(lambda: limiter.running)
        waiting = Gauge("agentcall_waiting", "Runs that wait for a slot.", registry=registry)
        waiting.set_function(lambda: limiter.waiting)

    def count_response(self, status: int) -> None:
        """Count a response."""
        self._requests.labels(str(status)).inc()

    def count_run(self, result: RunResult[Any], seconds: float) -> None:  # Any: of any agent
        """Count a run with its tokens and tool calls."""
        self._runs.labels(result.stop_reason).inc()
        self._tokens.labels("input").inc(result.usage.input_tokens)
        self._tokens.labels("output").inc(result.usage.output_tokens)
        self._calls.inc(result.usage.tool_calls)
        self._seconds.observe(seconds)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


T = TypeVar("T")

_LARGE_BODY_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many runs may execute, how many may wait, and how many of both one key may have."""

    running: int = 32
    waiting: int = 256
    per_key: int | None = None


class OpenAIEndpoint:
    """Serves an agent as the model `name`.

    access: which requests are accepted; without keys all requests belong to one user.
    deps: called with each request (Starlette's); returns the tools' `RunContext.deps`.
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: of any output and deps
        *,
        name: str | None = None,
        access: AccessPolicy | None = None,
        capacity: Capacity | None = None,
        deps: Callable[[Request], object] | None = None,
    ) -> None:
        self._agent = agent
        self._name = name or agent.name
        self._capacity = capacity or Capacity()
        self._deps = deps
        self._limiter = ConcurrencyLimiter(
            running=self._capacity.running, waiting=self._capacity.waiting
        )
        self._active_requests: collections.Counter[str] = collections.Counter()
        self._endpoint_metrics = EndpointMetrics(self._limiter)
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._list_models),
                Route("/v1/models/{name:path}", self._get_model),
                Route("/health", self._get_health),
                Route("/metrics", self._get_metrics),
            ],
            exception_handlers={404: _handle_unknown_path, 405: _handle_unknown_path},
        )
        endpoint_access = replace(
            access or AccessPolicy(),
            open_paths=frozenset({"/health"}),
            types=frozenset({"application/json"}),
        )
        self._app = SecurityMiddleware(cast("Any", app), endpoint_access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _complete(self, request: Request) -> Response:
        try:
            completion_request = await self._read_request(await request.body())
            response = await self._respond(request, completion_request)
        except (_ClientGone, ClientDisconnect):
            response = Response(status_code=499)
        except (InvalidRequest, ConcurrencyLimitExceeded, ModelError) as error:
            response = _build_error_response(error)
        self._endpoint_metrics.count_response(response.status_code)
        return response

    async def _read_request(self, body: bytes) -> CompletionRequest:
        """Parse the request; a large one in a thread, so that it does not delay the others."""
        if len(body) > _LARGE_BODY_BYTES:
            return await asyncio.to_thread(parse_request, body, self._name)
        return parse_request(body, self._name)

    async def _respond(self, request: Request, completion_request: CompletionRequest) -> Response:
        streams = self._agent.output_type is str and not self._agent.spec.may_change_answers
        writer = CompletionWriter(
            uuid.uuid4().hex, self._name, steps=completion_request.include_steps, streams=streams
        )
        if not completion_request.stream:
            result = await _run_while_connected(
                request, self._run_to_end(request, completion_request, writer)
            )
            return JSONResponse(writer.build_completion(result))
        # The first chunk waits for a slot, so that a refusal can still be a status code.
        chunks = self._stream(request, completion_request, writer)
        first = await _run_while_connected(request, anext(chunks))
        return StreamingResponse(_prepend_chunk(first, chunks), media_type="text/event-stream")

    async def _run_to_end(
        self, request: Request, completion_request: CompletionRequest, writer: CompletionWriter
    ) -> RunResult[Any]:
        async with self._acquire_slot(request), self._start_run(request, completion_request) as run:
            async for event in run:
                writer.record_step(event)
            return run.result

    async def _stream(
        self, request: Request, completion_request: CompletionRequest, writer: CompletionWriter
    ) -> AsyncGenerator[bytes, None]:
        async with self._acquire_slot(request), self._start_run(request, completion_request) as run:
            yield writer.build_first_chunk()
            try:
                async for event in run:
                    for chunk in writer.build_chunks(event):
                        yield chunk
            except ModelError as error:
                yield b"data: " + bytes(_build_error_response(error).body) + b"\n\n"
                return
            for chunk in writer.build_last_chunks(
                run.result, usage=completion_request.include_usage
            ):
                yield chunk

    @asynccontextmanager
    async def _start_run(
        self, request: Request, completion_request: CompletionRequest
    ) -> AsyncGenerator[_RunStream, None]:
        """Start a run, which is counted however it ends, and cancelled when the block is left."""
        deps = self._deps(request) if self._deps else None
        began = monotonic()
        async with aclosing(
            self._agent.run_stream(
                messages=completion_request.messages,
                deps=deps,
                settings=completion_request.settings,
            )
        ) as events:
            run = _RunStream(events)
            try:
                yield run
            finally:
                if run.final_result is not None:
                    self._endpoint_metrics.count_run(run.final_result, monotonic() - began)

    @asynccontextmanager
    async def _acquire_slot(self, request: Request) -> AsyncGenerator[None, None]:
        """Hold a slot for a run of the request's user.

        Raises:
            InvalidRequest: if the user has too many requests.
            ConcurrencyLimitExceeded: if the endpoint has.
        """
        user, limit = str(request.scope.get(USER_SCOPE_KEY, "")), self._capacity.per_key
        if limit is not None and self._active_requests[user] >= limit:
            raise InvalidRequest(
                f"this key has {limit} active requests, which is its limit",
                status=429,
                code="rate_limit_exceeded",
            )
        self._active_requests[user] += 1
        try:
            async with self._limiter.slot():
                yield
        finally:
            self._active_requests[user] -= 1

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._describe_model()]})

    async def _get_model(self, request: Request) -> Response:
        if request.path_params["name"] == self._name:
            return JSONResponse(self._describe_model())
        return _make_error(
            f"the model of this server is {self._name!r}", 404, "model_not_found", "model"
        )

    def _describe_model(self) -> dict[str, object]:
        return {"id": self._name, "object": "model", "created": 0, "owned_by": "agentcall"}

    async def _get_health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _get_metrics(self, request: Request) -> Response:
        return Response(self._endpoint_metrics.render(), media_type=CONTENT_TYPE)


class _RunStream:
    """Iterates over the events of a run, and has its result afterwards."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events
        self.final_result: RunResult[Any] | None = None

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for event in self._events:
            if isinstance(event, RunFinished):
                self.final_result = event.result
            yield event

    @property
    def result(self) -> RunResult[Any]:
        if self.final_result is None:
            raise RuntimeError("the run ended without RunFinished")
        return self.final_result


class _ClientGone(Exception):
    """The client has disconnected."""


async def _run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; if the client disconnects, cancel it and raise _ClientGone."""
    work_task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({work_task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not work_task.done():
            raise _ClientGone
        return work_task.result()
    finally:
        for task in (work_task, disconnect):
            task.cancel()
        await asyncio.gather(work_task, disconnect, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _prepend_chunk(
    first: bytes, rest: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


def _build_error_response(
    error: InvalidRequest | ConcurrencyLimitExceeded | ModelError,
) -> JSONResponse:
    match error:
        case InvalidRequest():
            response = _make_error(str(error), error.status, error.code, error.param)
            if error.status == 429:
                response.headers["Retry-After"] = "1"
            return response
        case ConcurrencyLimitExceeded(retry_after=seconds):
            response = _make_error(str(error), 503, "overloaded")
        case RateLimited(status=429, retry_after=seconds):
            response = _make_error(
                "the agent's model has too many requests", 429, "rate_limit_exceeded"
            )
        case ContextOverflow():
            message = "the conversation is longer than the context window of the agent's model"
            return _make_error(message, 400, "context_length_exceeded", "messages")
        case ModelTimeout():
            return _make_error("the agent's model did not answer in time", 504, "upstream_timeout")
        case _:
            return _make_error("the agent's model cannot be reached", 502, "upstream_error")
    response.headers["Retry-After"] = f"{max(seconds or 1, 1):.0f}"
    return response


def _make_error(
    message: str, status: int, code: str | None = None, param: str | None = None
) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status)


async def _handle_unknown_path(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _make_error(f"{request.method} {request.url.path} does not exist on this server", status)
