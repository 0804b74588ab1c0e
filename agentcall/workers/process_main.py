"""The main program of a worker process: import a tool's function, then call it on request.

Messages are lines of JSON. The first one names a function, which is imported; the reply has the
reason if that failed. Each further message is a call; the reply is its `ToolOutput`, with the
exception as text, and `is_fit`: whether the process can be reused, because the call left no thread,
no child process and little memory behind. Before the reply come lines with what the tool reports
while it runs, `{"progress": VALUE}`, if anybody listens.

Memory is limited with RLIMIT_AS on Linux, where Python raises MemoryError above it. macOS accepts
that limit but does not enforce it: there a thread measures the process ten times a second and kills
it above the limit.

This module is imported by each new worker, so it imports little.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from agentcall.errors import ArgumentsError, ToolError
from agentcall.messages import (
    JSON,
    EnclosingCall,
    data_to_json,
    enclosing_call,
    load_messages,
    usage_from_json,
)
from agentcall.tools.importable import FunctionRef
from agentcall.tools.serialize import serialize, to_json_value, truncate_text
from agentcall.tools.tool import RunContext, Tool, ToolOptions, make_tool
from agentcall.workers.invoke import (
    PendingAwaitable,
    ToolArguments,
    ToolContext,
    ToolOutput,
    await_result,
    call_async_tool,
    call_sync_tool,
    format_tool_error,
)

# Any: JSON that the process pool of the same version has written
WorkerMessage: TypeAlias = Mapping[str, Any]

_MAX_RESULT = 50_000_000
"""Characters of a result if the tool has no limit."""
_MAX_TRACEBACK = 20_000
"""Characters of a traceback; the last ones, as the innermost frame is at the end."""
_POLL_SECONDS = 0.1


def main(fd: int, token: str) -> None:
    """Answer the messages on the socket `fd` until its other end is closed.

    Each reply begins with `token`, which the tool's code does not know.
    """
    prefix = token.encode()
    with socket.socket(fileno=fd) as connection, connection.makefile("rb") as lines:
        os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=connection.close)
        connection.sendall(prefix + _handle_load(orjson.loads(next(lines))))
        base_size = measure_memory()
        for line in lines:
            progress = ProgressWriter(connection, prefix)
            with _kill_on_disconnect(connection):
                reply = _handle_call(orjson.loads(line), base_size, progress)
            progress.close()
            connection.sendall(prefix + reply)


class ProgressWriter:
    """Writes what a tool reports while it runs, until its call ends."""

    def __init__(self, connection: socket.socket, prefix: bytes) -> None:
        self._connection = connection
        self._prefix = prefix
        self._lock = threading.Lock()
        self._is_closed = False

    def report(self, call_id: str, value: object) -> None:
        """Write a value as a line of JSON."""
        line = self._prefix + _encode_line({"progress": to_json_value(value)})
        with self._lock, suppress(OSError, ValueError):  # a fork of the tool has no connection
            if not self._is_closed:
                with _ignore_signals(self._connection):
                    self._connection.sendall(line)

    def close(self) -> None:
        """Write nothing any more: the reply comes next."""
        with self._lock:
            self._is_closed = True


@contextmanager
def _ignore_signals(connection: socket.socket) -> Generator[None, None, None]:
    """Allow to write inside `_kill_on_disconnect`: a full buffer that empties is a signal, too.

    What the parent does meanwhile causes none, so whether it has gone is checked afterwards.
    """
    import fcntl

    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags & ~os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(connection, fcntl.F_SETFL, flags)
        with suppress(BlockingIOError):
            if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                os.killpg(0, signal.SIGKILL)


def _handle_load(message: WorkerMessage) -> bytes:
    sys.argv[:] = message["argv"]
    try:
        FunctionRef(*message["function"]).load()
        reason = ""
    except BaseException as error:  # a script may call sys.exit
        reason = f"{type(error).__name__}: {error}"
    return _encode_line({"reason": reason})


def _handle_call(message: WorkerMessage, base_size: int, progress: ProgressWriter) -> bytes:
    memory = message["memory"]
    with suppress(OSError):  # the directory may have been removed
        os.chdir(message["cwd"])
    with nullcontext() if memory is None else limit_memory(base_size + memory):
        output = _run_call(message, progress if message["listens"] else None)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the tool may have closed or replaced it
            stream.flush()
    growth = measure_memory() - base_size
    is_fit = _has_no_leftovers() and (memory is None or growth < memory / 2)
    error = output.exception
    reply: dict[str, JSON] = {
        **output._replace(exception=None, data=None)._asdict(),
        **data_to_json(output.data),
        "exception": None if error is None else _exception_to_json(error),
        "is_fit": is_fit,
    }
    return _encode_line(reply)


def _exception_to_json(error: BaseException) -> JSON:
    """Return what the parent process gets of an exception, which is text in any case."""
    from agentcall.tools.retry import is_transient  # late, as few calls fail

    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {
        "kind": type(error).__name__ if isinstance(error, ToolError) else "",
        "retry": is_transient(error),
        "summary": serialize("".join(traceback.format_exception_only(type(error), error)).strip()),
        "traceback": serialize("".join(lines)[-_MAX_TRACEBACK:]),
    }


def _run_call(message: WorkerMessage, progress: ProgressWriter | None) -> ToolOutput:
    options = ToolOptions(timeout=None, retries=message["retries"])
    function_tool = make_tool(FunctionRef(*message["function"]).load())  # type: ignore[arg-type]  # JSON
    schema = replace(function_tool.schema, name=message["name"])
    tool = function_tool.copy_with(schema, options)
    try:
        values = tool.parse(message["arguments"])
    except ArgumentsError as error:
        return ToolOutput(str(error), is_error=True)
    fields = message["context"]
    usage, messages = usage_from_json(fields["usage"]), load_messages(fields["messages"])
    values_of_context = {
        **fields,
        "usage": usage,
        "messages": messages,
        "progress_sink": progress,
        "takes_messages": None,
    }
    context = replace(RunContext(None), **values_of_context)
    call_state = EnclosingCall(context.tainted)
    enclosing_call.set(call_state)
    output = _invoke_tool(tool, values, context)
    limit = message["limit"]
    return output._replace(
        text=truncate_text(output.text, _MAX_RESULT if limit is None else limit),
        untrusted=output.untrusted or call_state.has_read_untrusted,
    )


def _invoke_tool(tool: Tool, values: ToolArguments, context: ToolContext) -> ToolOutput:
    try:
        if tool.is_async:
            return asyncio.run(call_async_tool(tool, values, context))
        output = call_sync_tool(tool, values, context)
        if isinstance(output, PendingAwaitable):
            return asyncio.run(await_result(tool, context, output.value))
    except BaseException as error:  # it cancelled itself, or one of its tasks raised SystemExit
        return format_tool_error(tool, context, error)
    return output


def _has_no_leftovers() -> bool:
    """Whether no other thread and no child process is running."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:  # reap the children that have ended
            pass
    except ChildProcessError:
        return threading.active_count() == 1
    return False


@contextmanager
def _kill_on_disconnect(connection: socket.socket) -> Generator[None, None, None]:
    """Have this process group killed when the other end of the socket is closed.

    The kernel sends the signal, so that it also ends a tool that never releases the GIL.
    """
    import fcntl  # not on Windows, where there are no workers

    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETOWN, -os.getpgrp())
    if sys.platform == "linux":
        fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    else:
        signal.signal(signal.SIGIO, lambda *_: os.killpg(0, signal.SIGKILL))
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(connection, fcntl.F_SETFL, flags)


def _encode_line(reply: JSON) -> bytes:
    return orjson.dumps(reply) + b"\n"


def measure_memory() -> int:
    """Return the bytes of address space, or the peak of resident memory without /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def limit_address_space(max_bytes: int) -> Generator[None, None, None]:
    """Let the address space of this process grow to `max_bytes`."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def kill_above_memory(max_bytes: int) -> Generator[None, None, None]:
    """Kill this process when `measure_memory()` exceeds `max_bytes`."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            if measure_memory() > max_bytes:
                os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=watch, name="agentcall memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


limit_memory = limit_address_space if sys.platform == "linux" else kill_above_memory
"""The way to limit memory on this platform."""
