"""Durable runs that end with a call, gone on with from each point at which they may die."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentcall import Agent, Limits, ModelRetry, RunContext, tool
from agentcall.durable import durable
from agentcall.messages import Assistant, Message, ToolResult
from agentcall.testing import Reply, ScriptedModel, call, calls, say


class Receipt(BaseModel):
    amount: int
    reference: str


def summarize(message: Message) -> tuple[object, ...]:
    """Return a message without the ids of its calls, which are the server's."""
    if isinstance(message, Assistant):
        return (message.text, *((call.name, call.arguments) for call in message.calls))
    if isinstance(message, ToolResult):
        return (message.name, message.text, message.is_error, message.not_called)
    return (message.text,)


class World:
    """Tools that note their effects, and a copy of the journal at each point of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "runs.db"
        self.copies: list[Path] = []
        self.effects: Counter[str] = Counter()
        self.takes_copies = True

    def copy(self) -> None:
        if not self.takes_copies:
            return
        path = self.folder / f"copy{len(self.copies)}.db"
        source, target = sqlite3.connect(self.journal), sqlite3.connect(path)
        with target:
            source.backup(target)
        source.close()
        target.close()
        self.copies.append(path)

    def do(self, effect: str) -> None:
        self.copy()
        self.effects[effect] += 1
        self.copy()


def make_agent(world: World, brain: Callable[..., Reply], **options: Any) -> Agent[Receipt]:
    @tool(idempotent=True, most_calls=2)
    def look_up(item: str) -> str:
        """Look an item up."""
        world.do(f"looked up {item}")
        return "4 euros"

    @tool(idempotent=True, after=[look_up], offered=lambda context: context.usage.requests > 1)
    def reserve(item: str) -> str:
        """Reserve an item."""
        world.do(f"reserved {item}")
        return "R7"

    @tool(idempotent=True, final=True)
    def pay(context: RunContext, amount: int, reference: str) -> Receipt:
        """Pay."""
        world.do(f"paid {amount} {context.idempotency_key}")
        if amount < 0:
            raise ModelRetry("pay what it costs")
        return Receipt(amount=amount, reference=reference)

    def answer(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Reply:
        world.copy()
        return brain(messages, [each["function"]["name"] for each in tools])

    return Agent(
        ScriptedModel(brain=answer),
        tools=[look_up, reserve, pay],
        required_tools=["reserve"],
        output_type=Receipt,
        **options,
    )


def brain(messages: Sequence[Mapping[str, Any]], tools: Sequence[str]) -> Reply:
    """Do what a small model does: too early, in words, too often, at last right."""
    step = sum(message["role"] == "assistant" for message in messages)
    script: Sequence[Reply] = [
        calls(call("look_up", item="tea"), call("pay", amount=4, reference="?")),
        say("I will reserve it."),
        calls(call("look_up", item="a"), call("look_up", item="b"), call("reserve", item="tea")),
        say("Done."),
        call("pay", amount=-1, reference="R7"),
        calls(call("pay", amount=4, reference="R7"), call("look_up", item="c")),
    ]
    assert ("reserve" in tools) == (step > 1 and tools != ["pay"])
    return script[step]


@pytest.mark.parametrize(("limits", "first"), [(Limits(), 1), (Limits(requests=6), -5)])
async def test_a_workflow_ends_equally_from_each_point_at_which_it_dies(
    tmp_path: Path, limits: Limits, first: int
) -> None:
    world = World(tmp_path)
    agent = make_agent(world, brain, limits=limits)
    with durable(agent, f"sqlite:///{world.journal}") as runs:
        whole = await runs.run("Buy tea.", run_id="tea")
    assert whole.output == Receipt(amount=4, reference="R7")
    assert whole.stop_reason == ("final" if limits.requests == 20 else "max_requests")
    effects, world.takes_copies = world.effects, False
    done = sorted(effect.split(" ")[0] for effect in effects)
    assert done == ["looked", "looked", "paid", "paid", "reserved"]
    assert len(world.copies) > 12
    for copy in world.copies[first:]:
        world.effects = Counter()
        with durable(agent, f"sqlite:///{copy}") as runs:
            result = await runs.run("Buy tea.", run_id="tea")
        assert result.output == whole.output
        assert result.stop_reason == whole.stop_reason
        assert [*map(summarize, result.messages)] == [*map(summarize, whole.messages)]
        assert result.usage.tool_calls == whole.usage.tool_calls
        assert world.effects.keys() <= effects.keys()


async def test_a_final_call_waits_for_a_person_in_another_process(tmp_path: Path) -> None:
    @tool(final=True, requires_approval=lambda context, arguments: arguments["amount"] > 10)
    def pay(amount: int) -> int:
        """Pay."""
        return amount

    agent = Agent(ScriptedModel([call("pay", amount=20)]), tools=[pay], output_type=int)
    url = f"sqlite:///{tmp_path}/runs.db"
    with durable(agent, url) as runs:
        paused = await runs.run("Pay.", run_id="p")
    assert paused.stop_reason == "approval"
    with durable(agent, url) as runs:
        result = await runs.resume("p", {paused.pending[0].call.id: True})
        assert (result.output, result.stop_reason) == (20, "final")
        assert (await runs.run(run_id="p")).output == 20
