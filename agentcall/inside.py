"""The inside of a worker process: imports a function's home, and calls the function when asked.

The messages are lines of JSON. The first names a home, which is imported; the answer says why it
could not be, if so. Each one after it is a call; the answer is what the model is told, and whether
the process is fit for another call: no thread and no child is left over, and not much memory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import orjson

from agentcall import room
from agentcall.errors import ArgumentsError
from agentcall.home import Home
from agentcall.messages import JSON, Usage, load
from agentcall.outcome import (
    Context,
    Told,
    Unfinished,
    Values,
    awaited,
    called,
    called_async,
    failed,
)
from agentcall.snapshot import capped
from agentcall.taint import CallAround, call_around
from agentcall.tool import Marks, RunContext, Tool, make_tool

Message: TypeAlias = Mapping[str, Any]  # Any: JSON that `apart` of the same version has written

_MOST = 50_000_000
"""Characters of a result for which there is no limit."""


def main(fd: int, mark: str) -> None:
    """Answers what comes over the socket `fd` until its other end is closed.

    mark: what each answer begins with.
    """
    sign = mark.encode()
    with socket.socket(fileno=fd) as line, line.makefile("rb") as lines:
        os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=line.close)
        line.sendall(sign + _loaded(orjson.loads(next(lines))))
        size = room.size()
        for text in lines:
            with _ending_with(line):
                answer = _answered(orjson.loads(text), size)
            line.sendall(sign + answer)


def _loaded(message: Message) -> bytes:
    sys.argv[:] = message["argv"]
    try:
        Home(*message["home"]).found()
        why = ""
    except BaseException as error:  # a script may end itself
        why = f"{type(error).__name__}: {error}"
    return _line({"why": why})


def _answered(message: Message, size: int) -> bytes:
    most = message["memory"]
    with suppress(OSError):  # the folder may be gone
        os.chdir(message["cwd"])
    with nullcontext() if most is None else room.bounded(size + most):
        told = _told(message)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the tool may have closed it, or put anything in its place
            stream.flush()
    grown = room.size() - size
    fit = _is_alone() and (most is None or grown < most / 2)
    return _line({**told._asdict(), "fit": fit})


def _told(message: Message) -> Told:
    made = make_tool(Home(*message["home"]).found())  # type: ignore[arg-type]
    marks = Marks(timeout=None, retries=message["retries"])
    tool = made.remade(replace(made.schema, name=message["name"]), marks)
    try:
        values = tool.parse(message["arguments"])
    except ArgumentsError as error:
        return Told(str(error), is_error=True)
    context = _context(message["context"])
    around = CallAround(context.tainted)
    call_around.set(around)
    told = _outcome(tool, values, context)
    told = told._replace(untrusted=told.untrusted or around.has_read)
    limit = message["limit"]
    return told._replace(text=capped(told.text, _MOST if limit is None else limit))


def _outcome(tool: Tool, values: Values, context: Context) -> Told:
    try:
        if tool.is_async:
            return asyncio.run(called_async(tool, values, context))
        outcome = called(tool, values, context)
        if isinstance(outcome, Unfinished):
            return asyncio.run(awaited(tool, context, outcome.value))
    except BaseException as error:  # it cancelled itself, or a task of its own raised SystemExit
        return failed(tool, context, error)
    return outcome


def _context(known: Message) -> Context:
    usage, messages = Usage(**known["usage"]), load(known["messages"])
    return replace(RunContext(None), **{**known, "usage": usage, "messages": messages})


def _is_alone() -> bool:
    """Whether it has no other threads and no children that run."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return threading.active_count() == 1
    return False


@contextmanager
def _ending_with(line: socket.socket) -> Generator[None, None, None]:
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


def _line(answer: JSON) -> bytes:
    return orjson.dumps(answer) + b"\n"
