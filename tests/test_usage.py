"""`result.usage` and `result.tool_calls`: counts, times, models, in every way to run an agent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest

from agentcall import Agent, RunResult, SQLiteSession, tool
from agentcall.dialects.answer_parts import TextPart
from agentcall.durable import durable
from agentcall.events import ModelAnswered, RunFinished, ToolCallFinished
from agentcall.messages import (
    ToolCall,
    ToolResult,
    Usage,
    from_json,
    to_json,
    usage_from_json,
    usage_to_json,
)
from agentcall.models.model import ModelRequest, ResponseEnd, ResponseEvent
from agentcall.testing import FakeServer, ScriptedModel, call, calls, say, status


@tool
def nap(seconds: float) -> str:
    """Sleep."""
    sleep(seconds)
    if seconds > 0.02:
        raise ValueError("too long")
    return "slept"


class OwnModel:
    """A model of an application, which measures nothing."""

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Answer."""
        yield TextPart("Yes.")
        yield ResponseEnd("stop", Usage(1, 10, 2))


async def test_a_record_of_a_call_has_its_arguments_result_and_duration() -> None:
    model = ScriptedModel([calls(call("nap", seconds=0.02), call("nap", seconds=0.03)), say("ok")])
    result = await Agent(model, tools=[nap]).run("go")
    slept, failed = result.tool_calls
    assert (slept.name, slept.args, slept.text) == ("nap", {"seconds": 0.02}, "slept")
    assert json.loads(slept.arguments) == slept.args
    assert slept.result is not None
    assert slept.id == slept.result.call_id
    assert (slept.succeeded, failed.succeeded) == (True, False)
    assert slept.seconds is not None
    assert slept.seconds >= 0.02
    loaded = RunResult.from_json(result.to_json()).tool_calls
    assert [record.seconds for record in loaded] == pytest.approx(
        [record.seconds for record in result.tool_calls], abs=1e-5
    )


async def test_a_call_that_was_not_executed_took_no_time() -> None:
    twice = calls(call("nap", seconds=0), call("nap", seconds=0), call("nope"))
    result = await Agent(ScriptedModel([twice, say("ok")]), tools=[nap]).run("go")
    first, duplicate, refused = result.tool_calls
    assert first.seconds is not None
    assert (duplicate.seconds, duplicate.succeeded) == (None, True)
    assert (refused.seconds, refused.succeeded) == (None, False)


def test_arguments_that_are_no_object_are_an_empty_dict() -> None:
    assert [ToolCall("a", "b", text).args for text in ("{", "[1]", "null", '{"a":1}')] == [
        {},
        {},
        {},
        {"a": 1},
    ]


def test_a_result_without_a_duration_is_read_as_before() -> None:
    old = {"role": "tool", "tool_call_id": "a", "name": "b", "content": "c"}
    assert from_json(old) == ToolResult("a", "b", "c")
    odd = from_json({**old, "seconds": "soon"})
    assert isinstance(odd, ToolResult)
    assert odd.seconds is None
    assert to_json(odd) == {**old}


async def test_a_streamed_run_knows_when_its_first_token_came() -> None:
    server = FakeServer(
        [call("nap", seconds=0), replace(say("one two three four five"), delay=0.02)]
    )
    with server:
        agent = Agent(server.url, tools=[nap])
        events = [event async for event in agent.run_stream("go")]
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    usage = finished.result.usage
    answered = [event.usage for event in events if isinstance(event, ModelAnswered)]
    assert usage.seconds == pytest.approx(sum(one.seconds for one in answered))
    assert usage.first_token == answered[0].first_token
    assert usage.first_token is not None
    assert 0 < usage.first_token < usage.seconds
    assert usage.writing < usage.seconds
    assert usage.tokens_per_second == pytest.approx(usage.output_tokens / usage.writing)
    (ended,) = (event for event in events if isinstance(event, ToolCallFinished))
    assert ended.seconds == ended.result.seconds


async def test_an_answer_in_one_piece_has_no_first_token() -> None:
    with FakeServer([replace(say("Hello there."), latency=0.02)]) as server:
        usage = (await Agent(server.url).run("go")).usage
    assert usage.first_token is None
    assert usage.seconds == usage.writing >= 0.02
    assert usage.tokens_per_second == usage.output_tokens / usage.seconds


