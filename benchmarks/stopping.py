"""Measure the cost of isolated tools, and of many concurrent runs with and without a limit.

python -m benchmarks.stopping          # prints the tables of docs/stopping.md, about a minute
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from agentcall import Agent, ToolRegistry, tool
from agentcall.dialects.answer_parts import TextPart, ToolCallPart
from agentcall.errors import ConcurrencyLimitExceeded
from agentcall.messages import ToolResult, Usage, User
from agentcall.models.model import ModelRequest, ResponseEnd, ResponseEvent
from agentcall.runtime.executor import call_tool
from agentcall.serving.concurrency import ConcurrencyLimiter

CROWDS = ((500, 50, 450), (500, 50, 150), (2000, 50, 450), (500, 500, 0), (2000, 2000, 0))
"""Concurrent runs, and how many may run and wait."""


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(isolated=True)
def add_apart(a: int, b: int) -> int:
    """Add, in a process."""
    return a + b


@tool(isolated=True)
def end() -> None:
    """End the process."""
    import os

    os._exit(1)


@tool(isolated=True, timeout=0.5)
def hang() -> None:
    """Hang."""
    while True:
        pass


@tool
def slow(number: int) -> str:
    """A slow tool with a result of some length."""
    time.sleep(0.2)
    return f"{number} " * 5_000


TOOLS = ToolRegistry(add, add_apart, end, hang)


class Model:
    """Calls the slow tool once and then answers; has no state."""

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of an answer."""
        first = request.transcript[0]
        if isinstance(request.transcript[-1], ToolResult) or not isinstance(first, User):
            yield TextPart("done")
        else:
            yield ToolCallPart("slow", f'{{"number": {first.content}}}')
        yield ResponseEnd("stop", Usage(1))


async def measure_seconds(name: str, arguments: str = "{}") -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    await call_tool(TOOLS, name, arguments)
    return time.perf_counter() - start


async def measure_isolation() -> None:
    """Print the table of the cost of calls."""
    sums = '{"a": 2, "b": 3}'
    first = []
    for _ in range(7):
        first.append(await measure_seconds("add_apart", sums))
        warm = [await measure_seconds("add_apart", sums) for _ in range(300)]
        await measure_seconds("end")
    threads = [await measure_seconds("add", sums) for _ in range(300)]
    late = []
    for _ in range(7):
        await measure_seconds("add_apart", sums)
        late.append(await measure_seconds("hang") - 0.5)
    print("| a call | median, ms |\n|---|---:|")
    print(f"| in a thread of this process | {median(threads) * 1000:.2f} |")
    print(f"| isolated, its worker is there | {median(warm) * 1000:.2f} |")
    print(f"| isolated, its worker has to be started | {median(first) * 1000:.0f} |")
    print(f"| told that it was stopped, after its deadline | {median(late) * 1000:.2f} |")


def measure_memory_mb() -> float:
    """Return the resident megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


async def measure_crowd(size: int, running: int, waiting: int) -> None:
    """Print a row for runs that start at the same time."""
    agent, places, refused = (
        Agent(Model(), tools=[slow]),
        ConcurrencyLimiter(running=running, waiting=waiting),
        0,
    )

    async def one(number: int) -> bool:
        nonlocal refused
        try:
            async with places.slot():
                return (await agent.run(str(number))).output == "done"
        except ConcurrencyLimitExceeded:
            refused += 1
            return False

    await agent.run("1")
    before, began, most = measure_memory_mb(), time.perf_counter(), threading.active_count()
    runs = asyncio.gather(*map(one, range(size)))
    peak = before
    while not runs.done():
        peak, most = max(peak, measure_memory_mb()), max(most, threading.active_count())
        await asyncio.sleep(0.01)
    took, done = time.perf_counter() - began, sum(await runs)
    print(
        f"| {size} | {running} | {waiting} | {done} | {refused} | {peak - before:.1f} | {most} "
        f"| {took:.1f} |"
    )


def main() -> None:
    """Print both tables; each row of the second has its own process."""
    if len(sys.argv) > 1:
        size, running, waiting = map(int, sys.argv[1:])
        asyncio.run(measure_crowd(size, running, waiting))
        return
    asyncio.run(measure_isolation())
    print("\n| at once | places | waiting | done | told | memory, MB more | threads | seconds |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for row in CROWDS:
        words = [sys.executable, "-m", "benchmarks.stopping", *map(str, row)]
        subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
