"""What may go wrong around a run, row by row, each through an agent and a real server.

`ROWS` names every fault and the tests that hold it, here or in another file; a test looks that they
are there.
"""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import isolated_tools
import pytest
from asking import eventually
from isolated_tools import is_running
from rows import each_row

from agentcall import Agent, Limits, RunContext, tool
from agentcall.errors import (
    BadAnswer,
    ModelError,
    ModelTimeout,
    ModelUnreachable,
    ServerFailed,
)
from agentcall.events import ToolCallRepaired
from agentcall.messages import ToolResult
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.result import RunResult, result_of
from agentcall.testing import (
    FakeServer,
    ScriptedCall,
    bad_json,
    call,
    calls,
    cut,
    forever,
    html,
    no_choices,
    null_choices,
    reset,
    say,
    slow_loris,
    status,
)
from agentcall.tools.serialize import serialize

TESTS = Path(__file__).parents[1]
ROWS: dict[str, list[str]] = {
    "the server answers 502 or 503, or takes no connection": [
        "test_a_server_that_fails_for_a_moment_is_asked_again",
        "test_a_server_that_is_not_there_raises_with_a_run_to_go_on_with",
    ],
    "429 with Retry-After": ["test_a_server_that_asks_to_wait_is_waited_for"],
    "500 always": ["test_a_server_that_fails_for_good_raises_with_a_run_to_go_on_with"],
    "the connection is reset in the middle of a stream": [
        "test_nothing_of_a_stream_that_breaks_is_carried_out"
    ],
    "a stream without finish_reason or [DONE]": [
        "test_nothing_of_a_stream_that_breaks_is_carried_out"
    ],
    "a byte a second": ["test_a_server_that_drips_ends_at_the_deadline"],
    "a body that is no answer": ["test_a_body_that_is_no_answer_raises_with_an_excerpt"],
    "an odd but good answer": ["test_an_odd_answer_is_taken"],
    "a call cut by finish_reason=length": ["test_a_call_that_was_cut_by_its_length_is_not_run"],
    "arguments that are wrong": [
        "test_wrong_arguments_are_told_and_never_run",
        "test_an_argument_too_many_is_left_out_and_that_is_told",
    ],
    "a tool that there is not": ["test_a_tool_that_there_is_not_is_told_with_those_there_are"],
    "ids of calls double or missing": ["test_calls_of_one_id_or_none_are_all_answered"],
    "the same call again and again": ["test_the_same_call_for_ever_ends_soon"],
    "100 calls in one message": [
        "test_100_calls_of_one_message_run_a_few_at_a_time_and_in_order",
        "test_calls_over_the_cap_of_a_turn_are_refused",
    ],
    "a tool raises": ["test_a_tool_that_raises_is_told_without_a_traceback"],
    "a tool ends the process, or crashes it": ["test_a_tool_that_ends_the_process_is_told"],
    "KeyboardInterrupt in a tool, and Ctrl-C": [
        "test_a_keyboard_interrupt_in_a_tool_is_its_own_failure",
        "test_run_sync.test_ctrl_c_leaves_a_result_that_can_be_gone_on_with",
        "test_run_sync.test_ctrl_c_cancels_the_run_and_ends_soon",
        "test_cli_run.test_ctrl_c_leaves_a_result_that_can_be_gone_on_with",
        "test_cli_run.test_a_second_ctrl_c_waits_for_nothing",
    ],
    "a tool hangs, loops, or holds the interpreter": [
        "test_a_tool_that_hangs_is_told_at_its_deadline",
        "test_an_isolated_tool_that_hangs_leaves_no_thread_behind",
        "test_process_pool.test_at_its_deadline_the_process_is_gone_with_its_children",
    ],
    "a tool eats memory": [
        "test_a_tool_that_eats_memory_is_told_and_we_live",
        "test_process_pool.test_memory_has_a_bound_and_there_is_enough_below_it",
    ],
    "a result of 100 MB": ["test_a_huge_result_is_shortened_with_a_note"],
    "results that JSON does not know": ["test_any_result_is_sent_as_valid_json"],
    "a result changed after it was given": ["test_a_result_is_what_it_was_when_it_was_given"],
    "the server dies in a stream and is started anew": [
        "test_a_server_that_dies_in_a_stream_and_comes_back_loses_nothing",
        "test_a_server_that_does_not_come_back_leaves_a_run_to_go_on_with",
    ],
    "the clock is moved": [
        "test_deadlines_hold_while_the_clock_jumps",
        "test_what_waits_does_not_look_at_the_clock_on_the_wall",
    ],
    "500 runs at once with slow tools": [
        "test_concurrency.test_of_500_runs_at_once_some_run_some_wait_and_the_rest_is_told",
        "test_concurrency.test_memory_is_flat_from_one_crowd_to_the_next",
    ],
    "a run is cancelled": [
        "test_a_run_that_is_cancelled_stops_every_tool",
        "test_the_connection_of_a_run_that_is_cancelled_is_closed",
    ],
    "secrets in keys, URLs, headers, environment": [
        "test_secrets.test_no_failure_of_a_server_shows_a_secret",
        "test_secrets.test_no_command_prints_a_secret_that_a_server_repeats",
        "test_secrets.test_an_isolated_tool_has_no_secret_to_tell",
    ],
}


