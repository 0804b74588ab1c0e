"""Isolated tools: real processes, really killed."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import isolated_tools
import pytest
from command_line import agentcall, asked, model_of
from isolated_tools import is_running

from agentcall import Agent, RunContext, Tool, ToolRegistry, tool
from agentcall.errors import UsageError
from agentcall.messages import format_json
from agentcall.runtime.executor import call_tool
from agentcall.runtime.runner import run_sync
from agentcall.testing import ScriptedModel, call, calls, say
from agentcall.tools.tool import make_tool
from agentcall.workers.process_pool import MAX_BUSY_WORKERS

TOOLS = ToolRegistry(isolated_tools, isolated_tools.Kit)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.name != "posix", reason="isolated tools are for Unix"),
]


@tool(isolated=True)
def of_this_file(a: int) -> int:
    """A tool in a test module."""
    return a + 100


def told(name: str, **arguments: Any) -> str:
    """What a model is told of a call."""
    return run_sync(call_tool(TOOLS, name, format_json(arguments)))


def eventually_gone(pids: list[int]) -> bool:
    end = time.monotonic() + 20
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(is_running, pids))


def pids_in(note: Path) -> list[int]:
    return [int(line) for line in note.read_text().split()]


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "pids"
    path.touch()
    return path


# --- what a call gives ---


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("add", {"a": 2}, "5"),
        ("add", {"a": "2", "b": 5}, "7"),
        ("add_later", {"a": 2, "b": 3}, "5"),
        ("mirrored", {"point": {"x": 1, "y": 2}}, '{"x":2,"y":1}'),
        ("counted", {"to": 3}, "[0,1,2]"),
        ("counted_later", {"to": 3}, "[0,1,2]"),
        ("static", {"a": 1}, "2"),
        ("failing", {"how": "error"}, "ValueError: bad"),
        ("failing", {"how": "words"}, "plain words"),
        ("failing", {"how": "exit"}, "SystemExit: 3"),
        ("failing", {"how": "interrupt"}, "KeyboardInterrupt"),
        ("failing", {"how": "cancel"}, "CancelledError"),
        ("picky", {}, "give a city\nPlease try again."),
    ],
)
def test_a_call_gives_what_it_gives_elsewhere(name: str, arguments: Any, text: str) -> None:
    assert told(name, **arguments) == text


def test_endless_recursion_is_told() -> None:
    assert told("failing", how="deep").startswith("RecursionError")


def test_what_no_json_holds_is_as_it_is_elsewhere() -> None:
    plain = ToolRegistry(make_tool(isolated_tools.odd.function))
    assert told("odd") == run_sync(call_tool(plain, "odd", "{}"))


def test_wrong_arguments_never_reach_the_process() -> None:
    assert "a" in told("add", b=1)


def test_one_worker_makes_one_call_after_another() -> None:
    first = told("pid")
    assert first != str(os.getpid())
    assert [told("pid") for _ in range(5)] == [first] * 5


def test_a_tool_of_a_test_module_is_found() -> None:
    assert run_sync(call_tool(ToolRegistry(of_this_file), "of_this_file", '{"a": 1}')) == "101"


def test_a_function_that_became_a_tool_elsewhere_is_found_and_has_its_new_name() -> None:
    doubled = make_tool(isolated_tools.plain, name="doubled", isolated=True)
    assert run_sync(call_tool(ToolRegistry(doubled), "doubled", '{"a": 4}')) == "8"


def test_it_works_in_one_event_loop_after_another() -> None:
    for _ in range(2):
        assert asyncio.run(call_tool(TOOLS, "add", '{"a": 1, "b": 1}')) == "2"


async def test_a_tool_knows_of_its_run_all_but_the_deps() -> None:
    agent = Agent(ScriptedModel([call("context"), say("ok")]), tools=[isolated_tools.context])
    result = await agent.run("who?", deps=None)
    found = result.tool_calls[0][1]
    assert found is not None
    key = f"{result.run_id}:1:0"
    assert json.loads(found.text) == [result.run_id, key, "call_1_0", 1, ["who?"]]


# --- what it does not harm ---


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("_exit", "dying gave no result: its process was ended with exit code 7"),
        ("segfault", "dying gave no result: its process was ended by SIGSEGV (it crashed)"),
        ("abort", "dying gave no result: its process was ended by SIGABRT (it crashed)"),
        ("kill", "dying gave no result: its process was ended by SIGKILL"),
        ("deaf", "dying gave no result: its process closed its connection"),
        ("stray", "dying gave no result: its process wrote to the socket"),
        ("stray line", "dying gave no result: its process wrote to the socket"),
        ("stray JSON", "dying gave no result: its process wrote to the socket"),
        ("flood", "dying gave no result: its process printed more than 10,000,000 bytes"),
        ("interrupt", "KeyboardInterrupt"),
    ],
)
def test_a_process_that_ends_is_told_and_the_next_call_has_another(how: str, words: str) -> None:
    assert told("dying", how=how).startswith(words)
    assert told("add", a=1, b=1) == "2"


async def test_other_runs_live_while_a_process_dies() -> None:
    alive, dead = await asyncio.gather(
        call_tool(TOOLS, "add_later", '{"a": 2, "b": 2}'),
        call_tool(TOOLS, "dying", '{"how": "segfault"}'),
    )
    assert alive == "4"
    assert "SIGSEGV" in dead


@pytest.mark.parametrize(
    "how", ["sleep", "busy", "holding the interpreter", "deaf to signals", "with children"]
)
def test_at_its_deadline_the_process_is_gone_with_its_children(how: str, note: Path) -> None:
    words = told("hanging", how=how, note=str(note))
    assert words == "hanging did not end within 0.5 seconds, and was stopped"
    assert eventually_gone(pids_in(note))


def test_an_async_tool_that_will_not_be_cancelled_is_gone_as_well(note: Path) -> None:
    assert "was stopped" in told("hanging_later", note=str(note))
    assert eventually_gone(pids_in(note))


def test_a_bomb_of_processes_is_gone_at_its_deadline(note: Path) -> None:
    assert "was stopped" in told("bomb", note=str(note))
    pids = pids_in(note)
    assert len(pids) > 20
    assert eventually_gone(pids)


@pytest.mark.parametrize("what", ["child", "thread"])
def test_what_a_call_leaves_behind_ends_and_the_worker_with_it(what: str) -> None:
    pids = [int(number) for number in told("leaving", what=what)[1:-1].split(",")]
    assert eventually_gone(pids)
    assert told("pid") != str(pids[0])


def test_a_cancelled_run_kills_its_process(note: Path) -> None:
    agent = Agent(ScriptedModel([call("endless", note=str(note))]), tools=[isolated_tools.endless])

    async def cancelled() -> None:
        task = asyncio.ensure_future(agent.run("go"))
        while not note.read_text():
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})

    run_sync(cancelled())
    assert eventually_gone(pids_in(note))


def test_memory_has_a_bound_and_there_is_enough_below_it() -> None:
    assert told("hungry", megabytes=100) == "took 100"
    assert told("hungry", megabytes=2000) == "MemoryError"
    assert told("hungry", megabytes=100) == "took 100"


def test_a_long_result_is_cut_before_it_is_sent() -> None:
    text = told("long", size=100_000_000)
    assert len(text) < 50_200
    assert "99950000 of 100000000 characters cut out" in text


def test_what_it_prints_is_on_our_standard_error(capfd: Any) -> None:
    assert told("talking", words="hear ye") == "said"
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("hear ye") == 3


def test_nobody_types_into_it() -> None:
    assert told("reading").startswith("EOFError")


def test_it_works_in_our_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told("folder")
    monkeypatch.chdir(tmp_path)
    assert told("folder") == str(tmp_path)


def test_a_secret_of_the_environment_is_there_for_those_who_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTCALL_API_KEY", "canary")
    monkeypatch.setenv("AGENTCALL_TEST_NAMED", "canary")
    told("dying", how="_exit")  # so that the next worker is new
    assert "canary" not in told("variables")
    assert told("named_variables").count("canary") == 1


async def test_only_so_many_work_at_the_same_time() -> None:
    many = (call_tool(TOOLS, "pid", "{}") for _ in range(4 * MAX_BUSY_WORKERS))
    assert len(set(await asyncio.gather(*many))) <= MAX_BUSY_WORKERS


def children() -> list[str]:
    """The states of this process's children."""
    stats = (path.read_text().rpartition(") ")[2] for path in _stats())
    return [stat[0] for stat in stats if stat.split()[1] == str(os.getpid())]


