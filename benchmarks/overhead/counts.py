"""Count the instructions and calls of agentcall, which are the same on every machine.

python -m benchmarks.overhead.counts           print the counts as JSON
python -m benchmarks.overhead.counts --keep    save them for this version of Python

`make bench-counts` runs the second. `tests/project/test_overhead.py` compares each count with the
saved one, and allows a tenth more.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
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
"""By operation: its instructions, its calls of C functions, its peak of allocated bytes."""

_IMPORT = """
from benchmarks.overhead.meter import Meter
with Meter() as meter:
    from agentcall import Agent, tool
print(meter.instructions, meter.calls)
"""


class FakeTransport:
    """A server in the same process that requests `steps` tool calls, then answers."""

    secrets = ()

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def configure(self, headers: Mapping[str, str], timeout: float | None) -> FakeTransport:
        """Return this transport: it sends nothing."""
        return self

    async def post(self, body: bytes) -> JSON:
        """Return a complete answer."""
        step = body.count(b'"tool_call_id"')
        message: dict[str, JSON] = {"role": "assistant", "content": ANSWER}
        if step < self._steps:
            function: JSON = {"name": "add", "arguments": f'{{"a": {step}, "b": 5}}'}
            call: JSON = {"id": f"c{step}", "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        usage: JSON = {"prompt_tokens": 120, "completion_tokens": 20}
        finish = "tool_calls" if step < self._steps else "stop"
        return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Yield an answer in chunks."""
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
    return a + b  # async, because the order of threads would change the counts


def make_agent(steps: int) -> Agent:
    """Return an agent whose model requests `steps` tool calls."""

    async def choose_dialect(_transport: object) -> DialectChoice:
        return DialectChoice("m", NativeDialect(), "as the benchmark says")

    model = ChatClient(FakeTransport(steps), choose_dialect, None)
    return Agent(model, tools=[tool(add)], limits=Limits(requests=None))


async def measure_run(steps: int) -> Meter:
    """Count a warm run."""
    agent = make_agent(steps)
    await agent.run("Compute.")
    with Meter() as meter:
        result = await agent.run("Compute.")
    assert result.output == ANSWER
    assert result.usage.tool_calls == steps
    return meter


async def _measure_streamed_run() -> Meter:
    agent = make_agent(0)
    for _ in range(2):  # the first run warms up
        with Meter() as meter:
            events = [event async for event in agent.run_stream("Tell.")]
    assert len(events) > CHUNKS
    return meter


def _measure_schemas() -> Meter:
    tool(add)
    with Meter() as meter:
        for _ in range(TOOLS):
            tool(add)
    return meter


def _measure_import() -> tuple[int, int]:
    """Count the import in a new process."""
    command = [sys.executable, "-c", _IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    instructions, calls = map(int, done.stdout.split())
    return instructions, calls


async def _measure_peak(work: Callable[[], Awaitable[object]]) -> int:
    """Return the peak of allocated bytes, above those allocated before."""
    await work()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before


async def count_all() -> Counts:
    """Return all counts."""
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
    """Return the saved counts for this version of Python; None if there are none."""
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
    """Count, print, and save if requested."""
    counts = asyncio.run(count_all())
    print(json.dumps(counts))
    if "--keep" in sys.argv:
        _save_counts(counts)


if __name__ == "__main__":
    main()
