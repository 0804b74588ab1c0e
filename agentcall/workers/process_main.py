"""The inside of a worker process: imports a function's home, and calls the function when asked.

The messages are lines of JSON. The first names a home, which is imported; the answer says why it
could not be, if so. Each one after it is a call; the answer is what the model is told, and whether
the process is fit for another call: no thread and no child is left over, and not much memory.

How much memory this process may take.

Linux refuses what goes beyond RLIMIT_AS, so that Python raises MemoryError. macOS takes that limit
and does not hold it: there the process looks at itself ten times a second, and ends itself.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from agentcall.errors import ArgumentsError
from agentcall.messages import JSON, EnclosingCall, Usage, enclosing_call, load_messages
from agentcall.tools.importable import FunctionRef
from agentcall.tools.serialize import truncate_text
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

_POLL_SECONDS = 0.1


def measure_memory() -> int:
    """Bytes that it has: of address space, or where that is not known, of memory at its most."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()


@contextmanager
def limit_address_space(max_bytes: int) -> Generator[None, None, None]:
    """Lets `size()` grow to `most` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def kill_above_memory(max_bytes: int) -> Generator[None, None, None]:
    """Ends the process by SIGKILL when `size()` is more than `most` bytes."""
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
"""The one of both that holds here."""


WorkerMessage: TypeAlias = Mapping[
    str, Any
]  # Any: JSON that `apart` of the same version has written

_MAX_RESULT = 50_000_000
"""Characters of a result for which there is no limit."""


def main(fd: int, token: str) -> None:
    """Answers what comes over the socket `fd` until its other end is closed.

    mark: what each answer begins with.
    """
    sign = token.encode()
    with socket.socket(fileno=fd) as line, line.makefile("rb") as lines:
        os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=line.close)
        line.sendall(sign + _handle_load(orjson.loads(next(lines))))
        size = measure_memory()
        for text in lines:
            with _kill_on_disconnect(line):
                answer = _handle_call(orjson.loads(text), size)
            line.sendall(sign + answer)


def _handle_load(message: WorkerMessage) -> bytes:
    sys.argv[:] = message["argv"]
    try:
        FunctionRef(*message["home"]).load()
        why = ""
    except BaseException as error:  # a script may end itself
        why = f"{type(error).__name__}: {error}"
    return _encode_line({"why": why})


def _handle_call(message: WorkerMessage, size: int) -> bytes:
    most = message["memory"]
    with suppress(OSError):  # the folder may be gone
        os.chdir(message["cwd"])
    with nullcontext() if most is None else limit_memory(size + most):
        told = _run_call(message)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the tool may have closed it, or put anything in its place
            stream.flush()
    grown = measure_memory() - size
    fit = _has_no_leftovers() and (most is None or grown < most / 2)
    return _encode_line({**told._asdict(), "fit": fit})


def _run_call(message: WorkerMessage) -> ToolOutput:
    made = make_tool(FunctionRef(*message["home"]).load())  # type: ignore[arg-type]
    marks = ToolOptions(timeout=None, retries=message["retries"])
    tool = made.copy_with(replace(made.schema, name=message["name"]), marks)
    try:
        values = tool.parse(message["arguments"])
    except ArgumentsError as error:
        return ToolOutput(str(error), is_error=True)
    context = _build_context(message["context"])
    around = EnclosingCall(context.tainted)
    enclosing_call.set(around)
    told = _invoke_tool(tool, values, context)
    told = told._replace(untrusted=told.untrusted or around.has_read_untrusted)
    limit = message["limit"]
    return told._replace(text=truncate_text(told.text, _MAX_RESULT if limit is None else limit))


def _invoke_tool(tool: Tool, values: ToolArguments, context: ToolContext) -> ToolOutput:
    try:
        if tool.is_async:
            return asyncio.run(call_async_tool(tool, values, context))
        outcome = call_sync_tool(tool, values, context)
        if isinstance(outcome, PendingAwaitable):
            return asyncio.run(await_result(tool, context, outcome.value))
    except BaseException as error:  # it cancelled itself, or a task of its own raised SystemExit
        return format_tool_error(tool, context, error)
    return outcome


def _build_context(known: WorkerMessage) -> ToolContext:
    usage, messages = Usage(**known["usage"]), load_messages(known["messages"])
    return replace(RunContext(None), **{**known, "usage": usage, "messages": messages})


def _has_no_leftovers() -> bool:
    """Whether it has no other threads and no children that run."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return threading.active_count() == 1
    return False


@contextmanager
def _kill_on_disconnect(line: socket.socket) -> Generator[None, None, None]:
    """Has this whole process group killed when the other end of the socket is closed.

    The kernel signals it, so that a tool that never lets go of the interpreter ends as well.
    """
    import fcntl  # not on Windows, where there are no workers

    flags = fcntl.fcntl(line, fcntl.F_GETFL)
    fcntl.fcntl(line, fcntl.F_SETOWN, -os.getpgrp())
    if sys.platform == "linux":
        fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
    else:
        signal.signal(signal.SIGIO, lambda *_: os.killpg(0, signal.SIGKILL))
    fcntl.fcntl(line, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(line, fcntl.F_SETFL, flags)


def _encode_line(answer: JSON) -> bytes:
    return orjson.dumps(answer) + b"\n"
