"""How a model is held to its output type: by the server, by an output tool, or by the prompt."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from agentcall import Agent, Limits, ModelRetry, RunContext, tool
from agentcall.dialects.answer_schema import create_response_format
from agentcall.durable import durable
from agentcall.errors import ModelRefused, UsageError
from agentcall.events import AnswerDiscarded, PartialOutput, RunFinished, ServerAdapted
from agentcall.policy import Deny
from agentcall.testing import FakeServer, Reply, ScriptedModel, call, say
from agentcall.testing.faults import status
from agentcall.testing.raw_http import RecordedRequest

AnyAgent = Agent[Any, Any]


class City(BaseModel):
    name: str
    people: int


class Country(BaseModel):
    """A country."""

    name: str
    area: float


CITY = '{"name": "Oslo", "people": 7}'
OSLO = City(name="Oslo", people=7)


@tool
def look_up(name: str) -> str:
    """Look a city up."""
    return f"{name} has 7 people"


def list_formats(server: FakeServer) -> list[str | None]:
    """Return what each request asked for: the type of its response_format."""
    formats = [request.body.get("response_format") for request in server.requests]
    return [form["type"] if isinstance(form, Mapping) else None for form in formats]


def refuse_schemas(request: RecordedRequest) -> Reply:
    if "response_format" in request.body:
        error = {"error": {"message": "response_format of json_schema is not supported"}}
        return status(400, body=error)
    return say(CITY)


# The server holds the answer.


def test_a_request_without_tools_has_the_schema_of_the_answer() -> None:
    with FakeServer([say(CITY)]) as server:
        result = Agent(server.url, output_type=City).run_sync("?")
        [request] = server.requests
    form = request.body["response_format"]
    assert (result.output, result.usage.requests) == (OSLO, 1)
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"]["required"] == ["name", "people"]


def test_a_right_answer_beside_tools_costs_no_additional_request() -> None:
    with FakeServer([call("look_up", name="Oslo"), say(CITY)]) as server:
        result = Agent(server.url, tools=[look_up], output_type=City).run_sync("?")
        assert (result.output, list_formats(server)) == (OSLO, [None, None])


def test_a_wrong_answer_beside_tools_is_corrected_by_a_request_that_the_server_holds() -> None:
    script = [call("look_up", name="Oslo"), say("It has seven."), say(CITY)]
    with FakeServer(script) as server:
        result = Agent(server.url, tools=[look_up], output_type=City).run_sync("?")
        assert (result.output, list_formats(server)) == (OSLO, [None, None, "json_schema"])
        assert server.requests[-1].body["tool_choice"] == "none"


def test_the_last_request_of_a_run_is_held_as_its_tools_are_closed() -> None:
    with FakeServer([call("look_up", name="Oslo"), say(CITY)]) as server:
        agent = Agent(server.url, tools=[look_up], output_type=City, limits=Limits(requests=2))
        assert agent.run_sync("?").output == OSLO
        assert list_formats(server) == [None, "json_schema"]


def test_a_server_that_refuses_schemas_is_asked_in_the_prompt_from_then_on() -> None:
    with FakeServer(refuse_schemas) as server:
        agent = Agent(server.url, output_type=City)
        assert [agent.run_sync("?").output, agent.run_sync("?").output] == [OSLO, OSLO]
        assert list_formats(server) == ["json_schema", "json_object", None, None]


def test_the_mode_schema_reports_that_the_server_refuses_it() -> None:
    with FakeServer(refuse_schemas) as server:
        Agent(server.url, output_type=City).run_sync("?")  # the others have learned
        with pytest.raises(ModelRefused, match="json_schema is not supported"):
            Agent(server.url, output_type=City, output_mode="schema").run_sync("?")


def test_a_server_that_ignores_schemas_is_learned_from_its_answer() -> None:
    events: list[object] = []

    async def run(agent: Agent[City, None]) -> None:
        events.extend([event async for event in agent.run_stream("?")])

    with FakeServer([say("Oslo has seven people."), say(CITY), say(CITY)]) as server:
        agent = Agent(server.url, output_type=City)
        asyncio.run(run(agent))
        assert agent.run_sync("?").output == OSLO
        assert list_formats(server) == ["json_schema", None, None]
    [adapted] = [event for event in events if isinstance(event, ServerAdapted)]
    assert adapted.name == "response_format ignored"
    assert "Oslo has seven people." in adapted.reason


def test_tools_stay_offered_to_a_server_that_does_not_hold_its_answers() -> None:
    def answer(request: RecordedRequest) -> Reply:
        if "response_format" in request.body:
            return refuse_schemas(request)
        asked = [each for each in server.requests if "response_format" not in each.body]
        texts = {1: say("Seven."), 2: say("Seven."), 3: call("look_up", name="Oslo")}
        return texts.get(len(asked), say(CITY))

    with FakeServer(answer) as server:
        agent = Agent(server.url, tools=[look_up], output_type=City)
        assert agent.run_sync("?").output == OSLO
        choices = [request.body.get("tool_choice") for request in server.requests]
        assert (choices.count("none"), len(choices)) == (1, 5)


def test_the_mode_prompt_sends_no_schema() -> None:
    with FakeServer([say(CITY)]) as server:
        agent = Agent(server.url, output_type=City, output_mode="prompt")
        assert (agent.run_sync("?").output, list_formats(server)) == (OSLO, [None])
        assert "JSON Schema" in str(server.requests[0].messages[0])


def test_a_value_that_is_no_object_is_wrapped_for_a_server_that_wants_one() -> None:
    def answer(request: RecordedRequest) -> Reply:
        schema = request.body["response_format"]["json_schema"]["schema"]
        if schema.get("type") != "object":
            message = "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'"
            return status(400, body={"error": {"message": f"Invalid response_format: {message}"}})
        return say('{"answer": [1, 2]}')

    with FakeServer(answer) as server:
        assert Agent(server.url, output_type=list[int]).run_sync("?").output == [1, 2]


def test_only_what_every_grammar_engine_supports_is_sent() -> None:
    class Person(BaseModel):
        code: str = Field(pattern="^a+$", description="A code.")
        pattern: Literal["x"] = "x"
        pet: Annotated[City | Country, Field(discriminator=None)]

    schema = Agent(ScriptedModel([]), output_type=Person).spec.output.schema
    assert schema is not None
    form: Any = create_response_format(schema)["json_schema"]
    sent = form["schema"]
    assert sent["properties"]["code"] == {"type": "string", "description": "A code."}
    assert sent["properties"]["pattern"] == {"type": "string", "const": "x"}
    assert sent["properties"]["pet"]["anyOf"][0]["additionalProperties"] is False
    assert form["strict"] is False  # `pattern` may be left out


def test_a_mode_that_does_not_exist_is_refused_where_the_agent_is_made() -> None:
    with pytest.raises(UsageError, match="output_mode='json'"):
        Agent("m", output_mode="json")  # type: ignore[call-overload]


# Output tools.


def test_the_call_of_an_output_tool_ends_the_run() -> None:
    script = [call("look_up", name="Oslo"), call("final_result", name="Oslo", people=7)]
    with FakeServer(script) as server:
        agent = Agent(server.url, tools=[look_up], output_type=City, output_mode="tool")
        result = agent.run_sync("?")
        assert (result.output, result.stop_reason, len(server.requests)) == (OSLO, "final", 2)


def test_an_output_tool_has_to_be_called_where_there_is_no_other_tool() -> None:
    with FakeServer([call("final_result", response=3)]) as server:
        assert Agent(server.url, output_type=int, output_mode="tool").run_sync("?").output == 3
        assert server.requests[0].body["tool_choice"] == "required"


def test_each_member_of_a_union_has_a_tool_of_its_own() -> None:
    script = [call("final_result_Country", name="Norway", area=1)]
    agent = Agent(ScriptedModel(script), output_type=City | Country, output_mode="tool")
    names = [each.name for each in agent.spec.output.tools]
    assert names == ["final_result_City", "final_result_Country"]
    assert agent.run_sync("?").output == Country(name="Norway", area=1)


def test_words_in_place_of_the_call_are_corrected_and_an_output_in_words_counts() -> None:
    with FakeServer([say("Seven."), say(f"Here it is: {CITY}")]) as server:
        agent = Agent(server.url, tools=[look_up], output_type=City, output_mode="tool")
        assert agent.run_sync("?").output == OSLO
        assert server.requests[1].body["tool_choice"] == "required"


def test_output_tools_work_with_calls_in_the_text() -> None:
    text = '<tool_call>{"name": "final_result", "arguments": {"name": "Oslo", "people": 7}}'
    agent = Agent(ScriptedModel([say(f"{text}</tool_call>")]), output_type=City, output_mode="tool")
    assert agent.run_sync("?").output == OSLO


def test_a_limit_leaves_the_output_tool_open() -> None:
    script = [call("look_up", name="Oslo"), call("final_result", name="Oslo", people=7)]
    limits = Limits(requests=2, tool_calls=1)
    agent = Agent(
        ScriptedModel(script),
        tools=[look_up],
        output_type=City,
        output_mode="tool",
        limits=limits,
        policy=lambda request: None if request.call.name == "look_up" else Deny("unknown"),
    )
    assert agent.run_sync("?").output == OSLO


# Functions.


def reject_large(value: int) -> int:
    if value > 100:
        raise ModelRetry("that is a country, not a city")
    return value


class Checked(BaseModel):
    name: str
    people: Annotated[int, AfterValidator(reject_large)]


@dataclass
class Shop:
    booked: list[City]


async def book(context: RunContext[Shop], city: City) -> int:
    """Book a trip."""
    if city.people > 100:
        raise ModelRetry("too many people")
    context.deps.booked.append(city)
    return len(context.deps.booked)


def cancel(order: int) -> str:
    """Cancel an order."""
    return f"cancelled {order}"


def make_booking(script: list[Any], **options: Any) -> tuple[Agent[int, Shop], Shop]:
    agent = Agent(ScriptedModel(script), output_type=book, deps_type=Shop, **options)
    return agent, Shop([])


BIG = say('{"name": "Tokyo", "people": 14000000}')


@pytest.mark.parametrize("mode", ["auto", "schema", "prompt"])
def test_a_function_gives_the_output_and_may_ask_for_another_answer(mode: Any) -> None:
    agent, shop = make_booking([BIG, say(CITY)], output_mode=mode)
    result = agent.run_sync("?", deps=shop)
    assert (result.output, shop.booked) == (1, [OSLO])
    assert "too many people" in str(result.messages)


def test_a_function_as_an_output_tool_gives_the_output() -> None:
    script = [
        call("final_result", name="Tokyo", people=1000),
        call("final_result", name="Oslo", people=7),
    ]
    agent, shop = make_booking(script, output_mode="tool")
    assert (agent.run_sync("?", deps=shop).output, shop.booked) == (1, [OSLO])


def test_one_of_several_functions_and_types_is_named_by_the_answer() -> None:
    named = '{"name": "cancel", "arguments": {"order": 3}}'
    agent = Agent[Any](ScriptedModel([say(named), say(CITY)]), output_type=[cancel, City])
    assert agent.run_sync("?").output == "cancelled 3"
    assert agent.run_sync("?").output == OSLO


def test_a_text_or_a_function_is_decided_by_a_call() -> None:
    script = [say("Which order?"), call("final_result", order=3)]
    agent = Agent[str](ScriptedModel(script), output_type=[str, cancel])
    assert [agent.run_sync("?").output, agent.run_sync("?").output] == [
        "Which order?",
        "cancelled 3",
    ]


def test_a_function_is_not_called_by_a_guess_or_by_an_answer_that_was_cut() -> None:
    ran: list[int] = []

    def send(order: int) -> int:
        """Send."""
        ran.append(order)
        return order

    guess = say('Perhaps {"order": 1}, or {"order": 2}')
    script = [guess, say('{"order": 3}').replace(finish_reason="length")]
    result = Agent(ScriptedModel(script), output_type=send).run_sync("?")
    assert (result.stop_reason, ran) == ("max_tokens", [])


def test_what_a_function_raises_is_told_to_the_model_or_ends_the_run() -> None:
    def fail(order: int) -> int:
        """Fail."""
        raise KeyError("no such order")

    script = [say('{"order": 1}')] * 3
    result = Agent(ScriptedModel(script), output_type=fail).run_sync("?")
    assert (result.stop_reason, len(result.tool_errors)) == ("error", 3)
    with pytest.raises(KeyError):
        Agent(ScriptedModel(script), output_type=fail, on_tool_error="raise").run_sync("?")


def test_the_policy_decides_about_an_output_function() -> None:
    agent, shop = make_booking([say(CITY)] * 3, policy=lambda _: Deny("closed today"))
    result = agent.run_sync("?", deps=shop)
    assert (result.stop_reason, shop.booked) == ("error", [])
    assert "closed today" in str(result.messages)


def test_a_function_that_needs_approval_is_an_output_tool_and_waits() -> None:
    ran: list[int] = []

    @tool(requires_approval=True)
    def pay(amount: int) -> int:
        """Pay."""
        ran.append(amount)
        return amount

    agent = Agent(ScriptedModel([call("final_result", amount=3)]), output_type=pay)
    paused = agent.run_sync("?")
    assert (paused.stop_reason, ran) == ("approval", [])
    assert agent.resume_sync(paused, {paused.pending[0].call.id: True}).output == 3
    with pytest.raises(UsageError, match="needs approval"):
        Agent("m", output_type=pay, output_mode="prompt")


def test_a_validator_that_asks_again_is_reported_to_the_model() -> None:
    def add_people(checked: Checked) -> int:
        """Add."""
        return checked.people

    script = [BIG, say(CITY)]
    assert Agent(ScriptedModel(script), output_type=Checked).run_sync("?").output.people == 7
    wrong = call("add_people", checked=json.loads(BIG.text))
    result = Agent(ScriptedModel([wrong, say("7")]), tools=[add_people]).run_sync("?")
    assert "that is a country, not a city" in str(result.messages)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "needs a type or a function"),
        (["City"], "'City' is not a type"),
        ({"a": int}, "is not a type"),
        ([City, City, cancel], "two choices named 'City'"),
    ],
)
def test_a_wrong_output_type_is_refused_where_the_agent_is_made(wrong: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Agent("m", output_type=wrong)


# Everywhere that an agent runs.


@pytest.mark.parametrize("mode", ["auto", "tool"])
def test_an_agent_with_an_output_function_is_a_tool_and_takes_over(mode: Any) -> None:
    reply = say(CITY) if mode == "auto" else call("final_result", name="Oslo", people=7)
    agent, shop = make_booking([reply], output_mode=mode, name="travel")
    asks = ScriptedModel([call("travel", task="book"), say("Done.")])
    above = Agent(asks, tools=[agent.as_tool()], deps_type=Shop)
    result = above.run_sync("?", deps=shop)
    assert ([each.text for _, each in result.tool_calls if each], len(shop.booked)) == (["1"], 1)
    agent, shop = make_booking([reply], output_mode=mode, name="travel")
    hands_over = ScriptedModel([call("transfer_to_travel")])
    first = Agent(hands_over, handoffs=[agent], deps_type=Shop)
    assert first.run_sync("?", deps=shop).output == 1  # type: ignore[comparison-overlap]


CRASH = """
import os, sys
from pydantic import BaseModel
from agentcall import Agent
from agentcall.durable import durable
from agentcall.testing import ScriptedModel, call, say