def functions_of(name: str) -> set[str]:
    tree = ast.parse(next(TESTS.rglob(f"{name}.py")).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@each_row("row", ROWS)
def test_every_row_has_its_tests(row: str) -> None:
    for name in ROWS[row]:
        module, _, function = name.rpartition(".")
        assert function in functions_of(module or "test_faults")


# --- what runs against a server come to ---


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


class Book:
    """A tool with an effect: what was written stays written."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @tool
    def write(self, line: str) -> str:
        """Write a line."""
        self.lines.append(line)
        return f"wrote {line}"


def agent_of(server: FakeServer, *tools: Any, **options: Any) -> Agent[Any, Any]:
    limits = options.pop("limits", Limits(seconds=60))
    model = HTTPChat(HTTPEndpoint(server.url, **options), "m", dialect="native")
    return Agent(model, tools=list(tools) or [add], limits=limits)


async def streamed(agent: Agent[Any, Any]) -> RunResult[Any]:
    """The result of a run whose model answers in streams."""
    last = [event async for event in agent.run_stream("go")][-1]
    return last.result  # type: ignore[union-attr,no-any-return]


def told(result: RunResult[Any]) -> list[str]:
    """What the model was told of its calls."""
    return [message.text for message in result.messages if isinstance(message, ToolResult)]


async def assert_can_go_on(error: ModelError) -> None:
    """The run that failed is all there, and another one goes on with it."""
    result = result_of(error)
    assert result is not None
    with FakeServer([say("here I am")]) as server:
        after = await agent_of(server).run("Go on.", messages=result.messages)
        sent = server.requests[0].messages
    assert after.output == "here I am"
    assert sent[0]["content"] == "go"
    assert sent[-1]["content"] == "Go on."


async def test_a_server_that_fails_for_a_moment_is_asked_again() -> None:
    with FakeServer([status(503), status(502), say("at last")]) as server:
        assert (await agent_of(server).run("go")).output == "at last"
        assert len(server.requests) == 3


async def test_a_server_that_is_not_there_raises_with_a_run_to_go_on_with() -> None:
    with FakeServer() as server:
        asked = agent_of(server)
    with pytest.raises(ModelUnreachable, match="is it running") as caught:
        await asyncio.wait_for(asked.run("go"), 60)
    await assert_can_go_on(caught.value)


async def test_a_server_that_asks_to_wait_is_waited_for() -> None:
    passed: list[str] = []
    with FakeServer([status(429, headers={"Retry-After": "0.4"}), say("now")]) as server:
        asyncio.get_running_loop().call_later(0.35, passed.append, "a third of a second")
        assert (await agent_of(server).run("go")).output == "now"
    assert passed == ["a third of a second"]


async def test_a_server_that_fails_for_good_raises_with_a_run_to_go_on_with() -> None:
    with FakeServer([call("add", a=2, b=3), forever(status(500))]) as server:
        with pytest.raises(ServerFailed, match="answered 500") as caught:
            await agent_of(server).run("go")
        assert len(server.requests) <= 8
        assert server.url in str(caught.value)
    assert told(result_of(caught.value)) == ["5"]  # type: ignore[arg-type]
    await assert_can_go_on(caught.value)


@pytest.mark.parametrize("broken", [reset, cut])
async def test_nothing_of_a_stream_that_breaks_is_carried_out(broken: Callable[..., Any]) -> None:
    book = Book()
    whole = call("write", line="once")
    for share in (0.3, 0.7, 1.0) if broken is cut else (0.3, 0.7):
        book.lines.clear()
        with FakeServer([broken(whole, after=share), whole, say("done")]) as server:
            result = await streamed(agent_of(server, book))
        assert (result.output, book.lines) == ("done", ["once"])


async def test_a_server_that_drips_ends_at_the_deadline() -> None:
    for run in (lambda asked: asked.run("go"), streamed):
        dripping = forever(slow_loris(say("slowly " * 2000), every=0.05))
        with FakeServer([dripping]) as server, pytest.raises(ModelTimeout):
            await asyncio.wait_for(run(agent_of(server, timeout=0.5)), 60)


LONG = "<p>" + "x" * 100_000


@each_row(
    "reply",
    [
        bad_json(),
        bad_json(LONG),
        no_choices(),
        null_choices(),
        html(200),
        status(200, body=[1]),
        status(200, body={"choices": [7]}),
        status(200, body={"choices": [{"message": {"role": "user", "content": "go"}}]}),
        status(200, body={"choices": [{"message": "text"}]}),
    ],
)
async def test_a_body_that_is_no_answer_raises_with_an_excerpt(reply: Any) -> None:
    with FakeServer([forever(reply)]) as server:
        with pytest.raises(BadAnswer) as caught:
            await agent_of(server).run("go")
        assert len(server.requests) <= 8
    assert 10 < len(str(caught.value)) < 1024
    await assert_can_go_on(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "hi", "reasoning": None, "novelty": {"a": [1]}},
        {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
        {"content": "hi", "tool_calls": None},
    ],
)
async def test_an_odd_answer_is_taken(message: Any) -> None:
    body = {"choices": [{"message": message, "finish_reason": "stop", "x": 1}], "more": "of it"}
    with FakeServer([status(200, body=body)]) as server:
        assert (await agent_of(server).run("go")).output == "hi"


# --- what models do ---


async def test_a_call_that_was_cut_by_its_length_is_not_run() -> None:
    book = Book()
    long = call("write", line="cut").replace(finish_reason="length")
    with FakeServer([long, call("write", line="whole"), say("done")]) as server:
        assert (await agent_of(server, book).run("go")).output == "done"
        assert "length limit" in server.requests[1].messages[-1]["content"]
    assert book.lines == ["whole"]


@each_row(
    ("arguments", "words"),
    [
        ('{"a": 2, "b": ', "b"),
        ("two and three", "add"),
        ('{"a": "many", "b": 3}', "many"),
        ('{"a": 2}', "b"),
        ('{"a": 2, "b": null}', "b"),
        ("7", "object"),
    ],
)
async def test_wrong_arguments_are_told_and_never_run(arguments: str, words: str) -> None:
    ran: list[int] = []

    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        ran.append(a)
        return a + b

    script = [calls(ScriptedCall("add", arguments)), call("add", a=7, b=3), say("10")]
    with FakeServer(script) as server:
        result = await agent_of(server, add).run("go")
        assert words in server.requests[1].messages[-1]["content"]
    assert (result.output, ran) == ("10", [7])


async def test_an_argument_too_many_is_left_out_and_that_is_told() -> None:
    extra = calls(ScriptedCall("add", '{"a": 2, "b": 3, "carry": 1}'))
    with FakeServer([extra, say("5")]) as server:
        events = [event async for event in agent_of(server).run_stream("go")]
        sent = server.requests[1].messages[-2]["tool_calls"][0]["function"]["arguments"]
    (repaired,) = [event for event in events if isinstance(event, ToolCallRepaired)]
    assert "carry" in repaired.before
    assert json.loads(sent) == {"a": 2, "b": 3}


async def test_a_tool_that_there_is_not_is_told_with_those_there_are() -> None:
    with FakeServer([call("divide", a=1), call("add", a=2, b=3), say("5")]) as server:
        result = await agent_of(server).run("go")
        assert "The tools are: add" in server.requests[1].messages[-1]["content"]
    assert (result.output, result.usage.tool_calls) == ("5", 1)


@pytest.mark.parametrize("identity", ["", "same"])
async def test_calls_of_one_id_or_none_are_all_answered(identity: str) -> None:
    both = calls(
        ScriptedCall("add", {"a": 1, "b": 1}, identity),
        ScriptedCall("add", {"a": 2, "b": 2}, identity),
    )
    with FakeServer([both, say("done")]) as server:
        result = await agent_of(server).run("go")
        sent = server.requests[1].messages
    assert told(result) == ["2", "4"]
    asked = [one["id"] for one in sent[1]["tool_calls"]]
    assert [message["tool_call_id"] for message in sent[2:]] == asked
    assert len(set(asked)) == 2


async def test_the_same_call_for_ever_ends_soon() -> None:
    with FakeServer([forever(call("add", a=2, b=3))]) as server:
        result = await agent_of(server).run("go")
        assert len(server.requests) < 8
    assert (result.stop_reason, result.last_tool_result) == ("loop", "5")
    assert result.usage.tool_calls == 1


async def test_100_calls_of_one_message_run_a_few_at_a_time_and_in_order() -> None:
    now, most, lock = 0, 0, threading.Lock()

    @tool
    def work(number: int) -> str:
        """Work; the first take longest."""
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02 - number * 0.0002)
        with lock:
            now -= 1
        return f"done {number}"

    with FakeServer([calls(*(call("work", number=n) for n in range(100))), say("ok")]) as server:
        result = await agent_of(server, work).run("go")
        sent = server.requests[1].messages
    assert told(result) == [f"done {number}" for number in range(100)]
    assert [message["content"] for message in sent[2:]] == told(result)
    assert most == Limits().parallel == 8


async def test_calls_over_the_cap_of_a_turn_are_refused() -> None:
    many = calls(*(call("add", a=n, b=0) for n in range(1000)))
    with FakeServer([many, say("ok")]) as server:
        result = await agent_of(server).run("go")
    assert result.usage.tool_calls == Limits().calls_per_turn == 128
    assert told(result)[127] == "127"
    assert told(result)[128].startswith("Not called: only 128 calls of one turn are.")
    assert len(told(result)) == 1000
    with FakeServer([calls(*(call("add", a=n, b=0) for n in range(9))), say("ok")]) as server:
        result = await agent_of(server, limits=Limits(tool_calls=3)).run("go")
    assert (result.stop_reason, result.usage.tool_calls) == ("max_tool_calls", 3)


# --- what tools do ---


async def called(made: Any, **arguments: Any) -> str:
    """What the model is told of one call, and that the run goes on after it."""
    with FakeServer([call(made.name, **arguments), say("I go on")]) as server:
        result = await agent_of(server, made).run("go")
        sent: str = server.requests[1].messages[-1]["content"]
    assert result.output == "I go on"
    return sent


@tool
def raising(how: str) -> None:
    """Raise."""
    canary = "canary of a local variable"
    kinds = {"exit": SystemExit, "interrupt": KeyboardInterrupt, "error": ValueError}
    raise kinds[how]("bad") from RuntimeError(canary)


@tool
async def raising_later(how: str) -> None:
    """Raise, in the event loop."""
    await asyncio.sleep(0)
    raising(how)


async def test_a_tool_that_raises_is_told_without_a_traceback() -> None:
    for made in (raising, raising_later):
        assert await called(made, how="error") == "ValueError: bad"


async def test_a_tool_that_ends_the_process_is_told() -> None:
    for made in (raising, raising_later):
        assert await called(made, how="exit") == "SystemExit: bad"
    assert await called(isolated_tools.failing, how="exit") == "SystemExit: 3"
    assert "exit code 7" in await called(isolated_tools.dying, how="_exit")
    assert "SIGSEGV" in await called(isolated_tools.dying, how="segfault")


async def test_a_keyboard_interrupt_in_a_tool_is_its_own_failure() -> None:
    for made in (raising, raising_later):
        assert await called(made, how="interrupt") == "KeyboardInterrupt: bad"
    assert await called(isolated_tools.failing, how="interrupt") == "KeyboardInterrupt"


async def test_a_tool_that_hangs_is_told_at_its_deadline() -> None:
    go = threading.Event()

    @tool(timeout=0.2)
    def hanging() -> None:
        """Hang."""
        go.wait(30)

    @tool(timeout=0.2)
    async def hanging_later() -> None:
        """Hang."""
        await asyncio.sleep(30)

    late = "did not end within 0.2 seconds"
    assert await called(hanging) == f"hanging {late}; it may still be running"
    assert await called(hanging_later) == f"hanging_later {late}"
    go.set()


async def test_an_isolated_tool_that_hangs_leaves_no_thread_behind(tmp_path: Path) -> None:
    await called(isolated_tools.pid)
    before = threading.active_count()
    for how in ("sleep", "busy", "holding the interpreter"):
        sent = await called(isolated_tools.hanging, how=how, note=str(tmp_path / "pids"))
        assert sent == "hanging did not end within 0.5 seconds, and was stopped"
    end = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < end:
        await asyncio.sleep(0.02)
    assert threading.active_count() <= before + 1  # one that is kept for the next call


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
async def test_a_tool_that_eats_memory_is_told_and_we_live() -> None:
    def size() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    await called(isolated_tools.hungry, megabytes=1)
    before = size()
    assert await called(isolated_tools.hungry, megabytes=100_000) == "MemoryError"
    assert size() - before < 50_000_000


@tool
def long(size: int) -> str:
    """A long text."""
    return "x" * size


async def test_a_huge_result_is_shortened_with_a_note() -> None:
    for made in (long, isolated_tools.long):
        for size in (20_000_000, 100_000_000):
            sent = await called(made, size=size)
            assert len(sent) < 50_200
            kept = size if made is long else min(size, 50_000_057)  # with the note of the process
            assert f"the first 40000 and the last 10000 of {kept} characters; " in sent


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)


async def coroutine() -> str:
    return "awaited"


def generator() -> Iterator[int]:
    yield from range(3)


MAKERS: dict[str, Callable[[], object]] = {
    "NaN": lambda: {"value": float("nan")},
    "infinity": lambda: [float("inf"), float("-inf")],
    "bytes": lambda: b"\xff\x00",
    "a set": lambda: {3, 1, 2},
    "an object": object,
    "a cycle": lambda: CYCLE,
    "a generator": generator,
    "a coroutine": coroutine,
    "a lone surrogate": lambda: "\ud800 上海",
    "a deep list": lambda: json.loads("[" * 500 + "]" * 500),
    "an exception": lambda: ValueError("bad"),
    "a class": lambda: int,
}


@each_row("kind", MAKERS)
async def test_any_result_is_sent_as_valid_json(kind: str) -> None:
    @tool
    def give() -> object:
        """Give it."""
        return MAKERS[kind]()

    with FakeServer([call("give"), say("ok")]) as server:
        result = await agent_of(server, give).run("go")
        raw = server.requests[1].raw
    assert result.output == "ok"
    json.loads(raw, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    (sent,) = told(result)
    assert sent == (sent if kind in ("a coroutine", "a generator") else serialize(MAKERS[kind]()))
    assert sent


async def test_a_result_is_what_it_was_when_it_was_given() -> None:
    notes: list[str] = []

    @tool
    def note(text: str) -> list[str]:
        """Note."""
        notes.append(text)
        return notes

    with FakeServer([call("note", text="a"), call("note", text="b"), say("ok")]) as server:
        result = await agent_of(server, note).run("go")
    assert told(result) == ['["a"]', '["a","b"]']


# --- what happens around it ---


async def test_a_server_that_dies_in_a_stream_and_comes_back_loses_nothing() -> None:
    book = Book()
    slow = call("write", line="two").replace(delay=0.1)
    script = [call("write", line="one"), slow, call("write", line="two"), say("done")]
    with FakeServer(script) as server:

        async def outage() -> None:
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.15)  # in the middle of the second answer
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(1)
            server.start()

        broken = asyncio.ensure_future(outage())
        result = await streamed(agent_of(server, book))
        await broken
        assert len(server.requests) == 4
    assert (result.output, book.lines) == ("done", ["one", "two"])


async def test_a_server_that_does_not_come_back_leaves_a_run_to_go_on_with() -> None:
    server = FakeServer([call("add", a=2, b=3)])
    server.start()

    @tool
    async def add(a: int, b: int) -> int:
        """Add, while the server dies."""
        await asyncio.to_thread(server.stop)
        return a + b

    result = await agent_of(server, add, limits=Limits(seconds=2)).run("go")
    assert (result.stop_reason, told(result)) == ("timeout", ["5"])
    with FakeServer([say("It is 5.")]) as other:
        after = await agent_of(other).run("Go on.", messages=result.messages)
    assert after.output == "It is 5."


async def test_a_run_that_is_cancelled_stops_every_tool(tmp_path: Path) -> None:
    seen: list[str] = []
    note = tmp_path / "pids"

    @tool
    async def waiting() -> None:
        """Wait in the event loop."""
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("waiting was cancelled")

    @tool
    def looking(ctx: RunContext[None]) -> None:
        """Wait in a thread."""
        while not ctx.cancelled:
            time.sleep(0.01)
        seen.append("looking was told")

    tools = [waiting, looking, isolated_tools.endless]
    three = calls(call("waiting"), call("looking"), call("endless", note=str(note)))
    with FakeServer([three]) as server:
        task = asyncio.ensure_future(agent_of(server, *tools).run("go"))
        while not note.exists() or not note.read_text():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    result = result_of(caught.value)
    assert result is not None
    assert result.stop_reason == "cancelled"
    assert all("outcome is unknown" in words for words in told(result))
    end = time.monotonic() + 20
    while (len(seen) < 2 or is_running(int(note.read_text()))) and time.monotonic() < end:
        await asyncio.sleep(0.02)
    assert sorted(seen) == ["looking was told", "waiting was cancelled"]
    assert not is_running(int(note.read_text()))


@pytest.mark.parametrize(
    ("run", "reply"),
    [
        (lambda asked: asked.run("go"), say("late").replace(latency=30.0)),
        (streamed, say("late").replace(latency=30.0)),
        (streamed, say("slow " * 99).replace(delay=0.5)),
    ],
)
async def test_the_connection_of_a_run_that_is_cancelled_is_closed(run: Any, reply: Any) -> None:
    with FakeServer([reply]) as server:
        task = asyncio.ensure_future(run(agent_of(server)))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        await eventually(lambda: server.abandoned_count == 1)


JUMPING = """
    import time

    real, calls = time.time, 0

    def jumping():
        "The clock on the wall, a day ahead, a day behind."
        global calls
        calls += 1
        return real() + 86_400 * (-1) ** calls

    time.time = jumping

    import asyncio
    from agentcall import Agent, Limits, tool
    from agentcall.errors import ModelTimeout
    from agentcall.models.http import HTTPEndpoint
    from agentcall.models.http_chat import HTTPChat
    from agentcall.testing import FakeServer, call, forever, never, say, slow_loris, status

    @tool(timeout=0.3)
    async def waiting() -> None:
        "Wait."
        await asyncio.sleep(600)

    @tool(timeout=0.3)
    def sleeping() -> None:
        "Sleep."
        time.sleep(600)

    async def run(script, tools=(), timeout=30.0, seconds=None):
        with FakeServer(script) as server:
            model = HTTPChat(HTTPEndpoint(server.url, timeout=timeout), "m", dialect="native")
            agent = Agent(model, tools=list(tools), limits=Limits(seconds=seconds))
            passed = []
            asyncio.get_running_loop().call_later(0.25, passed.append, "not too soon")
            try:
                how = (await asyncio.wait_for(agent.run("go"), 30)).stop_reason
            except ModelTimeout:
                how = "too late"
            print(how, *passed)

    async def main():
        await run([say("hi").replace(latency=0.3)])
        await run([forever(never())], timeout=0.3)
        await run([forever(slow_loris(say("x" * 99), every=0.05))], timeout=0.3)
        await run([status(429, headers={"Retry-After": "0.3"}), say("hi")])
        await run([call("waiting"), say("hi")], [waiting])
        await run([call("sleeping"), say("hi")], [sleeping])
        await run([forever(never())], seconds=0.3)

    asyncio.run(main())
    assert time.time is jumping
"""


def test_deadlines_hold_while_the_clock_jumps() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(JUMPING)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    ways = ["final", "too late", "too late", "final", "final", "final", "timeout"]
    assert done.stdout.splitlines() == [f"{how} not too soon" for how in ways]


WAITING = ["runtime/executor", "runtime/run", "runtime/runner", "runtime/turn"]
WAITING += ["workers/process_pool", "workers/threads", "serving/concurrency"]
WAITING += ["cli/interrupt", "models/http", "models/openai_client"]


@each_row("module", WAITING)
def test_what_waits_does_not_look_at_the_clock_on_the_wall(module: str) -> None:
    tree = ast.parse((TESTS.parent / "agentcall" / f"{module}.py").read_text())
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        if (getattr(node, "module", None) or alias.name) in ("time", "datetime")
    }
    assert names <= {"monotonic", "perf_counter", "sleep"}
