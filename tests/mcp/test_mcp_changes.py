"""MCP servers whose tools change during a run, and what a call reports and is told meanwhile."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import mcp_library
import pytest

from agentcall import Agent, Approved, RunResult
from agentcall.approvals import approval_rule_from_json, approval_rule_to_json
from agentcall.events import ToolProgress
from agentcall.mcp import MCPTools, client
from agentcall.policy import Allow, Ask, PolicyDecision, ToolCallRequest
from agentcall.testing import ScriptedModel, call, say

pytestmark = pytest.mark.mcp

LIBRARY = f"{sys.executable} {mcp_library.__file__} stdio"


def told(result: RunResult[str]) -> list[str]:
    return [answer.text for _, answer in result.tool_calls if answer]


def offered(model: ScriptedModel, request: int) -> list[str]:
    return [str(each["function"]["name"]) for each in model.requests[request].tools]  # type: ignore[index]


@pytest.mark.parametrize("older", [True, False])
async def test_a_tool_that_a_server_adds_is_offered_in_the_next_request(older: bool) -> None:
    model = ScriptedModel([call("grow", name="late"), call("late"), say("done")])
    async with MCPTools(LIBRARY, read_only=True, sampling=older) as tools:
        agent = Agent(model, tools=[tools], max_tools=None)
        events = [event async for event in agent.run_stream("Grow")]
        result = events[-1].result  # type: ignore[union-attr]
        assert told(result) == ["grown", "I am late"]
        assert "late" not in offered(model, 0)
        assert "late" in offered(model, 1)
        assert "late" in agent.registry
        progress = [event.value for event in events if isinstance(event, ToolProgress)]
        assert progress == [{"progress": 1.0, "total": 2.0, "message": "half"}]


def test_agents_that_are_tools_or_take_over_get_the_new_tools_too() -> None:
    script = [call("grow", name="late"), call("late"), say("inner done")]
    with MCPTools(LIBRARY, read_only=True) as tools:
        inner = Agent(ScriptedModel(script), tools=[tools], name="inner")
        outer = Agent(
            ScriptedModel([call("inner", task="Grow"), say("done")]), tools=[inner.as_tool()]
        )
        assert told(outer.run_sync("?")) == ["inner done"]
        script = [call("grow", name="later"), call("later"), say("inner done")]
        inner = Agent(ScriptedModel(script), tools=[tools], name="inner", max_tools=None)
        first = Agent(ScriptedModel([call("transfer_to_inner")]), handoffs=[inner], name="first")
        assert told(first.run_sync("?"))[-1] == "I am later"


def ask_about_pay(request: ToolCallRequest) -> PolicyDecision:
    return Ask("it costs") if request.call.name == "pay" else Allow()


def test_a_changed_tool_loses_the_approval_that_it_had() -> None:
    script = [call("pay"), call("add", a=1, b=1), call("pay"), call("rewrite"), call("pay")]
    with MCPTools(LIBRARY, untrusted=False, on_elicit=lambda question: True) as tools:
        agent = Agent(ScriptedModel(script), tools=[tools], policy=ask_about_pay)
        result = agent.run_sync("Pay")
        (pending,) = result.pending
        result = agent.resume_sync(result.to_json(), {pending.call.id: Approved(always="tool")})
        assert told(result) == ["accept", "2", "accept", "rewritten"]
        (pending,) = result.pending  # it was approved always, with another description
        assert pending.call.name == "pay"
        (rule,) = result.approval_rules
        old = approval_rule_to_json(replace(rule, definition=""))
        assert not approval_rule_from_json(old).matches(
            pending.call, rule.agent, tainted=False, definition=pending.definition
        )


def test_a_storm_of_changes_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_RELISTINGS", 3)
    script = [call("storm"), *[call("grow", name=f"t{n}") for n in range(6)], call("t5"), say("ok")]
    with caplog.at_level(logging.WARNING), MCPTools(LIBRARY, read_only=True) as tools:
        result = Agent(ScriptedModel(script), tools=[tools], max_tools=None).run_sync("?")
    assert told(result)[0] == "stormed"
    assert "has changed its tools 3 times within" in caplog.text
    assert "t5" in told(result)[-1]  # unknown


def test_a_call_that_is_given_up_is_cancelled_at_the_server(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with MCPTools(LIBRARY, read_only=True, timeout=1) as tools:
        model = ScriptedModel([call("nap", path=str(mark)), say("ok")])
        assert "did not end within 1 seconds" in told(Agent(model, tools=[tools]).run_sync("?"))[0]
        deadline = time.monotonic() + 10
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert mark.read_text() == "cancelled"