folder, mode = sys.argv[1:]

class Receipt(BaseModel):
    order: int

def pay(order: int) -> Receipt:
    "Pay."
    with open(f"{folder}/paid-{mode}", "a") as file:
        file.write("paid ")
    return Receipt(order=order)

def die(value):
    if not os.path.exists(f"{folder}/died-{mode}"):
        open(f"{folder}/died-{mode}", "w").close()
        os._exit(9)
    return value

reply = call("final_result", order=3) if mode == "tool" else say('{"order": 3}')
agent = Agent(ScriptedModel([reply]), output_type=pay, output_mode=mode, check_output=die)
runs = durable(agent, f"sqlite:///{folder}/{mode}.db")
print(repr(runs.run_sync("?", run_id="a").output), repr(runs.run_sync(run_id="a").output))
"""


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["auto", "tool"])
def test_a_function_runs_once_in_a_durable_run_that_is_killed(tmp_path: Path, mode: str) -> None:
    command = [sys.executable, "-c", CRASH, str(tmp_path), mode]
    first = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert first.returncode == 9, first.stderr
    again = subprocess.run(command, check=True, capture_output=True, timeout=60, text=True)
    assert again.stdout.strip() == "Receipt(order=3) Receipt(order=3)"
    assert (tmp_path / f"paid-{mode}").read_text() == "paid "


async def test_a_function_that_was_interrupted_is_not_called_again(tmp_path: Path) -> None:
    started: list[int] = []

    async def pay(order: int) -> int:
        """Pay."""
        started.append(order)
        await asyncio.sleep(60)
        return order

    agent = Agent(ScriptedModel([say('{"order": 3}')]), output_type=pay)
    runs = durable(agent, f"sqlite:///{tmp_path}/runs.db")
    task = asyncio.ensure_future(runs.run("?", run_id="a"))
    for _ in range(1000):
        if started:
            break
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    result = await runs.run(run_id="a")
    assert (result.stop_reason, started) == ("error", [3])
    assert "its outcome is unknown" in str(result.answer)


# Partial outputs.


class Section(BaseModel):
    title: str
    level: int


class Page(BaseModel):
    title: str
    kind: Literal["a", "ab"]
    note: str | None = None
    score: int = 1
    sections: list[Section]
    tags: list[str] = Field(default_factory=list)


PAGE = Page(
    title='A "quoted" 上海',
    kind="ab",
    note="n",
    score=45,
    sections=[Section(title="One", level=12), Section(title="Two", level=3)],
    tags=["x", "yz"],
)


def is_grown(before: Any, after: Any) -> bool:
    """Whether a value is what another one has become by growing."""
    if isinstance(before, BaseModel):
        return all(is_grown(value, getattr(after, name)) for name, value in before)
    if isinstance(before, str):
        return bool(after.startswith(before))
    if isinstance(before, (list, tuple)):
        return len(before) <= len(after) and all(map(is_grown, before, after))
    if isinstance(before, dict):
        return all(is_grown(value, after[name]) for name, value in before.items())
    return before is None or bool(before == after)


async def stream(agent: AnyAgent) -> tuple[list[Any], Any]:
    """Return the values of the partial outputs, and the output."""
    values: list[Any] = []
    output: Any = None
    async for event in agent.run_stream("?"):
        match event:
            case PartialOutput(value):
                values.append(value)
            case AnswerDiscarded():
                values.clear()
            case RunFinished(result):
                output = result.output
            case _:
                pass
    return values, output


@pytest.mark.parametrize(
    ("kind", "text", "least"),
    [
        (Page, PAGE.model_dump_json(), 6),
        (list[Section], PAGE.model_dump_json(include={"sections"})[12:-1], 3),
        (list[int], "[12, 345, 6]", 3),
        (dict[str, str], '{"a": "long text", "b": "x"}', 8),
        (City | Country, '{"name": "Norway", "area": 12.5}', 1),
        (list[str], '```json\n["ab", "cd"]\n```', 4),
    ],
)
async def test_partial_outputs_only_grow_into_the_output(kind: Any, text: str, least: int) -> None:
    agent = Agent[Any](ScriptedModel([say(text).replace(size=1)]), output_type=kind)
    values, output = await stream(agent)
    assert len(values) >= least
    assert all(is_grown(before, after) for before, after in itertools.pairwise(values))
    assert all(is_grown(value, output) for value in values)
    assert values[-1] == output


async def test_a_text_and_a_function_have_no_partial_outputs() -> None:
    agent = Agent[Any](ScriptedModel([say('{"order": 3}').replace(size=1)]), output_type=cancel)
    assert await stream(agent) == ([], "cancelled 3")
    assert await stream(Agent(ScriptedModel([say('{"a": 1}')]))) == ([], '{"a": 1}')


async def test_an_answer_that_is_rejected_revokes_its_partial_outputs() -> None:
    script = [say('{"name": "Oslo", "people": "many"}'), say(CITY)]
    values, output = await stream(Agent(ScriptedModel(script), output_type=City))
    assert (values[-1], output) == (OSLO, OSLO)
