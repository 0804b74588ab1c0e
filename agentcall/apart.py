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
from agentcall.home import FunctionRef
from agentcall.messages import JSON, to_json
from agentcall.outcome import ToolContext, ToolOutput, format_tool_error
from agentcall.process import WorkerExit, WorkerProcess, get_working_directory
from agentcall.tool import Tool
from agentcall.workers import run_in_thread

MAX_IDLE_WORKERS = max(2, os.cpu_count() or 2)
"""Workers that are kept while they have nothing to do."""
MAX_BUSY_WORKERS = 4 * MAX_IDLE_WORKERS
"""Workers that may be at work for one event loop; further calls wait."""
START_TIMEOUT = 60.0
"""Seconds that a worker has to start and to import its module."""

_SAFE_VARIABLES = re.compile(
    "HOME|USER|LOGNAME|SHELL|PATH|TMPDIR|TMP|TEMP|TZ|LANG|LANGUAGE|LC_.*|VIRTUAL_ENV|PYTHON.*"
    "|LD_LIBRARY_PATH|DYLD_.*|SSL_CERT_.*|OMP_.*|XDG_.*|AGENTCALL_CACHE"
)
"""The variables that say what a machine is like, and hold no secrets."""


class _WorkerKey(NamedTuple):
    """What a worker is for."""

    module: str
    file: str
    variables: tuple[str, ...]


_idle_workers: dict[_WorkerKey, list[WorkerProcess]] = {}
_worker_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

if hasattr(os, "register_at_fork"):  # they are the parent's
    os.register_at_fork(after_in_child=_idle_workers.clear)


async def call_in_process(
    tool: Tool, arguments: str, context: ToolContext, limit: int | None
) -> ToolOutput:
    """What comes of a call, at most `limit` characters of it and a note.

    Raises nothing, but asyncio.CancelledError where the run is cancelled.
    """
    try:
        home = tool.function_ref
    except UsageError as error:
        return ToolOutput(str(error), is_error=True)
    async with _get_worker_slots():
        return await _call_in_worker(
            home, tool, context, _build_call_message(home, tool, arguments, context, limit)
        )


async def _call_in_worker(
    home: FunctionRef, tool: Tool, context: ToolContext, message: JSON
) -> ToolOutput:
    key = _WorkerKey(home.module, home.file, tuple(tool.options.variables))
    worker = _pop_idle_worker(key) or await _start_worker(key, home)
    if isinstance(worker, str):
        return ToolOutput(f"{tool.name} could not be started: {worker}", is_error=True)
    seconds = tool.options.timeout
    try:
        answer = await _send_message(worker, message, seconds)
    except TimeoutError:
        late = f"{tool.name} did not end within {seconds:g} seconds, and was stopped"
        return format_tool_error(tool, context, ToolTimeout(late))
    if isinstance(answer, WorkerExit):
        return ToolOutput(f"{tool.name} gave no result: its process {answer.reason}", is_error=True)
    await _release_worker(worker, key, is_fit=bool(answer["fit"]))
    return ToolOutput(str(answer["text"]), bool(answer["is_error"]), bool(answer["untrusted"]))


async def _start_worker(key: _WorkerKey, home: FunctionRef) -> WorkerProcess | str:
    """A new worker that has imported the home, or why there is none."""
    try:
        worker = WorkerProcess(_build_environment(key.variables))
    except OSError as error:
        return f"the system gives no process: {error}"
    hello: JSON = {"home": [home.module, home.file, home.name], "argv": sys.argv}
    try:
        answer = await _send_message(worker, hello, START_TIMEOUT)
    except TimeoutError:
        return f"importing {home.file or home.module} took longer than {START_TIMEOUT:g} seconds"
    if isinstance(answer, WorkerExit):
        return f"its process {answer.reason} while it imported {home.file or home.module}"
    if answer["why"]:
        await _stop_worker(worker)
        return (
            f"{home.file or home.module} cannot be imported in another process: {answer['why']}. "
            "It sees few environment variables there; name what it needs with variables=."
        )
    return worker


async def _send_message(
    worker: WorkerProcess, message: JSON, seconds: float | None
) -> Mapping[str, JSON] | WorkerExit:
    """What the worker answers; it is killed where it is late, and where the run is cancelled.

    Raises TimeoutError.
    """
    try:
        answer = await run_in_thread(lambda: worker.request(message), seconds)
    except RuntimeError as error:  # the system gives no more threads
        worker.stop()
        return WorkerExit(f"could not be watched: {error}")
    except BaseException:
        worker.kill()
        raise
    return answer if isinstance(answer, WorkerExit) else cast("Mapping[str, JSON]", answer)


def _build_call_message(
    home: FunctionRef, tool: Tool, arguments: str, context: ToolContext, limit: int | None
) -> JSON:
    takes_context = tool.schema.context_parameter is not None
    return {
        "home": [home.module, home.file, home.name],
        "name": tool.name,
        "arguments": arguments,
        "retries": tool.options.retries,
        "memory": tool.options.memory,
        "limit": limit,
        "cwd": get_working_directory(),
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


def _build_environment(names: tuple[str, ...]) -> Mapping[str, str]:
    return {k: v for k, v in os.environ.items() if k in names or _SAFE_VARIABLES.fullmatch(k)}


def _get_worker_slots() -> asyncio.Semaphore:
    """The places at work of the running event loop."""
    return _worker_slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MAX_BUSY_WORKERS))


def _pop_idle_worker(key: _WorkerKey) -> WorkerProcess | None:
    free = _idle_workers.get(key, [])
    while free:
        worker = free.pop()
        if worker.is_alive:
            return worker
        worker.stop()
    return None


async def _release_worker(worker: WorkerProcess, key: _WorkerKey, *, is_fit: bool) -> None:
    if is_fit and sum(map(len, _idle_workers.values())) < MAX_IDLE_WORKERS:
        _idle_workers.setdefault(key, []).append(worker)
    else:
        await _stop_worker(worker)


async def _stop_worker(worker: WorkerProcess) -> None:
    try:
        await run_in_thread(worker.stop, None)
    except RuntimeError:  # as above
        worker.stop()
