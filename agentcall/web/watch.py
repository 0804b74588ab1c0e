"""A run that is looked at from time to time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agentcall.events import Event

_PAUSE = 0.06
"""Seconds between two looks at least: more often nobody sees."""


async def watched(
    events: AsyncGenerator[Event, None],
    see: Callable[[Event], None],
    runs: set[asyncio.Task[None]],
) -> AsyncGenerator[None, None]:
    """Hands each event to `see` at once, and yields from time to time where there is something new.

    runs: gets the task that follows the events, for as long as it does; cancelling it ends the run,
        and so does leaving the loop. Raises what the events raise.
    """
    news = asyncio.Event()
    news.set()

    async def follow() -> None:
        async with aclosing(events):
            async for event in events:
                see(event)
                news.set()

    task = asyncio.create_task(follow())
    runs.add(task)
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done():
            await news.wait()
            news.clear()
            told = time.monotonic()
            yield
            # a long conversation takes a while to be shown; the run has half of the time
            await asyncio.sleep(max(_PAUSE, time.monotonic() - told))
        if not task.cancelled():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
        runs.discard(task)
