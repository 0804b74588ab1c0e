"""Call isolated tools in worker processes, which can be killed.

Rules:

1. A worker imports the module of one tool, and is kept for further calls of that module. A worker
   that has ended, was killed, or changed during a call is replaced.
2. The timeout of a call begins when the worker receives it: waiting for a free slot and starting a
   worker do not count.
3. A worker is killed with all its children at the timeout, and when the run is cancelled.
4. A worker's environment has only variables without secrets, and those that the tool names in
   `variables`: a tool cannot print, send or reveal to a model a secret that it does not ask for.
5. A worker leads its own session: Ctrl-C at the terminal does not reach it, and killing its process
   group ends every process that it has started, unless that process left the session.
6. A worker ends when its parent does, even if that is killed (see `process_main`).
7. A worker's output goes to the parent's standard error. A worker that prints more than
   `MAX_OUTPUT` bytes for one message is killed.
8. Messages are lines of JSON; before the reply to a call come those with the tool's progress. A
   line begins with a token that the worker receives when it starts, so that a tool's own writes to
   the socket are recognized: the call fails at once.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from weakref import WeakKeyDictionary, WeakSet

import orjson

from agentcall.errors import IsolatedToolFailed, ToolError, ToolTimeout, UsageError
from agentcall.messages import JSON, Image, to_json, usage_to_json
from agentcall.tools.importable import FunctionRef
from agentcall.tools.tool import Tool
from agentcall.workers.invoke import ToolContext, ToolOutput, format_tool_error
from agentcall.workers.threads import run_in_thread

MAX_OUTPUT = 10_000_000
"""Bytes that a worker may print while it answers one message."""
MAX_ANSWER = 256_000_000
"""Maximum size of a reply, in bytes."""
_CHUNK_SIZE = 2**18
_POLL_SECONDS = 0.25
"""How often to check whether a silent worker is alive: its child may keep the socket open."""
_EXIT_TIMEOUT = 1.0
"""Seconds that a worker has to exit after it has closed its socket."""
_WORKER_CODE = (
    "import sys; _, fd, token, *sys.path = sys.argv; "
    "from agentcall.workers.process_main import main; main(int(fd), token)"
)
_STRAY_OUTPUT = "wrote to the socket that is reserved for its result"
_SIGNAL_HINTS = {
    "SIGSEGV": " (it crashed)",
    "SIGABRT": " (it crashed)",
    "SIGKILL": " (the machine may be short of memory)",
}
MAX_IDLE_WORKERS = max(2, os.cpu_count() or 2)
"""Maximum number of idle workers that are kept."""
MAX_BUSY_WORKERS = 4 * MAX_IDLE_WORKERS
"""Maximum number of busy workers for one event loop; further calls wait."""
START_TIMEOUT = 60.0
"""Seconds that a worker has to start and to import its module."""

_SAFE_VARIABLES = re.compile(
    "HOME|USER|LOGNAME|SHELL|PATH|TMPDIR|TMP|TEMP|TZ|LANG|LANGUAGE|LC_.*|VIRTUAL_ENV|PYTHON.*"
    "|LD_LIBRARY_PATH|DYLD_.*|SSL_CERT_.*|OMP_.*|XDG_.*|AGENTCALL_CACHE"
)
"""Environment variables that describe the machine and contain no secrets."""


class _WorkerKey(NamedTuple):
    """The calls that a worker can be reused for."""

    module: str
    file: str
    variables: tuple[str, ...]


_idle_workers: dict[_WorkerKey, list[WorkerProcess]] = {}
_worker_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

if hasattr(os, "register_at_fork"):  # a forked child must not use its parent's workers
    os.register_at_fork(after_in_child=_idle_workers.clear)


async def call_in_process(
    tool: Tool, arguments: str, context: ToolContext, limit: int | None
) -> ToolOutput:
    """Call a tool in a worker process, and truncate its result to `limit` characters.

    Raises nothing, except asyncio.CancelledError when the run is cancelled.
    """
    try:
        function = tool.function_ref
    except UsageError as error:
        return ToolOutput(str(error), is_error=True, exception=error)
    slots = _worker_slots.setdefault(
        asyncio.get_running_loop(), asyncio.Semaphore(MAX_BUSY_WORKERS)
    )
    async with slots:
        message = _build_call_message(function, tool, arguments, context, limit)
        return await _call_in_worker(function, tool, context, message)


async def _call_in_worker(
    function: FunctionRef, tool: Tool, context: ToolContext, message: JSON
) -> ToolOutput:
    key = _WorkerKey(function.module, function.file, tuple(tool.options.variables))
    worker = _pop_idle_worker(key) or await _start_worker(key, function)
    if isinstance(worker, str):
        return _fail(f"{tool.name} could not be started: {worker}")
    seconds = tool.options.timeout
    try:
        reply = await _send_message(worker, message, seconds, context.emit)
    except TimeoutError:
        timeout = ToolTimeout(
            f"{tool.name} did not end within {seconds:g} seconds, and was stopped"
        )
        return format_tool_error(tool, context, timeout)
    if isinstance(reply, WorkerExit):
        return _fail(f"{tool.name} gave no result: its process {reply.reason}")
    if reply["is_fit"] and sum(map(len, _idle_workers.values())) < MAX_IDLE_WORKERS:
        _idle_workers.setdefault(key, []).append(worker)
    else:
        await _stop_worker(worker)
    exception = reply["exception"]
    images = cast("Sequence[Mapping[str, Any]]", reply["images"])  # Any: the fields of an Image
    return ToolOutput(
        str(reply["text"]),
        bool(reply["is_error"]),
        bool(reply["untrusted"]),
        _exception_from_json(exception) if isinstance(exception, Mapping) else None,
        tuple(Image(**image) for image in images),
        reply["data"],
        str(reply["unsaved_data"]),
    )


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker process, as text: the cause of the one here."""


