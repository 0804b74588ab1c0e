"""How long a client that behaves well waits while hostile ones do all they can.

python -m benchmarks.hostile                    # each door for twenty seconds
python -m benchmarks.hostile serve --seconds 60

The servers are the real commands (`agentcall serve`, `web`, `mcp`) without a key, so that nothing
is refused for want of one, each with 256 descriptors. 350 clients of a process of their own stall,
send what is too much, or pose as other pages; a client here asks again and again, each time over
connections of its own. The model is a fake server that answers at once. The attackers run at the
lowest priority, as their computers would not be this one.
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
    """Seconds of requests: until the head of the answer, and until its last byte."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)


@dataclass
class Report:
    """What came of a run.

    calm: how long the answers took to the good client before the attack, and `attacked` during it;
    failures: what it got instead of one.
    gained: what the attackers got, by attack. log: what the server wrote.
    """

    door: str
    calm: Times = field(default_factory=Times)
    attacked: Times = field(default_factory=Times)
    failures: list[str] = field(default_factory=list)
    gained: dict[str, dict[str, int]] = field(default_factory=dict)
    log: str = ""

    def format_lines(self) -> list[str]:
        """The report for a person."""
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
    """The middle and the slowest of some times."""
    first, last = (
        f"{median(each or [0]) * 1000:.0f}, {max(each, default=0) * 1000:.0f}"
        for each in (times.first, times.last)
    )
    return f"ms to the head (median, slowest) {first}, to the last byte {last}"


def make_trace(times: Times) -> aiohttp.TraceConfig:
    """Adds the seconds of each request to these times."""

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
    """A client that asks, each time over connections of its own, until the attack has ended."""
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
    """The door under attack, with the good client at it."""
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
    """Attacks a door for so many seconds."""
    report = Report(door.name)
    with FakeServer([forever(say("ok"))]) as model:
        with start_server(door, model.url) as stand:
            asyncio.run(warm_up(door, stand.base, report))
            asyncio.run(attack_server(door, stand.base, seconds, report))
        report.log = stand.log
    return report


async def warm_up(door: ServerCommand, base: str, report: Report) -> None:
    """Asks some times; the first time does not count, as much is loaded then."""
    for _ in range(11):
        async with aiohttp.ClientSession(trace_configs=[make_trace(report.calm)]) as client:
            await door.ask(client, base)
    del report.calm.first[: len(report.calm.first) // 11]
    del report.calm.last[: len(report.calm.last) // 11]


def main() -> None:
    """Attacks the doors that are named, or all, and prints what came of it."""
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
