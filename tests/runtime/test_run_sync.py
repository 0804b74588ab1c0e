from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentcall import Agent, tool
from agentcall.runtime.runner import run_sync
from agentcall.testing import FakeServer, RecordedRequest, Reply, ScriptedModel, call, say

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


async def who() -> str:
    await asyncio.sleep(0)
    return WHO.get()


async def fails() -> None:
    raise ValueError("bad")


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_coroutine_gives_its_value_or_its_error() -> None:
    assert run_sync(who()) == "nobody"
    with pytest.raises(ValueError, match="bad"):
        run_sync(fails())


def test_the_callers_context_variables_are_seen() -> None:
    token = WHO.set("me")
    try:
        assert run_sync(who()) == "me"
    finally:
        WHO.reset(token)
    assert run_sync(who()) == "nobody"


async def test_it_works_inside_a_running_loop() -> None:
    agent = Agent(ScriptedModel([say("hi")]))
    assert agent.run_sync("go").output == "hi"
    assert asyncio.get_running_loop().is_running()


def test_it_works_in_a_loop_that_runs_cell_after_cell() -> None:
    loop = asyncio.new_event_loop()  # as a notebook keeps one

    async def cell() -> str:
        return Agent(ScriptedModel([say("hi")])).run_sync("go").output

    try:
        assert [loop.run_until_complete(cell()) for _ in range(2)] == ["hi", "hi"]
    finally:
        loop.close()


def test_it_works_from_many_threads_at_once() -> None:
    arrived: list[int] = []

    async def wait_for_the_others() -> None:
        while len(arrived) < 20:
            await asyncio.sleep(0.01)

    async def name(number: int) -> tuple[int, str]:
        arrived.append(number)
        await asyncio.wait_for(wait_for_the_others(), 30)
        return number, WHO.get()

    def one(number: int) -> tuple[int, str]:
        WHO.set(str(number))
        return run_sync(name(number))

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [(n, str(n)) for n in range(20)]


def test_a_tool_may_run_an_agent_of_its_own_sync_or_async() -> None:
    def inner() -> str:
        return Agent(ScriptedModel([say("inside")])).run_sync("go").output

    @tool
    def plain() -> str:
        """Plain."""
        return inner()

    @tool
    async def blocking() -> str:
        """Blocks the loop that it runs in."""
        return inner()

    for made in (plain, blocking):
        outer = Agent(ScriptedModel([call(made.name), say("ok")]), tools=[made])
        found = outer.run_sync("go").tool_calls[0][1]
        assert found is not None
        assert found.text == "inside"


def test_a_run_that_cancels_itself_raises() -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_sync(cancels())


def test_ctrl_c_cancels_the_run_and_ends_soon() -> None:
    process = python("""
        import asyncio, sys
        from agentcall import Agent, tool
        from agentcall.testing import ScriptedModel, call

        @tool
        async def slow() -> None:
            "Slow."
            print("started", flush=True)
            try:
                await asyncio.sleep(60)
            finally:
                print("cancelled", flush=True)

        Agent(ScriptedModel([call("slow")]), tools=[slow]).run_sync("go")
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)  # half of what the tool would take
    assert out == "cancelled\n"
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1
    assert "Warning" not in err


def test_ctrl_c_does_not_wait_for_a_sync_tool() -> None:
    process = python("""
        import time
        from agentcall import Agent, tool
        from agentcall.testing import ScriptedModel, call

        @tool
        def slow() -> None:
            "Slow."
            print("started", flush=True)
            time.sleep(60)

        try:
            Agent(ScriptedModel([call("slow")]), tools=[slow]).run_sync("go")
        except KeyboardInterrupt:
            print("stopped", flush=True)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)  # half of what the tool would take
    assert (out, err, process.returncode) == ("stopped\n", "", 0)


