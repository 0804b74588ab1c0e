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
from agentcall.messages import User
from agentcall.origin import Lineage, Origin, Pause, Raised, lineage
from agentcall.plan import Plan
from agentcall.result import Missing, RunResult
from agentcall.run import Run
from agentcall.schema import function_schema, input_schema
from agentcall.snapshot import snapshot
from agentcall.taint import Untrusted, is_tainted
from agentcall.tool import MarkArguments, Marks, RunContext, Tool

DEEPEST = 5
"""How many agents may ask one another in a row."""

Plans = Callable[[], Plan]


def delegate(
    plan: Plans,
    *,
    name: str,
    description: str,
    input_type: object = str,
    **marks: Unpack[MarkArguments],
) -> Tool:
    """The tool that asks the agent of this plan, for a text or for a value of `input_type`."""
    given: MarkArguments = {"timeout": None, **marks}
    made = replace(Marks(**given), delegates=True)
    if input_type is str:
        asked = Asked(plan)
        text = function_schema(asked, name=name, description=description, context_type=RunContext)
        return Tool(asked, text, made)
    told = Instructed(plan)
    value = input_schema(
        told, input_type, name=name, description=description, context_type=RunContext
    )
    return Tool(told, value, made)


class Asked:
    """An agent that is asked with a text."""

    def __init__(self, plan: Plans) -> None:
        self.plan = plan

    async def __call__(self, context: RunContext[object], task: str) -> object:
        """Asks.

        Args:
            task: What it is to do or to answer, with all that it has to know: it sees nothing of
                this conversation.
        """
        return await _answer(self.plan(), context, task)


class Instructed:
    """An agent that is asked with the fields of a value, which it is told as JSON."""

    def __init__(self, plan: Plans) -> None:
        self.plan = plan

    async def __call__(self, context: RunContext[object], value: object) -> object:
        """Asks."""
        return await _answer(self.plan(), context, snapshot(value))


async def _answer(plan: Plan, context: RunContext[object], task: str) -> object:
    """The output of the agent's run. Raises Through, and ToolError where there is no output."""
    plan, home = replace(plan, name=context.tool_name), lineage.get()
    asked = (User(task, tainted=context.tainted),)
    if home is None:
        return _output(
            await Run(plan, Origin(context.tool_call_id, asked, 0, context.deps)).result()
        )
    if home.depth + 1 >= DEEPEST:
        raise ToolError(f"Not asked: {DEEPEST} agents have asked one another already. Answer now.")
    begin = home.children.get(context.tool_call_id)
    origin = begin or Origin(context.idempotency_key, asked, 0, context.deps)
    run = Run(
        replace(plan, steps=home.steps),
        replace(origin, above=home, grants=home.grants),
        _nested(home, plan.name, context.tool_call_id),
    )
    try:
        result = await run.result()
    except ModelError as error:
        if run.ended is not None and is_tainted(run.ended.messages):  # a server may quote those
            raise ToolError(Untrusted(f"{type(error).__name__}: {error}")) from error
        raise
    except Exception as error:
        raise Raised(error) from error
    if result.pending:
        raise Pause(result)
    return _output(result)


def _nested(home: Lineage, agent: str, call_id: str) -> Emit | None:
    emit = home.emit
    return None if emit is None else lambda event: emit(Nested(agent, call_id, event))


def _output(result: RunResult[Any]) -> object:  # Any: the agent knows its output's type
    """The output; untrusted if untrusted content is in the agent's conversation."""
    tainted = is_tainted(result.messages)
    if not isinstance(result.answer, Missing):
        output: object = result.answer
        return Untrusted(output) if tainted else output
    said = f" It said last: {result.text}" if result.text else ""
    words = f"No answer ({result.stop_reason}): {result.answer.reason}.{said}"
    raise ToolError(Untrusted(words) if tainted else words)
