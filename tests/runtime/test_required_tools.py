"""Tools that have to be called before an answer."""

from __future__ import annotations

import pytest

from agentcall import Agent, ModelSettings, RunResult, tool
from agentcall.errors import ToolError, UsageError
from agentcall.events import AnswerDiscarded, Event, RunFinished
from agentcall.messages import User
from agentcall.result import NoOutput
from agentcall.testing import ScriptedModel, call, say

ANNOUNCEMENT = "I will now look up the price."


@tool(read_only=True)
def price(item: str) -> str:
    """Return the price of an item."""
    if item == "gold":
        raise ToolError("there is no gold")
    return "4 euros"


@tool(read_only=True)
def stock(item: str) -> int:
    """Return how many there are of an item."""
    return 3


def create_agent(model: ScriptedModel, *required: str) -> Agent[str]:
    return Agent(model, tools=[price, stock], required_tools=required)


async def play(
    stream: bool, model: ScriptedModel, *required: str
) -> tuple[RunResult[str], list[Event]]:
    agent = create_agent(model, *required)
    if not stream:
        return await agent.run("What does tea cost?"), []
    events = [event async for event in agent.run_stream("What does tea cost?")]
    last = events[-1]
    assert isinstance(last, RunFinished)
    return last.result, events


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_only_announces_is_informed_once(stream: bool) -> None:
    model = ScriptedModel([say(ANNOUNCEMENT), call("price", item="tea"), say("4 euros.")])
    result, events = await play(stream, model, "price")
    assert (result.output, result.stop_reason) == ("4 euros.", "final")
    notes = [m.text for m in result.messages if isinstance(m, User)][1:]
    assert len(notes) == 1
    assert "price" in notes[0]
    if stream:
        assert any(isinstance(event, AnswerDiscarded) for event in events)


async def test_an_answer_after_the_required_calls_is_final_at_once() -> None:
    model = ScriptedModel([call("price", item="tea"), call("stock", item="tea"), say("Done.")])
    result, _ = await play(False, model, "price", "stock")
    assert (result.output, result.usage.requests) == ("Done.", 3)


async def test_the_note_names_only_what_is_missing() -> None:
    script = [call("price", item="tea"), say("4."), call("stock", item="tea"), say("4, of 3.")]
    result, _ = await play(False, ScriptedModel(script), "price", "stock")
    assert result.output == "4, of 3."
    note = [m.text for m in result.messages if isinstance(m, User)][1]
    assert "stock" in note
    assert "price" not in note


async def test_a_call_that_failed_has_not_happened() -> None:
    script = [call("price", item="gold"), say("No."), call("price", item="tea"), say("4.")]
    result, _ = await play(False, ScriptedModel(script), "price")
    assert (result.output, result.usage.requests) == ("4.", 4)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_insists_ends_the_run_without_an_output(stream: bool) -> None:
    model = ScriptedModel([say(ANNOUNCEMENT), say("It costs 5."), say("never asked")])
    result, _ = await play(stream, model, "price")
    assert result.stop_reason == "error"
    with pytest.raises(NoOutput, match="without price"):
        _ = result.output
    assert result.text == "It costs 5."
    assert result.usage.requests == 2


async def test_calls_of_an_earlier_run_do_not_count() -> None:
    first = create_agent(ScriptedModel([call("price", item="tea"), say("4.")]), "price")
    before = await first.run("What does tea cost?")
    model = ScriptedModel([say("4."), call("price", item="tea"), say("Still 4.")])
    result = await create_agent(model, "price").run("And now?", messages=before.messages)
    assert result.output == "Still 4."


async def test_without_required_tools_any_text_is_an_answer() -> None:
    result, _ = await play(False, ScriptedModel([say(ANNOUNCEMENT)]))
    assert result.output == ANNOUNCEMENT


def test_a_function_may_be_named_by_itself() -> None:
    def plain(a: int) -> int:
        "Return it."
        return a

    agent = Agent(ScriptedModel([]), tools=[price, plain], required_tools=[price, plain])
    assert agent.spec.rules is not None
    assert agent.spec.rules.required == ("price", "plain")


@pytest.mark.parametrize("required", [["prize"], "price"])
def test_a_tool_that_the_agent_does_not_have_is_refused(required: list[str] | str) -> None:
    with pytest.raises(UsageError, match=r"required_tools"):
        Agent(ScriptedModel([]), tools=[price], required_tools=required)


async def test_a_required_tool_is_offered_among_many() -> None:
    def make(number: int) -> object:
        @tool(name=f"tool_{number}")
        def each() -> str:
            """Do something else."""
            return ""

        return each

    tools = [price, *(make(number) for number in range(60))]
    model = ScriptedModel([call("price", item="tea"), say("4.")])
    await Agent(model, tools=tools, required_tools=["price"]).run("Hi")
    assert "price" in str(model.requests[0].tools)


@pytest.mark.parametrize("choice", ["required", "price"])
async def test_a_server_that_ignores_the_tool_choice_is_made_up_for_once(choice: str) -> None:
    script = [say(ANNOUNCEMENT), call("price", item="tea"), say("4 euros.")]
    settings = ModelSettings(tool_choice=choice)
    agent = Agent(ScriptedModel(script), tools=[price, stock], settings=settings)
    result = await agent.run("What does tea cost?")
    assert (result.output, result.usage.requests) == ("4 euros.", 3)


async def test_a_model_that_insists_on_text_in_spite_of_the_tool_choice_has_answered() -> None:
    settings = ModelSettings(tool_choice="required")
    model = ScriptedModel([say("Hello."), say("Hello!")])
    result = await Agent(model, tools=[price], settings=settings).run("Hi")
    assert (result.output, result.stop_reason) == ("Hello!", "final")
