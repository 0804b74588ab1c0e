"""One tool call by hand, repaired, validated and carried out as in a run."""

from __future__ import annotations

import sys

from agentcall.cli.asking import read_stdin
from agentcall.cli.faults import print_warning
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.loading import load_tool, load_tools
from agentcall.cli.plain import style_text
from agentcall.cli.tools import ToolCallOptions
from agentcall.dialects.base import ToolCallPart
from agentcall.display import strip_control_characters
from agentcall.messages import ToolCall, ToolResult
from agentcall.repair import RefusedCall, RepairedCall, repair_call
from agentcall.runtime.executor import execute_call
from agentcall.runtime.planned_call import PlannedCall
from agentcall.tools.tool import RunContext

_MAX_RESULT = 10_000_000
"""Characters of a result: a person may page through it, unlike a model."""


def call_tool(options: ToolCallOptions) -> bool:
    """Prints the result to standard output, or what was wrong to standard error."""
    tool = load_tool(options.name, load_tools(options.tools or ()))
    arguments = read_stdin() if options.arguments == "-" else options.arguments
    asked = repair_call(ToolCallPart(tool.name, arguments), {tool.name: tool})
    if isinstance(asked, RefusedCall):
        return _print_failure(asked.message)
    for fix in asked.fixes:
        print_warning(f"repaired {fix.rule}: {fix.before} -> {fix.after}")
    result = _run_call(asked)
    if result.is_error:
        return _print_failure(result.text)
    sys.stdout.buffer.write(
        strip_control_characters(result.text).encode("utf-8", "replace") + b"\n"
    )
    sys.stdout.buffer.flush()
    return True


def _run_call(asked: RepairedCall) -> ToolResult:
    call = ToolCall("call_1", asked.tool.name, asked.arguments)
    context = RunContext[object](deps=None, tool_call_id=call.id, tool_name=call.name)
    planned = PlannedCall(call, "run", asked.tool, asked.values, context)
    with InterruptibleLoop() as loop:
        return loop.run(execute_call(planned, _MAX_RESULT))


def _print_failure(text: str) -> bool:
    sys.stderr.write(style_text(strip_control_characters(text), "red", sys.stderr) + "\n")
    return False
