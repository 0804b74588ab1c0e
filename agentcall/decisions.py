"""What follows from decisions about the calls that wait: where the resumed run begins.

Rules:
1. A decision names a call that waits; anything else is refused before something is carried out.
2. Edited arguments are validated first, and take the place of the model's own.
3. What was approved always, now or earlier, is approved for every call that waits; but what was
   approved before untrusted content came in is not approved for what is asked for after it.
4. Decisions about the calls of an agent that is a tool go down to its run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

from agentcall.approval import Approved, Decision, Denied, Edited, Verdict
from agentcall.errors import ArgumentsError, UsageError
from agentcall.grants import Grant, granted
from agentcall.messages import Assistant, Message, ToolCall
from agentcall.origin import Delegate, Origin
from agentcall.plan import Plan
from agentcall.registry import ToolRegistry
from agentcall.result import PendingCall, RunResult
from agentcall.taint import is_tainted

Result = RunResult[Any]  # Any: the output's type does not matter here


def resumed(
    result: Result, decisions: Mapping[str, Decision | bool], plan: Plan, deps: object = None
) -> Origin:
    """Where a run goes on that waited.

    Raises UsageError for a call that does not wait, and for edited arguments that do not fit.
    """
    waiting = [pending.call.id for pending in result.pending]
    unknown = [identity for identity in decisions if identity not in waiting]
    if unknown or not waiting:
        asked = f"{unknown[0]!r} does not wait" if unknown else "none waits"
        known = ", ".join(waiting) or "none"
        raise UsageError(f"of the calls of this result {asked} for approval; waiting: {known}")
    sure = {identity: _checked(identity, decision) for identity, decision in decisions.items()}
    new = _Resumption(sure, result.grants, deps).grants(result, result.agent)
    grants = tuple(dict.fromkeys([*result.grants, *new]))
    return _Resumption(sure, grants, deps).origin(result, plan, result.agent)


def _checked(identity: str, decision: object) -> Decision:
    if isinstance(decision, bool):
        return Approved() if decision else Denied()
    if isinstance(decision, (Approved, Edited, Denied)):
        return decision
    raise UsageError(
        f"the decision about {identity!r} is {decision!r}; "
        "use Approved(), Edited(arguments), Denied(reason), True or False"
    )


@dataclass(frozen=True, slots=True)
class _Resumption:
    """Goes through a result and the results of agents in it; `path` is whose result it is."""

    decisions: Mapping[str, Decision]
    sure: tuple[Grant, ...]
    deps: object

    def grants(self, result: Result, path: str) -> Iterator[Grant]:
        """What is approved always."""
        for call in _calls(result.own_pending):
            decision = self.decisions.get(call.id)
            if isinstance(decision, Approved) and decision.always:
                arguments = call.arguments if decision.always == "call" else None
                yield Grant(path, call.name, arguments, _was_tainted(result.messages, call))
        for paused in result.paused:
            below = replace(self, decisions=_below(paused.call, self.decisions))
            yield from below.grants(paused.result, f"{path}/{paused.result.agent}")

    def origin(self, result: Result, plan: Plan, path: str) -> Origin:
        """Where the run of this result goes on."""
        plan = plan.of(result.agent)
        own = result.own_pending
        edited = dict(self._edits(_calls(own), plan.registry))
        new = (_with_edits(message, edited) for message in result.new_messages)
        return Origin(
            run_id=result.run_id,
            messages=(*result.messages[: result.start], *new),
            start=result.start,
            deps=self.deps,
            pending=tuple(replace(each, call=edited.get(each.call.id, each.call)) for each in own),
            verdicts=dict(self._verdicts(result, path)),
            usage=result.usage,
            turns=result.turns,
            agent=result.agent,
            grants=self.sure,
            paused=result.paused,
            children=dict(self._children(result, plan, path)),
        )

    def _edits(
        self, waiting: Iterable[ToolCall], registry: ToolRegistry
    ) -> Iterator[tuple[str, ToolCall]]:
        for call in waiting:
            decision = self.decisions.get(call.id)
            if isinstance(decision, Edited):
                yield call.id, _edited(call, decision.text, registry)

    def _verdicts(self, result: Result, path: str) -> Iterator[tuple[str, Verdict]]:
        for call in _calls(result.own_pending):
            decision = self.decisions.get(call.id)
            if decision is not None:
                yield call.id, decision if isinstance(decision, Denied) else Approved()
            elif granted(self.sure, call, path, tainted=_was_tainted(result.messages, call)):
                yield call.id, Approved()

    def _children(self, result: Result, plan: Plan, path: str) -> Iterator[tuple[str, Origin]]:
        for paused in result.paused:
            below = replace(self, decisions=_below(paused.call, self.decisions))
            child = _plan_of(paused.call, plan.registry)
            if child is None:  # the tools have changed since; the run tells the model so
                continue
            origin = below.origin(paused.result, child, f"{path}/{paused.result.agent}")
            if origin.verdicts or origin.children:
                yield paused.call.id, origin


def _calls(waiting: Iterable[PendingCall]) -> Iterator[ToolCall]:
    return (pending.call for pending in waiting)


def _was_tainted(messages: Iterable[Message], call: ToolCall) -> bool:
    """Whether untrusted content was in the conversation when the call was asked for."""
    return is_tainted(takewhile(lambda message: not _asks_for(message, call), messages))


def _asks_for(message: Message, call: ToolCall) -> bool:
    return isinstance(message, Assistant) and any(asked.id == call.id for asked in message.calls)


def _below(call: ToolCall, decisions: Mapping[str, Decision]) -> Mapping[str, Decision]:
    """The decisions about the calls of an agent that was called, by their own ids."""
    start = f"{call.id}/"
    return {
        identity.removeprefix(start): decision
        for identity, decision in decisions.items()
        if identity.startswith(start)
    }


def _plan_of(call: ToolCall, registry: ToolRegistry) -> Plan | None:
    """The plan of the agent that a tool is."""
    tool = registry.by_name.get(call.name)
    if tool is None or not tool.marks.delegates:
        return None
    return replace(cast("Delegate", tool.function).plan(), name=call.name)


def _edited(call: ToolCall, text: str, registry: ToolRegistry) -> ToolCall:
    try:
        registry[call.name].parse(text)
    except ArgumentsError as error:
        raise UsageError(f"the edited arguments of {call.id!r} do not fit: {error}") from error
    return replace(call, arguments=text)


def _with_edits(message: Message, edited: Mapping[str, ToolCall]) -> Message:
    if not isinstance(message, Assistant) or not edited:
        return message
    return replace(message, calls=tuple(edited.get(call.id, call) for call in message.calls))
