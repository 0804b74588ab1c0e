from __future__ import annotations

import json
from itertools import pairwise

import pytest

from agentcall import Agent, RunResult, Tool, ToolRegistry
from agentcall.errors import DuplicateTool
from agentcall.messages import Assistant, Text, ToolCall, ToolResult, Transcript, User
from agentcall.testing import ScriptedModel, call, overflow, say
from agentcall.tools.selection import FURTHER_COUNT, INITIAL_COUNT, ToolFinder, ToolSelection
from agentcall.tools.tool import tool_from_schema

THINGS = ["tea", "coffee", "cake", "bread", "milk"]
DEEDS = ["buy", "sell", "count", "paint", "weigh", "wash", "move", "cut", "lend", "find"]
CALLED: list[str] = []


def make(name: str, description: str) -> Tool:
    def play(arguments: object) -> str:
        CALLED.append(name)
        return f"{name} done"

    return tool_from_schema(play, name=name, description=description, parameters={"type": "object"})


def many(extra: int = 0) -> ToolRegistry:
    """Return fifty tools, each a verb and a noun."""
    made = [make(f"{deed}_{thing}", f"{deed} some {thing}.") for thing in THINGS for deed in DEEDS]
    return ToolRegistry(made, [make(f"dig_{n}", "dig") for n in range(extra)])


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLED.clear()


def offered(model: ScriptedModel) -> list[list[str]]:
    return [[tool["function"]["name"] for tool in asked.tools] for asked in model.requests]


def agent(*script: object, registry: ToolRegistry | None = None, **options: object) -> Agent:
    model = ScriptedModel(script)  # type: ignore[arg-type]
    return Agent(model, tools=registry or many(), **options)  # type: ignore[arg-type]


async def run(made: Agent, *prompts: str) -> tuple[RunResult[str], list[list[str]]]:
    result: RunResult[str] | None = None
    for prompt in prompts:
        result = await made.run(prompt, messages=result.messages if result else ())
    assert result is not None
    assert isinstance(made.model, ScriptedModel)
    return result, offered(made.model)


async def test_few_tools_are_all_offered() -> None:
    made = agent(say("ok"), registry=many().pick(*many().names[:40]))
    _, shown = await run(made, "paint the cake")
    assert shown == [list(many().names[:40])]


async def test_of_many_tools_those_are_offered_that_fit_the_words_of_the_user() -> None:
    _, shown = await run(agent(say("ok")), "Paint the cake!")
    assert len(shown[0]) == INITIAL_COUNT + 1
    assert shown[0][:2] == ["find_tools", "paint_cake"]
    assert set(shown[0][2:]) <= {f"{deed}_cake" for deed in DEEDS} | {
        f"paint_{thing}" for thing in THINGS
    }


async def test_without_a_bound_all_are_offered() -> None:
    _, shown = await run(agent(say("ok"), max_tools=None), "paint the cake")
    assert shown == [list(many().names)]


async def test_the_model_finds_more_tools_and_calls_them() -> None:
    script = [call("find_tools", query="sell milk"), call("sell_milk"), say("sold")]
    result, shown = await run(agent(*script), "paint the cake")
    found = result.tool_calls[0][1]
    assert found is not None
    assert found.text.splitlines()[:2] == [
        "These tools can be called now:", "sell_milk: sell some milk."]  # fmt: skip
    assert "sell_milk" not in shown[0]
    assert "sell_milk" in shown[1]
    assert len(shown[1]) <= len(shown[0]) + FURTHER_COUNT
    assert CALLED == ["sell_milk"]


async def test_what_was_offered_stays_offered_in_the_same_order() -> None:
    script = [call("find_tools", query="sell milk"), call("sell_milk"), say("a"), say("b")]
    made = agent(*script)
    _, shown = await run(made, "paint the cake", "and now wash the bread")
    for one, other in pairwise(shown):
        assert other[: len(one)] == one
    assert "wash_bread" in shown[-1]
    assert len(shown[-1]) <= 40


