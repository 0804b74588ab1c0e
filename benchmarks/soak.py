"""Soak test of `agentcall serve` with many users: are answers mixed up, and does anything grow?

python -m benchmarks.soak                        # three minutes, 200 users
python -m benchmarks.soak --seconds 600 --write  # also writes the table to docs/endpoint.md

The model is a fake server in this process; the endpoint is the real command in its own process.
Every request has a unique mark, which the model passes to a tool and the tool to the answer: an
answer with another mark, or with two, is mixed up. Half of the answers are streamed; one request in
twenty is abandoned, as by a user who closes the page. Finally 600 requests are sent at once, more
than the endpoint accepts, and more of one user than a key allows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

import aiohttp

from agentcall.testing import FakeServer, Reply, call, say
from benchmarks.robustness.section import Section, format_row

USERS, BURST, PER_KEY, RUNNING, WAITING = 200, 600, 4, 32, 256
MARK = re.compile(r"mark-\d+-\d+")
PAGE = Path(__file__).parent.parent / "docs" / "endpoint.md"
SECTION = Section("python -m benchmarks.soak --write")
AGENT = '''
from agentcall import Agent, RunContext, tool

@tool
def note(context: RunContext[str], mark: str) -> str:
    """Notes a mark."""
    return f"{mark} noted"

agent = Agent(tools=[note])
'''


def brain(messages: Sequence[Mapping[str, object]], tools: Sequence[object]) -> Reply:
    """Pass the mark of the last question to the tool, and the tool's result to the answer."""
    last = messages[-1]
    if last.get("role") == "tool":
        return say(f"Done: {last.get('content')}.").replace(
            delay=0.005, latency=random.uniform(0, 0.2)
        )
    found = MARK.search(str(last.get("content")))
    if found is None:
        return say("There is no mark.")
    return call("note", mark=found[0]).replace(latency=random.uniform(0, 0.2))


@dataclass(slots=True)
class Observations:
    """What the users observed."""

    statuses: Counter[str] = field(default_factory=Counter)
    mixed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    without_retry_after: int = 0


@dataclass(frozen=True, slots=True)
class ProcessSize:
    """Resident megabytes, threads and open files of the endpoint's process."""

    megabytes: float
    threads: int
    files: int


def measure_process(pid: int) -> ProcessSize:
    """Measure a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+)", status)
    threads = re.search(r"Threads:\s+(\d+)", status)
    assert resident
    assert threads
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return ProcessSize(int(resident[1]) / 1024, int(threads[1]), files)


@contextmanager
def run_endpoint(model: str) -> Iterator[tuple[str, int]]:
    """Run the endpoint in its own process; yield its URL and its pid."""
    keys = ",".join(f"user{n}=key-{n}" for n in range(USERS))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "marks.py").write_text(AGENT)
        arguments = ["-a", "marks.py:agent", "-m", model, "--port", "0"]
        limits = ["--running", RUNNING, "--waiting", WAITING, "--per-key", PER_KEY]
        process = subprocess.Popen(
            [Path(sys.executable).with_name("agentcall"), "serve", *arguments, *map(str, limits)],
            cwd=folder,
            env={**os.environ, "AGENTCALL_SERVE_KEYS": keys},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            found = next(m for line in process.stderr if (m := re.search(r"http://\S+", line)))
            yield found[0], process.pid
        finally:
            process.terminate()
            process.wait(20)


class Users:
    """The users, each with their own key."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._count = 0
        self.seen = Observations()

    async def ask_until(self, user: int, until: float) -> None:
        """Ask again and again as one user, with pauses."""
        while monotonic() < until:
            await self.ask(user, leaves=random.random() < 0.05)
            await asyncio.sleep(random.uniform(0, 1))

    async def ask(self, user: int, *, leaves: bool = False) -> None:
        """Ask one question and check its answer."""
        self._count += 1
        mark, began = f"mark-{user}-{self._count}", monotonic()
        streamed = random.random() < 0.5
        try:
            async with _leave_early(leaves):
                status, text, retry = await self._request(user, mark, streamed)
        except asyncio.TimeoutError:
            self.seen.statuses["left"] += 1
            return
        except aiohttp.ClientError as error:
            self.seen.statuses[type(error).__name__] += 1
            return
        self.seen.statuses[str(status)] += 1
        if status == 200:
            self.seen.seconds.append(monotonic() - began)
            if set(MARK.findall(text)) != {mark}:
                self.seen.mixed.append(f"{mark}: {text[:200]}")
        elif retry is None:
            self.seen.without_retry_after += 1

    async def _request(self, user: int, mark: str, streamed: bool) -> tuple[int, str, str | None]:
        body = {
            "model": "agent",
            "stream": streamed,
            "messages": [{"role": "user", "content": f"Note {mark}."}],
        }
        headers = {"Authorization": f"Bearer key-{user}"}
        async with self._session.post(
            f"{self._url}/chat/completions", json=body, headers=headers
        ) as response:
            text = await response.text()
            if response.status == 200:
                text = _read_stream(text) if streamed else _read_answer(text)
            return response.status, text, response.headers.get("Retry-After")


