from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from rows import each_row

from agentcall import Limits, ModelRetry, RunContext, ToolRegistry
from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import ToolError
from agentcall.events import Emit, Event, ToolCallFinished, ToolCallStarted
from agentcall.messages import ToolCall, ToolResult
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.executor import call_tool, execute_call, execute_calls
from agentcall.runtime.output import OutputParser
from agentcall.runtime.planned_call import PlannedCall
from agentcall.runtime.state import RunInput, RunState
from agentcall.testing import ScriptedModel
from agentcall.tools.tool import make_tool

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


def make_state(emit: Emit | None = None, limits: Limits | None = None) -> RunState:
    spec = AgentSpec(
        ScriptedModel([]),
        ToolRegistry(),
        PromptSpec("", (), None),
        OutputParser(str),
        limits or Limits(),
    )
    return RunState(spec, RunInput("r", (), 0), (), emit)


def job(function: Callable[..., Any], number: int = 0, retry: int = 0, **marks: Any) -> PlannedCall:
    tool = make_tool(function, **marks)
    call = ToolCall(f"c{number}", tool.name, "{}")
    context = RunContext[Any](deps=None, retry=retry, idempotency_key=f"r:1:{number}")
    return PlannedCall(call, "run", tool, {}, context)


async def result_of(function: Callable[..., Any], **marks: Any) -> ToolResult:
    return await execute_call(job(function, **marks), 1000)


async def all_of(jobs: list[PlannedCall], limits: Limits | None = None) -> dict[str, ToolResult]:
    state = make_state(limits=limits)
    await execute_calls(jobs, state)
    return state.results


def raising(error: BaseException) -> Callable[[], None]:
    def fails() -> None:
        raise error

    return fails


def raising_later(error: BaseException) -> Callable[[], Any]:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise error

    return fails


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS = [
    (ValueError("bad"), "ValueError: bad"),
    (ValueError(), "ValueError"),
    (KeyError("k"), "KeyError: 'k'"),
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (GeneratorExit(), "GeneratorExit"),
    (RecursionError("deep"), "RecursionError: deep"),
    (Mute(), "Mute"),
    (ToolError("plain words"), "plain words"),
    (ToolError(), "ToolError"),
    (TimeoutError("slow"), "TimeoutError: slow"),
    (ValueError("line\n\tline 上海 \ud800"), "ValueError: line\n\tline 上海 ?"),
]


@pytest.fixture
def no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "agentcall")  # xdist cannot send a lone surrogate


@pytest.mark.usefixtures("no_log")
@each_row(("error", "words"), ERRORS, ids=lambda value: repr(value)[:20])
async def test_whatever_a_sync_tool_raises_is_told(error: BaseException, words: str) -> None:
    assert await result_of(raising(error)) == ToolResult("c0", "fails", words, is_error=True)


@pytest.mark.usefixtures("no_log")
@each_row(("error", "words"), ERRORS, ids=lambda value: repr(value)[:20])
async def test_whatever_an_async_tool_raises_is_told(error: BaseException, words: str) -> None:
    assert await result_of(raising_later(error)) == ToolResult("c0", "fails", words, is_error=True)


@pytest.mark.parametrize("make", [raising, raising_later])
async def test_a_tool_that_cancels_itself_does_not_cancel_the_run(make: Any) -> None:
    result = await result_of(make(asyncio.CancelledError()))
    assert result.is_error
    assert "cancel" in result.text.lower()


@pytest.mark.parametrize("make", [raising, raising_later])
async def test_stop_iteration_is_told(make: Any) -> None:
    result = await result_of(make(StopIteration("end")))
    assert result.is_error
    assert "StopIteration" in result.text


async def test_endless_recursion_is_told() -> None:
    def deep() -> int:
        return deep() + 1

    assert (await result_of(deep)).text.startswith("RecursionError: ")


async def test_a_retry_asks_the_model_to_try_again_until_its_tries_are_used_up() -> None:
    fails = raising(ModelRetry("give a city"))
    first = await execute_call(job(fails, retries=1), None)
    assert first == ToolResult("c0", "fails", "give a city\nPlease try again.", is_error=True)
    last = await execute_call(job(fails, retry=1, retries=1), None)
    assert last.text == "give a city\nDo not call fails again; answer without it."


def generator() -> Iterator[int]:
    yield from (1, 2)


def broken_generator() -> Iterator[int]:
    yield 1
    raise ValueError("half way")


async def async_generator() -> AsyncIterator[int]:
    yield 1
    yield 2


async def broken_async_generator() -> AsyncIterator[int]:
    yield 1
    raise SystemExit


async def coroutine() -> str:
    return "done"


def gives_coroutine() -> Any:
    return coroutine()


async def gives_generator() -> Any:
    return generator()


def gives_broken_coroutine() -> Any:
    return raising_later(SystemExit(1))()


