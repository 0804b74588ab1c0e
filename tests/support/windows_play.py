"""Plays Windows in this process, as far as that is possible: run as a program, with a statement.

What only POSIX has is hidden from agentcall: modules, functions, signals, sockets and
`add_signal_handler`. The libraries are imported before, and keep what they chose at import.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
import sys
import types
from importlib import import_module
from typing import Any

_LIBRARIES = (
    "aiohttp", "anyio", "asyncio.subprocess", "concurrent.futures.thread", "ctypes", "logging",
    "mcp.client.stdio", "mcp.server.lowlevel", "multiprocessing", "openai", "orjson", "pathlib",
    "prometheus_client", "prompt_toolkit", "pydantic", "rich.console", "rich.live", "shutil",
    "sqlite3", "ssl", "starlette.applications", "subprocess", "tempfile", "tenacity", "typer",
    "typing", "uvicorn", "uvicorn.lifespan.on", "uvicorn.protocols.http.h11_impl", "email.parser",
    "webbrowser", "zipfile", "docstring_parser", "pypdf", "psycopg", "pint", "jsonschema",
    "opentelemetry.trace", "opentelemetry.metrics", "huggingface_hub", "pytest", "nh3", "pygments",
    "markdown_it", "linkify_it", "pydantic_monty", "uvicorn.loops.auto", "getpass", "platform",
)  # fmt: skip
_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline", "curses")
_FUNCTIONS = (
    "O_ASYNC", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WNOHANG", "fchmod", "fork",
    "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp",
    "getuid", "killpg", "mkfifo", "nice", "openpty", "pread", "register_at_fork",
    "sched_getaffinity", "set_blocking", "setpgid", "setsid", "statvfs", "sysconf", "uname", "wait",
)  # fmt: skip
_SIGNALS = {"SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV", "SIG_DFL", "SIG_IGN"}


def play_windows() -> None:
    """Take away what Windows does not have."""
    for name in _LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            continue
    import fcntl

    sys.modules["msvcrt"] = _make_msvcrt(fcntl)
    for name in _MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    signals = {n for n in dir(signal) if n.startswith("SIG") and n not in _SIGNALS}
    signals |= {"alarm", "pause", "pthread_sigmask", "setitimer", "sigwait"}
    _hide(os, set(_FUNCTIONS))
    _hide(signal, signals)
    _hide(socket, {"AF_UNIX", "SO_REUSEPORT"})
    _hide(selectors, {"PollSelector", "EpollSelector"})

    def add_signal_handler(*_arguments: object) -> None:
        raise NotImplementedError

    loop_type: Any = asyncio.SelectorEventLoop
    loop_type.add_signal_handler = add_signal_handler
    loop_type.remove_signal_handler = add_signal_handler
    asyncio.ProactorEventLoop = loop_type  # type: ignore[attr-defined]  # uvicorn starts one
    sys.platform = "win32"


class _PartialModule(types.ModuleType):
    """A module without some of its names; the libraries keep the whole one."""

    def __init__(self, module: types.ModuleType, hidden: set[str]) -> None:
        super().__init__(module.__name__)
        self._module, self._hidden = module, hidden

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._module, name)


def _hide(module: types.ModuleType, names: set[str]) -> None:
    sys.modules[module.__name__] = _PartialModule(module, names)


def _make_msvcrt(fcntl: Any) -> types.ModuleType:  # Any: the real module, which is taken away
    """Return `msvcrt`, whose locks are those of the file."""
    module: Any = types.ModuleType("msvcrt")
    module.LK_NBLCK, module.LK_UNLCK = 2, 0

    def locking(file: int, mode: int, size: int) -> None:
        if os.lseek(file, 0, os.SEEK_CUR) < os.fstat(file).st_size:
            raise AssertionError("a byte of the content is locked: nobody else can read it")
        how = fcntl.LOCK_UN if mode == module.LK_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
        fcntl.flock(file, how)

    module.locking = locking
    return module


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path]
    play_windows()
    exec(sys.argv[1], {"__name__": "played"})
