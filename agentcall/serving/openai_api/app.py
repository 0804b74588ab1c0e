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
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agentcall.agent import Agent
from agentcall.errors import ConcurrencyLimitExceeded, ModelError
from agentcall.result import RunResult
from agentcall.serving.concurrency import ConcurrencyLimiter
from agentcall.serving.http_security import AccessPolicy
from agentcall.serving.openai_api.request import CompletionRequest, parse_request
from agentcall.serving.openai_api.response import CompletionWriter
from agentcall.serving.run_requests import (
    LARGE_BODY_BYTES,
    Capacity,
    ClientGone,
    InvalidRequest,
    RunSlots,
    RunStream,
    build_error_response,
    create_app,
    make_error_response,
    prepend_chunk,
    run_while_connected,
)

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
        self._deps = deps
        self._slots = RunSlots(capacity or Capacity())
        self._endpoint_metrics = EndpointMetrics(self._slots.limiter)
        routes = [
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._list_models),
            Route("/v1/models/{name:path}", self._get_model),
            Route("/health", self._get_health),
            Route("/metrics", self._get_metrics),
        ]
        self._app = create_app(routes, access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _complete(self, request: Request) -> Response:
        try:
            completion_request = await self._read_request(await request.body())
            response = await self._respond(request, completion_request)
        except (ClientGone, ClientDisconnect):
            response = Response(status_code=499)
        except (InvalidRequest, ConcurrencyLimitExceeded, ModelError) as error:
            response = build_error_response(error)
        self._endpoint_metrics.count_response(response.status_code)
        return response

    async def _read_request(self, body: bytes) -> CompletionRequest:
        """Parse the request; a large one in a thread, so that it does not delay the others."""
        if len(body) > LARGE_BODY_BYTES:
            return await asyncio.to_thread(parse_request, body, self._name)
        return parse_request(body, self._name)

    async def _respond(self, request: Request, completion_request: CompletionRequest) -> Response:
        streams = self._agent.output_type is str and not self._agent.spec.may_change_answers
        writer = CompletionWriter(
            uuid.uuid4().hex, self._name, steps=completion_request.include_steps, streams=streams
        )
        if not completion_request.stream:
            result = await run_while_connected(
                request, self._run_to_end(request, completion_request, writer)
            )
            return JSONResponse(writer.build_completion(result))
        # The first chunk waits for a slot, so that a refusal can still be a status code.
        chunks = self._stream(request, completion_request, writer)
        first = await run_while_connected(request, anext(chunks))
        return StreamingResponse(prepend_chunk(first, chunks), media_type="text/event-stream")

    async def _run_to_end(
        self, request: Request, completion_request: CompletionRequest, writer: CompletionWriter
    ) -> RunResult[Any]:
        async with self._slots.hold(request), self._start_run(request, completion_request) as run:
            async for event in run:
                writer.record_step(event)
            return run.result

    async def _stream(
        self, request: Request, completion_request: CompletionRequest, writer: CompletionWriter
    ) -> AsyncGenerator[bytes, None]:
        async with self._slots.hold(request), self._start_run(request, completion_request) as run:
            yield writer.build_first_chunk()
            try:
                async for event in run:
                    for chunk in writer.build_chunks(event):
                        yield chunk
            except ModelError as error:
                yield b"data: " + bytes(build_error_response(error).body) + b"\n\n"
                return
            for chunk in writer.build_last_chunks(
                run.result, usage=completion_request.include_usage
            ):
                yield chunk

    @asynccontextmanager
    async def _start_run(
        self, request: Request, completion_request: CompletionRequest
    ) -> AsyncGenerator[RunStream, None]:
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
            run = RunStream(events)
            try:
                yield run
            finally:
                if run.final_result is not None:
                    self._endpoint_metrics.count_run(run.final_result, monotonic() - began)

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._describe_model()]})

    async def _get_model(self, request: Request) -> Response:
        if request.path_params["name"] == self._name:
            return JSONResponse(self._describe_model())
        return make_error_response(
            f"the model of this server is {self._name!r}", 404, "model_not_found", "model"
        )

    def _describe_model(self) -> dict[str, object]:
        return {"id": self._name, "object": "model", "created": 0, "owned_by": "agentcall"}

    async def _get_health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _get_metrics(self, request: Request) -> Response:
        return Response(self._endpoint_metrics.render(), media_type=CONTENT_TYPE)
