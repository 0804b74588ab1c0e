"""Backpressure: so many run, so many wait, the rest is told."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from agentcall import Agent, tool
from agentcall.dialects.answer_parts import TextPart, ToolCallPart
from agentcall.errors import ConcurrencyLimitExceeded, UsageError
from agentcall.messages import ToolResult, Usage, User
from agentcall.models.model import ModelRequest, ResponseEnd, ResponseEvent
from agentcall.serving.concurrency import ConcurrencyLimiter


class Model:
    """Calls the tool once, each time with another number, and then answers; keeps nothing."""

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        first, last = request.transcript[0], request.transcript[-1]
        assert isinstance(first, User)
        if isinstance(last, ToolResult):
            yield TextPart(f"done {first.content}")
        else:
            yield ToolCallPart("slow", f'{{"number": {first.content}}}')
        yield ResponseEnd("stop", Usage(1))


@tool
def slow(number: int) -> str:
    """A slow tool, which gives much."""
    time.sleep(0.02)
    return f"{number} " * 5_000


AGENT = Agent(Model(), tools=[slow])
RUNNING: list[int] = []
"""How many had a place whenever one was taken."""


async def crowd(places: ConcurrencyLimiter, size: int) -> list[str | ConcurrencyLimitExceeded]:
    """What becomes of so many runs that begin at once."""

    async def one(number: int) -> str | ConcurrencyLimitExceeded:
        try:
            async with places.slot():
                RUNNING.append(places.running)
                return (await AGENT.run(str(number))).output
        except ConcurrencyLimitExceeded as busy:
            return busy

    return await asyncio.gather(*map(one, range(size)))


async def test_of_500_runs_at_once_some_run_some_wait_and_the_rest_is_told() -> None:
    places, threads = ConcurrencyLimiter(running=20, waiting=100), threading.active_count()
    RUNNING.clear()

    async def watch() -> None:
        while True:
            assert places.waiting <= 100
            assert threading.active_count() <= threads + 22
            await asyncio.sleep(0.005)

    watcher = asyncio.ensure_future(watch())
    results = await crowd(places, 500)
    assert not watcher.done(), watcher.exception()
    watcher.cancel()
    done = [result for result in results if isinstance(result, str)]
    refused = [result for result in results if isinstance(result, ConcurrencyLimitExceeded)]
    assert done == [f"done {number}" for number in range(120)]
    assert len(refused) == 380
    assert all(1 <= busy.retry_after <= 60 for busy in refused)
    assert "20 runs are executing and 100 are waiting" in str(refused[0])
    assert max(RUNNING) == 20
    assert (places.running, places.waiting) == (0, 0)


async def test_memory_is_flat_from_one_crowd_to_the_next() -> None:
    places = ConcurrencyLimiter(running=20, waiting=100)
    await crowd(places, 500)
    tracemalloc.start()
    try:
        sizes: list[int] = []
        for _ in range(4):
            await crowd(places, 500)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[0] < 300_000
    assert peak < 5_000_000  # 500 conversations at once have more


async def test_places_are_given_in_the_order_of_asking() -> None:
    places, order = ConcurrencyLimiter(running=1, waiting=10), list[int]()

    async def one(number: int) -> None:
        async with places.slot():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*map(one, range(8)))
    assert order == list(range(8))


async def test_without_waiting_the_second_is_refused() -> None:
    places = ConcurrencyLimiter(running=1, waiting=0)
    async with places.slot():
        with pytest.raises(ConcurrencyLimitExceeded):
            async with places.slot():
                pass
    async with places.slot():
        assert places.running == 1


async def test_a_refusal_says_when_to_come_back_by_how_long_runs_took() -> None:
    places = ConcurrencyLimiter(running=1, waiting=0)
    for seconds, words in ((1.1, "try again in 1 seconds"), (0.0, "try again in 2 seconds")):
        async with places.slot():
            with pytest.raises(ConcurrencyLimitExceeded, match=words):
                await places.slot().__aenter__()
            await asyncio.sleep(seconds)


async def test_who_fails_and_who_is_cancelled_gives_the_place_back() -> None:
    places = ConcurrencyLimiter(running=1, waiting=1)
    with pytest.raises(ValueError, match="bad"):
        async with places.slot():
            raise ValueError("bad")
    holder, waiter = (asyncio.ensure_future(held(places)) for _ in range(2))
    await asyncio.sleep(0.01)
    assert (places.running, places.waiting) == (1, 1)
    waiter.cancel()
    await asyncio.wait({waiter})
    assert (places.running, places.waiting) == (1, 0)
    holder.cancel()
    await asyncio.wait({holder})
    assert (places.running, places.waiting) == (0, 0)


async def held(places: ConcurrencyLimiter) -> None:
    async with places.slot():
        await asyncio.sleep(60)


@pytest.mark.parametrize(("running", "waiting"), [(0, 1), (-1, 1), (1, -1)])
def test_numbers_without_sense_are_refused(running: int, waiting: int) -> None:
    with pytest.raises(UsageError, match="running must be at least 1"):
        ConcurrencyLimiter(running=running, waiting=waiting)
