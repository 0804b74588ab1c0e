"""Outputs that are calls: of output tools, whose call ends the run, and of output functions.

An output function runs as a tool does: in a thread if it is sync, within a timeout, as a step that
a durable run records, with the events of a call. Rules:
1. The value that it returns is the output. A process that continues a run reads the value from the
   recorded result, and does not call the function again.
2. Nothing of an answer that is rejected, cut or only thought of is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agentcall.messages import ToolCall, ToolResult
from agentcall.runtime.executor import execute_observed
from agentcall.runtime.output_choices import FunctionChoice, OutputChoice
from agentcall.runtime.planned_call import OutputCall, PlannedCall
from agentcall.runtime.state import RunState
from agentcall.tools.tool import Tool


def capture_values(planned: Sequence[PlannedCall], state: RunState) -> list[PlannedCall]:
    """Return the calls of a turn, so that what output tools return is kept in the state."""
    return [
        item
        if item.decision != "run" or state.spec.output.find_choice(item.call.name) is None
        else _capture_value(item, state)
        for item in planned
    ]


def _capture_value(item: PlannedCall, state: RunState) -> PlannedCall:
    """Return the call so that what its function returns is kept in the state."""
    if state.output_values is None:
        state.output_values = {}
    tool, call_id, values = item.tool, item.call.id, state.output_values
    function: Callable[..., Any] = tool.function  # Any: the user's own types

    async def call_async(*args: object, **options: object) -> object:
        value: object = await function(*args, **options)
        values[call_id] = value
        return value

    def call_sync(*args: object, **options: object) -> object:
        value: object = function(*args, **options)
        values[call_id] = value
        return value

    call = call_async if tool.is_async else call_sync
    return item._replace(tool=Tool(call, tool.schema, tool.options))


def read_output(
    choice: OutputChoice, call: ToolCall, result: ToolResult, state: RunState
) -> object:
    """Return the output of a successful call of an output tool."""
    values = state.output_values or {}
    if call.id in values:
        return values[call.id]
    if isinstance(choice, FunctionChoice):  # it was called by an earlier process
        return choice.load_result(result.text)
    tool = state.tools[call.name]
    value: object = tool.call(tool.parse(call.arguments))
    return value


async def call_output_function(
    item: PlannedCall, output: OutputCall, state: RunState
) -> tuple[ToolResult, object]:
    """Call the function of an answer, as a step of the run; return the result and the value."""
    step = _capture_value(item, state)
    result = await state.steps.call_tool(step, lambda: execute_observed(step, None, state))
    if state.fatal_error is not None:
        raise state.fatal_error
    if result.is_error:
        state.failures[item.call.name] += 1
        return result, None
    values = state.output_values or {}
    if item.call.id in values:
        return result, values[item.call.id]
    return result, output.load_result(result.text)
