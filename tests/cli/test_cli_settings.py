"""The options of the command line that are model settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from command_line import TOOLS, agentcall, model_of

from agentcall import ModelSettings
from agentcall.cli.load import build_agent, make_recipe, merge_recipe, parse_settings
from agentcall.cli.options import AgentOptions, ResumeOptions, RunOptions
from agentcall.errors import UsageError
from agentcall.testing import call, say

OPTIONS = {
    "--temperature": "0",
    "--top-p": "0.5",
    "--max-tokens": "99",
    "--seed": "7",
    "--stop": "END",
    "--reasoning-effort": "low",
    "--extra-body": '{"chat_template_kwargs": {"enable_thinking": false}}',
    "--header": "X-Tenant: lab:1",
    "--timeout": "60",
}
APPROVED = """
@tool(requires_approval=True)
def pay(amount: int) -> str:
    "Pay."
    return f"paid {amount}"
"""


def words(options: dict[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]


def test_run_sends_the_settings_of_its_options(tmp_path: Path) -> None:
    with model_of(say("hi")) as server:
        done = agentcall("run", "?", "-m", server.url, *words(OPTIONS), cwd=tmp_path)
        request = server.requests[-1]
    assert (done.returncode, done.stdout) == (0, "hi\n")
    sent = {name: request.body[name] for name in ("temperature", "top_p", "max_tokens", "seed")}
    assert sent == {"temperature": 0, "top_p": 0.5, "max_tokens": 99, "seed": 7}
    assert (request.body["stop"], request.body["reasoning_effort"]) == (["END"], "low")
    assert request.body["chat_template_kwargs"] == {"enable_thinking": False}
    assert request.headers["x-tenant"] == "lab:1"


def test_thinking_is_turned_off_by_an_option(tmp_path: Path) -> None:
    with model_of(say("hi")) as server:
        done = agentcall("run", "?", "-m", server.url, "--no-thinking", cwd=tmp_path)
        request = server.requests[-1]
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert request.body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}


def test_a_tool_choice_is_for_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TOOLS)
    with model_of(call("add", a=1, b=2), say("3")) as server:
        done = agentcall(
            *("run", "?", "-t", "mine.py", "-m", server.url, "--tool-choice", "add"),
            "--no-parallel-tool-calls",
            cwd=tmp_path,
        )
        first, second = (request.body for request in server.requests)
    assert done.returncode == 0
    assert first["tool_choice"]["function"] == {"name": "add"}
    assert "tool_choice" not in second
    assert [body["parallel_tool_calls"] for body in (first, second)] == [False, False]


@pytest.mark.parametrize(
    "option",
    [("--top-p", "2"), ("--tool-choice", "any"), ("--extra-body", "[1]"), ("--header", "x")],
)
def test_a_value_that_cannot_be_is_a_wrong_command(tmp_path: Path, option: list[str]) -> None:
    with model_of(say("hi")) as server:
        done = agentcall("run", "?", "-m", server.url, *option, cwd=tmp_path)
        assert server.requests == []
    assert done.returncode == 2
    assert option[0].lstrip("-").replace("-", "_") in done.stderr.replace("-", "_")


def test_resume_uses_the_settings_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TOOLS + APPROVED)
    with model_of(call("pay", amount=1), say("paid")) as server:
        options = {**OPTIONS, "--tool-choice": "pay"}
        done = agentcall(
            "run", "?", "-t", "mine.py", "-m", server.url, *words(options), cwd=tmp_path
        )
        (run,) = set(re.findall(r"agentcall resume (\w+) ", done.stderr))
        assert agentcall("resume", run, "--approve", "all", cwd=tmp_path).returncode == 0
        first, second = (request.body for request in server.requests)
    assert first.pop("tool_choice")
    messages = {"messages": second["messages"]}
    assert {**first, **messages} == second


def test_options_replace_the_settings_of_the_agent(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from agentcall import Agent, ModelSettings\n"
        "agent = Agent(settings=ModelSettings(temperature=0.5, seed=1))\n"
    )
    options = AgentOptions(agent=str(tmp_path / "app.py") + ":agent", temperature=0.0)
    assert build_agent(options).settings == ModelSettings(temperature=0.0, seed=1)


def test_a_recipe_has_the_settings_without_the_headers() -> None:
    given: dict[str, Any] = {
        "temperature": 0.0,
        "stop": ["a"],
        "parallel_tool_calls": False,
        "extra_body": '{"top_k": 1}',
    }
    options = RunOptions(**given, headers=["Authorization: Bearer secret"])
    recipe = make_recipe(options)
    assert "secret" not in str(recipe)
    again = parse_settings(RunOptions(**merge_recipe(recipe, ResumeOptions())))
    assert again == ModelSettings(
        temperature=0.0, stop=["a"], parallel_tool_calls=False, extra_body={"top_k": 1}
    )


def test_no_options_are_no_settings() -> None:
    assert parse_settings(AgentOptions()) is None
    with pytest.raises(UsageError, match="NAME:VALUE"):
        parse_settings(AgentOptions(headers=["secret-without-a-colon"]))
