"""What a run costs, in calls of our own functions: a count that is the same on every machine."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from types import FrameType

import agentcall
from agentcall import Agent, Limits, tool
from agentcall.dialects.native import Native
from agentcall.messages import JSON
from agentcall.models.dialogue import Dialogue
from agentcall.models.probe import Choice

CALLS_OF_A_RUN = 333
"""Calls that a run with two tool calls makes. Lower it when they become fewer; that it may be
higher by a tenth leaves room for what a run has to do more."""

PACKAGE = str(Path(agentcall.__file__).parent)


class Wire:
    """A server in the same process: asks for so many tool calls, then answers."""

    secrets = ()

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def post(self, body: bytes) -> JSON:
        made = body.count(b'"tool_call_id"')
        message: dict[str, JSON] = {"role": "assistant", "content": "The result is 16."}
        if made < self._steps:
            message["content"] = None
            arguments = f'{{"a": {made}, "b": 5}}'
            function: JSON = {"name": "add", "arguments": arguments}
            message["tool_calls"] = [{"id": f"c{made}", "type": "function", "function": function}]
        usage: JSON = {"prompt_tokens": 120, "completion_tokens": 20}
        finish = "tool_calls" if made < self._steps else "stop"
        return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError
        yield b""


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def chosen() -> Choice:
    return Choice("m", Native(), "as the test says")


async def calls_of_a_run(steps: int) -> int:
    """How many functions of the package a warm run calls, those of its threads left out."""
    limits = Limits(requests=None)
    agent = Agent(Dialogue(Wire(steps), chosen, None), tools=[add], limits=limits)
    await agent.run("Compute.")
    seen: set[FrameType] = set()  # a coroutine that goes on is no call: it has the same frame

    def note(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        ours = code.co_filename.startswith(PACKAGE) and not code.co_filename.endswith("workers.py")
        if event == "call" and ours and not code.co_name.startswith("<"):
            seen.add(frame)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = await agent.run("Compute.")
    finally:
        sys.setprofile(before)
    assert result.output == "The result is 16."
    assert result.usage.tool_calls == steps
    return len(seen)


async def test_a_run_of_three_model_calls_costs_no_more_than_a_tenth_above_what_it_did() -> None:
    assert await calls_of_a_run(2) <= CALLS_OF_A_RUN * 1.1


async def test_the_count_is_the_same_every_time() -> None:
    assert await calls_of_a_run(2) == await calls_of_a_run(2)


async def test_a_step_late_in_a_run_costs_what_one_at_its_beginning_does() -> None:
    early = await calls_of_a_run(15) - await calls_of_a_run(5)
    late = await calls_of_a_run(205) - await calls_of_a_run(195)
    assert late <= early * 1.1
