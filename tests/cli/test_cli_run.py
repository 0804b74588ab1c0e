from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import SCRIPT, TOOLS, agentcall, asked, environment, model_of

from agentcall import Agent
from agentcall.testing import (
    FakeServer,
    Reply,
    ScriptedCall,
    call,
    calls,
    cut,
    forever,
    say,
    status,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TOOLS)
    return tmp_path


def test_standard_output_holds_the_answer_alone(folder: Path) -> None:
    with model_of(call("add", a=3, b=5), call("mul", a=8, b=2), say("It is 16.")) as server:
        done = agentcall("run", "(3+5)*2?", "-t", "mine.py", "-m", server.url, cwd=folder)
    assert (done.returncode, done.stdout) == (0, "It is 16.\n")


def test_without_a_terminal_each_call_is_one_plain_line(folder: Path) -> None:
    replies = (calls(call("add", a=3, b=5), call("fail")), say("Done."))
    with model_of(*replies) as server:
        done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, cwd=folder)
    lines = done.stderr.splitlines()
    assert any(line.startswith("tool: add(a=3, b=5) -> 8 (") for line in lines)
    assert any(line.startswith("tool: fail() error: ValueError: no disk") for line in lines)
    assert "\x1b" not in done.stderr


def test_an_exception_of_a_tool_is_one_line_with_its_place(folder: Path) -> None:
    with model_of(call("fail"), call("fail"), say("Done.")) as server:
        done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, cwd=folder)
    number = TOOLS.splitlines().index('    raise ValueError("no disk")') + 1
    assert done.stderr.splitlines()[-1] == (
        f"tool fail raised ValueError: no disk (mine.py:{number}); -v shows the traceback"
    )
    assert done.stderr.count("-v shows") == 1
    assert done.stdout == "Done.\n"


def test_verbose_shows_the_traceback_of_a_tool_from_its_own_code_on(folder: Path) -> None:
    with model_of(call("fail"), say("Done.")) as server:
        done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, "-v", cwd=folder)
    report = done.stderr.partition("fail raised an exception\n")[2].splitlines()
    assert report[0] == "Traceback (most recent call last):"
    assert report[1].endswith("in fail")
    assert "mine.py" in report[1]
    assert report[-1] == "ValueError: no disk"


def test_the_usage_line_counts_requests_tokens_calls_and_seconds(folder: Path) -> None:
    with model_of(call("add", a=3, b=5), say("8")) as server:
        done = agentcall("run", "3+5?", "-t", "mine.py", "-m", server.url, cwd=folder)
    usage = done.stderr.splitlines()[-1]
    assert usage.startswith("2 requests · ")
    assert " tokens in, " in usage
    assert " tokens/s · 1 tool call · " in usage


def test_text_before_a_call_is_no_part_of_the_answer(folder: Path) -> None:
    with model_of(calls(call("add", a=1, b=1), text="Let me see."), say("2")) as server:
        done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, cwd=folder)
    assert done.stdout == "2\n"


def test_quiet_leaves_standard_error_empty(folder: Path) -> None:
    with model_of(call("add", a=3, b=5), say("8")) as server:
        done = agentcall("run", "?", "-q", "-t", "mine.py", "-m", server.url, cwd=folder)
    assert (done.stdout, done.stderr) == ("8\n", "")


def test_what_is_piped_in_comes_before_the_words(folder: Path) -> None:
    with model_of(say("ok")) as server:
        agentcall("run", "What is it?", "-m", server.url, cwd=folder, stdin="a log 日志\n")
        agentcall("run", "-", "-m", server.url, cwd=folder, stdin="all of it")
        agentcall("run", "-m", server.url, cwd=folder, stdin="piped alone")
        said = [request.messages[-1]["content"] for request in asked(server)]
    assert said == ["a log 日志\n\nWhat is it?", "all of it", "piped alone"]


