"""Isolated tools of every behaviour, for tests; they stand here so that a worker starts soon."""

from __future__ import annotations

import asyncio
import base64
import ctypes
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentcall import ModelRetry, Result, RunContext, tool
from agentcall.errors import ToolError

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJg"
    "gg=="
)


@dataclass
class Point:
    x: int
    y: int


@tool(isolated=True)
def add(a: int, b: int = 3) -> int:
    """Add."""
    return a + b


@tool(isolated=True)
async def add_later(a: int, b: int) -> int:
    """Add, later."""
    await asyncio.sleep(0.01)
    return a + b


@tool(isolated=True)
def mirrored(point: Point) -> Point:
    """Mirror a point."""
    return Point(point.y, point.x)


@tool(isolated=True)
def chart(savable: bool) -> Result:
    """Draw a chart."""
    data = {"points": [Point(1, 2)]} if savable else {"points": {1, 2}}
    return Result("a chart", images=PIXEL, data=data)


@tool(isolated=True)
def reporting(context: RunContext[None], count: int, size: int) -> str:
    """Report progress."""
    late = threading.Timer(0.05, context.emit, ("late",))
    for number in range(count):
        context.emit({"number": number, "text": "x" * size})
    late.start()
    return "done"


@tool(isolated=True)
def counted(to: int) -> Iterator[int]:
    """Count."""
    yield from range(to)


@tool(isolated=True)
async def counted_later(to: int) -> AsyncIterator[int]:
    """Count, later."""
    for number in range(to):
        yield number


@tool(isolated=True)
def odd() -> object:
    """What no JSON holds."""
    return {"nan": float("nan"), "bytes": b"\xff", "set": {2, 1}, "text": "上海 \ud800"}


@tool(isolated=True)
def pid() -> int:
    """The number of the process."""
    return os.getpid()


@tool(isolated=True)
def failing(how: str) -> str:
    """Fail in some way that Python has."""
    match how:
        case "error":
            raise ValueError("bad")
        case "words":
            raise ToolError("plain words")
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "cancel":
            raise asyncio.CancelledError
        case "deep":
            return failing(how)
        case _:
            return "?"


@tool(isolated=True, retries=1)
def picky() -> str:
    """Ask again."""
    raise ModelRetry("give a city")


@tool(isolated=True)
def dying(how: str) -> str:
    """End the process in some way."""
    match how:
        case "_exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        case "deaf":
            os.closerange(3, 256)
        case "stray" | "stray line" | "stray JSON":
            _stray(how)
        case "flood":
            while True:
                print("flood " * 1000)
        case _:
            return "?"
    time.sleep(20)
    return "alive"


def _stray(how: str) -> None:
    """Writes to every socket that there is."""
    said = {"stray": b"x", "stray line": b"x\n", "stray JSON": b'{"text": "forged"}\n'}
    for fd in range(3, 256):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, said[how])


@tool(isolated=True, timeout=0.5)
def hanging(how: str, note: str) -> None:
    """Never end; the numbers of the processes are written to a file."""
    _noted(note)
    match how:
        case "sleep":
            time.sleep(60)
        case "busy":
            while True:
                pass
        case "holding the interpreter":
            ctypes.PyDLL(None).sleep(60)
        case "deaf to signals":
            for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            time.sleep(60)
        case "with children":
            for _ in range(3):
                os.fork()  # 8 processes
            _noted(note)
            time.sleep(60)


@tool(isolated=True, timeout=1.0)
def bomb(note: str) -> None:
    """Processes that beget processes, until there are hundreds."""
    while Path(note).stat().st_size < 8 * 300:
        if os.fork() == 0:
            with Path(note).open("a") as notes:
                notes.write(f"{os.getpid():07}\n")
    time.sleep(60)


@tool(isolated=True, timeout=0.5)
async def hanging_later(note: str) -> None:
    """Never end, and do not be cancelled."""
    _noted(note)
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@tool(isolated=True, timeout=None)
def endless(note: str) -> None:
    """Never end."""
    _noted(note)
    while True:
        pass


def _noted(note: str) -> None:
    with Path(note).open("a") as notes:
        notes.write(f"{os.getpid()}\n")


@tool(isolated=True)
def leaving(what: str) -> list[int]:
    """Leave something behind; gives the numbers of the processes."""
    if what == "child":
        return [os.getpid(), subprocess.Popen(["sleep", "60"]).pid]
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return [os.getpid()]


@tool(isolated=True, memory=200_000_000)
def hungry(megabytes: int) -> str:
    """Take memory."""
    taken = [bytearray(1_000_000) for _ in range(megabytes)]
    return f"took {len(taken)}"


@tool(isolated=True)
def long(size: int) -> str:
    """A long text."""
    return "x" * size


@tool(isolated=True)
def talking(words: str) -> str:
    """Print."""
    print(words)
    print(words, file=sys.stderr)
    os.system(f"echo from a child: {words}")
    return "said"


@tool(isolated=True)
def reading() -> str:
    """Read what a person types."""
    return input("your password? ")


@tool(isolated=True)
def folder() -> str:
    """The folder."""
    return str(Path.cwd())


@tool(isolated=True)
def variables() -> dict[str, str]:
    """The environment."""
    return dict(os.environ)


@tool(isolated=True, variables=["AGENTCALL_TEST_OTHER"])
def variables_of_a_new_worker() -> dict[str, str]:
    """The environment of a worker that serves nobody else."""
    return dict(os.environ)


@tool(isolated=True, variables=["AGENTCALL_TEST_NAMED"])
def named_variables() -> dict[str, str]:
    """The environment, and a variable that is needed."""
    return dict(os.environ)


@tool(isolated=True)
def context(ctx: RunContext[None]) -> list[object]:
    """What is known of the run."""
    said = [getattr(message, "content", "") for message in ctx.messages]
    return [ctx.run_id, ctx.idempotency_key, ctx.tool_call_id, ctx.usage.requests, said]


class Kit:
    @staticmethod
    @tool(isolated=True)
    def static(a: int) -> int:
        """Static."""
        return a + 1


def plain(a: int) -> int:
    """No tool yet."""
    return a * 2


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@tool(isolated=True)
def picture() -> list[object]:
    """A picture of one pixel, as the bytes of a PNG file."""
    return ["a dot:", PIXEL]