def _stats() -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            path.read_text()
        except OSError:
            continue
        yield path


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc here")
def test_nothing_leaks_where_workers_die() -> None:
    def files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    told("dying", how="_exit")
    told("pid")
    before, threads = files(), threading.active_count()
    for how in ("_exit", "kill", "_exit"):
        told("dying", how=how)
    told("pid")
    assert files() <= before
    assert threading.active_count() <= threads + 1
    assert "Z" not in children()


# --- what cannot be isolated ---


def make_closure() -> Any:
    def inner(a: int) -> int:
        """Inner."""
        return a

    return inner


class Desk:
    def open(self, a: int) -> int:
        """Open."""
        return a

    def __call__(self, a: int) -> int:
        """Call."""
        return a


def with_deps(ctx: RunContext[str], a: int) -> int:
    """With deps."""
    return a


def with_any_deps(ctx: RunContext, a: int) -> int:  # type: ignore[type-arg]
    """With deps of any type."""
    return a


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (make_closure(), "define it at the top of a module"),
        (lambda a: a, "define it at the top of a module"),
        (Desk().open, "make it a function at the top of a module"),
        (Desk.open, "make it a function at the top of a module"),
        (Desk(), "write one at the top of a module"),
        (functools.partial(isolated_tools.plain, 1), "write one at the top of a module"),
        (with_deps, r"use RunContext\[None\]"),
        (with_any_deps, r"use RunContext\[None\]"),
    ],
)
def test_what_no_other_process_can_find_is_refused_at_once(function: Any, words: str) -> None:
    with pytest.raises(UsageError, match=f"cannot be isolated: .*{words}"):
        make_tool(function, name="made", isolated=True)