def _exception_from_json(wire: Mapping[str, JSON]) -> Exception:
    summary = str(wire["summary"])
    kind = ToolError if wire["kind"] else IsolatedToolFailed
    error = kind(summary, retry=wire["retry"] is True)
    error.__cause__ = WorkerTraceback(f"\n{wire['traceback']}")
    return error


def _fail(message: str) -> ToolOutput:
    return ToolOutput(message, is_error=True, exception=IsolatedToolFailed(message))


async def _start_worker(key: _WorkerKey, function: FunctionRef) -> WorkerProcess | str:
    """Return a new worker that has imported the function, or the reason why there is none."""
    # A worker sees few variables: see rule 4.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in key.variables or _SAFE_VARIABLES.fullmatch(name)
    }
    try:
        worker = WorkerProcess(environment)
    except OSError as error:
        return f"the system cannot start a process: {error}"
    source = function.file or function.module
    message: JSON = {
        "function": [function.module, function.file, function.name],
        "argv": sys.argv,
    }
    try:
        reply = await _send_message(worker, message, START_TIMEOUT)
    except TimeoutError:
        return f"importing {source} took longer than {START_TIMEOUT:g} seconds"
    if isinstance(reply, WorkerExit):
        return f"its process {reply.reason} while it imported {source}"
    if reply["reason"]:
        await _stop_worker(worker)
        return (
            f"{source} cannot be imported in another process: {reply['reason']}. "
            "It sees few environment variables there; name those that it needs with variables=."
        )
    return worker


async def _send_message(
    worker: WorkerProcess,
    message: JSON,
    seconds: float | None,
    report: Callable[[object], None] | None = None,
) -> Mapping[str, JSON] | WorkerExit:
    """Return the worker's reply; kill the worker on timeout or cancellation.

    report: called with the progress of a call, in another thread. Raises TimeoutError.
    """
    try:
        reply = await run_in_thread(lambda: worker.request(message, report), seconds)
    except RuntimeError as error:  # the system has no thread left
        worker.stop()
        return WorkerExit(f"could not be watched: {error}")
    except BaseException:
        worker.kill()
        raise
    return reply if isinstance(reply, WorkerExit) else cast("Mapping[str, JSON]", reply)


def _build_call_message(
    function: FunctionRef, tool: Tool, arguments: str, context: ToolContext, limit: int | None
) -> JSON:
    takes_context = tool.schema.context_parameter is not None
    return {
        "function": [function.module, function.file, function.name],
        "name": tool.name,
        "arguments": arguments,
        "retries": tool.options.retries,
        "memory": tool.options.memory,
        "limit": limit,
        "cwd": _get_working_directory(),
        "listens": context.progress_sink is not None,
        "context": {
            "usage": usage_to_json(context.usage),
            "messages": [to_json(m) for m in context.messages] if takes_context else [],
            "retry": context.retry,
            "tool_call_id": context.tool_call_id,
            "tool_name": context.tool_name,
            "run_id": context.run_id,
            "idempotency_key": context.idempotency_key,
            "tainted": context.tainted,
        },
    }


def _pop_idle_worker(key: _WorkerKey) -> WorkerProcess | None:
    workers = _idle_workers.get(key, [])
    while workers:
        worker = workers.pop()
        if worker.is_alive:
            return worker
        worker.stop()
    return None


