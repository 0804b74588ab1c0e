"""The tool calls that are under way on a connection, so that what the server asks during a call
reaches the run that made it.

How a request of the server is attributed:
1. A server of protocol 2026-07-28 asks in its answer to the call, so that the call is known.
2. An older server sends a request of its own that names no call. Where it matters which call it is
   for, its calls are made one at a time. A server that has asked during a call that was given up
   may ask on, so that its connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agentcall.approvals import Answer, Question
from agentcall.display import strip_control_characters
from agentcall.mcp.connection import Client, MCPConnectionError
from agentcall.mcp.transport import import_optional
from agentcall.runtime.state import RunState
from agentcall.tools.tool import RunContext

T = TypeVar("T")


@dataclass(eq=False)
class CallInProgress:
    """A tool call that a server carries out.

    run: the run that made it; None outside of a run. loop: the event loop of that run.
    answers: what a person has answered to the questions of an earlier attempt.
    question: the one that nobody has answered yet, so that the run has to wait.
    failure: why the call was given up.
    """

    tool: str
    context: RunContext[Any]  # Any: the user's own type
    run: RunState | None
    loop: asyncio.AbstractEventLoop
    answers: list[Answer]
    question: Question | None = None
    questions_asked: int = 0
    samples_requested: int = 0
    failure: str = ""
    _work: list[Future[Any]] = field(default_factory=list[Future[Any]])
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_asked(self) -> bool:
        """Whether the server has sent requests during the call."""
        return bool(self.questions_asked or self.samples_requested)

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report progress that the server reports, for those who read the run's events."""
        text = strip_control_characters((message or "")[:1_000])
        self.context.emit({"progress": progress, "total": total, "message": text})

    def stop(self, failure: str) -> None:
        """Give the call up, and cancel it at the server."""
        self.failure = self.failure or failure
        self._stopped.set()

    async def run_in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work in the event loop of the run; it ends with the call."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        self._work.append(future)
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """Cancel what is done for the server, which waits for nothing any more."""
        for future in self._work:
            future.cancel()

    async def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of the call. Raises MCPConnectionError if it is stopped."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self.failure:
                raise MCPConnectionError(self.failure)
            return await task
        finally:
            task.cancel()
            stopped.cancel()


class CallTracker:
    """The calls that are under way on one connection.

    is_exclusive: whether it matters which call a request of the server belongs to.
    """

    def __init__(self, *, is_exclusive: bool) -> None:
        self.is_exclusive = is_exclusive
        self._lock = asyncio.Lock()
        self._calls: list[CallInProgress] = []
        self._unattributed = 0

    def makes_single_calls(self, client: Client) -> bool:
        """Whether calls are made one at a time, as requests of the server do not name theirs."""
        handshake = import_optional("mcp_types.version").HANDSHAKE_PROTOCOL_VERSIONS
        return self.is_exclusive and client.protocol_version in handshake

    @asynccontextmanager
    async def track(self, call: CallInProgress, client: Client) -> AsyncGenerator[None]:
        """Surround a call; wait for the one before if the server's requests do not name theirs."""
        is_alone = self.makes_single_calls(client)
        if is_alone:
            await self._lock.acquire()
        self._calls.append(call)
        before = _current_call.get()
        _current_call.set(call)
        try:
            yield
        finally:
            _current_call.set(before)
            self._calls.remove(call)
            call.end()
            if not self._calls:
                self._unattributed = 0
            if is_alone:
                self._lock.release()

    def find_call(self) -> CallInProgress | None:
        """Return the call that a request of the server belongs to; None if it is not known."""
        current = _current_call.get()
        if current in self._calls:
            return current
        return self._calls[0] if len(self._calls) == 1 else None

    def count_unattributed(self, limit: int, why: str) -> bool:
        """Count a request that cannot be attributed; beyond `limit` a call, stop all calls.

        Returns whether the limit is kept.
        """
        self._unattributed += 1
        is_kept = self._unattributed <= limit * max(len(self._calls), 1)
        if not is_kept:
            for call in self._calls:
                call.stop(why)
        return is_kept


_current_call: ContextVar[CallInProgress | None] = ContextVar("current_call", default=None)


def make_error(message: str) -> Any:  # Any: a type of the mcp package
    """Return the error with which a request of a server is refused."""
    types = import_optional("mcp_types")
    return types.ErrorData(code=types.INVALID_REQUEST, message=message)