@asynccontextmanager
async def _leave_early(leaves: bool) -> AsyncIterator[None]:
    """Cancel the block after a moment, as TimeoutError, if `leaves`."""
    task = asyncio.current_task()
    assert task is not None
    if not leaves:
        yield
        return
    timer = asyncio.get_running_loop().call_later(random.uniform(0.01, 0.2), task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        raise asyncio.TimeoutError from None
    finally:
        timer.cancel()


def _read_answer(text: str) -> str:
    return str(json.loads(text)["choices"][0]["message"]["content"])


def _read_stream(text: str) -> str:
    parts = []
    for line in text.splitlines():
        with suppress(ValueError, LookupError):
            parts.append(json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"])
    return "".join(part for part in parts if part)


async def soak(url: str, pid: int, seconds: float) -> str:
    """Run the soak test and return its table."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        warm = Users(url, session)
        await asyncio.gather(*(warm.ask_until(n, monotonic() + 20) for n in range(USERS)))
        before = measure_process(pid)
        crowd = Users(url, session)
        users = asyncio.gather(*(crowd.ask_until(n, monotonic() + seconds) for n in range(USERS)))
        await asyncio.sleep(seconds / 2)
        middle = measure_process(pid)
        await users
        after = measure_process(pid)
        burst = Users(url, session)
        one_key = [burst.ask(0) for _ in range(BURST // 6)]
        others = [burst.ask(n % USERS) for n in range(BURST - len(one_key))]
        await asyncio.gather(*one_key, *others)
    await asyncio.sleep(2)  # the connections are closed now
    rested = measure_process(pid)
    return format_table(seconds, [before, middle, after, rested], crowd.seen, burst.seen)


def format_table(
    seconds: float, sizes: Sequence[ProcessSize], crowd: Observations, burst: Observations
) -> str:
    """Format the results as a Markdown table."""
    before, middle, after, rested = sizes
    took = sorted(crowd.seconds)
    wrong = len(crowd.mixed) + len(burst.mixed)
    for words in [*crowd.mixed, *burst.mixed][:5]:
        sys.stderr.write(f"mixed up: {words}\n")
    lines = [
        format_row("", ""),
        format_row("---", "---"),
        format_row(f"{USERS} users, {seconds:g} s: answers", format_counts(crowd.statuses)),
        format_row("seconds an answer took: median, 99 of 100", _format_quantiles(took)),
        format_row(
            f"{BURST} requests at once, 100 of them of one key", format_counts(burst.statuses)
        ),
        format_row(
            "refusals without `Retry-After`", crowd.without_retry_after + burst.without_retry_after
        ),
        format_row("answers with the mark of another request", wrong),
        *(
            format_row(
                f"the process {when}",
                f"{at.megabytes:.0f} MB, {at.threads} threads, {at.files} files",
            )
            for when, at in (
                ("after 20 s", before),
                ("halfway", middle),
                ("at the end", after),
                ("when all have gone", rested),
            )
        ),
    ]
    return "\n".join(lines)


def _format_quantiles(took: Sequence[float]) -> str:
    if not took:
        return "none came"
    return f"{median(took):.2f}, {took[int(len(took) * 0.99)]:.2f}"


def format_counts(statuses: Counter[str]) -> str:
    """Format the number of each status."""
    return ", ".join(f"{number:,} × {status}" for status, number in sorted(statuses.items()))


def main() -> None:
    """Run the test, print the table, and write it if requested."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--write", action="store_true", help="put the table into docs/endpoint.md")
    options = parser.parse_args()
    with FakeServer(brain=brain) as model, run_endpoint(f"{model.url}#fake-model") as (url, pid):
        table = asyncio.run(soak(url, pid, options.seconds))
    print(table)
    if options.write:
        SECTION.write(table, PAGE)


if __name__ == "__main__":
    main()