async def _stop_worker(worker: WorkerProcess) -> None:
    try:
        await run_in_thread(worker.stop, None)
    except RuntimeError:  # the system has no thread left
        worker.stop()


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker ended without a reply. `reason` follows "its process" in a sentence."""

    reason: str


class WorkerProcess:
    """A Python process that runs `process_main`. Raises OSError if it cannot be started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, child_socket = socket.socketpair()
        token = os.urandom(8).hex()
        self._token = token.encode()
        try:
            self._popen = _spawn_worker(child_socket.fileno(), token, environment)
        except OSError:
            self._socket.close()
            raise
        finally:
            child_socket.close()
        self._output = cast("IO[bytes]", self._popen.stdout)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._is_released = False
        self._unread = b""  # the beginning of the next line
        self._printed = 0
        _live_processes.add(self)

    def request(
        self, message: JSON, report: Callable[[object], None] | None = None
    ) -> JSON | WorkerExit:
        """Send a message and wait for the reply; a worker without a reply is stopped.

        report: called with what the worker reports before.
        """
        reply: JSON | WorkerExit
        self._printed = 0
        try:
            self._socket.sendall(orjson.dumps(message) + b"\n")
            reply = self._receive_message()
            while report is not None and isinstance(reply, dict) and "progress" in reply:
                report(reply["progress"])
                reply = self._receive_message()
            if self._unread:
                reply = WorkerExit(_STRAY_OUTPUT)
        except OSError:  # it ended while it was written to, or was killed
            reply = self._get_exit()
        except ValueError:
            reply = WorkerExit(_STRAY_OUTPUT)
        if isinstance(reply, WorkerExit):
            self.stop()
        return reply

    def kill(self) -> None:
        """Kill the process and its children without waiting; a pending `request` returns."""
        if not self._is_released:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Kill the process, wait for its end, and release its resources."""
        self.kill()
        self._popen.wait()
        self.detach()

    def detach(self) -> None:
        """Release the resources without killing the process."""
        self._is_released = True
        self._popen.returncode = self._popen.returncode or 0  # otherwise Popen warns at exit
        _live_processes.discard(self)
        self._socket.close()
        self._output.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._popen.poll() is None

    def _receive_message(self) -> JSON | WorkerExit:
        line = self._receive_line()
        if isinstance(line, WorkerExit):
            return line
        message: JSON = orjson.loads(line.removeprefix(self._token))
        return message

    def _receive_line(self) -> bytes | WorkerExit:
        """Receive one line of the socket; meanwhile echo the process's output."""
        line, end = bytearray(self._unread), self._unread.find(b"\n")
        with selectors.PollSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            while end < 0:
                ready = [key.fileobj for key, _ in selector.select(_POLL_SECONDS)]
                if self._output in ready:
                    data = os.read(self._output.fileno(), _CHUNK_SIZE)
                    with suppress(Exception):  # standard error may be missing or closed
                        sys.stderr.write(self._decode(data))
                    self._printed += len(data)
                    if not data:
                        selector.unregister(self._output)
                piece = self._socket.recv(_CHUNK_SIZE) if self._socket in ready else b""
                if b"\n" in piece:
                    end = len(line) + piece.index(b"\n")
                line += piece
                if not self._token.startswith(line[: len(self._token)]):
                    return WorkerExit(_STRAY_OUTPUT)
                if self._printed > MAX_OUTPUT:
                    return WorkerExit(f"printed more than {MAX_OUTPUT:,} bytes")
                if len(line) > MAX_ANSWER:
                    return WorkerExit(f"gave more than {MAX_ANSWER:,} bytes")
                # The socket is at its end, or the process is dead and nothing is left to read.
                if not piece and (self._socket in ready or not (ready or self.is_alive)):
                    return self._get_exit()
        self._unread = bytes(line[end + 1 :])
        return bytes(line[:end])

    def _get_exit(self) -> WorkerExit:
        """Describe how the process ended, by its exit code."""
        try:
            code = self._popen.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            return WorkerExit("closed its connection")
        if code < 0:
            name = signal.Signals(-code).name
            return WorkerExit(f"was ended by {name}{_SIGNAL_HINTS.get(name, '')}")
        return WorkerExit(f"was ended with exit code {code}")


_live_processes: WeakSet[WorkerProcess] = WeakSet()


def _spawn_worker(
    socket_fd: int, token: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    path = [str(entry or _get_working_directory()) for entry in sys.path]
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


def _get_working_directory() -> str:
    """Return the current directory; empty if it has been removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


@atexit.register
def _stop_all() -> None:
    for process in list(_live_processes):
        process.stop()


def _detach_all() -> None:
    for process in list(_live_processes):
        process.detach()


if hasattr(os, "register_at_fork"):  # the workers belong to the parent of a forked process
    os.register_at_fork(after_in_child=_detach_all)
