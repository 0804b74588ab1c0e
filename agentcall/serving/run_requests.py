"""What the endpoints share: their application, the slots of runs, and requests that are refused
or end early."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentcall.errors import (
    ConcurrencyLimitExceeded,
    ContextOverflow,
    ModelError,
    ModelTimeout,
    RateLimited,
)
from agentcall.events import Event, RunFinished
from agentcall.messages import JSON
from agentcall.result import RunResult
from agentcall.serving.concurrency import ConcurrencyLimiter
from agentcall.serving.http_security import USER_SCOPE_KEY, AccessPolicy, SecurityMiddleware

T = TypeVar("T")

MAX_MESSAGES = 2_000
"""The largest number of messages in a request."""

LARGE_BODY_BYTES = 2**18
"""A larger body is parsed in a thread, so that it does not delay the other requests."""


class InvalidRequest(Exception):
    """A request that is refused, with the HTTP status and OpenAI's `code` and `param`."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many runs may execute, how many may wait, and how many of both one key may have."""

    running: int = 32
    waiting: int = 256
    per_key: int | None = None


class RunSlots:
    """The slots of an endpoint's runs."""

    def __init__(self, capacity: Capacity) -> None:
        self.limiter = ConcurrencyLimiter(running=capacity.running, waiting=capacity.waiting)
        self._capacity = capacity
        self._active: collections.Counter[str] = collections.Counter()

    @asynccontextmanager
    async def hold(self, request: Request) -> AsyncGenerator[None, None]:
        """Hold a slot for a run of the request's user.

        Raises:
            InvalidRequest: if the user has too many requests.
            ConcurrencyLimitExceeded: if the endpoint has.
        """
        user, limit = str(request.scope.get(USER_SCOPE_KEY, "")), self._capacity.per_key
        if limit is not None and self._active[user] >= limit:
            raise InvalidRequest(
                f"this key has {limit} active requests, which is its limit",
                status=429,
                code="rate_limit_exceeded",
            )
        self._active[user] += 1
        try:
            async with self.limiter.slot():
                yield
        finally:
            self._active[user] -= 1


class RunStream:
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
    def result(self) -> RunResult[Any]:  # Any: of any agent
        """The result, once the run has ended."""
        if self.final_result is None:
            raise RuntimeError("the run ended without RunFinished")
        return self.final_result


class ClientGone(Exception):
    """The client has disconnected."""


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; if the client disconnects, cancel it and raise ClientGone."""
    work_task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({work_task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not work_task.done():
            raise ClientGone
        return work_task.result()
    finally:
        for task in (work_task, disconnect):
            task.cancel()
        await asyncio.gather(work_task, disconnect, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def prepend_chunk(
    first: bytes, rest: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """Yield the first chunk and the others."""
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


def build_error_response(
    error: InvalidRequest | ConcurrencyLimitExceeded | ModelError,
) -> JSONResponse:
    """Return the response in OpenAI's form, which reveals nothing about the agent's servers."""
    match error:
        case InvalidRequest():
            response = make_error_response(str(error), error.status, error.code, error.param)
            if error.status == 429:
                response.headers["Retry-After"] = "1"
            return response
        case ConcurrencyLimitExceeded(retry_after=seconds):
            response = make_error_response(str(error), 503, "overloaded")
        case RateLimited(status=429, retry_after=seconds):
            response = make_error_response(
                "the agent's model has too many requests", 429, "rate_limit_exceeded"
            )
        case ContextOverflow():
            message = "the conversation is longer than the context window of the agent's model"
            return make_error_response(message, 400, "context_length_exceeded", "messages")
        case ModelTimeout():
            return make_error_response(
                "the agent's model did not answer in time", 504, "upstream_timeout"
            )
        case _:
            return make_error_response("the agent's model cannot be reached", 502, "upstream_error")
    response.headers["Retry-After"] = f"{max(seconds or 1, 1):.0f}"
    return response


def make_error_response(
    message: str, status: int, code: str | None = None, param: str | None = None
) -> JSONResponse:
    """Return an error in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status)


def create_app(routes: Sequence[Route], access: AccessPolicy | None) -> SecurityMiddleware:
    """Return an application of JSON requests, with a `/health` that needs no key."""
    app = Starlette(
        routes=routes,
        exception_handlers={404: handle_unknown_path, 405: handle_unknown_path},
    )
    endpoint_access = replace(
        access or AccessPolicy(),
        open_paths=frozenset({"/health"}),
        types=frozenset({"application/json"}),
    )
    return SecurityMiddleware(cast("Any", app), endpoint_access)


def parse_object(body: bytes) -> dict[str, JSON]:
    """Return the JSON object of a body. Raise InvalidRequest for anything else."""
    try:
        value: object = orjson.loads(body)
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body is not a JSON object")
    return cast("dict[str, JSON]", value)


async def handle_unknown_path(request: Request, error: Exception) -> Response:
    """Answer a request for a path or a method that the application does not have."""
    status = getattr(error, "status_code", 404)
    return make_error_response(
        f"{request.method} {request.url.path} does not exist on this server", status
    )
