"""What the model gets of long results and long conversations; the result has all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentcall import Agent, Limits, SQLiteSession, Tool, tool
from agentcall.errors import ContextOverflow
from agentcall.events import ContextTrimmed, Event, MessagesOmitted
from agentcall.messages import Assistant, ToolResult, User
from agentcall.result import RunResult
from agentcall.testing import RecordedRequest, ScriptedModel, call, overflow, say

LONG = "".join(f"line {n}\n" for n in range(20_000))


@tool(read_only=True)
def log() -> str:
    """Read the log."""
    return LONG


@tool(isolated=True)
def isolated_log() -> str:
    """Read the log."""
    return "".join(f"line {n}\n" for n in range(20_000))


def _texts(result: RunResult[Any]) -> list[str]:
    return [found.text for _, found in result.tool_calls if found is not None]


@pytest.mark.parametrize("reader", [log, isolated_log])
async def test_a_long_result_is_kept_whole_and_read_in_pages(reader: Tool) -> None:
    def brain(request: RecordedRequest) -> Any:
        results = [m for m in request.messages if m["role"] == "tool"]
        match len(results):
            case 0:
                return call(reader.name)
            case 1:
                return call("read_result", call_id=results[0]["tool_call_id"], page=9)
            case 2:
                return call(
                    "search_result", call_id=results[0]["tool_call_id"], query="LINE 12345\n"
                )
            case 3:
                return call("search_result", call_id=results[0]["tool_call_id"], query="nothing")
            case _:
                return say("done")

    model = ScriptedModel(brain)
    events = [event async for event in Agent(model, tools=[reader]).run_stream("Look")]
    result = events[-1].result  # type: ignore[union-attr]  # RunFinished
    first, page, found, nothing = _texts(result)
    assert first == LONG
    assert page == "[page 9 of 53]\n" + LONG[32_000:36_000]
    assert "[1 places with 'LINE 12345" in found
    assert "line 12344\nline 12345\nline 12346\n" in found
    assert nothing == '["nothing" is not in the result]'.replace('"', "'")
    sent = model.requests[1].messages[-1]["content"]
    assert sent.startswith("line 0\n")
    assert sent.endswith("line 19999\n")
    assert len(sent) < 50_300
    assert [event.before for event in events if isinstance(event, ContextTrimmed)] == [len(LONG)]


async def test_a_long_result_of_an_earlier_run_can_be_read() -> None:
    first = await Agent(ScriptedModel([call("log"), say("ok")]), tools=[log]).run("Look")
    call_id = first.tool_calls[0][0].id
    model = ScriptedModel([call("read_result", call_id=call_id, page=53), say("It ends.")])
    second = await Agent(model, tools=[log]).run("And the end?", messages=first.messages)
    assert _texts(second)[0].endswith("line 19999\n")
    assert second.messages[: len(first.messages)] == first.messages
    assert len(model.requests[0].raw) < 60_000


async def test_a_limit_of_a_result_may_be_left_out() -> None:
    model = ScriptedModel([call("log"), say("ok")])
    await Agent(model, tools=[log], limits=Limits(result_chars=None)).run("Look")
    assert model.requests[1].messages[-1]["content"] == LONG
    assert [each["function"]["name"] for each in model.requests[1].tools] == ["log"]


def _limit_window(tokens: int) -> Any:
    def brain(request: RecordedRequest) -> Any:
        if request.prompt_tokens > tokens:
            return overflow("vllm", context=tokens)
        return say("answer " * 40)

    return brain


async def test_a_session_that_outgrew_the_window_continues(tmp_path: Path) -> None:
    session = SQLiteSession("long", tmp_path / "s.db")
    agent = Agent(ScriptedModel(_limit_window(600)), instructions="Be brief.")
    events: list[Event] = []
    for number in range(12):
        question = f"question {number} " * 10
        events += [event async for event in agent.run_stream(question, session=session)]
    assert any(isinstance(event, MessagesOmitted) for event in events)
    assert len(session.messages) == 24
    texts = [m.text for m in session.messages if isinstance(m, User)]
    assert texts == [f"question {number} " * 10 for number in range(12)]


async def test_the_result_has_the_messages_that_were_left_out() -> None:
    history = [User("word " * 200), Assistant("word " * 200)] * 4
    agent = Agent(ScriptedModel(_limit_window(700)))
    result = await agent.run("And now?", messages=history)
    assert result.messages[:8] == tuple(history)
    assert result.new_messages[0].text == "And now?"
    assert (await agent.run("More?", messages=result.messages)).output


async def test_the_oldest_steps_of_a_long_run_are_left_out() -> None:
    @tool
    def note(text: str) -> str:
        """Note a text."""
        return "noted"

    def brain(request: RecordedRequest) -> Any:
        if request.prompt_tokens > 1500:
            return overflow("vllm", context=1500)
        assert request.messages[0]["content"] == "Go"
        roles = [message["role"] for message in request.messages]
        assert roles == ["user", *["assistant", "tool"] * (len(roles) // 2)]
        if request.number > 40:
            return say("done")
        return call("note", text=f"{request.number} " + "x" * 300)

    agent = Agent(ScriptedModel(brain), tools=[note], limits=Limits(requests=None))
    result = await agent.run("Go")
    assert result.output == "done"
    calls = [m for m in result.messages if isinstance(m, Assistant) and m.calls]
    assert len(calls) == len([m for m in result.messages if isinstance(m, ToolResult)])
    assert len(calls) > 20
    assert result.messages[0] == User("Go")


async def test_a_question_that_is_longer_than_the_window_raises() -> None:
    agent = Agent(ScriptedModel(_limit_window(100)))
    with pytest.raises(ContextOverflow):
        await agent.run("word " * 1000)
