"""An agent as a tool of another agent.

Rules:
1. The id of the nested run is the key of its call, `run:turn:index`, and its steps go through the
   step executor of the run above it, so that a recorder of that run records it as well.
2. What it uses counts in the run above, and it may use what is left there (`state.Budget`).
3. Its events are reported there as `Nested`; when the run above is cancelled, so is this one.
4. When it waits for approval, the run above waits, and decisions are passed down to it.
5. Untrusted content is marked in both directions: a run that has read some marks its question, and
   an agent that has read some marks its answer, errors included.
6. Agents call each other at most `MAX_AGENT_DEPTH` deep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from typing_extensions import Unpack

from agentcall.errors import ModelError, ToolError, UsageError
from agentcall.events import Event, Nested
from agentcall.messages import Untrusted, User, is_tainted
from agentcall.result import MissingOutput, RunResult
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.executor import AgentRunFailed, AgentRunPaused
from agentcall.runtime.prompts import format_no_answer, format_too_deep
from agentcall.runtime.run import AgentRun
from agentcall.runtime.state import RunInput, current_run
from agentcall.tools.schema import function_schema, input_schema
from agentcall.tools.serialize import serialize
from agentcall.tools.tool import (
    RunContext,
    Tool,
    ToolOptionArguments,
    ToolOptions,
    check_options,
)

MAX_AGENT_DEPTH = 5
"""How many agents may call each other in a row."""

SpecFactory = Callable[[], AgentSpec]


def create_agent_tool(
    get_spec: SpecFactory,
    *,
    name: str,
    description: str,
    input_type: object = str,
    result_type: object = str,
    **options: Unpack[ToolOptionArguments],
) -> Tool:
    """Create the tool that asks an agent for a text, or with a value of `input_type`.

    result_type: the type of the agent's output, for `describe_result`.
    """
    arguments: ToolOptionArguments = {"timeout": None, **options}
    check_options(arguments)
    tool_options = replace(ToolOptions(**arguments), delegates=True, uses_run=True)
    if input_type is str:
        text_function = TextAgentTool(get_spec, result_type)
        text_schema = function_schema(
            text_function, name=name, description=description, context_type=RunContext
        )
        return Tool(text_function, text_schema, tool_options)
    function = StructuredAgentTool(get_spec, result_type)
    schema = input_schema(
        function, input_type, name=name, description=description, context_type=RunContext
    )
    return Tool(function, schema, tool_options)


class TextAgentTool:
    """An agent that is asked with a text."""

    def __init__(self, get_spec: SpecFactory, result_type: object) -> None:
        self.get_spec = get_spec
        self.result_type = result_type

    async def __call__(self, context: RunContext[object], task: str) -> object:
        """Ask the agent.

        Args:
            task: What it is to do or to answer, with all that it has to know: it sees nothing of
                this conversation.
        """
        return await _run_agent(self.get_spec(), context, task)


class StructuredAgentTool:
    """An agent that is asked with a value, which it reads as JSON."""

    def __init__(self, get_spec: SpecFactory, result_type: object) -> None:
        self.get_spec = get_spec
        self.result_type = result_type

    async def __call__(self, context: RunContext[object], value: object) -> object:
        """Ask the agent."""
        return await _run_agent(self.get_spec(), context, serialize(value))


async def _run_agent(spec: AgentSpec, context: RunContext[object], task: str) -> object:
    """Return the output of the agent's run.

    Raises ToolError if there is no output, AgentRunPaused, and AgentRunFailed.
    """
    spec, parent = replace(spec, name=context.tool_name), current_run.get()
    messages = (User(task, tainted=context.tainted),)
    if parent is None:
        run_input = RunInput(context.tool_call_id, messages, 0, context.deps)
        return _extract_answer(await AgentRun(spec, run_input).execute())
    if parent.depth + 1 >= MAX_AGENT_DEPTH:
        raise ToolError(format_too_deep(MAX_AGENT_DEPTH))
    resumed_input = parent.input.children.get(context.tool_call_id)
    run_input = resumed_input or RunInput(context.idempotency_key, messages, 0, context.deps)
    emit = parent.emit

    def emit_nested(event: Event) -> None:
        if emit is not None:
            emit(Nested(spec.name, context.tool_call_id, event))

    try:
        run = AgentRun(
            replace(spec, steps=parent.steps),
            run_input._replace(parent=parent, approval_rules=parent.input.approval_rules),
            None if emit is None else emit_nested,
        )
    except UsageError as error:  # the program is wrong, not the model
        raise AgentRunFailed(error) from error
    try:
        result = await run.execute()
    except ModelError as error:
        if run.final_result is not None and is_tainted(run.final_result.messages):
            # The server may quote the conversation in its error.
            raise ToolError(Untrusted(f"{type(error).__name__}: {error}")) from error
        raise
    except Exception as error:
        raise AgentRunFailed(error) from error
    if result.pending:
        raise AgentRunPaused(result)
    return _extract_answer(result)


def _extract_answer(result: RunResult[Any]) -> object:  # Any: the agent knows its output's type
    """Return the output; untrusted if untrusted content is in the agent's conversation."""
    tainted = is_tainted(result.messages)
    if not isinstance(result.answer, MissingOutput):
        output: object = result.answer
        return Untrusted(output) if tainted else output
    message = format_no_answer(result.stop_reason, result.answer.reason, result.text)
    raise ToolError(Untrusted(message) if tainted else message)
