"""Measure the cost of recording a tool step, on SQLite and optionally on PostgreSQL.

python -m benchmarks.durable [--postgres postgresql://user@host/name] [--steps 100]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from agentcall import Agent, Limits, tool
from agentcall.durable import durable
from agentcall.testing import ScriptedModel, call, say

ROUNDS = 5


@tool
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def make_agent(steps: int) -> Agent:
    """Return an agent that makes `steps` calls, one per turn, without a server."""
    turns = [call("add", a=n, b=1) for n in range(steps)]
    return Agent(ScriptedModel([*turns, say("done")]), tools=[add], limits=Limits(requests=None))


async def measure_seconds(work: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds of an awaitable."""
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def run_plain(steps: int, at_once: int) -> float:
    """Return the seconds of concurrent runs without a journal."""
    agents = [make_agent(steps) for _ in range(at_once)]
    return await measure_seconds(lambda: asyncio.gather(*(agent.run("go") for agent in agents)))


async def run_recorded(url: str, steps: int, at_once: int) -> float:
    """Return the seconds of concurrent recorded runs, which share a journal and its thread."""
    with durable(make_agent(0), url) as runs:
        await runs.run("warm")
        others = [durable(make_agent(steps), url) for _ in range(at_once)]
        for other in others:
            other._writer = runs._writer
        return await measure_seconds(lambda: asyncio.gather(*(other.run("go") for other in others)))


def measure_fsync_ms(folder: Path) -> float:
    """Return the median milliseconds of one write and fsync in a folder."""
    times: list[float] = []
    with (folder / "probe").open("ab", buffering=0) as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(b"x" * 500)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return median(times) * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    parser.add_argument("--postgres", help="the URL of a PostgreSQL database")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        urls = {"SQLite": f"sqlite:///{name}/runs.db"}
        if options.postgres:
            urls["PostgreSQL"] = options.postgres
        print(f"one fsync here: {measure_fsync_ms(Path(name)):.1f} ms")
        print("| journal | one run, ms a tool step | 50 runs at once, ms a tool step |")
        print("|---|---:|---:|")
        for label, url in {"none": "", **urls}.items():
            cells = [
                asyncio.run(_measure_step_ms(url, options.steps, at_once)) for at_once in (1, 50)
            ]
            print(f"| {label} | {cells[0]:.2f} | {cells[1]:.2f} |")


async def _measure_step_ms(url: str, steps: int, at_once: int) -> float:
    steps = steps if at_once == 1 else 5
    times = [
        await (run_recorded(url, steps, at_once) if url else run_plain(steps, at_once))
        for _ in range(ROUNDS)
    ]
    return median(times) * 1000 / (steps * at_once)


if __name__ == "__main__":
    main()
