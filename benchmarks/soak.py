"""Many users at `agentcall serve` for minutes: is anything mixed up, and does anything grow?

python -m benchmarks.soak                      # three minutes, 200 users
python -m benchmarks.soak --seconds 600 --write  # and puts its table into docs/endpoint.md

The model is a fake server in this process; the endpoint is the real command in a process of its
own. Every request carries a mark of its own, which the model hands to a tool and the tool to the
answer: an answer with another mark, or with two, is mixed up. Half of the answers are streamed; of
twenty requests one is left after a moment, as by somebody who closes the page. Then 600 requests
come at once, more than there are places, and more of one user than a key may have.
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
    """Hands the mark of the last question to the tool, and what that gives to the answer."""
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
    """What the users saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    mixed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    without_retry_after: int = 0


@dataclass(frozen=True, slots=True)
class ProcessSize:
    """What the endpoint's process has: resident MB, threads, open files."""

    megabytes: float
    threads: int
    files: int


def measure_process(pid: int) -> ProcessSize:
    """What a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+)", status)
    threads = re.search(r"Threads:\s+(\d+)", status)
    assert resident
    assert threads
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return ProcessSize(int(resident[1]) / 1024, int(threads[1]), files)


@contextmanager
def run_endpoint(model: str) -> Iterator[tuple[str, int]]:
    """The endpoint in a process of its own: its URL and its pid."""
    keys = ",".join(f"user{n}=key-{n}" for n in range(USERS))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "marks.py").write_text(AGENT)
        words = ["-a", "marks.py:agent", "-m", model, "--port", "0"]
        places = ["--running", RUNNING, "--waiting", WAITING, "--per-key", PER_KEY]
        process = subprocess.Popen(
            [Path(sys.executable).with_name("agentcall"), "serve", *words, *map(str, places)],
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
    """The users, each with a key of its own."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._count = 0
        self.seen = Observations()

    async def ask_until(self, user: int, until: float) -> None:
        """One user asks, reads and asks again."""
        while monotonic() < until:
            await self.ask(user, leaves=random.random() < 0.05)
            await asyncio.sleep(random.uniform(0, 1))

    async def ask(self, user: int, *, leaves: bool = False) -> None:
        """One question, and a look at its answer."""
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
    """Raises TimeoutError within after a moment, if so."""
    task = asyncio.current_task()
    assert task is not None
    if not leaves:
        yield
        return
    gone = asyncio.get_running_loop().call_later(random.uniform(0.01, 0.2), task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        raise asyncio.TimeoutError from None
    finally:
        gone.cancel()


def _read_answer(text: str) -> str:
    return str(json.loads(text)["choices"][0]["message"]["content"])


def _read_stream(text: str) -> str:
    said = []
    for line in text.splitlines():
        with suppress(ValueError, LookupError):
            said.append(json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"])
    return "".join(part for part in said if part)


async def soak(url: str, pid: int, seconds: float) -> str:
    """The table of a soak."""
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
    """What was measured, as Markdown."""
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
    """How often each came."""
    return ", ".join(f"{number:,} × {status}" for status, number in sorted(statuses.items()))


def main() -> None:
    """Soaks, prints, and writes if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--write", action="store_true", help="put the table into docs/endpoint.md")
    options = parser.parse_args()
    with FakeServer(brain=brain) as model, run_endpoint(f"{model.url}#fake-model") as (url, pid):
        made = asyncio.run(soak(url, pid, options.seconds))
    print(made)
    if options.write:
        SECTION.write(made, PAGE)


if __name__ == "__main__":
    main()
