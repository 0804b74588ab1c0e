"""Threads that are used again."""

import asyncio
import contextvars
import os
import threading
import time

import pytest

from agentcall.workers.threads import BRIEF_SECONDS, MAX_IDLE_THREADS, run_in_thread


async def thread_of(*, is_brief: bool = False) -> int:
    return await run_in_thread(threading.get_ident, 5, is_brief=is_brief)


@pytest.mark.parametrize("is_brief", [False, True])
async def test_one_call_after_another_is_made_in_one_thread(is_brief: bool) -> None:
    await thread_of()
    first = await thread_of(is_brief=is_brief)
    assert first != threading.get_ident()
    assert [await thread_of(is_brief=is_brief) for _ in range(20)] == [first] * 20


async def test_calls_at_the_same_time_wait_for_no_other() -> None:
    meeting = threading.Barrier(50, timeout=10)
    await asyncio.gather(*(run_in_thread(meeting.wait, 10) for _ in range(50)))
    await asyncio.sleep(0.1)
    kept = [t for t in threading.enumerate() if t.name == "agentcall tool"]
    assert len(kept) <= MAX_IDLE_THREADS + 2  # one or two may hang in another test


async def test_a_call_that_hangs_holds_up_no_other() -> None:
    go = threading.Event()
    with pytest.raises(TimeoutError):
        await run_in_thread(go.wait, 0.05)
    assert await run_in_thread(lambda: 1, 5) == 1
    go.set()


async def test_a_call_that_is_not_so_brief_is_waited_for_without_holding_up_the_loop() -> None:
    go = threading.Event()

    def slow() -> str:
        return "done" if go.wait(30) else "held up"

    waiting = asyncio.ensure_future(run_in_thread(slow, 60, is_brief=True))
    await asyncio.sleep(0)
    go.set()
    assert await waiting == "done"


@pytest.mark.parametrize("seconds", [0.0, BRIEF_SECONDS / 2, BRIEF_SECONDS, BRIEF_SECONDS * 2])
async def test_a_call_that_ends_about_when_the_loop_gives_up_is_not_lost(seconds: float) -> None:
    def nap() -> int:
        time.sleep(seconds)
        return 7

    for _ in range(200):
        assert await run_in_thread(nap, 5, is_brief=True) == 7


async def test_the_context_variables_are_those_of_the_task() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    await run_in_thread(lambda: variable.set("theirs"), 5)
    variable.set("ours")
    assert await run_in_thread(variable.get, 5) == "ours"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are for Unix")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_fork_starts_threads_of_its_own() -> None:
    await thread_of()
    child = os.fork()
    if child == 0:
        asyncio.events._set_running_loop(None)
        os._exit(asyncio.new_event_loop().run_until_complete(run_in_thread(lambda: 3, 5)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
