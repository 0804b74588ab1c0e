"""Thinking: turned on and off for each kind of server, and sent back with the calls it led to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from agentcall import Agent, ModelSettings, RunResult, tool
from agentcall.durable import durable
from agentcall.errors import UsageError
from agentcall.models import HTTPChat
from agentcall.models.thinking import switch_thinking
from agentcall.serving.openai_api import OpenAIEndpoint
from agentcall.sessions import SQLiteSession
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    Reply,
    ScriptedModel,
    call,
    openai_error,
    say,
    status,
)

OFF = ModelSettings(thinking=False)
THOUGHT = call("add", a=2, b=3).replace(thinking="I add 2 and 3.")
ANSWER = say("It is 5.", thinking="So 5.")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def refuse(words: str, code: int = 400) -> Reply:
    return status(code, body=openai_error(words, status=code))


def thinking_of(message: dict[str, Any]) -> dict[str, str]:
    return {key: message[key] for key in ("reasoning", "reasoning_content") if key in message}


@pytest.mark.parametrize(
    ("server", "model", "thinking", "sent"),
    [
        ("vllm", "Qwen/Qwen3-8B", False, {"enable_thinking": False, "thinking": False}),
        ("sglang", "deepseek-ai/DeepSeek-V3.1", True, {"enable_thinking": True, "thinking": True}),
        ("ollama", "qwen3:8b", False, "none"),
        ("ollama", "qwen3:8b", True, "medium"),
        ("ollama", "gpt-oss:20b", False, "low"),
        ("vllm", "openai/gpt-oss-20b", False, "low"),
        ("vllm", "openai/gpt-oss-20b", True, "medium"),
    ],
)
def test_each_server_is_told_whether_to_think_in_its_own_way(
    server: str, model: str, thinking: bool, sent: object
) -> None:
    name = "reasoning_effort" if isinstance(sent, str) else "chat_template_kwargs"
    assert switch_thinking({}, thinking, server, model) == {name: sent}


def test_what_the_caller_gives_to_the_template_is_kept() -> None:
    given: dict[str, Any] = {"chat_template_kwargs": {"thinking_budget": 9, "thinking": True}}
    fields = switch_thinking(given, False, "vllm", "m")
    assert fields["chat_template_kwargs"] == {
        "enable_thinking": False,
        "thinking": True,
        "thinking_budget": 9,
    }
    effort = switch_thinking({"reasoning_effort": "high"}, None, "llama.cpp", "gpt-oss-20b")
    assert effort["chat_template_kwargs"] == {"reasoning_effort": "high"}
    assert switch_thinking({"reasoning_effort": "high"}, None, "vllm", "qwen3") == {
        "reasoning_effort": "high"
    }


def test_a_setting_that_is_no_switch_is_refused() -> None:
    with pytest.raises(UsageError, match='reasoning_effort="low"'):
        ModelSettings(thinking="low")  # type: ignore[arg-type]
    # a field of hosted servers that has the same name
    ModelSettings(extra_body={"thinking": {"type": "disabled"}})


def test_a_server_that_refuses_the_switch_is_told_another_way() -> None:
    def answer(request: RecordedRequest) -> Reply:
        if "chat_template_kwargs" in request.body:
            return refuse("Unrecognized request argument supplied: chat_template_kwargs")
        return say("Hi")

    with FakeServer(answer) as server:
        agent = Agent(server.url, settings=OFF)
        assert agent.run_sync("Hi").output == "Hi"
        assert server.requests[-1].body["reasoning_effort"] == "none"

    def refuse_both(request: RecordedRequest) -> Reply:
        for name in ("chat_template_kwargs", "reasoning_effort"):
            if name in request.body:
                return refuse(f"Unknown parameter: '{name}'.")
        return say("Hi")

    with FakeServer(refuse_both) as server:
        assert Agent(server.url, settings=OFF).run_sync("Hi").output == "Hi"


@pytest.mark.parametrize(
    ("owner", "model", "keys"),
    [
        ("vllm", "Qwen/Qwen3-8B", {"reasoning", "reasoning_content"}),
        ("library", "qwen3:8b", {"reasoning"}),
        ("sglang", "MiniMaxAI/MiniMax-M2", {"reasoning_content"}),
        ("llamacpp", "glm-4.6", {"reasoning_content"}),
        ("someone", "some-model", {"reasoning", "reasoning_content"}),
        ("vllm", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", set[str]()),
        ("vllm", "Qwen/QwQ-32B", set[str]()),
    ],
)
def test_thinking_goes_back_where_the_server_reads_it(
    owner: str, model: str, keys: set[str]
) -> None:
    with FakeServer([THOUGHT, ANSWER], models=[model], owned_by=owner) as server:
        assert Agent(server.url, tools=[add]).run_sync("2 + 3?").output == "It is 5."
        sent = thinking_of(server.requests[-1].messages[1])
    assert sent == dict.fromkeys(keys, "I add 2 and 3.")


def test_what_is_sent_back_can_be_forced_for_an_agent_and_for_a_run() -> None:
    with FakeServer([THOUGHT, ANSWER, say("Bye")] * 2, models=["deepseek-r1"]) as server:
        agent = Agent(server.url, tools=[add], settings=ModelSettings(send_thinking=True))
        result = agent.run_sync("2 + 3?")
        agent.run_sync("Bye", messages=result.messages)
        sent = [set(thinking_of(message).values()) for message in server.requests[-1].messages]
        assert sent == [set(), {"I add 2 and 3."}, set(), {"So 5."}, set()]
        model = HTTPChat(server.url, settings=ModelSettings(send_thinking=True))
        never = ModelSettings(send_thinking=False)
        Agent(model, tools=[add]).run_sync("2 + 3?", settings=never)
        assert not any(map(thinking_of, server.requests[-1].messages))


def test_gpt_oss_gets_its_thinking_without_the_text_beside_it() -> None:
    def answer(request: RecordedRequest) -> Reply:
        for message in request.messages:
            if message.get("tool_calls") and message.get("content"):
                return refuse("Cannot pass both content and thinking in an assistant message", 500)
        return ANSWER if len(request.messages) > 2 else THOUGHT.replace(text="Let me add.")

    with FakeServer(answer, models=["gpt-oss-20b"], owned_by="llamacpp") as server:
        assert Agent(server.url, tools=[add]).run_sync("2 + 3?").output == "It is 5."
        assert thinking_of(server.requests[-1].messages[1]) == {
            "reasoning_content": "I add 2 and 3."
        }


def test_thinking_in_the_text_of_an_answer_goes_back_as_well() -> None:
    script = [call("add", a=2, b=3).replace(text="<think>I add.</think>"), ANSWER]
    with FakeServer(script, models=["qwen3"], owned_by="vllm") as server:
        Agent(server.url, tools=[add]).run_sync("2 + 3?")
        sent = server.requests[-1].messages[1]
    assert (sent["content"], thinking_of(sent)["reasoning"]) == ("", "I add.")


def test_once_thinking_is_off_a_plain_answer_is_not_taken_for_it() -> None:
    script = [say("I think.</think>Yes."), say("No.")]
    with FakeServer(script, models=["qwen3"], owned_by="vllm") as server:
        agent = Agent(server.url)
        first = agent.run_sync("Really?")
        assert (first.output, first.messages[-1].thinking) == ("Yes.", "I think.")  # type: ignore[union-attr]
        parts = list(agent.run_stream_sync("Again?", settings=OFF))
    assert not [event for event in parts if type(event).__name__ == "ThinkingDelta"]


def check_thinking(messages: list[dict[str, Any]]) -> None:
    found = [set(thinking_of(each).values()) for each in messages if each.get("tool_calls")]
    assert found
    assert found == [{"I add 2 and 3."}] * len(found)


async def test_sessions_resumed_and_durable_runs_send_it_back_too(tmp_path: Path) -> None:
    @tool(requires_approval=True)
    def pay(a: int) -> str:
        """Pay."""
        return "paid"

    paying = call("pay", a=1).replace(thinking="I add 2 and 3.")
    model = ScriptedModel([THOUGHT, paying, ANSWER, say("Bye")])
    session = SQLiteSession("s", tmp_path / "sessions.db")
    agent = Agent(model, tools=[add, pay], settings=OFF)
    paused = await agent.run("2 + 3?", session=session)
    paused = RunResult.from_json(paused.to_json())
    await agent.resume(paused, {paused.pending[0].call.id: True}, session=session)
    await agent.run("Bye", session=session)
    check_thinking(model.requests[-1].messages)
    assert all(request.body["chat_template_kwargs"] for request in model.requests)

    model = ScriptedModel([THOUGHT, paying, ANSWER])
    with durable(
        Agent(model, tools=[add, pay], settings=OFF), f"sqlite:///{tmp_path}/runs.db"
    ) as runs:
        paused = await runs.run("2 + 3?", run_id="one")
    with durable(
        Agent(model, tools=[add, pay], settings=OFF), f"sqlite:///{tmp_path}/runs.db"
    ) as runs:
        done = await runs.resume("one", {paused.pending[0].call.id: True})
    assert done.output == "It is 5."
    check_thinking(model.requests[-1].messages)


async def test_an_agent_that_is_a_tool_and_one_that_takes_over_send_it_back_too() -> None:
    inner = ScriptedModel([THOUGHT, ANSWER])
    helper = Agent(inner, tools=[add], name="helper", settings=OFF)
    outer = ScriptedModel([call("helper", task="2 + 3?"), say("5")])
    await Agent(outer, tools=[helper.as_tool(description="Adds.")]).run("2 + 3?")
    check_thinking(inner.requests[-1].messages)

    inner = ScriptedModel([call("add", a=1, b=1), ANSWER])
    helper = Agent(inner, tools=[add], name="helper", settings=OFF)
    first = ScriptedModel([THOUGHT, call("transfer_to_helper").replace(thinking="I add 2 and 3.")])
    await Agent(first, tools=[add], handoffs=[helper]).run("2 + 3?")
    check_thinking([m for m in inner.requests[0].messages if m.get("tool_calls")][:1])
    assert inner.requests[0].body["chat_template_kwargs"]


async def test_runs_of_the_endpoint_send_it_back_too() -> None:
    model = ScriptedModel([THOUGHT, ANSWER])
    app = OpenAIEndpoint(Agent(model, tools=[add], settings=OFF))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        body = {"messages": [{"role": "user", "content": "2 + 3?"}]}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "It is 5."
    check_thinking(model.requests[-1].messages)
    assert model.requests[-1].body["chat_template_kwargs"]
