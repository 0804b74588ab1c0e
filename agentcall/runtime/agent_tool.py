"""An agent as a tool of another one.

Rules:
1. Its run is named by the key of the call, `run:turn:index`, and makes its steps through those of
   the run above it, so that who records that run records this one too.
2. What it uses counts above as well, and it may use no more than is left there (`budget`).
3. Its events are told above as `Nested`; when the run above is cancelled, so is this one.
4. Where it waits for approval, the run above waits, and what is decided there goes down to it.
5. Untrusted content is known on both sides: a run that has read some asks with a mark, and an
   agent that has read some answers with one, errors included.
6. Agents ask each other `DEEPEST` deep at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from typing_extensions import Unpack

from agentcall.errors import ModelError, ToolError
from agentcall.events import Emit, Nested
from agentcall.messages import Untrusted, User, is_tainted
from agentcall.result import MissingOutput, RunResult
from agentcall.runtime.context import (
    AgentRunFailed,
    AgentRunPaused,
    RunInput,
    RunScope,
    current_scope,
)
from agentcall.runtime.run import AgentRun
from agentcall.runtime.spec import AgentSpec
from agentcall.tools.schema import function_schema, input_schema
from agentcall.tools.serialize import serialize
from agentcall.tools.tool import RunContext, Tool, ToolOptionArguments, ToolOptions

MAX_AGENT_DEPTH = 5
"""How many agents may ask one another in a row."""

SpecFactory = Callable[[], AgentSpec]


def create_agent_tool(
    get_spec: SpecFactory,
    *,
    name: str,
    description: str,
    input_type: object = str,
    **marks: Unpack[ToolOptionArguments],
) -> Tool:
    """The tool that asks the agent of this plan, for a text or for a value of `input_type`."""
    mark_arguments: ToolOptionArguments = {"timeout": None, **marks}
    tool_marks = replace(ToolOptions(**mark_arguments), delegates=True)
    if input_type is str:
        text_function = TextAgentTool(get_spec)
        text_schema = function_schema(
            text_function, name=name, description=description, context_type=RunContext
        )
        return Tool(text_function, text_schema, tool_marks)
    structured_function = StructuredAgentTool(get_spec)
    structured_schema = input_schema(
        structured_function, input_type, name=name, description=description, context_type=RunContext
    )
    return Tool(structured_function, structured_schema, tool_marks)


class TextAgentTool:
    """An agent that is asked with a text."""

    def __init__(self, get_spec: SpecFactory) -> None:
        self.get_spec = get_spec

    async def __call__(self, context: RunContext[object], task: str) -> object:
        """Asks.

        Args:
            task: What it is to do or to answer, with all that it has to know: it sees nothing of
                this conversation.
        """
        return await _run_agent(self.get_spec(), context, task)


class StructuredAgentTool:
    """An agent that is asked with the fields of a value, which it is told as JSON."""

    def __init__(self, get_spec: SpecFactory) -> None:
        self.get_spec = get_spec

    async def __call__(self, context: RunContext[object], value: object) -> object:
        """Asks."""
        return await _run_agent(self.get_spec(), context, serialize(value))


async def _run_agent(spec: AgentSpec, context: RunContext[object], task: str) -> object:
    """The output of the agent's run. Raises Through, and ToolError where there is no output."""
    spec, scope = replace(spec, name=context.tool_name), current_scope.get()
    messages = (User(task, tainted=context.tainted),)
    if scope is None:
        return _extract_answer(
            await AgentRun(
                spec, RunInput(context.tool_call_id, messages, 0, context.deps)
            ).execute()
        )
    if scope.depth + 1 >= MAX_AGENT_DEPTH:
        raise ToolError(
            f"Not asked: {MAX_AGENT_DEPTH} agents have asked one another already. Answer now."
        )
    resumed_input = scope.children.get(context.tool_call_id)
    run_input = resumed_input or RunInput(context.idempotency_key, messages, 0, context.deps)
    run = AgentRun(
        replace(spec, steps=scope.steps),
        replace(run_input, parent=scope, approval_rules=scope.approval_rules),
        _wrap_emit(scope, spec.name, context.tool_call_id),
    )
    try:
        result = await run.execute()
    except ModelError as error:
        if run.final_result is not None and is_tainted(
            run.final_result.messages
        ):  # a server may quote those
            raise ToolError(Untrusted(f"{type(error).__name__}: {error}")) from error
        raise
    except Exception as error:
        raise AgentRunFailed(error) from error
    if result.pending:
        raise AgentRunPaused(result)
    return _extract_answer(result)


def _wrap_emit(scope: RunScope, agent: str, call_id: str) -> Emit | None:
    emit = scope.emit
    return None if emit is None else lambda event: emit(Nested(agent, call_id, event))


def _extract_answer(result: RunResult[Any]) -> object:  # Any: the agent knows its output's type
    """The output; untrusted if untrusted content is in the agent's conversation."""
    tainted = is_tainted(result.messages)
    if not isinstance(result.answer, MissingOutput):
        output: object = result.answer
        return Untrusted(output) if tainted else output
    said = f" It said last: {result.text}" if result.text else ""
    message = f"No answer ({result.stop_reason}): {result.answer.reason}.{said}"
    raise ToolError(Untrusted(message) if tainted else message)
