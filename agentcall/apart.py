"""Calls of isolated tools, each in a worker process that can be killed.

Rules:
1. A worker imports the module of one tool, and is kept for further calls of that module. One that
   ended, was killed, or is not as it was before is replaced.
2. The deadline of a call begins when its worker has the call: neither waiting for a free place nor
   starting a worker counts.
3. At its deadline, and when its run is cancelled, a worker is killed with all its children.
4. A worker sees a plain environment, and what the tool names in `variables`: a secret that a tool
   does not ask for is not there to be printed, sent or told to a model.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

from agentcall.errors import ToolTimeout, UsageError
from agentcall.home import Home
from agentcall.messages import JSON, to_json
from agentcall.outcome import Context, Told, failed
from agentcall.process import Ended, Process, here
from agentcall.tool import Tool
from agentcall.workers import in_thread

KEPT = max(2, os.cpu_count() or 2)
"""Workers that are kept while they have nothing to do."""
AT_WORK = 4 * KEPT
"""Workers that may be at work for one event loop; further calls wait."""
START = 60.0
"""Seconds that a worker has to start and to import its module."""

_PLAIN = re.compile(
    "HOME|USER|LOGNAME|SHELL|PATH|TMPDIR|TMP|TEMP|TZ|LANG|LANGUAGE|LC_.*|VIRTUAL_ENV|PYTHON.*"
    "|LD_LIBRARY_PATH|DYLD_.*|SSL_CERT_.*|OMP_.*|XDG_.*|AGENTCALL_CACHE"
)
"""The variables that say what a machine is like, and hold no secrets."""


class _Key(NamedTuple):
    """What a worker is for."""

    module: str
    file: str
    variables: tuple[str, ...]


_free: dict[_Key, list[Process]] = {}
_places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

if hasattr(os, "register_at_fork"):  # they are the parent's
    os.register_at_fork(after_in_child=_free.clear)


async def call_apart(tool: Tool, arguments: str, context: Context, limit: int | None) -> Told:
    """What comes of a call, at most `limit` characters of it and a note.

    Raises nothing, but asyncio.CancelledError where the run is cancelled.
    """
    try:
        home = tool.home
    except UsageError as error:
        return Told(str(error), is_error=True)
    async with _place():
        return await _called(home, tool, context, _message(home, tool, arguments, context, limit))


async def _called(home: Home, tool: Tool, context: Context, message: JSON) -> Told:
    key = _Key(home.module, home.file, tuple(tool.marks.variables))
    worker = _kept(key) or await _started(key, home)
    if isinstance(worker, str):
        return Told(f"{tool.name} could not be started: {worker}", is_error=True)
    seconds = tool.marks.timeout
    try:
        answer = await _asked(worker, message, seconds)
    except TimeoutError:
        late = f"{tool.name} did not end within {seconds:g} seconds, and was stopped"
        return failed(tool, context, ToolTimeout(late))
    if isinstance(answer, Ended):
        return Told(f"{tool.name} gave no result: its process {answer.how}", is_error=True)
    await _put_back(worker, key, is_fit=bool(answer["fit"]))
    return Told(str(answer["text"]), bool(answer["is_error"]), bool(answer["untrusted"]))


async def _started(key: _Key, home: Home) -> Process | str:
    """A new worker that has imported the home, or why there is none."""
    try:
        worker = Process(_environment(key.variables))
    except OSError as error:
        return f"the system gives no process: {error}"
    hello: JSON = {"home": [home.module, home.file, home.name], "argv": sys.argv}
    try:
        answer = await _asked(worker, hello, START)
    except TimeoutError:
        return f"importing {home.file or home.module} took longer than {START:g} seconds"
    if isinstance(answer, Ended):
        return f"its process {answer.how} while it imported {home.file or home.module}"
    if answer["why"]:
        await _dismissed(worker)
        return (
            f"{home.file or home.module} cannot be imported in another process: {answer['why']}. "
            "It sees few environment variables there; name what it needs with variables=."
        )
    return worker


async def _asked(
    worker: Process, message: JSON, seconds: float | None
) -> Mapping[str, JSON] | Ended:
    """What the worker answers; it is killed where it is late, and where the run is cancelled.

    Raises TimeoutError.
    """
    try:
        answer = await in_thread(lambda: worker.ask(message), seconds)
    except RuntimeError as error:  # the system gives no more threads
        worker.end()
        return Ended(f"could not be watched: {error}")
    except BaseException:
        worker.kill()
        raise
    return answer if isinstance(answer, Ended) else cast("Mapping[str, JSON]", answer)


def _message(home: Home, tool: Tool, arguments: str, context: Context, limit: int | None) -> JSON:
    takes_context = tool.schema.context_parameter is not None
    return {
        "home": [home.module, home.file, home.name],
        "name": tool.name,
        "arguments": arguments,
        "retries": tool.marks.retries,
        "memory": tool.marks.memory,
        "limit": limit,
        "cwd": here(),
        "context": {
            "usage": asdict(context.usage),
            "messages": [to_json(m) for m in context.messages] if takes_context else [],
            "retry": context.retry,
            "tool_call_id": context.tool_call_id,
            "tool_name": context.tool_name,
            "run_id": context.run_id,
            "idempotency_key": context.idempotency_key,
            "tainted": context.tainted,
        },
    }


def _environment(names: tuple[str, ...]) -> Mapping[str, str]:
    return {k: v for k, v in os.environ.items() if k in names or _PLAIN.fullmatch(k)}


def _place() -> asyncio.Semaphore:
    """The places at work of the running event loop."""
    return _places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_WORK))


def _kept(key: _Key) -> Process | None:
    free = _free.get(key, [])
    while free:
        worker = free.pop()
        if worker.is_alive:
            return worker
        worker.end()
    return None


async def _put_back(worker: Process, key: _Key, *, is_fit: bool) -> None:
    if is_fit and sum(map(len, _free.values())) < KEPT:
        _free.setdefault(key, []).append(worker)
    else:
        await _dismissed(worker)


async def _dismissed(worker: Process) -> None:
    try:
        await in_thread(worker.end, None)
    except RuntimeError:  # as above
        worker.end()
