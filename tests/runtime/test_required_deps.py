"""A run that has no deps, though its agent or a tool needs them, ends before the first request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from rows import each_row

from agentcall import Agent, RunContext, tool
from agentcall.durable import durable
from agentcall.errors import UsageError
from agentcall.testing import ScriptedModel, call, say

NOTES = {"Paris": "bring a map"}


@tool
def read_note(context: RunContext[dict[str, str]], name: str) -> str:
    """Read a note."""
    return context.deps[name]


def make(script: Any = (), **options: Any) -> tuple[Agent[Any, Any], ScriptedModel]:
    model = ScriptedModel(script)
    return Agent(model, **options), model


async def stream(agent: Agent[Any, Any]) -> None:
    async for _ in agent.run_stream("?"):
        pass


async def run(agent: Agent[Any, Any]) -> None:
    await agent.run("?")


@each_row("start", [run, stream])
@each_row(
    ("options", "message"),
    [
        ({"deps_type": dict[str, str]}, r"the agent 'agent' needs deps .*dict\[str, str\]"),
        ({"deps_type": Path}, "Path"),
        ({"tools": [read_note]}, r"the tool read_note takes RunContext\[dict\[str, str\]\]"),
    ],
)
async def test_deps_that_are_missing_are_reported_at_the_start(
    start: Callable[[Agent[Any, Any]], Any], options: dict[str, Any], message: str
) -> None:
    agent, model = make(**options)
    with pytest.raises(UsageError, match=message + r".*pass deps="):
        await start(agent)
    assert model.requests == []


@pytest.mark.parametrize("deps", [NOTES, {}])
async def test_deps_may_be_empty(deps: dict[str, str]) -> None:
    agent, _ = make([say("ok")], tools=[read_note], deps_type=dict[str, str])
    assert (await agent.run("?", deps=deps)).output == "ok"


@each_row(
    "deps_type",
    [None, object, Any, dict[str, str] | None, Optional[Path], Annotated[Any, 1]],  # noqa: UP045
)
async def test_deps_that_may_be_none_may_be_left_out(deps_type: Any) -> None:
    def use(context: RunContext[deps_type]) -> str:  # type: ignore[valid-type]
        """Use."""
        return str(context.deps)

    use.__annotations__["context"] = RunContext[deps_type]
    agent, _ = make([call("use"), say("ok")], tools=[use], deps_type=deps_type)
    result = await agent.run("?")
    assert [found.text for _, found in result.tool_calls if found] == ["None"]


async def test_a_tool_without_a_type_of_deps_needs_none() -> None:
    @tool
    def show(context: RunContext, key: str) -> str:  # type: ignore[type-arg]
        """Show."""
        return f"{key} {context.run_id}"

    agent, _ = make([say("ok")], tools=[show])
    assert (await agent.run("?")).output == "ok"


async def test_an_agent_that_may_take_over_is_asked_too() -> None:
    other, _ = make(name="notes", tools=[read_note])
    agent, model = make(handoffs=[other])
    with pytest.raises(UsageError, match="read_note"):
        await agent.run("?")
    assert model.requests == []


async def test_an_agent_as_a_tool_without_its_deps_ends_the_run() -> None:
    expert, inner = make(name="expert", tools=[read_note])
    agent, _ = make([call("expert", task="?")], tools=[expert.as_tool()])
    with pytest.raises(UsageError, match="read_note"):
        await agent.run("?")
    assert inner.requests == []


async def test_a_resumed_run_needs_its_deps_again() -> None:
    @tool(requires_approval=True)
    def delete(context: RunContext[dict[str, str]], name: str) -> str:
        """Delete a note."""
        return context.deps.pop(name)

    agent, _ = make([call("delete", name="Paris"), say("ok")], tools=[delete])
    paused = await agent.run("?", deps=dict(NOTES))
    decisions = {paused.pending[0].call.id: True}
    agent.check_decisions(paused, decisions)
    with pytest.raises(UsageError, match="pass deps="):
        await agent.resume(paused, decisions)
    assert (await agent.resume(paused, decisions, deps=dict(NOTES))).output == "ok"


async def test_a_durable_run_without_deps_can_be_continued_with_them(tmp_path: Path) -> None:
    agent, _ = make([call("read_note", name="Paris"), say("ok")], tools=[read_note])
    with durable(agent, f"sqlite:///{tmp_path}/runs.db") as runs:
        with pytest.raises(UsageError, match="pass deps="):
            await runs.run("?", run_id="x")
        assert (await runs.run("?", run_id="x", deps=NOTES)).output == "ok"
        assert (await runs.run(run_id="x")).output == "ok"
