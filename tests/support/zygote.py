"""A process that has everything imported and forks a child for each program: a start in no time.

In a test: `with Zygote("payments") as zygote: child = zygote.start("payments", [...], cwd=folder)`.
The child calls the module's `main()` with a command line, a folder, an environment and standard
files of its own, and ends as any Python program does.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from typing_extensions import Self

_LARGEST = 1 << 20


class Child:
    """A program that is under way; used as a Popen is."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._told = b""
        self.returncode: int | None = None
        self.pid = self._number(None)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; that of a signal is below 0. Raises TimeoutError."""
        if self.returncode is None:
            self.returncode = self._number(timeout)
            self._line.close()
        return self.returncode

    def poll(self) -> int | None:
        with suppress(TimeoutError, BlockingIOError):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _number(self, timeout: float | None) -> int:
        self._line.settimeout(timeout)
        while b"\n" not in self._told:
            told = self._line.recv(100)
            if not told:
                raise RuntimeError("the zygote has died")
            self._told += told
        number, self._told = self._told.split(b"\n", 1)
        return int(number)


class Zygote:
    """The process. modules: what it imports beforehand."""

    def __init__(self, *modules: str) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(theirs.fileno()), *modules],
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
        )  # fmt: skip
        theirs.close()

    def start(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        files: tuple[int, int, int] = (0, 1, 2),
        on_terminal: bool = False,
    ) -> Child:
        """Starts `module.main()`. on_terminal: the files are a terminal, which it leads."""
        told = {
            "module": module, "argv": [module, *arguments], "cwd": str(cwd),
            "env": dict(os.environ if env is None else env), "on_terminal": on_terminal,
        }  # fmt: skip
        ours, theirs = socket.socketpair()
        with theirs:
            errand = json.dumps(told).encode()
            socket.send_fds(self._ours, [errand], [theirs.fileno(), *files])
        return Child(ours)

    def close(self) -> None:
        self._ours.close()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _next(errands: socket.socket) -> Callable[[], None] | None:
    """What a child has to do, in the child; None in the zygote when there are no more errands."""
    while True:
        data, files, _, _ = socket.recv_fds(errands, _LARGEST, 4)
        if not data:
            return None
        if os.fork() == 0:
            return _child(json.loads(data), files)
        for file in files:
            os.close(file)
        _reap()


def _child(errand: dict, files: list[int]) -> Callable[[], None]:  # type: ignore[type-arg]
    """Forks once more: this one tells how that one ends."""
    line, *standard = files
    pid = os.fork()
    if pid:
        os.write(line, f"{pid}\n".encode())
        for file in standard:
            os.close(file)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(line, f"{code}\n".encode())
        os._exit(0)
    os.close(line)
    if errand["on_terminal"]:
        os.setsid()
        fcntl.ioctl(standard[1], termios.TIOCSCTTY, 0)
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    _settle(errand)
    return importlib.import_module(errand["module"]).main


def _settle(errand: dict) -> None:  # type: ignore[type-arg]
    """Makes the process what a new one would be."""
    os.environ.clear()
    os.environ.update(errand["env"])
    os.chdir(errand["cwd"])
    sys.argv = errand["argv"]
    sys.path[0] = str(Path(sys.executable).parent)  # as for a console script
    warnings.resetwarnings()
    if not errand["env"].get("PYTHONWARNINGS"):
        for kind in (DeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
    sys.stdin = open(0, errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _reap() -> None:
    """Buries the children that have told."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parent))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    wanted = _next(socket.socket(fileno=int(sys.argv[1])))
    if wanted is not None:
        sys.exit(wanted())  # type: ignore[func-returns-value]