def test_bytes_that_are_no_text_do_not_break_a_run(folder: Path) -> None:
    with model_of(say("ok")) as server:
        done = agentcall("run", "?", "-m", server.url, cwd=folder, stdin=b"\xff\xfe\x00")
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_nothing_to_ask_is_a_usage_error(folder: Path) -> None:
    done = agentcall("run", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no prompt")


def test_the_model_may_come_from_the_environment(folder: Path) -> None:
    with model_of(say("hello")) as server:
        done = agentcall("run", "hi", cwd=folder, env={"AGENTCALL_MODEL": server.url})
    assert done.stdout == "hello\n"


def test_json_is_one_object_with_everything(folder: Path) -> None:
    replies = (calls(call("add", a=3, b=5), call("fail")), say("8 上海"))
    with model_of(*replies) as server:
        done = agentcall("run", "?", "--json", "-t", "mine.py", "-m", server.url, cwd=folder)
    document = json.loads(done.stdout)
    assert document["output"] == "8 上海"
    assert document["stop_reason"] == "final"
    assert document["usage"]["requests"] == 2
    assert [
        (c["name"], c["arguments"], c["result"], c["is_error"]) for c in document["tool_calls"]
    ] == [
        ("add", {"a": 3, "b": 5}, "8", False),
        ("fail", {}, "ValueError: no disk", True),
    ]
    assert [message["role"] for message in document["messages"]] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]


def test_events_are_lines_of_json_in_their_order(folder: Path) -> None:
    with model_of(call("add", a=3, b=5), say("8")) as server:
        done = agentcall("run", "?", "--events", "-t", "mine.py", "-m", server.url, cwd=folder)
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert types[0] == "RunStarted"
    assert types[-1] == "RunFinished"
    assert types.index("ToolCallStarted") < types.index("ToolCallFinished")


def test_json_and_events_exclude_each_other(folder: Path) -> None:
    assert agentcall("run", "x", "--json", "--events", cwd=folder).returncode == 2


def test_a_repair_is_shown_with_its_rule(folder: Path) -> None:
    replies = (calls(ScriptedCall("Add", '{"a": 3, "b": 5}')), say("8"))
    with model_of(*replies) as server:
        done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, cwd=folder)
    assert "repaired: add: " in done.stderr


def test_a_call_that_is_refused_is_shown_too(folder: Path) -> None:
    with model_of(calls(ScriptedCall("nonsense", "{}")), say("sorry")) as server:
        done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, cwd=folder)
    assert "not called: nonsense()" in done.stderr


def test_the_limit_of_requests_ends_with_1(folder: Path) -> None:
    turns = [call("add", a=n, b=1) for n in range(10)]
    with model_of(*turns) as server:
        done = agentcall(
            "run", "?", "-t", "mine.py", "-m", server.url, "--max-requests", "3", cwd=folder
        )
        assert len(asked(server)) <= 3
    assert done.returncode == 1
    assert "the run ended early: it reached the limit of requests" in done.stderr


