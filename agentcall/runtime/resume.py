"""Applies decisions to a run that waits for approval: the input of the run that continues it.

Rules:
1. A decision names a call that waits; anything else is refused before a call is executed.
2. Edited arguments are validated first, and replace the model's own in the conversation.
3. A call that was approved always, now or earlier, is approved wherever it waits; but what was
   approved before untrusted content came in is not approved for a call that was made after it.
4. Decisions about the calls of an agent that is a tool are passed down to its run.
5. A call that asks a question is approved by an answer to it, for this time only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

from agentcall.approvals import (
    Answer,
    ApprovalRule,
    Approved,
    Decision,
    Denied,
    Edited,
    FinalDecision,
    Question,
    has_matching_rule,
)
from agentcall.errors import ArgumentsError, UsageError
from agentcall.messages import JSON, Assistant, Message, ToolCall, is_tainted
from agentcall.result import PendingCall, RunResult
from agentcall.runtime.agent_spec import AgentSpec, get_agent_spec
from agentcall.runtime.state import RunInput
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.schema.json_schema import ExternalSchema

AnyRunResult = RunResult[Any]  # Any: the output's type does not matter here


def prepare_resume(
    result: AnyRunResult,
    decisions: Mapping[str, Decision | bool],
    spec: AgentSpec,
    deps: object = None,
) -> RunInput:
    """Return the input of the run that continues a result.

    Raises UsageError for a call that does not wait, and for edited arguments that are invalid.
    """
    waiting = [pending.call.id for pending in result.pending]
    unknown = [call_id for call_id in decisions if call_id not in waiting]
    if not waiting:
        raise UsageError("this run does not wait for approval: none of its calls is pending")
    if unknown:
        raise UsageError(
            f"the call {unknown[0]!r} does not wait for approval; these do: {', '.join(waiting)}"
        )
    normalized = {
        call_id: _normalize_decision(call_id, decision) for call_id, decision in decisions.items()
    }
    builder = _ResumeInputBuilder(normalized, result.approval_rules, deps)
    new_rules = builder.collect_rules(result, result.agent)
    rules = tuple(dict.fromkeys([*result.approval_rules, *new_rules]))
    return replace(builder, rules=rules).build(result, spec, result.agent)


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
    """Walks a result and the results of nested agents in it.

    The parameter `path` is the path of the agent that a result is from, as in `ApprovalRule`.
    """

    decisions: Mapping[str, Decision]
    rules: tuple[ApprovalRule, ...]
    deps: object

    def collect_rules(self, result: AnyRunResult, path: str) -> Iterator[ApprovalRule]:
        """Yield a rule for each call that is approved always."""
        for pending in result.own_pending:
            call, decision = pending.call, self.decisions.get(pending.call.id)
            is_call = pending.question is None
            if is_call and isinstance(decision, Approved) and decision.always:
                arguments = call.arguments if decision.always == "call" else None
                tainted = _is_tainted_before(result.messages, call)
                yield ApprovalRule(path, call.name, arguments, tainted, pending.definition)
        for paused in result.paused:
            nested = self._select_nested(paused.call)
            yield from nested.collect_rules(paused.result, f"{path}/{paused.result.agent}")

    def build(self, result: AnyRunResult, spec: AgentSpec, path: str) -> RunInput:
        """Return the input of the run that continues this result."""
        spec = spec.for_agent(result.agent)
        edited: dict[str, ToolCall] = {}
        for pending in result.own_pending:
            decision = self.decisions.get(pending.call.id)
            if pending.question is None and isinstance(decision, Edited):
                call = _edit_call(pending.call, decision.arguments_json, spec.registry)
                edited[call.id] = call
        new = (_replace_calls(message, edited) for message in result.new_messages)
        return RunInput(
            run_id=result.run_id,
            messages=(*result.messages[: result.start], *new),
            start=result.start,
            deps=self.deps,
            pending=tuple(
                replace(pending, call=edited.get(pending.call.id, pending.call))
                if pending.question is None
                else _answer(pending, pending.question, self.decisions.get(pending.call.id))
                for pending in result.own_pending
            ),
            decisions=dict(self._iter_decisions(result, path)),
            usage=result.usage,
            turns=result.turns,
            agent=result.agent,
            approval_rules=self.rules,
            paused=result.paused,
            children=dict(self._iter_children(result, spec, path)),
            settings=result.settings,
            cuts=result.cuts,
            undelivered=result.undelivered,
        )

    def _iter_decisions(
        self, result: AnyRunResult, path: str
    ) -> Iterator[tuple[str, FinalDecision]]:
        for pending in result.own_pending:
            call, decision = pending.call, self.decisions.get(pending.call.id)
            if decision is not None:
                yield call.id, decision if isinstance(decision, Denied) else Approved()
            elif pending.question is None and has_matching_rule(
                self.rules,
                call,
                path,
                tainted=_is_tainted_before(result.messages, call),
                definition=pending.definition,
            ):
                yield call.id, Approved()

    def _iter_children(
        self, result: AnyRunResult, spec: AgentSpec, path: str
    ) -> Iterator[tuple[str, RunInput]]:
        for paused in result.paused:
            tool = spec.registry.by_name.get(paused.call.name)
            child_spec = None if tool is None else get_agent_spec(tool)
            if child_spec is None:  # the tools have changed since; the run reports it to the model
                continue
            child_input = self._select_nested(paused.call).build(
                paused.result,
                replace(child_spec, name=paused.call.name),
                f"{path}/{paused.result.agent}",
            )
            if child_input.decisions or child_input.children:
                yield paused.call.id, child_input

    def _select_nested(self, call: ToolCall) -> _ResumeInputBuilder:
        """Return a builder with the decisions about the calls of a nested agent, by their ids."""
        prefix = f"{call.id}/"
        decisions = {
            call_id.removeprefix(prefix): decision
            for call_id, decision in self.decisions.items()
            if call_id.startswith(prefix)
        }
        return replace(self, decisions=decisions)


def _answer(pending: PendingCall, question: Question, decision: Decision | None) -> PendingCall:
    """Return the call with the answer of the decision. Raises UsageError if it does not fit."""
    if decision is None or isinstance(decision, Denied):
        return pending
    text = decision.arguments_json if isinstance(decision, Edited) else "{}"
    if question.schema is None and isinstance(decision, Edited):
        raise UsageError(
            f"the question of {pending.call.id!r} is one of yes or no: use Approved() or Denied()"
        )
    schema = question.schema or {"type": "object"}
    try:
        values = ExternalSchema.from_parameters("answer", "", schema).parse(text)
    except ArgumentsError as error:
        raise UsageError(
            f"the answer to the question of {pending.call.id!r} does not fit: {error}; give it as "
            f"Edited({{...}})"
        ) from error
    answer = Answer(question, cast("Mapping[str, JSON]", values))
    return replace(pending, answers=(*pending.answers, answer))


def _is_tainted_before(messages: Iterable[Message], call: ToolCall) -> bool:
    """Whether untrusted content was in the conversation when the call was made."""
    return is_tainted(takewhile(lambda message: not _has_call(message, call), messages))


def _has_call(message: Message, call: ToolCall) -> bool:
    return isinstance(message, Assistant) and any(made.id == call.id for made in message.calls)


def _edit_call(call: ToolCall, arguments: str, registry: ToolRegistry) -> ToolCall:
    try:
        registry[call.name].parse(arguments)
    except ArgumentsError as error:
        raise UsageError(f"the edited arguments of {call.id!r} do not fit: {error}") from error
    return replace(call, arguments=arguments)


def _replace_calls(message: Message, edited: Mapping[str, ToolCall]) -> Message:
    if not isinstance(message, Assistant) or not edited:
        return message
    return replace(message, calls=tuple(edited.get(call.id, call) for call in message.calls))
