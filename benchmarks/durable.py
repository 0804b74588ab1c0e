"""Measures what recording a tool step costs, on SQLite and, where it is given, on PostgreSQL.

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
    """An agent that makes so many calls, one a turn, without a server."""
    turns = [call("add", a=n, b=1) for n in range(steps)]
    return Agent(ScriptedModel([*turns, say("done")]), tools=[add], limits=Limits(requests=None))


async def measure_seconds(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that the work took."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def run_plain(steps: int, at_once: int) -> float:
    """Seconds of runs that nobody records."""
    agents = [make_agent(steps) for _ in range(at_once)]
    return await measure_seconds(lambda: asyncio.gather(*(one.run("go") for one in agents)))


async def run_recorded(url: str, steps: int, at_once: int) -> float:
    """Seconds of as many recorded runs; they share one journal and its thread."""
    with durable(make_agent(0), url) as runs:
        await runs.run("warm")
        clerk = runs._writer
        others = [durable(make_agent(steps), url) for _ in range(at_once)]
        for other in others:
            other._writer = clerk
        return await measure_seconds(lambda: asyncio.gather(*(one.run("go") for one in others)))


def measure_fsync_ms(folder: Path) -> float:
    """Milliseconds of one write and fsync here, in the median."""
    times: list[float] = []
    with (folder / "probe").open("ab", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 500)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times) * 1000


def main() -> None:
    """Prints the table."""
    words = argparse.ArgumentParser()
    words.add_argument("--postgres")
    words.add_argument("--steps", type=int, default=50)
    options = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        places = {"SQLite": f"sqlite:///{name}/runs.db"}
        if options.postgres:
            places["PostgreSQL"] = options.postgres
        print(f"one fsync here: {measure_fsync_ms(Path(name)):.1f} ms")
        print("| journal | one run, ms a tool step | 50 runs at once, ms a tool step |")
        print("|---|---:|---:|")
        for label, url in {"none": "", **places}.items():
            cells = [
                asyncio.run(_measure_step_ms(url, options.steps, at_once)) for at_once in (1, 50)
            ]
            print(f"| {label} | {cells[0]:.2f} | {cells[1]:.2f} |")


async def _measure_step_ms(url: str, steps: int, at_once: int) -> float:
    steps = steps if at_once == 1 else 5
    took = [
        await (run_recorded(url, steps, at_once) if url else run_plain(steps, at_once))
        for _ in range(ROUNDS)
    ]
    return median(took) * 1000 / (steps * at_once)


if __name__ == "__main__":
    main()
