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
_PIECE = 2**18
_LOOK = 0.25
"""Seconds after which a silent worker is looked at: a child of it may keep the socket open."""
_LEAVING = 1.0
"""Seconds that a worker has to end once it has closed its socket."""
_CODE = (
    "import sys; _, fd, mark, *sys.path = sys.argv; from agentcall.inside import main; "
    "main(int(fd), mark)"
)
_STRAY = "wrote to the socket that is for its result alone"


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has ended without an answer: how, as the rest of a sentence about it."""

    how: str


class Process:
    """A Python process that runs `agentcall.inside`. Raises OSError where there can be none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._line, theirs = socket.socketpair()
        mark = os.urandom(8).hex()
        self._mark = mark.encode()
        try:
            self._popen = _started(theirs.fileno(), mark, environment)
        except OSError:
            self._line.close()
            raise
        finally:
            theirs.close()
        self._output = cast("IO[bytes]", self._popen.stdout)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._is_gone = False
        _living.add(self)

    def ask(self, message: JSON) -> JSON | Ended:
        """The answer to a message; waits for it. Of a process that has Ended nothing is left."""
        try:
            self._line.sendall(orjson.dumps(message) + b"\n")
            answer = self._answer()
        except OSError:  # it went while it was written to, or was killed
            answer = self._left()
        found = answer if isinstance(answer, Ended) else self._read(answer)
        if isinstance(found, Ended):
            self.end()
        return found

    def _read(self, answer: bytes) -> JSON | Ended:
        try:
            found: JSON = orjson.loads(answer.removeprefix(self._mark))
        except ValueError:
            return Ended(_STRAY)
        return found

    def kill(self) -> None:
        """Kills it and its children; who waits in `ask` is told. Waits for nothing."""
        if not self._is_gone:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Kills it, waits until it is gone, and lets go of it."""
        self.kill()
        self._popen.wait()
        self.disown()

    def disown(self) -> None:
        """Lets go of it, and leaves it alone."""
        self._is_gone = True
        self._popen.returncode = self._popen.returncode or 0  # or it warns that it runs
        _living.discard(self)
        self._line.close()
        self._output.close()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def _answer(self) -> bytes | Ended:
        """A line of it; shows what it prints meanwhile."""
        answer, printed = bytearray(), 0
        with selectors.PollSelector() as both:
            both.register(self._line, selectors.EVENT_READ)
            both.register(self._output, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                ready = [key.fileobj for key, _ in both.select(_LOOK)]
                if self._output in ready:
                    data = os.read(self._output.fileno(), _PIECE)
                    _show(self._decode(data))
                    printed += len(data)
                    if not data:
                        both.unregister(self._output)
                piece = self._line.recv(_PIECE) if self._line in ready else b""
                answer += piece
                if not self._mark.startswith(answer[: len(self._mark)]):
                    return Ended(_STRAY)
                if printed > MAX_OUTPUT:
                    return Ended(f"printed more than {MAX_OUTPUT:,} bytes")
                if len(answer) > MAX_ANSWER:
                    return Ended(f"gave more than {MAX_ANSWER:,} bytes")
                if not piece and (self._line in ready or not (ready or self.is_alive)):
                    return self._left()
        return bytes(answer)

    def _left(self) -> Ended:
        """How it went, by its exit code."""
        try:
            code = self._popen.wait(_LEAVING)
        except subprocess.TimeoutExpired:
            return Ended("closed the connection to us")
        if code < 0:
            return Ended(f"was ended by {signal.Signals(-code).name}{_WHY.get(-code, '')}")
        return Ended(f"was ended with exit code {code}")


_WHY: Mapping[int, str] = {
    signal.SIGSEGV: " (it crashed)",
    signal.SIGABRT: " (it crashed)",
    signal.SIGKILL: " (the machine may be short of memory)",
}
_living: WeakSet[Process] = WeakSet()


def _started(line: int, mark: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    path = [str(entry or here()) for entry in sys.path]
    return subprocess.Popen(  # noqa: S603 - this very Python
        [sys.executable, "-c", _CODE, str(line), mark, *path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=[line],
        start_new_session=True,
        bufsize=0,
    )


def here() -> str:
    """The current folder; nothing if it is gone."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _show(text: str) -> None:
    with suppress(Exception):  # there may be no standard error, or a closed one
        sys.stderr.write(text)


@atexit.register
def _end_all() -> None:
    for process in list(_living):
        process.end()


def _forget_all() -> None:
    """In a fork: the workers are its parent's."""
    for process in list(_living):
        process.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
