"""What type checkers infer for agents: read by `test_types.py`, and never executed.

A line whose comment is `# wrong: ...` has to be an error in both mypy and pyright.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional, TypedDict

from pydantic import BaseModel
from typing_extensions import assert_type

from agentcall import (
    Agent,
    Hooks,
    Image,
    Inbox,
    Limits,
    ModelSettings,
    Result,
    RunContext,
    RunResult,
    SQLiteSession,
    tool,
)
from agentcall.durable import DurableAgent, durable
from agentcall.events import RunFinished, TextDelta
from agentcall.messages import Message, ToolResult, Usage
from agentcall.models import Model
from agentcall.result import ToolCallRecord
from agentcall.runtime.hooks import ModelStep
from agentcall.runtime.text_stream import TextStream
from agentcall.sessions import CompactionPlan, Summary, Window
from agentcall.testing import cassette


class City(BaseModel):
    name: str


class Country(BaseModel):
    name: str


@dataclass
class Point:
    x: int


class Movie(TypedDict):
    title: str


class Database:
    url: str = ""


@tool(final=True, after=["look"], most_calls=1, offered=lambda context: context.tainted)
def finish(city: City) -> City:
    return city


assert_type(finish(City(name="Oslo")), City)
tool(final="yes")  # wrong: a flag is True or False
tool(offered=lambda context, more: True)  # wrong: it takes the context alone

# What a tool returns, and the records of its calls.


@tool(describe_result=True)
def find(context: RunContext[None], name: str) -> Result:
    context.emit({"found": name})
    return Result(City(name=name), images=[b"", Image("https://x/y.png")], data=object())


assert_type(find(RunContext(None), "Oslo"), Result)
Result("text", images="chart.png")  # wrong: images are no paths
Result(data=1)  # wrong: the model has to read something
for record in Agent("m", tools=[find]).run_sync("?").tool_calls:
    assert_type(record, ToolCallRecord)
    assert_type(record.name, str)
    assert_type(record.args, dict[str, Any])
    assert_type(record.result, ToolResult | None)
    assert_type(record.seconds, float | None)
    assert_type(record.succeeded, bool)
usage = Agent("m").run_sync("?").usage
assert_type(usage.first_token, float | None)
assert_type(usage.tokens_per_second, float | None)
assert_type(usage.by_model, Mapping[str, Usage])

# The output.

assert_type(Agent().run_sync("?").output, str)
assert_type(Agent("m", output_type=str).run_sync("?").output, str)
assert_type(Agent("m", tools=[finish], output_type=City).run_sync("?").output, City)
assert_type(Agent("m", tools=[finish], first_tool=finish).run_sync("?").output, str)
assert_type(Agent("m", output_type=int).run_sync("?").output, int)
assert_type(Agent("m", output_type=City).run_sync("?").output, City)
assert_type(Agent("m", output_type=Point).run_sync("?").output, Point)
assert_type(Agent("m", output_type=Movie).run_sync("?").output, Movie)
assert_type(Agent("m", output_type=list[City]).run_sync("?").output, list[City])
assert_type(Agent("m", output_type=dict[str, Point]).run_sync("?").output, dict[str, Point])
assert_type(Agent("m", output_type=tuple[int, str]).run_sync("?").output, tuple[int, str])
assert_type(Agent("m", output_type=City | Country).run_sync("?").output, City | Country)
assert_type(Agent("m", output_type=City | None).run_sync("?").output, City | None)
assert_type(Agent("m", output_type=Optional[City]).run_sync("?").output, City | None)  # noqa: UP045
assert_type(Agent("m", output_type=list[City | Point]).run_sync("?").output, list[City | Point])
assert_type(Agent("m", output_type=None).run_sync("?").output, None)
assert_type(Agent("m", output_type=bool | Literal["?"]).run_sync("?").output, bool | Literal["?"])


def find_city(name: str) -> City:
    """Find."""
    return City(name=name)


async def find_country(context: RunContext[None], name: str) -> Country:
    """Find."""
    return Country(name=name)


assert_type(Agent("m", output_type=find_city).run_sync("?").output, City)
assert_type(Agent("m", output_type=find_country).run_sync("?").output, Country)
assert_type(Agent("m", output_type=[City, City]).run_sync("?").output, City)
assert_type(Agent("m", output_type=[find_city]).run_sync("?").output, City)
assert_type(Agent("m", output_type=[find_country]).run_sync("?").output, Country)
# mypy infers no union of a list's items; it has to be named.
CHOICE = Agent[City | Country]("m", output_type=[find_country, City], output_mode="tool")
assert_type(CHOICE.run_sync("?").output, City | Country)
NAMED: Agent[City | Country] = Agent("m", output_type=[City, Country])
assert_type(NAMED.run_sync("?").output, City | Country)
Agent("m", output_type=City, output_mode="json")  # wrong: no such mode
ALL_OPTIONS = Agent(
    "m",
    (),
    "",
    City,
    Database,
    limits=Limits(),
    name="a",
    policy=None,
    max_tools=None,
    handoffs=[],
    required_tools=[],
    on_tool_error=None,
    settings=None,
    skills=[],
    first_tool=None,
    compact=None,
    hooks=[],
    check_input=[],
    check_output=[],
    output_mode="auto",
)
assert_type(ALL_OPTIONS, Agent[City, Database])

COLOUR = Agent("m", output_type=Literal["red", "blue"])
assert_type(COLOUR, Agent[Literal["red", "blue"], None])
assert_type(COLOUR.run_sync("?").output, Literal["red", "blue"])
_text: str = Agent("m", output_type=City).run_sync("?").output  # wrong: it is a City


assert_type(Agent("m", output_type=int).run_sync("?", output_type=City).output, City)
assert_type(Agent("m").run_sync("?", output_type=City | None, tools=[]).output, City | None)
Agent("m").run_sync("?", limits=5)  # wrong: it is not Limits
Agent("m").run_sync("?", limit=None)  # wrong: there is no such argument


Agent("m").run_sync("?", inbox=Inbox(), check_input=1)  # wrong: of the agent, not of the run
assert_type(Inbox().send("?"), bool)


class Quiet(Hooks[Database]):
    async def before_model(self, context: RunContext[Database], step: ModelStep) -> ModelStep:
        assert_type(context.deps, Database)
        return step


async def check_a_type_of_a_run() -> None:
    agent = Agent("m", deps_type=Database)
    runs = durable(agent, "sqlite:///runs.db")
    assert_type(
        await agent.run("?", output_type=list[City], deps=Database()), RunResult[list[City]]
    )
    assert_type((await runs.run("?", output_type=City, deps=Database())).output, City)
    assert_type(agent.stream_text("?", output_type=City, deps=Database()), TextStream[City])
    async for event in agent.run_stream("?", output_type=City, deps=Database()):
        if isinstance(event, RunFinished):
            assert_type(event.result.output, City)
    resumed = await agent.resume("{}", {}, output_type=City, tools=[], deps=Database())
    assert_type(resumed.output, City)


async def check_all_ways_to_run() -> None:
    agent = Agent("m", output_type=City | Country)
    result = await agent.run("?")
    assert_type(result, RunResult[City | Country])
    assert_type(await agent.resume(result, {}), RunResult[City | Country])
    assert_type(agent.resume_sync(result.to_json(), {}).output, City | Country)
    async for event in agent.run_stream("?"):
        if isinstance(event, RunFinished):
            assert_type(event.result.output, City | Country)
    async for event in agent.resume_stream(result, {}):
        match event:
            case RunFinished(done):
                assert_type(done.output, City | Country)
            case TextDelta(text):
                assert_type(text, str)
            case _:
                pass
    stream = agent.stream_text("?")
    async for text in stream:
        assert_type(text, str)
    assert_type(stream.result.output, City | Country)
    sync_stream = agent.stream_text_sync("?")
    for text in sync_stream:
        assert_type(text, str)
    assert_type(sync_stream.result.output, City | Country)
    for event in agent.run_stream_sync("?"):
        if isinstance(event, RunFinished):
            assert_type(event.result.output, City | Country)


async def check_durable_runs() -> None:
    runs = durable(Agent("m", output_type=City | None), "sqlite:///runs.db")
    assert_type(runs, DurableAgent[City | None, None])
    result = await runs.run("?", run_id="a")
    assert_type(result.output, City | None)
    assert_type(runs.run_sync(run_id="a").output, City | None)
    assert_type((await runs.resume("a", {"call": True})).output, City | None)
    async for event in runs.run_stream("?"):
        if isinstance(event, RunFinished):
            assert_type(event.result.output, City | None)
    assert_type(runs.stream_text_sync("?", run_id="b").result.output, City | None)


# The deps.


@tool
def read(context: RunContext[Database]) -> str:
    """Read."""
    assert_type(context.deps, Database)
    return context.deps.url


NEEDS = Agent("m", tools=[read], deps_type=Database, output_type=City)
MAY_HAVE = Agent("m", deps_type=Database | None)


async def check_deps() -> None:
    assert_type(NEEDS, Agent[City, Database])
    result = await NEEDS.run("?", deps=Database())
    assert_type(result.output, City)
    NEEDS.run_sync("?", deps=Database())
    NEEDS.resume_sync(result, {}, deps=Database())
    await NEEDS.run("?")  # wrong: no deps
    NEEDS.run_sync("?")  # wrong: no deps
    NEEDS.run_sync("?", deps=None)  # wrong: no deps
    NEEDS.run_sync("?", deps="a text")  # wrong: other deps
    NEEDS.run_stream("?")  # wrong: no deps
    NEEDS.stream_text("?")  # wrong: no deps
    NEEDS.stream_text_sync("?", deps=Database())
    await NEEDS.resume(result, {})  # wrong: no deps
    NEEDS.resume_sync(result, {})  # wrong: no deps
    NEEDS.resume_stream(result, {})  # wrong: no deps
    durable(NEEDS, "sqlite:///runs.db").run_sync("?")  # wrong: no deps
    durable(NEEDS, "sqlite:///runs.db").run_sync("?", deps=Database())
    MAY_HAVE.run_sync("?")
    MAY_HAVE.run_sync("?", deps=Database())
    Agent("m").run_sync("?", deps=Database())  # wrong: the agent declares no deps
    NEEDS.run_sync("?", deps=Database(), temperature=1)  # wrong: no such argument


def ask(agent: Agent[City, Database]) -> City:
    return agent.run_sync("?", deps=Database()).output


ask(NEEDS)
ANY_DEPS = Agent("m", output_type=City, deps_type=object)
NO_DEPS = Agent("m", output_type=City)
ask(ANY_DEPS)
ask(NO_DEPS)  # wrong: it takes no Database


# Rules for compaction.


class KeepsTwo:
    """A rule of one's own."""

    async def plan_compaction(self, messages: Sequence[Message]) -> CompactionPlan:
        return CompactionPlan(min(2, len(messages)))


assert_type(Agent("m", compact=Summary(keep=4), limits=Limits(context=4_096)), Agent[str, None])
Agent("m", compact=KeepsTwo())
Agent("m", compact=Summary)  # wrong: a class
Agent("m", compact="Summary")  # wrong: no rule
SQLiteSession("a", compact=Window(20))
SQLiteSession("a", compact=20)  # wrong: no rule


with cassette("t.json", "ollama:qwen3:8b") as recorded:
    assert_type(recorded, Model)
    assert_type(Agent(recorded, output_type=City).run_sync("?").output, City)
with cassette("t.json", mode="sometimes"):  # wrong: no such mode
    pass
ModelSettings(thinking="low")  # wrong: thinking is on or off