@each_row(
    ("function", "text", "is_error"),
    [
        (generator, "[1,2]", False),
        (async_generator, "[1,2]", False),
        (coroutine, "done", False),
        (gives_coroutine, "done", False),
        (gives_generator, "[1,2]", False),
        (broken_generator, "ValueError: half way", True),
        (broken_async_generator, "SystemExit", True),
        (gives_broken_coroutine, "SystemExit: 1", True),
    ],
)
async def test_generators_and_coroutines_are_followed_to_their_end(
    function: Any, text: str, is_error: bool
) -> None:
    assert await result_of(function) == ToolResult("c0", function.__name__, text, is_error)


async def test_an_endless_async_generator_is_cut() -> None:
    async def endless() -> AsyncIterator[int]:
        while True:
            yield 1

    assert "<cut after 10000 items>" in (await execute_call(job(endless), None)).text


async def test_a_result_is_what_it_was_when_the_tool_gave_it() -> None:
    items = [1]

    def give() -> list[int]:
        threading.Timer(0.01, items.append, [2]).start()
        return items

    result = await result_of(give)
    await asyncio.sleep(0.05)
    assert items == [1, 2]
    assert result.text == "[1]"


async def test_a_result_is_cut_to_the_limit_with_a_note() -> None:
    result = await execute_call(job(lambda: "x" * 20_000_000, name="big"), 100)
    assert len(result.text) < 200
    assert "19999900 of 20000000 characters cut out" in result.text


async def test_calls_run_at_the_same_time_and_no_more_than_the_limit() -> None:
    now, most = 0, 0
    lock = threading.Lock()

    def sync() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.1)
        with lock:
            now -= 1

    results = await all_of([job(sync, i) for i in range(8)], Limits(parallel=4))
    assert len(results) == 8
    assert most == 4
    most = 0
    await all_of([job(sync, i) for i in range(8)], Limits(parallel=None))
    assert most == 8


async def test_a_sequential_tool_runs_alone() -> None:
    running: set[str] = set()
    seen: list[set[str]] = []

    def watched(name: str) -> Callable[[], Any]:
        async def work() -> None:
            running.add(name)
            await asyncio.sleep(0.02)
            seen.append(set(running))
            running.discard(name)

        return work

    jobs = [job(watched(str(i)), i, sequential=i == 2) for i in range(5)]
    assert list(await all_of(jobs)) == ["c0", "c1", "c2", "c3", "c4"]
    assert {"2"} in seen
    assert all(found == {"2"} for found in seen if "2" in found)


async def test_a_sync_tool_sees_the_context_variables_of_its_run() -> None:
    WHO.set("somebody")
    assert (await result_of(lambda: WHO.get(), name="who")).text == "somebody"


async def test_an_async_tool_is_cancelled_at_its_deadline() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("cancelled")

    result = await result_of(slow, timeout=0.05)
    assert result.text == "slow did not end within 0.05 seconds"
    assert result.is_error
    assert ended == ["cancelled"]


async def test_a_sync_tool_at_its_deadline_may_still_be_running() -> None:
    go = threading.Event()
    call = result_of(lambda: go.wait(60), name="slow", timeout=0.05)
    result = await asyncio.wait_for(call, 30)
    assert result.text == "slow did not end within 0.05 seconds; it may still be running"
    go.set()


async def test_a_tool_that_will_not_be_cancelled_holds_nothing_up_for_long() -> None:
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await go.wait()

    result = await asyncio.wait_for(result_of(stubborn, timeout=0.05), 30)
    assert "did not end" in result.text
    go.set()
    await asyncio.sleep(0)


async def test_a_cancelled_run_cancels_its_tools_and_keeps_what_was_done() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("slow")

    state = make_state()
    jobs = [job(coroutine, 0), job(slow, 1), job(slow, 2)]
    task = asyncio.ensure_future(execute_calls(jobs, state))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["slow", "slow"]
    assert list(state.results) == ["c0"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_happens_is_told_in_order() -> None:
    events: list[Event] = []
    done = job(coroutine)
    await execute_calls([done], make_state(events.append))
    started, finished = events
    assert started == ToolCallStarted(done.call)
    assert isinstance(finished, ToolCallFinished)
    assert finished.result.text == "done"
    assert finished.seconds >= 0


async def test_one_call_by_name_is_repaired_checked_and_carried_out() -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    registry = ToolRegistry(add)
    assert await call_tool(registry, "add", '{"a": 2, "b": "3"}') == "5"
    assert await call_tool(registry, "functions.Add", "{'a': 2, 'b': 3,}") == "5"
    assert "no tool named 'div'" in await call_tool(registry, "div", "{}")
    assert "b" in await call_tool(registry, "add", '{"a": 2}')


async def test_one_call_by_name_gets_the_deps() -> None:
    def who(ctx: RunContext[str]) -> str:
        """Who."""
        return ctx.deps

    assert await call_tool(ToolRegistry(who), "who", "", deps="me") == "me"


def test_the_process_ends_at_once_although_a_tool_goes_on() -> None:
    code = """
        import asyncio, time
        from agentcall import ToolRegistry, tool
        from agentcall.runtime.executor import call_tool

        @tool(timeout=0.1)
        def sleep() -> None:
            "Sleep."
            time.sleep(600)

        print(asyncio.run(call_tool(ToolRegistry(sleep), "sleep", "{}")))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip  # of the ten minutes of the tool
    assert "it may still be running" in done.stdout
    assert done.stderr == ""