def elsewhere(a: int) -> int:
    """Another function has this name in the end."""
    return a


shadowed: Tool[Any, Any] = make_tool(elsewhere, isolated=True)


def elsewhere(a: int) -> int:  # type: ignore[no-redef]
    """The other one."""
    return -a


def test_what_is_not_found_under_its_name_is_refused_by_the_agent_and_told() -> None:
    with pytest.raises(UsageError, match=r"elsewhere cannot be isolated: .*has no such function"):
        Agent(ScriptedModel([say("hi")]), tools=[shadowed])
    registry = ToolRegistry(shadowed)
    words = run_sync(call_tool(registry, "elsewhere", '{"a": 1}'))
    assert words.startswith("elsewhere cannot be isolated")


def test_what_was_typed_in_is_refused_by_the_agent() -> None:
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec("def typed(a: int) -> int:\n    'Typed.'\n    return a", space)
    with pytest.raises(UsageError, match="put it into a file"):
        Agent(ScriptedModel([say("hi")]), tools=[make_tool(space["typed"], isolated=True)])


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ({"memory": 10**9}, "memory= is for isolated tools; add isolated=True"),
        ({"variables": ["KEY"]}, "variables= is for isolated tools; add isolated=True"),
        ({"isolated": True, "memory": 0}, "memory=0.: it has to be a number of bytes above 0"),
        ({"isolated": True, "variables": "KEY"}, "variables='KEY'.: it has to be a list of names"),
    ],
)
def test_marks_without_sense_are_refused(marks: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_tool(isolated_tools.plain, **marks)


# --- programs ---


SCRIPT = """
    import os
    from agentcall import Agent, tool
    from agentcall.testing import ScriptedModel, call, say

    @tool(isolated=True, timeout=None)
    def work(note: str) -> str:
        "Work."
        if note:
            open(note, "w").write(f"{os.getpid()}\\n")
            while True:
                pass
        return f"in {__name__}"

    def main(note: str = "") -> None:
        agent = Agent(ScriptedModel([call("work", note=note), say("ok")]), tools=[work])
        print(agent.run_sync("go").tool_calls[0][1].text)
"""
GUARD = """
    if __name__ == "__main__":
        import sys
        main(*sys.argv[1:])
"""


def script(tmp_path: Path, *parts: str) -> Path:
    path = tmp_path / "program.py"
    path.write_text("".join(map(textwrap.dedent, parts)))
    return path


def python(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, words)],
        capture_output=True, text=True, timeout=60, check=False, cwd=cwd,
    )  # fmt: skip


