"""A run that is looked at from time to time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agentcall.events import Event

_MIN_INTERVAL = 0.06
"""Seconds between two looks at least: more often nobody sees."""


async def poll_events(
    events: AsyncGenerator[Event, None],
    handle: Callable[[Event], None],
    tasks: set[asyncio.Task[None]],
) -> AsyncGenerator[None, None]:
    """Hands each event to `see` at once, and yields from time to time where there is something new.

    runs: gets the task that follows the events, for as long as it does; cancelling it ends the run,
        and so does leaving the loop. Raises what the events raise.
    """
    has_news = asyncio.Event()
    has_news.set()

    async def follow() -> None:
        async with aclosing(events):
            async for event in events:
                handle(event)
                has_news.set()

    task = asyncio.create_task(follow())
    tasks.add(task)
    task.add_done_callback(lambda _: has_news.set())
    try:
        while not task.done():
            await has_news.wait()
            has_news.clear()
            shown_at = time.monotonic()
            yield
            # a long conversation takes a while to be shown; the run has half of the time
            await asyncio.sleep(max(_MIN_INTERVAL, time.monotonic() - shown_at))
        if not task.cancelled():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
        tasks.discard(task)