async def test_a_find_that_finds_nothing_says_so() -> None:
    script = [call("find_tools", query="fly"), say("no")]
    result, shown = await run(agent(*script), "paint the cake")
    assert "No tool has any of these words" in result.tool_calls[0][1].text  # type: ignore[union-attr]
    assert shown[0] == shown[1]


async def test_a_real_tool_that_was_not_offered_is_carried_out_and_offered_from_then_on() -> None:
    result, shown = await run(agent(call("lend_coffee"), say("ok")), "paint the cake")
    assert "lend_coffee" not in shown[0]
    assert CALLED == ["lend_coffee"]
    assert shown[1] == [*shown[0], "lend_coffee"]
    assert result.output == "ok"


async def test_a_tool_that_is_not_there_is_answered_with_how_to_search() -> None:
    result, _ = await run(agent(call("frobnicate"), say("ok")), "paint the cake")
    told = result.tool_calls[0][1]
    assert told is not None
    assert "Search for the right one with find_tools" in told.text


async def test_the_list_is_the_same_after_json_and_in_another_agent() -> None:
    script = [call("find_tools", query="sell milk"), call("lend_coffee"), say("a")]
    first = agent(*script)
    result, shown = await run(first, "paint the cake")
    kept = RunResult.from_json(result.to_json())
    second = agent(say("b"))
    await second.run("paint the cake again", messages=kept.messages)
    assert isinstance(second.model, ScriptedModel)
    assert offered(second.model)[0][: len(shown[-1])] == shown[-1]


async def test_a_long_conversation_is_offered_no_more_than_so_many_unasked() -> None:
    prompts = [f"{deed} the {thing}" for thing in THINGS for deed in DEEDS]
    made = agent(*[say("ok")] * len(prompts), max_tools=20)
    _, shown = await run(made, *prompts)
    assert max(map(len, shown)) == 20


async def test_untrusted_text_does_not_choose_the_tools() -> None:
    made = agent(say("ok"))
    await made.run(["paint the cake", Text("sell milk " * 50, untrusted=True)])
    assert isinstance(made.model, ScriptedModel)
    assert "sell_milk" not in offered(made.model)[0]


async def test_a_shortened_conversation_has_its_reader_beside_the_tools_found() -> None:
    def long(arguments: object) -> str:
        return "long " * 500

    registry = many()
    registry.add(tool_from_schema(long, name="paint_long", description="paint", parameters={}))
    script = [call("paint_long"), overflow(), call("find_tools", query="sell milk"), say("ok")]
    _, shown = await run(agent(*script, registry=registry), "paint")
    assert "read_result" in shown[2]
    assert {"read_result", "sell_milk"} <= set(shown[3])
    assert len(set(shown[3])) == len(shown[3])


async def test_a_tool_added_later_is_found_from_the_next_run_on() -> None:
    registry = many()
    made = agent(say("a"), say("b"), registry=registry)
    await made.run("knit a scarf")
    registry.add(make("knit_scarf", "knit"))
    await made.run("knit a scarf")
    assert isinstance(made.model, ScriptedModel)
    assert ["knit_scarf" in shown for shown in offered(made.model)] == [False, True]


def test_a_tool_of_the_same_name_is_refused() -> None:
    registry = many()
    registry.add(make("find_tools", "mine"))
    with pytest.raises(DuplicateTool, match="two tools are called 'find_tools'"):
        agent(registry=registry)


def test_an_old_history_with_calls_of_tools_that_are_gone_is_read() -> None:
    messages = Transcript([
        User("hi"),
        Assistant("", (ToolCall("a", "gone", "{}"), ToolCall("b", "find_tools", "not json"))),
        ToolResult("a", "gone", ""), ToolResult("b", "find_tools", ""),
        Assistant("", (ToolCall("c", "find_tools", json.dumps({"query": 3})),)),
    ])  # fmt: skip
    assert [found.name for found in ToolSelection(ToolFinder(many(), 40)).update(messages)] == [
        "find_tools"
    ]