def test_a_tool_of_a_script_works_and_leaves_no_word_behind(tmp_path: Path) -> None:
    done = python(script(tmp_path, SCRIPT, GUARD), cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("in agentcall_home_program\n", "")


def test_a_tool_of_a_module_that_is_run_works(tmp_path: Path) -> None:
    script(tmp_path, SCRIPT, GUARD)
    done = python("-m", "program", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("in program\n", "")


def test_a_script_that_runs_when_it_is_imported_does_not_run_again(tmp_path: Path) -> None:
    done = python(script(tmp_path, SCRIPT, "\nmain()\n"), cwd=tmp_path)
    assert 'put the run under `if __name__ == "__main__":`' in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_file_that_cannot_be_imported_again_is_told(tmp_path: Path) -> None:
    needs = '\nimport os\nos.environ["CANARY_KEY"]\n'
    path = script(tmp_path, SCRIPT, needs, GUARD)
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "CANARY_KEY": "x"},
    )  # fmt: skip
    assert "cannot be imported in another process: KeyError: 'CANARY_KEY'" in done.stdout
    assert "name those that it needs with variables=" in done.stdout


def test_a_worker_ends_with_a_program_that_is_killed(tmp_path: Path, note: Path) -> None:
    program = subprocess.Popen([sys.executable, script(tmp_path, SCRIPT, GUARD), note])
    while not note.read_text():
        time.sleep(0.05)
    (worker,) = pids_in(note)
    program.kill()
    program.wait()
    assert eventually_gone([worker])


TALKATIVE = """
    import asyncio, os
    from agentcall import Agent, RunContext, tool
    from agentcall.testing import ScriptedModel, call, say

    @tool(isolated=True, timeout=None)
    def work(context: RunContext[None], note: str) -> None:
        "Work."
        open(note, "w").write(f"{os.getpid()}\\n")
        while True:
            context.emit("x" * 500_000)

    async def read(note: str) -> None:
        agent = Agent(ScriptedModel([call("work", note=note), say("ok")]), tools=[work])
        async for event in agent.run_stream("go"):
            pass

    def main(note: str = "") -> None:
        asyncio.run(read(note))
"""


def test_a_worker_that_reports_progress_ends_with_its_program(tmp_path: Path, note: Path) -> None:
    program = subprocess.Popen([sys.executable, script(tmp_path, TALKATIVE, GUARD), note])
    while not note.read_text():
        time.sleep(0.05)
    (worker,) = pids_in(note)
    program.kill()
    program.wait()
    assert eventually_gone([worker])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_leaves_the_workers_to_its_parent() -> None:
    before = told("pid")
    child = os.fork()
    if child == 0:
        asyncio.events._set_running_loop(None)
        os._exit(asyncio.run(call_tool(TOOLS, "pid", "{}")) == before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert told("pid") == before


def test_a_tool_of_a_file_works_on_the_command_line(tmp_path: Path) -> None:
    script(tmp_path, SCRIPT)
    done = agentcall("tools", "call", "program.py:work", '{"note": ""}', cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("in agentcall_home_program\n", "")
    with model_of(calls(call("work", note="")), say("done")) as server:
        done = agentcall("run", "?", "-t", "program.py", "-m", server.url, cwd=tmp_path)
        told = asked(server)[-1].messages[-1]["content"]
    assert (done.stdout, told) == ("done\n", "in agentcall_home_program")
