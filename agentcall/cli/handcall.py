"""One tool call by hand, repaired, validated and carried out as in a run."""

from __future__ import annotations

import sys

from agentcall.cli.asking import piped
from agentcall.cli.faults import warn
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.loading import tool_from, tools_from
from agentcall.cli.plain import styled
from agentcall.cli.tools import CallOptions
from agentcall.dialects.parts import Called
from agentcall.execute import Job, carry_out
from agentcall.messages import ToolCall, ToolResult
from agentcall.plaintext import harmless
from agentcall.repair import Refused, Repaired, repair
from agentcall.tool import RunContext

_MOST = 10_000_000
"""Characters of a result: a person may page through it, unlike a model."""


def call_by_hand(options: CallOptions) -> bool:
    """Prints the result to standard output, or what was wrong to standard error."""
    tool = tool_from(options.name, tools_from(options.tools or ()))
    arguments = piped() if options.arguments == "-" else options.arguments
    asked = repair(Called(tool.name, arguments), {tool.name: tool})
    if isinstance(asked, Refused):
        return _failed(asked.words)
    for fix in asked.fixes:
        warn(f"repaired {fix.rule}: {fix.before} -> {fix.after}")
    result = _result(asked)
    if result.is_error:
        return _failed(result.text)
    sys.stdout.buffer.write(harmless(result.text).encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()
    return True


def _result(asked: Repaired) -> ToolResult:
    call = ToolCall("call_1", asked.tool.name, asked.arguments)
    context = RunContext[object](deps=None, tool_call_id=call.id, tool_name=call.name)
    job = Job(call, asked.tool, asked.values, context)
    with InterruptibleLoop() as loop:
        return loop.run(carry_out(job, _MOST))


def _failed(words: str) -> bool:
    sys.stderr.write(styled(harmless(words), "red", sys.stderr) + "\n")
    return False