def test_a_bad_model_name_ends_with_2_and_says_what_there_is(folder: Path) -> None:
    done = agentcall("run", "x", "-m", "gpt-99", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'gpt-99' is not the name of a model")
    assert done.stderr.count("\n") == 1


def test_a_model_that_the_server_does_not_serve_ends_with_2(folder: Path) -> None:
    with model_of(say("x")) as server:
        done = agentcall("run", "x", "-m", f"{server.url}#other", cwd=folder)
    assert done.returncode == 2
    assert "other" in done.stderr


def test_no_server_ends_with_3_and_one_line(folder: Path) -> None:
    server = FakeServer([])
    server.start()
    server.stop()
    done = agentcall("run", "x", "-m", server.url, cwd=folder)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_server_that_refuses_ends_with_3(folder: Path) -> None:
    with FakeServer([forever(status(401))]) as server:
        done = agentcall("run", "x", "-m", server.url, cwd=folder)
    assert done.returncode == 3


def test_an_answer_that_is_always_cut_ends_with_1(folder: Path) -> None:
    with model_of(cut(say("It is 16 and more than that."), after=200)) as server:
        done = agentcall("run", "x", "-m", server.url, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")


def test_json_says_what_broke_the_run(folder: Path) -> None:
    with FakeServer([forever(status(401))]) as server:
        done = agentcall("run", "x", "--json", "-m", server.url, cwd=folder)
    document = json.loads(done.stdout)
    assert document["stop_reason"] == "error"
    assert document["error"]["message"]


def test_without_a_terminal_a_call_waits_and_it_is_said_how_to_go_on(folder: Path) -> None:
    with model_of(call("delete", path="/etc"), say("never")) as server:
        done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, cwd=folder)
        assert len(asked(server)) == 1
    assert (done.returncode, done.stdout) == (4, "")
    assert 'delete(path="/etc")' in done.stderr
    assert "--approve call_" in done.stderr


def test_an_agent_of_ones_own_is_run_with_its_tools_and_instructions(folder: Path) -> None:
    with model_of(call("add", a=3, b=5), say("8")) as server:
        done = agentcall("run", "?", "-a", "mine:agent", "-m", server.url, cwd=folder)
        first = asked(server)[0].messages
    assert done.stdout == "8\n"
    assert first[0] == {"role": "system", "content": "Mind the sums."}


def test_instructions_and_an_image_reach_the_model(folder: Path) -> None:
    (folder / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with model_of(say("a dot")) as server:
        agentcall("run", "?", "-i", "Be brief.", "--image", "dot.png", "-m", server.url, cwd=folder)
        system, user = asked(server)[0].messages
    assert system["content"] == "Be brief."
    kinds = [part["type"] for part in user["content"]]
    assert kinds == ["image_url", "text"]


def test_an_image_that_is_not_there_is_a_usage_error(folder: Path) -> None:
    done = agentcall("run", "?", "--image", "none.png", cwd=folder)
    assert (done.returncode, done.stderr) == (2, "error: there is no image file none.png\n")


STUBBORN = """
import asyncio
import time
from agentcall import tool

@tool
async def stubborn() -> str:
    "Does not want to be cancelled."
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

@tool
async def blocking() -> str:
    "Blocks the event loop."
    time.sleep(600)
    return "slept"
"""


def interrupted(
    folder: Path, server: FakeServer, *words: str, times: int = 1
) -> tuple[int, bytes, bytes]:
    """Code, output and errors of a run that is interrupted so many times, and ends by that."""
    process = subprocess.Popen(
        [SCRIPT, "run", "?", "-t", "mine.py", "-m", server.url, *words],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not asked(server):
        time.sleep(0.02)
    time.sleep(0.3)
    for number in range(times):
        time.sleep(0.3 * bool(number))
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


@pytest.mark.processes
@pytest.mark.parametrize("reply", [say("x").replace(latency=600), call("nap", seconds=600)])
def test_ctrl_c_stops_at_once_with_130_and_no_traceback(folder: Path, reply: Reply) -> None:
    with model_of(reply) as server:
        done = interrupted(folder, server)
    assert done == (130, b"", b"interrupted\n")


@pytest.mark.processes
@pytest.mark.parametrize("form", ["--json", "--events"])
def test_ctrl_c_leaves_a_result_that_can_be_gone_on_with(folder: Path, form: str) -> None:
    with model_of(call("add", a=3, b=5), call("nap", seconds=600)) as server:
        code, stdout, stderr = interrupted(folder, server, form)
    last = json.loads(stdout.splitlines()[-1])
    result = last["result"] if form == "--events" else last
    assert (code, result["stop_reason"]) == (130, "cancelled")
    assert b"interrupted" in stderr
    with model_of(say("8")) as server:
        agent = Agent(server.url)
        assert agent.run_sync("And?", messages=result["messages"]).output == "8"
        told = asked(server)[0].messages
    assert [message["role"] for message in told[:5]] == [
        "user", "assistant", "tool", "assistant", "tool"]  # fmt: skip
    assert "outcome is unknown" in told[4]["content"]


@pytest.mark.processes
@pytest.mark.parametrize("name", ["stubborn", "blocking"])
def test_a_second_ctrl_c_waits_for_nothing(folder: Path, name: str) -> None:
    (folder / "stubborn.py").write_text(STUBBORN)
    with model_of(call(name)) as server:
        words = ("-t", "stubborn.py")
        done = interrupted(folder, server, *words, times=2)
    assert done == (130, b"", b"interrupted\n")


@pytest.mark.processes
def test_a_reader_that_has_gone_is_no_traceback(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with model_of(say("word " * 20_000)) as server:
        process = subprocess.Popen(
            [SCRIPT, "run", "?", "-q", "-m", server.url],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        _, stderr = process.communicate(timeout=30)
    assert stderr == b""
