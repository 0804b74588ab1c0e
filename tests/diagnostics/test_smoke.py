"""The smoke test: what passes, what does not, and what is said about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from command_line import agentcall
from rows import each_row

from agentcall.diagnostics.smoke import QUESTIONS, SmokeCheck, ask_question
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import FakeServer, Reply, call, say, status

Messages = Sequence[Mapping[str, object]]
Tools = Sequence[Mapping[str, object]]
BY_NAME = {question.name: question for question in QUESTIONS}


def able(messages: Messages, tools: Tools) -> Reply:
    """A model that does everything right."""
    results = [str(m.get("content")) for m in messages if m.get("role") == "tool"]
    asked = str(next(m["content"] for m in reversed(messages) if m.get("role") == "user"))
    if "hello" in asked:
        return say("Hello, Ann!")
    if "多少度" in asked:
        return say(f"现在 {results[0]}") if results else call("get_weather", city="上海")
    steps = [call("add", a=5, b=3)]
    if "*2" in asked:
        steps.append(call("mul", a=2, b=8))
    return steps[len(results)] if len(results) < len(steps) else say(f"It is {results[-1]}.")


def guesses(messages: Messages, tools: Tools) -> Reply:
    """A model that answers from memory."""
    asked = str(messages[-1].get("content"))
    return say("8" if asked.endswith("5?") else "16" if "*2" in asked else "It is warm.")


def calls_always(messages: Messages, tools: Tools) -> Reply:
    """A model that calls where it need not, and forgets the result."""
    if messages[-1].get("role") == "tool":
        return say("Done.")
    names = [str(t["function"]["name"]) for t in tools]  # type: ignore[index]
    return call("get_weather", city="上海") if "get_weather" in names else call("add", a=3, b=5)


async def asked(server: FakeServer, name: str) -> SmokeCheck:
    return await ask_question(HTTPChat(server.url), BY_NAME[name])


@each_row("name", list(BY_NAME))
async def test_a_model_that_is_able_passes(name: str) -> None:
    with FakeServer(brain=able) as server:
        check = await asked(server, name)
    assert check.wrong == ""
    assert check.passed


async def test_the_calls_and_the_answer_are_told() -> None:
    with FakeServer(brain=able) as server:
        check = await asked(server, "two calls")
    assert check.calls == ("add(5, 3)", "mul(2, 8)")
    assert check.answer == "It is 16."


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("one call", "did not call add(3, 5)"),
        ("two calls", "did not call add(3, 5)"),
        ("a lookup", "did not call get_weather"),
    ],
)
async def test_the_right_answer_without_the_call_is_wrong(name: str, wrong: str) -> None:
    with FakeServer(brain=guesses) as server:
        check = await asked(server, name)
    assert wrong in check.wrong


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("one call", "does not contain 8"),
        ("two calls", "did not call mul(8, 2)"),
        ("a lookup", "does not contain 23.5"),
        ("no call", "called get_weather although no tool was needed"),
    ],
)
async def test_what_is_forgotten_or_too_much_is_wrong(name: str, wrong: str) -> None:
    with FakeServer(brain=calls_always) as server:
        check = await asked(server, name)
    assert wrong in check.wrong


async def test_what_the_server_refuses_is_told() -> None:
    with FakeServer([status(400)]) as server:
        check = await asked(server, "one call")
    assert "400" in check.wrong
    assert not check.passed


def test_the_command_ends_with_0_where_all_is_right(tmp_path: Path) -> None:
    with FakeServer(brain=able) as server:
        done = agentcall("server", "smoke", server.url, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 questions were answered correctly" in done.stdout
    assert "mul(2, 8)" in done.stdout
    assert "ok" in done.stdout  # the doctor's findings


def test_the_command_ends_with_1_where_something_is_wrong(tmp_path: Path) -> None:
    with FakeServer(brain=guesses) as server:
        done = agentcall("server", "smoke", server.url, "--json", cwd=tmp_path)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["passed"] is False
    assert [check["passed"] for check in report["checks"]] == [False, False, False, False, True]
    assert report["doctor"]["served"]


def test_the_command_ends_with_3_where_nobody_answers(tmp_path: Path) -> None:
    with FakeServer() as server:
        url = server.url
    done = agentcall("server", "smoke", url, cwd=tmp_path)
    assert done.returncode == 3
    assert "questions" not in done.stdout
