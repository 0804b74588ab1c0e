"""The AG-UI endpoint as an ASGI application: serve it, or mount it in FastAPI or Starlette.

Rules:
1. Each request is one run. Nothing is stored between requests, so users are isolated.
2. What is wrong with a request, or too much of them, is an HTTP status; what fails later is the
   event RUN_ERROR. Neither reveals anything about the servers and tools behind the agent.
3. A client that disconnects cancels its run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agentcall.agent import Agent
from agentcall.errors import ConcurrencyLimitExceeded, ModelError
from agentcall.serving.ag_ui.event_writer import EventWriter, write_failure
from agentcall.serving.ag_ui.run_input import RunAgentInput, parse_run_input
from agentcall.serving.http_security import AccessPolicy
from agentcall.serving.run_requests import (
    LARGE_BODY_BYTES,
    Capacity,
    ClientGone,
    InvalidRequest,
    RunSlots,
    RunStream,
    build_error_response,
    create_app,
    prepend_chunk,
    run_while_connected,
)

_log = logging.getLogger("agentcall.serving")


class AGUIEndpoint:
    """Serves an agent to clients of the AG-UI protocol, by POST at `/`.

    access: which requests are accepted; without keys all requests belong to one user.
    deps: called with each request (Starlette's); returns the tools' `RunContext.deps`. The body of
        the request is in `request.state.run_input`.
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: of any output and deps
        *,
        access: AccessPolicy | None = None,
        capacity: Capacity | None = None,
        deps: Callable[[Request], object] | None = None,
    ) -> None:
        self._agent = agent
        self._deps = deps
        self._slots = RunSlots(capacity or Capacity())
        routes = [
            Route("/", self._run, methods=["POST"]),
            Route("/health", self._get_health),
        ]
        self._app = create_app(routes, access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _run(self, request: Request) -> Response:
        try:
            body = await request.body()
            parse = asyncio.to_thread if len(body) > LARGE_BODY_BYTES else None
            run_input = await parse(parse_run_input, body) if parse else parse_run_input(body)
            # The first event waits for a slot, so that a refusal can still be a status code.
            chunks = self._stream(request, run_input)
            first = await run_while_connected(request, anext(chunks))
        except (ClientGone, ClientDisconnect):
            return Response(status_code=499)
        except (InvalidRequest, ConcurrencyLimitExceeded) as error:
            return build_error_response(error)
        return StreamingResponse(prepend_chunk(first, chunks), media_type="text/event-stream")

    async def _stream(
        self, request: Request, run_input: RunAgentInput
    ) -> AsyncGenerator[bytes, None]:
        writer = EventWriter(
            run_input,
            typed=self._agent.output_type is not str,
            may_change=self._agent.spec.may_change_answers,
        )
        request.state.run_input = run_input.fields
        deps = self._deps(request) if self._deps else None
        async with (
            self._slots.hold(request),
            aclosing(self._agent.run_stream(messages=run_input.messages, deps=deps)) as events,
        ):
            for chunk in writer.start():
                yield chunk
            run, failure = RunStream(events), None
            try:
                async for event in run:
                    for chunk in writer.write(event):
                        yield chunk
            except ModelError as error:
                failure = _describe_failure(error)
            except Exception:  # of a tool or a hook that ends the run: for the log alone
                _log.exception("a run failed")
                failure = write_failure("the agent failed", "internal_error")
            if run.final_result is not None:
                for chunk in writer.finish(run.final_result):
                    yield chunk
            if failure is not None:
                yield failure

    async def _get_health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})


def _describe_failure(error: ModelError) -> bytes:
    """Return the event of a model's failure, in the words of the other endpoint."""
    details = orjson.loads(bytes(build_error_response(error).body))["error"]
    return write_failure(details["message"], details["code"])
