"""A tool call of a turn with the decision about it, and the call that an answer makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from agentcall.messages import ToolCall, ToolResult
from agentcall.tools.tool import RunContext, Tool

CallDecision: TypeAlias = Literal["run", "ask", "refuse", "duplicate", "recorded"]

_NO_TOOL = cast("Tool", None)
_NO_CONTEXT = RunContext[Any](deps=None)  # Any: the user's own type


class PlannedCall(NamedTuple):
    """A call and the decision about it.

    run: the executor runs `tool` with `values` and `context`; the three are set in no other case.
    ask: a person has to decide, because of `reason`; the run pauses.
    refuse: the call is not executed; `result` says why.
    duplicate: the call gets the result of `duplicate_of`, the id of an equal call of this turn.
    recorded: an earlier process executed the call; `result` is what it recorded.

    fingerprint: identifies the call for the loop guard; empty for calls that it ignores.
    is_invalid: the call is refused for a mistake of the model, which counts towards the limit of
        equal errors.
    is_early: the call is refused as another tool has to be called first; it is told once.
    follows: the ids of calls of this turn that have to succeed before this one is made.
    """

    call: ToolCall
    decision: CallDecision
    tool: Tool = _NO_TOOL
    values: dict[str, object] = {}  # noqa: RUF012 - nobody changes it
    context: RunContext[Any] = _NO_CONTEXT  # Any: the user's own type
    result: ToolResult | None = None
    reason: str = ""
    duplicate_of: str = ""
    fingerprint: str = ""
    is_invalid: bool = False
    is_early: bool = False
    follows: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The idempotency key of a call that runs: `run:turn:index`."""
        return self.context.idempotency_key


class OutputCall(NamedTuple):
    """An answer in text that calls an output function.

    load_result: returns the value of the call, given the text of its recorded result.
    """

    tool: Tool
    values: dict[str, object]
    arguments: str
    load_result: Callable[[str], object]


def refuse_call(
    call: ToolCall,
    message: str,
    *,
    fingerprint: str = "",
    is_invalid: bool = False,
    untrusted: bool = False,
) -> PlannedCall:
    """Plan a call that is not executed; `message` tells the model why."""
    result = ToolResult(
        call.id, call.name, message, True, untrusted, assessed=True, not_called=True
    )
    return PlannedCall(
        call, "refuse", result=result, fingerprint=fingerprint, is_invalid=is_invalid
    )
