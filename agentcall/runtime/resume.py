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

from agentcall.approvals import (
    ApprovalRule,
    Approved,
    Decision,
    Denied,
    Edited,
    FinalDecision,
    has_matching_rule,
)
from agentcall.errors import ArgumentsError, UsageError
from agentcall.messages import Assistant, Message, ToolCall, is_tainted
from agentcall.result import PendingCall, RunResult
from agentcall.runtime.context import AgentToolFunction, RunInput
from agentcall.runtime.spec import AgentSpec
from agentcall.tools.registry import ToolRegistry

AnyRunResult = RunResult[Any]  # Any: the output's type does not matter here


def prepare_resume(
    result: AnyRunResult,
    decisions: Mapping[str, Decision | bool],
    spec: AgentSpec,
    deps: object = None,
) -> RunInput:
    """Where a run goes on that waited.

    Raises UsageError for a call that does not wait, and for edited arguments that do not fit.
    """
    waiting = [pending.call.id for pending in result.pending]
    unknown = [identity for identity in decisions if identity not in waiting]
    if unknown or not waiting:
        asked = f"{unknown[0]!r} does not wait" if unknown else "none waits"
        known = ", ".join(waiting) or "none"
        raise UsageError(f"of the calls of this result {asked} for approval; waiting: {known}")
    normalized = {
        identity: _normalize_decision(identity, decision)
        for identity, decision in decisions.items()
    }
    new_rules = _ResumeInputBuilder(normalized, result.approval_rules, deps).collect_rules(
        result, result.agent
    )
    rules = tuple(dict.fromkeys([*result.approval_rules, *new_rules]))
    return _ResumeInputBuilder(normalized, rules, deps).build(result, spec, result.agent)


def _normalize_decision(call_id: str, decision: object) -> Decision:
    if isinstance(decision, bool):
        return Approved() if decision else Denied()
    if isinstance(decision, (Approved, Edited, Denied)):
        return decision
    raise UsageError(
        f"the decision about {call_id!r} is {decision!r}; "
        "use Approved(), Edited(arguments), Denied(reason), True or False"
    )


@dataclass(frozen=True, slots=True)
class _ResumeInputBuilder:
    """Goes through a result and the results of agents in it; `path` is whose result it is."""

    decisions: Mapping[str, Decision]
    rules: tuple[ApprovalRule, ...]
    deps: object

    def collect_rules(self, result: AnyRunResult, path: str) -> Iterator[ApprovalRule]:
        """What is approved always."""
        for call in _get_calls(result.own_pending):
            decision = self.decisions.get(call.id)
            if isinstance(decision, Approved) and decision.always:
                arguments = call.arguments if decision.always == "call" else None
                yield ApprovalRule(
                    path, call.name, arguments, _is_tainted_before(result.messages, call)
                )
        for paused in result.paused:
            nested = replace(self, decisions=_select_nested_decisions(paused.call, self.decisions))
            yield from nested.collect_rules(paused.result, f"{path}/{paused.result.agent}")

    def build(self, result: AnyRunResult, spec: AgentSpec, path: str) -> RunInput:
        """Where the run of this result goes on."""
        spec = spec.for_agent(result.agent)
        own_pending = result.own_pending
        edited = dict(self._iter_edits(_get_calls(own_pending), spec.registry))
        new = (_replace_calls(message, edited) for message in result.new_messages)
        return RunInput(
            run_id=result.run_id,
            messages=(*result.messages[: result.start], *new),
            start=result.start,
            deps=self.deps,
            pending=tuple(
                replace(each, call=edited.get(each.call.id, each.call)) for each in own_pending
            ),
            decisions=dict(self._iter_decisions(result, path)),
            usage=result.usage,
            turns=result.turns,
            agent=result.agent,
            approval_rules=self.rules,
            paused=result.paused,
            children=dict(self._iter_children(result, spec, path)),
        )

    def _iter_edits(
        self, calls: Iterable[ToolCall], registry: ToolRegistry
    ) -> Iterator[tuple[str, ToolCall]]:
        for call in calls:
            decision = self.decisions.get(call.id)
            if isinstance(decision, Edited):
                yield call.id, _edit_call(call, decision.arguments_json, registry)

    def _iter_decisions(
        self, result: AnyRunResult, path: str
    ) -> Iterator[tuple[str, FinalDecision]]:
        for call in _get_calls(result.own_pending):
            decision = self.decisions.get(call.id)
            if decision is not None:
                yield call.id, decision if isinstance(decision, Denied) else Approved()
            elif has_matching_rule(
                self.rules, call, path, tainted=_is_tainted_before(result.messages, call)
            ):
                yield call.id, Approved()

    def _iter_children(
        self, result: AnyRunResult, spec: AgentSpec, path: str
    ) -> Iterator[tuple[str, RunInput]]:
        for paused in result.paused:
            nested = replace(self, decisions=_select_nested_decisions(paused.call, self.decisions))
            child_spec = _get_agent_spec(paused.call, spec.registry)
            if child_spec is None:  # the tools have changed since; the run tells the model so
                continue
            child_input = nested.build(paused.result, child_spec, f"{path}/{paused.result.agent}")
            if child_input.decisions or child_input.children:
                yield paused.call.id, child_input


def _get_calls(pending_calls: Iterable[PendingCall]) -> Iterator[ToolCall]:
    return (pending.call for pending in pending_calls)


def _is_tainted_before(messages: Iterable[Message], call: ToolCall) -> bool:
    """Whether untrusted content was in the conversation when the call was asked for."""
    return is_tainted(takewhile(lambda message: not _has_call(message, call), messages))


def _has_call(message: Message, call: ToolCall) -> bool:
    return isinstance(message, Assistant) and any(asked.id == call.id for asked in message.calls)


def _select_nested_decisions(
    call: ToolCall, decisions: Mapping[str, Decision]
) -> Mapping[str, Decision]:
    """The decisions about the calls of an agent that was called, by their own ids."""
    start = f"{call.id}/"
    return {
        identity.removeprefix(start): decision
        for identity, decision in decisions.items()
        if identity.startswith(start)
    }


def _get_agent_spec(call: ToolCall, registry: ToolRegistry) -> AgentSpec | None:
    """The plan of the agent that a tool is."""
    tool = registry.by_name.get(call.name)
    if tool is None or not tool.options.delegates:
        return None
    return replace(cast("AgentToolFunction", tool.function).get_spec(), name=call.name)


def _edit_call(call: ToolCall, text: str, registry: ToolRegistry) -> ToolCall:
    try:
        registry[call.name].parse(text)
    except ArgumentsError as error:
        raise UsageError(f"the edited arguments of {call.id!r} do not fit: {error}") from error
    return replace(call, arguments=text)


def _replace_calls(message: Message, edited: Mapping[str, ToolCall]) -> Message:
    if not isinstance(message, Assistant) or not edited:
        return message
    return replace(message, calls=tuple(edited.get(call.id, call) for call in message.calls))