@pytest.mark.processes
def test_ctrl_c_leaves_a_result_that_can_be_gone_on_with() -> None:
    process = python("""
        import time
        from agentcall import Agent, tool
        from agentcall.result import result_of
        from agentcall.testing import ScriptedModel, call, say

        @tool
        def quick() -> str:
            "Quick."
            return "done"

        @tool
        async def slow() -> None:
            "Slow, and slow to stop."
            import asyncio
            print("started", flush=True)
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)

        script = ScriptedModel([call("quick"), call("slow"), say("on")])
        agent = Agent(script, tools=[quick, slow])
        try:
            agent.run_sync("go")
        except KeyboardInterrupt as interrupt:
            result = result_of(interrupt)
            print(result.stop_reason, [found.text for _, found in result.tool_calls])
            print(agent.run_sync("Go on.", messages=result.messages).output)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    undone = "The run ended before this call did; its outcome is unknown."
    assert (out, err) == (f"cancelled {['done', undone]}\non\n", "")


@pytest.mark.processes
@pytest.mark.parametrize("how", ["await asyncio.sleep(600)", "time.sleep(600)"])
def test_ctrl_c_twice_ends_a_run_whose_tool_will_not_stop(how: str) -> None:
    process = python(f"""
        import asyncio, time
        from agentcall import Agent, tool
        from agentcall.testing import ScriptedModel, call

        @tool
        async def stubborn() -> None:
            "Stubborn."
            print("started", flush=True)
            while True:
                try:
                    {how}
                except asyncio.CancelledError:
                    pass

        try:
            Agent(ScriptedModel([call("stubborn")]), tools=[stubborn]).run_sync("go")
        except KeyboardInterrupt:
            print("stopped", flush=True)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)  # of the ten minutes of the tool
    assert (out, err, process.returncode) == ("stopped\n", "", 0)


def test_a_process_ends_without_a_warning_after_runs_over_http() -> None:
    process = python("""
        from agentcall import Agent
        from agentcall.models.http_chat import HTTPChat
        from agentcall.testing import FakeServer, say

        with FakeServer([say("one"), say("two")]) as server:
            agent = Agent(HTTPChat(server.url, "fake-model", dialect="native"))
            print(agent.run_sync("go").output, agent.run_sync("go").output)
    """)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("one two\n", "", 0)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_fork_gets_a_loop_of_its_own() -> None:
    process = python("""
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from agentcall.runtime.runner import run_sync

        async def one():
            return 1

        run_sync(one())
        child = os.fork()
        if child == 0:
            print("child", run_sync(one()), flush=True)
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print("parent", run_sync(one()), status)
    """)
    out, err = process.communicate(timeout=10)
    assert (out, err) == ("child 1\nparent 1 0\n", "")


def test_no_thread_is_left_for_each_run() -> None:
    run_sync(who())
    before = threading.active_count()
    for _ in range(10):
        run_sync(who())
    assert threading.active_count() == before


@pytest.mark.processes
def test_programs_that_tests_start_can_be_interrupted_in_the_background() -> None:
    code = "import conftest, signal; print(signal.getsignal(signal.SIGINT).__name__)"
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests / 'support'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "default_int_handler\n"


PATCHED = """
import sys

def patch():
    if sys.argv[1] == "gevent":
        from gevent import monkey, spawn
        monkey.patch_all()
        return lambda jobs: [job.get() for job in [spawn(job) for job in jobs]]
    import eventlet
    eventlet.monkey_patch()
    return lambda jobs: [job.wait() for job in [eventlet.spawn(job) for job in jobs]]

if sys.argv[2] == "first":
    run_all = patch()

from agentcall import Agent
from agentcall.testing import ScriptedModel, call, say

if sys.argv[2] == "later":
    run_all = patch()

def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

async def ask_another(question: str) -> str:
    "Ask another agent."
    return Agent(ScriptedModel([say("nested")])).run_sync(question).output

agent = Agent(sys.argv[3], tools=[add, ask_another])

def run():
    return agent.run_sync("go").output

print(run(), run(), *run_all([run, run, run]))
nested = ScriptedModel([call("ask_another", question="?"), say("done")])
print(Agent(nested, tools=[ask_another]).run_sync("go").tool_calls[0][1].text)
"""


@pytest.mark.parametrize("patched", ["first", "later"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_run_sync_works_in_a_program_that_gevent_or_eventlet_has_patched(
    library: str, patched: str
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")

    def brain(request: RecordedRequest) -> Reply:
        is_done = request.messages[-1]["role"] == "tool"
        return say("3") if is_done else call("add", a=1, b=2)

    with FakeServer(brain) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PATCHED, library, patched, server.url],
            capture_output=True,
            text=True,
            timeout=100,
        )
    runs, _, nested = done.stdout.partition("\n")
    assert (runs.split(), done.returncode) == (["3"] * 5, 0), done.stderr
    assert "use `await agent.run(...)` in it" in nested
