"""A worker process as its parent sees it: asked over a socket, and killed with its children.

Rules:
1. It leads a session of its own: Ctrl-C at the terminal does not reach it, and a kill takes every
   process that it has started, unless that left the session.
2. It ends when its parent does, however that ends (`inside` sees to it).
3. What it prints goes to the parent's standard error, up to `MAX_OUTPUT` bytes for each message;
   who prints more is killed.
4. Messages are lines of JSON. An answer begins with a mark that its process is told when it starts,
   so that what a tool writes to the socket is not taken for one: the call fails at once.
"""

from __future__ import annotations

import atexit
import codecs
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from weakref import WeakSet

import orjson

from agentcall.messages import JSON

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
    "import sys; _, fd, mark, *sys.path = sys.argv; from agentcall.inside import main; "
    "main(int(fd), mark)"
)
_STRAY_OUTPUT = "wrote to the socket that is for its result alone"


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker has ended without an answer: how, as the rest of a sentence about it."""

    reason: str


class WorkerProcess:
    """A Python process that runs `agentcall.inside`. Raises OSError where there can be none."""

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
