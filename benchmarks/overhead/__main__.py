"""Measures what agentcall adds to aiohttp, and writes the table of docs/performance.md.

python -m benchmarks.overhead [--rounds 9] [--only WORD] [--keep]
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from pathlib import Path

from benchmarks.overhead.measure import Figure, Row, fresh, measured
from benchmarks.overhead.page import table, written
from benchmarks.overhead.runners import Task
from benchmarks.overhead.server import served

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"

ROWS = [
    Row("a warm run of three calls", Task(), 2.0, 50),
    Row("200 runs at once, server of 50 ms", Task(delay=50), 2.0, at_once=200),
    Row("1,000 runs at once, server of 50 ms", Task(delay=50), 2.0, at_once=1000),
    Row("1 tool step", Task(steps=1), 2.0, 50),
    Row("10 tool steps", Task(steps=10), 2.0, 20),
    Row("50 tool steps", Task(steps=50), 2.0, 4),
    Row("200 tool steps", Task(steps=200), 2.0, 1),
    Row("1 tool offered", Task(tools=1), 2.0, 50),
    Row("100 tools offered", Task(tools=100), 2.0, 40),
    Row("1,000 tools offered", Task(tools=1000), 1.0, 10),
    Row("a tool output of 1 kB", Task(output=1000), 2.0, 50),
    Row("a tool output of 100 kB", Task(output=100_000), 2.0, 40),
    Row("a tool output of 1 MB", Task(output=1_000_000), 1.5, 10),
    Row("an answer streamed in 2,000 chunks", Task(steps=0, chunks=2000), 2.0, 4),
]

_IMPORT = "from agentcall import Agent, tool"
_RAW_IMPORT = "import asyncio, json, aiohttp"
_FIRST = """
import asyncio
from benchmarks.overhead.runners import Task, with_agentcall
asyncio.run(with_agentcall({url!r}, Task())())
"""
_RAW_FIRST = """
import asyncio, json, aiohttp
TOOLS = [{{"type": "function", "function": {{"name": "add", "description": "Add two numbers.",
    "parameters": {{"type": "object", "properties": {{}}}}}}}}]
async def main():
    messages = [{{"role": "user", "content": "Compute (3+5)*2"}}]
    async with aiohttp.ClientSession() as session:
        while True:
            body = {{"model": "2.0.0", "messages": messages, "tools": TOOLS}}
            async with session.post("{url}/chat/completions", json=body) as response:
                message = (await response.json())["choices"][0]["message"]
            messages.append(message)
            if not message.get("tool_calls"):
                return
            messages.append({{"role": "tool", "tool_call_id": "c", "content": "16"}})
asyncio.run(main())
"""


def figures(url: str, rounds: int, only: str) -> Iterator[Figure]:
    """The figures, one by one."""
    for row in ROWS:
        if only in row.name:
            yield asyncio.run(measured(row, url, rounds))
    for name, ours, raw in (
        ("import", _IMPORT, _RAW_IMPORT),
        ("the first run of a fresh process", _FIRST, _RAW_FIRST),
    ):
        if only in name:
            yield fresh(name, ours.format(url=url), raw.format(url=url), rounds)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of both, interleaved")
    parser.add_argument("--only", default="", help="only rows with this word; writes no page")
    parser.add_argument("--keep", action="store_true", help="leave docs/performance.md alone")
    options = parser.parse_args()
    found: list[Figure] = []
    with served() as url:
        for one in figures(url, options.rounds, options.only):
            print(f"{one.name:40} {one.ratio:6.2f}  (bar {one.bar or 'none'})", flush=True)
            found.append(one)
    if not options.only and not options.keep:
        PAGE.write_text(written(PAGE.read_text("utf-8"), table(found)), "utf-8")


if __name__ == "__main__":
    main()
