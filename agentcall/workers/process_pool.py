"""A worker process as its parent sees it: asked over a socket, and killed with its children.

Rules:
1. It leads a session of its own: Ctrl-C at the terminal does not reach it, and a kill takes every
   process that it has started, unless that left the session.
2. It ends when its parent does, however that ends (`inside` sees to it).
3. What it prints goes to the parent's standard error, up to `MAX_OUTPUT` bytes for each message;
   who prints more is killed.
4. Messages are lines of JSON. An answer begins with a mark that its process is told when it starts,
   so that what a tool writes to the socket is not taken for one: the call fails at once.

Calls of isolated tools, each in a worker process that can be killed.

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
import atexit
import codecs
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast
from weakref import WeakKeyDictionary, WeakSet

import orjson

from agentcall.errors import ToolTimeout, UsageError
from agentcall.messages import JSON, to_json
from agentcall.tools.importable import FunctionRef
from agentcall.tools.tool import Tool
from agentcall.workers.invoke import ToolContext, ToolOutput, format_tool_error
from agentcall.workers.threads import run_in_thread

MAX_OUTPUT = 10_000_000
"""Bytes that a worker may print while it answers one message."""
MAX_ANSWER = 256_000_000
"""Bytes of an answer beyond which it is refused."""
_CHUNK_SIZE = 2**18
_POLL_SECONDS = 0.25
"""Seconds after which a silent worker is looked at: a child of it may keep the socket open."""
_EXIT_TIMEOUT = 1.0
"""Seconds that a worker has to end once it has closed its socket."""
_WORKER_CODE = (
    "import sys; _, fd, mark, *sys.path = sys.argv; from agentcall.workers.process_main import "
    "main; "
    "main(int(fd), mark)"
)
_STRAY_OUTPUT = "wrote to the socket that is for its result alone"


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker has ended without an answer: how, as the rest of a sentence about it."""

    reason: str


class WorkerProcess:
    """A Python process that runs `agentcall.workers.process_main`. Raises OSError where there "
    "can be none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        mark = os.urandom(8).hex()
        self._token = mark.encode()
        try:
            self._popen = _spawn_worker(theirs.fileno(), mark, environment)
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._output = cast("IO[bytes]", self._popen.stdout)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._is_released = False
        _live_processes.add(self)

    def request(self, message: JSON) -> JSON | WorkerExit:
        """The answer to a message; waits for it. Of a process that has Ended nothing is left."""
        try:
            self._socket.sendall(orjson.dumps(message) + b"\n")
            answer = self._receive_answer()
        except OSError:  # it went while it was written to, or was killed
            answer = self._get_exit()
        found = answer if isinstance(answer, WorkerExit) else self._parse_answer(answer)
        if isinstance(found, WorkerExit):
            self.stop()
        return found

    def _parse_answer(self, answer: bytes) -> JSON | WorkerExit:
        try:
            found: JSON = orjson.loads(answer.removeprefix(self._token))
        except ValueError:
            return WorkerExit(_STRAY_OUTPUT)
        return found

    def kill(self) -> None:
        """Kills it and its children; who waits in `ask` is told. Waits for nothing."""
        if not self._is_released:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Kills it, waits until it is gone, and lets go of it."""
        self.kill()
        self._popen.wait()
        self.detach()

    def detach(self) -> None:
        """Lets go of it, and leaves it alone."""
        self._is_released = True
        self._popen.returncode = self._popen.returncode or 0  # or it warns that it runs
        _live_processes.discard(self)
        self._socket.close()
        self._output.close()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def _receive_answer(self) -> bytes | WorkerExit:
        """A line of it; shows what it prints meanwhile."""
        answer, printed = bytearray(), 0
        with selectors.PollSelector() as both:
            both.register(self._socket, selectors.EVENT_READ)
            both.register(self._output, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                ready = [key.fileobj for key, _ in both.select(_POLL_SECONDS)]
                if self._output in ready:
                    data = os.read(self._output.fileno(), _CHUNK_SIZE)
                    _echo_output(self._decode(data))
                    printed += len(data)
                    if not data:
                        both.unregister(self._output)
                piece = self._socket.recv(_CHUNK_SIZE) if self._socket in ready else b""
                answer += piece
                if not self._token.startswith(answer[: len(self._token)]):
                    return WorkerExit(_STRAY_OUTPUT)
                if printed > MAX_OUTPUT:
                    return WorkerExit(f"printed more than {MAX_OUTPUT:,} bytes")
                if len(answer) > MAX_ANSWER:
                    return WorkerExit(f"gave more than {MAX_ANSWER:,} bytes")
                if not piece and (self._socket in ready or not (ready or self.is_alive)):
                    return self._get_exit()
        return bytes(answer)

    def _get_exit(self) -> WorkerExit:
        """How it went, by its exit code."""
        try:
            code = self._popen.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            return WorkerExit("closed the connection to us")
        if code < 0:
            return WorkerExit(
                f"was ended by {signal.Signals(-code).name}{_SIGNAL_HINTS.get(-code, '')}"
            )
        return WorkerExit(f"was ended with exit code {code}")


_SIGNAL_HINTS: Mapping[int, str] = {
    signal.SIGSEGV: " (it crashed)",
    signal.SIGABRT: " (it crashed)",
    signal.SIGKILL: " (the machine may be short of memory)",
}
_live_processes: WeakSet[WorkerProcess] = WeakSet()


def _spawn_worker(
    socket_fd: int, token: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    path = [str(entry or get_working_directory()) for entry in sys.path]
    return subprocess.Popen(  # noqa: S603 - this very Python
        [sys.executable, "-c", _WORKER_CODE, str(socket_fd), token, *path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=[socket_fd],
        start_new_session=True,
        bufsize=0,
    )


def get_working_directory() -> str:
    """The current folder; nothing if it is gone."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _echo_output(text: str) -> None:
    with suppress(Exception):  # there may be no standard error, or a closed one
        sys.stderr.write(text)


@atexit.register
def _stop_all() -> None:
    for process in list(_live_processes):
        process.stop()


def _detach_all() -> None:
    """In a fork: the workers are its parent's."""
    for process in list(_live_processes):
        process.detach()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_all)


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