async def test_a_model_that_measures_nothing_is_measured() -> None:
    agent = Agent(OwnModel())
    plain = (await agent.run("go")).usage
    assert plain.seconds > 0
    assert (list(plain.by_model), plain.first_token) == (["OwnModel"], None)
    events = [event async for event in agent.run_stream("go")]
    assert isinstance(events[-1], RunFinished)
    assert events[-1].result.usage.first_token is not None


async def test_agents_with_other_models_are_counted_by_model(tmp_path: Path) -> None:
    with (
        FakeServer([call("inner", task="x"), call("transfer_to_other")], models=("big",)) as big,
        FakeServer([call("nap", seconds=0), say("done")], models=("small",)) as small,
        FakeServer([say("bye")], models=("last",)) as last,
    ):
        inner = Agent(small.url, tools=[nap], name="inner")
        other = Agent(last.url, name="other")
        agent = Agent(big.url, tools=[inner.as_tool()], handoffs=[other])
        result = await agent.run("go", session=SQLiteSession("s", path=tmp_path / "s.db"))
    usage = result.usage
    assert {name: part.requests for name, part in usage.by_model.items()} == {
        "big": 2,
        "small": 2,
        "last": 1,
    }
    assert sum(part.output_tokens for part in usage.by_model.values()) == usage.output_tokens
    assert sum(part.seconds for part in usage.by_model.values()) == pytest.approx(usage.seconds)
    assert (usage.model, usage.tool_calls) == ("", 3)
    loaded = RunResult.from_json(result.to_json()).usage
    assert loaded == usage
    assert loaded.by_model == usage.by_model
    assert loaded.seconds == pytest.approx(usage.seconds, abs=1e-4)
    stored = SQLiteSession("s", path=tmp_path / "s.db").history[0]
    assert stored.usage.by_model.keys() == usage.by_model.keys()


async def test_a_durable_run_keeps_its_times(tmp_path: Path) -> None:
    model = ScriptedModel([call("nap", seconds=0.01), say("ok")])
    agent = durable(Agent(model, tools=[nap]), f"sqlite:///{tmp_path}/runs.db")
    result = await agent.run("go", run_id="r")
    again = await agent.run("go", run_id="r")
    assert again.usage == result.usage
    assert again.usage.seconds == pytest.approx(result.usage.seconds, abs=1e-4)
    assert again.usage.by_model == result.usage.by_model
    assert again.tool_calls[0].seconds == pytest.approx(result.tool_calls[0].seconds, abs=1e-4)


async def test_an_answer_that_was_discarded_counts_for_its_model() -> None:
    broken = status(200, body="this is not JSON")
    with FakeServer([broken, say("ok")], models=("m",)) as server:
        usage = (await Agent(server.url).run("go")).usage
    assert {name: part.requests for name, part in usage.by_model.items()} == {"m": 2}


def test_a_sum_of_usages_has_each_of_their_models() -> None:
    one = Usage(1, 10, 5, 0, 2, 1.0, 0.5, 0.25, "a")
    other = Usage(2, 20, 6, 1, 0, 2.0, 1.0, None, "b")
    total = one + other + one
    assert total == Usage(4, 40, 16, 1, 4)
    assert (total.seconds, total.writing, total.first_token, total.model) == (4.0, 2.0, 0.25, "")
    assert total.by_model == {"a": Usage(2, 20, 10), "b": Usage(2, 20, 6, 1)}
    rest = total - other
    assert (rest.model, rest.by_model) == ("a", {"a": Usage(2, 20, 10)})
    assert (rest - one - one) == Usage()
    assert usage_from_json(json.loads(json.dumps(usage_to_json(total)))).by_model == total.by_model
    assert replace(total, parts=None, model="").by_model == {"": Usage(4, 40, 16, 1)}
    assert Usage().by_model == {}


def test_a_usage_without_times_is_read_as_before() -> None:
    old = {"requests": 2, "input_tokens": 3, "output_tokens": 4, "cached_tokens": 0}
    usage = usage_from_json({**old, "tool_calls": 1})
    assert usage == Usage(2, 3, 4, 0, 1)
    assert (usage.seconds, usage.first_token, usage.tokens_per_second) == (0.0, None, None)
