"""What agentcall costs, counted and not timed: the same on every machine, in seconds.

python -m benchmarks.overhead.counts           counts, and prints them as JSON
python -m benchmarks.overhead.counts --keep    puts them down for this version of Python

`make bench-counts` is the second. `tests/project/test_overhead.py` holds each count to what is kept
and a tenth.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from agentcall import Agent, Limits, tool
from agentcall.dialects.native import NativeDialect
from agentcall.messages import JSON
from agentcall.models.capabilities import DialectChoice
from agentcall.models.chat_completions import ChatClient
from benchmarks.overhead.meter import Meter

COUNTS_FILE = Path(__file__).with_name("counts.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ANSWER = "The result is 16."
STEPS, CHUNKS, TOOLS = 2, 200, 20

Counts = dict[str, dict[str, int]]
"""By what is done: its instructions, its calls of C functions, the most bytes that it held."""

_IMPORT = """
from benchmarks.overhead.meter import Meter
with Meter() as meter:
    from agentcall import Agent, tool
print(meter.instructions, meter.calls)
"""


class FakeTransport:
    """A server in the same process: asks for so many tool calls, then answers."""

    secrets = ()

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def post(self, body: bytes) -> JSON:
        """An answer in one piece."""
        made = body.count(b'"tool_call_id"')
        message: dict[str, JSON] = {"role": "assistant", "content": ANSWER}
        if made < self._steps:
            function: JSON = {"name": "add", "arguments": f'{{"a": {made}, "b": 5}}'}
            call: JSON = {"id": f"c{made}", "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        usage: JSON = {"prompt_tokens": 120, "completion_tokens": 20}
        finish = "tool_calls" if made < self._steps else "stop"
        return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """An answer in many."""
        for number in range(CHUNKS):
            yield _event({"content": f"word{number} "}, None)
        yield _event({}, "stop") + b"data: [DONE]\n\n"


def _event(delta: JSON, finish: str | None) -> bytes:
    choice: JSON = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


async def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b  # async, as threads do not take turns the same way every time


def make_agent(steps: int) -> Agent:
    """One whose model asks for so many tool calls."""

    async def chosen() -> DialectChoice:
        return DialectChoice("m", NativeDialect(), "as the benchmark says")

    model = ChatClient(FakeTransport(steps), chosen, None)
    return Agent(model, tools=[tool(add)], limits=Limits(requests=None))


async def measure_run(steps: int) -> Meter:
    """What a warm run counts."""
    made = make_agent(steps)
    await made.run("Compute.")
    with Meter() as meter:
        result = await made.run("Compute.")
    assert result.output == ANSWER
    assert result.usage.tool_calls == steps
    return meter


async def _measure_streamed_run() -> Meter:
    made = make_agent(0)
    for _ in range(2):  # the first to warm up
        with Meter() as meter:
            seen = [event async for event in made.run_stream("Tell.")]
    assert len(seen) > CHUNKS
    return meter


def _measure_schemas() -> Meter:
    tool(add)
    with Meter() as meter:
        for _ in range(TOOLS):
            tool(add)
    return meter


def _measure_import() -> tuple[int, int]:
    """In a process of its own, as it counts once."""
    command = [sys.executable, "-c", _IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    instructions, calls = map(int, done.stdout.split())
    return instructions, calls


async def _measure_peak(work: Callable[[], Awaitable[object]]) -> int:
    """The most bytes that were allocated at once, above what was there before."""
    await work()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most - before


async def count_all() -> Counts:
    """All counts."""
    run, streamed, schemas, imported = (
        await measure_run(STEPS),
        await _measure_streamed_run(),
        _measure_schemas(),
        _measure_import(),
    )
    long = make_agent(50)
    return {
        "import": {"instructions": imported[0], "calls": imported[1]},
        "run": {"instructions": run.instructions, "calls": run.calls},
        "streamed run": {"instructions": streamed.instructions, "calls": streamed.calls},
        "schemas": {"instructions": schemas.instructions, "calls": schemas.calls},
        "run of 50 steps": {"peak": await _measure_peak(lambda: long.run("Compute."))},
    }


def load_counts() -> Counts | None:
    """What was put down for this version of Python, if anything was."""
    known: dict[str, Counts] = json.loads(COUNTS_FILE.read_text("utf-8"))
    return known.get(VERSION)


def _save_counts(counts: Counts) -> None:
    known: dict[str, Counts] = (
        json.loads(COUNTS_FILE.read_text("utf-8")) if COUNTS_FILE.exists() else {}
    )
    known[VERSION] = counts
    ordered = dict(sorted(known.items(), key=lambda item: tuple(map(int, item[0].split(".")))))
    COUNTS_FILE.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")


def main() -> None:
    """Counts."""
    counts = asyncio.run(count_all())
    print(json.dumps(counts))
    if "--keep" in sys.argv:
        _save_counts(counts)


if __name__ == "__main__":
    main()
