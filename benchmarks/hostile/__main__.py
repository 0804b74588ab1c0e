"""Measure how long a well-behaved client waits while hostile clients attack the server.

python -m benchmarks.hostile                    # each server for twenty seconds
python -m benchmarks.hostile serve --seconds 60

The servers are the real commands (`agentcall serve`, `web`, `mcp`), each with 256 file descriptors
and without a key, so that no request is refused for a missing one. 350 clients in another process
stall, send too much data, or pose as other pages. A client in this process asks repeatedly, over
new connections each time. The model is a fake server that answers at once. The attackers run at the
lowest priority, because real ones would run on other computers.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from statistics import median
from time import monotonic, perf_counter
from types import SimpleNamespace

import aiohttp

from agentcall.testing import FakeServer, forever, say
from benchmarks.hostile.servers import SERVERS, ServerCommand, parse_outcomes, start_server


@dataclass
class Times:
    """Seconds of requests until the head of the answer, and until its last byte."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)


@dataclass
class Report:
    """The outcome of an attack.

    calm, attacked: the times of the good client's requests before and during the attack.
    failures: its failed requests.
    gained: the attackers' outcomes, by attack.
    log: the server's log.
    """

    door: str
    calm: Times = field(default_factory=Times)
    attacked: Times = field(default_factory=Times)
    failures: list[str] = field(default_factory=list)
    gained: dict[str, dict[str, int]] = field(default_factory=dict)
    log: str = ""

    def format_lines(self) -> list[str]:
        """Format the report as text."""
        head = (
            f"{self.door}: {len(self.attacked.last)} answers, {len(self.failures)} failures; "
            f"{format_times(self.attacked)}; before the attack {format_times(self.calm)}"
        )
        gained = (
            f"  {attack}: {', '.join(f'{count} x {what}' for what, count in sorted(got.items()))}"
            for attack, got in self.gained.items()
        )
        return [head, *self.failures[:3], *gained]


def format_times(times: Times) -> str:
    """Format the median and the maximum of times."""
    first, last = (
        f"{median(each or [0]) * 1000:.0f}, {max(each, default=0) * 1000:.0f}"
        for each in (times.first, times.last)
    )
    return f"ms to the head (median, slowest) {first}, to the last byte {last}"


def make_trace(times: Times) -> aiohttp.TraceConfig:
    """Return a trace that adds the seconds of each request to `times`."""

    async def started(_: object, request: SimpleNamespace, __: object) -> None:
        request.began, request.place = perf_counter(), len(times.last)
        times.first.append(0.0)
        times.last.append(0.0)

    async def begun(_: object, request: SimpleNamespace, __: object) -> None:
        times.first[request.place] = times.last[request.place] = perf_counter() - request.began

    async def advanced(_: object, request: SimpleNamespace, __: object) -> None:
        times.last[request.place] = perf_counter() - request.began

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    trace.on_request_end.append(begun)
    trace.on_response_chunk_received.append(advanced)
    return trace


async def run_good_client(
    door: ServerCommand, base: str, report: Report, ended: asyncio.Event
) -> None:
    """Ask repeatedly over new connections, until the attack has ended."""
    while not ended.is_set():
        try:
            timeout = aiohttp.ClientTimeout(total=60)
            async with aiohttp.ClientSession(
                timeout=timeout, trace_configs=[make_trace(report.attacked)]
            ) as client:
                await door.ask(client, base)
        except (aiohttp.ClientError, asyncio.TimeoutError, AssertionError) as error:
            report.failures.append(f"{type(error).__name__}: {error!s:.200}")
        await asyncio.sleep(0.05)


async def attack_server(door: ServerCommand, base: str, seconds: float, report: Report) -> None:
    """Attack a server while the good client uses it."""
    port = base.rpartition(":")[2]
    words = ["-m", "benchmarks.hostile.attackers", port, door.path, str(seconds)]
    attackers = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE
    )
    ended = asyncio.Event()
    good = asyncio.create_task(run_good_client(door, base, report, ended))
    out, _ = await attackers.communicate()
    ended.set()
    await good
    report.gained = parse_outcomes(out.decode())


def measure_attack(door: ServerCommand, seconds: float) -> Report:
    """Attack a server for some seconds, and report the outcome."""
    report = Report(door.name)
    with FakeServer([forever(say("ok"))]) as model:
        with start_server(door, model.url) as stand:
            asyncio.run(warm_up(door, stand.base, report))
            asyncio.run(attack_server(door, stand.base, seconds, report))
        report.log = stand.log
    return report


async def warm_up(door: ServerCommand, base: str, report: Report) -> None:
    """Ask some times; the first request is not counted, because the server loads much for it."""
    for _ in range(11):
        async with aiohttp.ClientSession(trace_configs=[make_trace(report.calm)]) as client:
            await door.ask(client, base)
    del report.calm.first[: len(report.calm.first) // 11]
    del report.calm.last[: len(report.calm.last) // 11]


def main() -> None:
    """Attack the given servers, or all, and print the reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"of {', '.join(SERVERS)}")
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    for name in given.doors or SERVERS:
        began = monotonic()
        print("\n".join(measure_attack(SERVERS[name], given.seconds).format_lines()), flush=True)
        print(f"  ({monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
