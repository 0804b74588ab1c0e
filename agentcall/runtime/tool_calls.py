"""The calls of a turn: repaired, judged, carried out; each ends in a result or waits for approval.

Rules:
1. What was repaired is what is judged, shown for approval, carried out and recorded.
2. Every call of a conversation has an id of its own, whatever the server gave.
3. A call that is refused has a result that says why; it costs no tool call.
4. What a turn asks for twice is carried out once, and both calls have its result.
5. The policy rules on a call before it is carried out, and once more when a person has decided.

A call of a turn and what is to become of it; and what became of a turn's calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from agentcall.approvals import Approved, Denied, format_denial, has_matching_rule
from agentcall.dialects.base import ToolCallPart
from agentcall.events import (
    ApprovalRequested,
    Event,
    LoopDetected,
    ToolCallDenied,
    ToolCallRefused,
    ToolCallRepaired,
)
from agentcall.messages import Assistant, Message, ToolCall, ToolResult, Usage, is_tainted
from agentcall.policy import (
    Ask,
    Deny,
    Policy,
    PolicyDecision,
    ToolCallRequest,
    default_policy,
    evaluate_policy,
    format_policy_denial,
)
from agentcall.repair import RefusedCall, RepairedCall, repair_call
from agentcall.result import PausedAgentCall, PendingCall, RunResult, StopReason
from agentcall.runtime.checkpoint import INTERRUPTED, RecordedCall, create_unknown_result
from agentcall.runtime.context import RunScope
from agentcall.runtime.executor import ToolInvocation, execute_calls
from agentcall.runtime.loop_guard import (
    MAX_SAME_ERRORS,
    LoopGuard,
    call_fingerprint,
    format_repeated_call,
)
from agentcall.settings import Limits
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import RunContext


class PlannedCall(NamedTuple):
    """A call and its place in its turn, and one of: work to do, words that answer it, a call of
    the same turn that it repeats, a result that it has, or none of them: it waits for approval.

    `reason` is why it waits. `sign` is what the loop guard knows it by, empty for calls that it
    does not mind; `is_wrong` says that the words are about a mistake in the call itself,
    `untrusted` that strangers may have written of them.
    """

    call: ToolCall
    invocation: ToolInvocation | None = None
    message: str = ""
    duplicate_of: str = ""
    result: ToolResult | None = None
    reason: str = ""
    fingerprint: str = ""
    is_invalid: bool = False
    untrusted: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether a person has to decide."""
        return not (self.invocation or self.message or self.duplicate_of or self.result)

    @property
    def message_result(self) -> ToolResult:
        """The result of a call that is answered with words."""
        call, words = self.call, self.message
        return ToolResult(call.id, call.name, words, True, self.untrusted, assessed=True)


class TurnResults(NamedTuple):
    """What became of the calls of a turn.

    `close` says why the tools have to be closed. `pending` has the calls of agents that are tools
    too; `paused` are the calls of these agents.
    """

    results: tuple[ToolResult, ...]
    pending: tuple[PendingCall, ...]
    close_reason: StopReason | None
    paused: tuple[PausedAgentCall, ...] = ()


def collect_texts(
    planned: Iterable[PlannedCall], results: Mapping[str, ToolResult]
) -> dict[str, str]:
    """What the calls of a turn gave, by sign; a polled call has its id for one.

    A call that failed has another sign, as it may be made again.
    """
    texts: dict[str, str] = {}
    for item in planned:
        if item.fingerprint and not item.is_pending:
            result = results[item.call.id]
            failed = item.invocation is not None and result.is_error
            texts[f"failed {item.fingerprint}" if failed else item.fingerprint] = result.text
        elif item.invocation:
            texts[item.call.id] = ""
    return texts


_TOOL_CHANGED = (
    "The tool has changed since this call was made, and it was not called. Call it again."
)
_REAPPROVAL_REASON = "it was approved always before untrusted content came into the conversation"
_NO_STARTED_CALLS: Mapping[int, RecordedCall] = {}
_DUPLICATE_NOTE = "(You made this call twice in one turn; it was carried out once, and gave:)\n"


class TurnContext(NamedTuple):
    """Where calls are made: what their tools may know of the run."""

    run_id: str
    turn: int
    deps: object
    usage: Usage
    messages: tuple[Message, ...]

    def make_call_key(self, index: int) -> str:
        """The idempotency key of the turn's call at this place."""
        return f"{self.run_id}:{self.turn}:{index}"


class ToolCallProcessor:
    """Takes the calls of a run's turns; remembers what the run has called.

    `known` has every result so far by call id, also those of a turn that is under way;
    `is_tainted` says whether untrusted content has been read.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        limits: Limits,
        scope: RunScope,
        *,
        policy: Policy | None = None,
    ) -> None:
        self._registry = registry
        self._policy = policy
        self.is_tainted = False
        self._limits = limits
        self._scope = scope
        self._is_restoring = False
        self._loop_guard = LoopGuard()
        self._failures: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._close_reason: StopReason | None = None
        self._paused_runs: dict[str, RunResult[Any]] = {}  # Any: there is no output yet
        self.results: dict[str, ToolResult] = {}

    def set_tools(self, registry: ToolRegistry) -> None:
        """Takes calls of these tools from now on."""
        self._registry = registry

    def set_agent(self, scope: RunScope, policy: Policy | None) -> None:
        """Makes calls for another agent from now on."""
        self._scope = scope
        self._policy = policy

    def load_history(self, history: Sequence[Message]) -> None:
        """Remembers what came before: used ids, and whether untrusted content is in it."""
        self._ids.update(c.id for m in history if isinstance(m, Assistant) for c in m.calls)
        self.is_tainted = is_tainted(history)

    def restore_turns(self, messages: Sequence[Message]) -> None:
        """Takes down what the turns of this run called in an earlier process, and goes on."""
        self._is_restoring = True
        for place, message in enumerate(messages):
            if not isinstance(message, Assistant) or not message.calls:
                continue
            behind = takewhile(lambda m: isinstance(m, ToolResult), messages[place + 1 :])
            results = {m.call_id: m for m in behind if isinstance(m, ToolResult)}
            texts: dict[str, str] = {}
            for call in message.calls:
                result = results.get(call.id)
                sign = _compute_fingerprint(
                    repair_call(ToolCallPart(call.name, call.arguments), self._registry.by_name)
                )
                if result is not None and sign:
                    texts[f"failed {sign}" if result.is_error else sign] = result.text
                    self._failures[call.name] += 1
                    if not result.is_error:
                        self._failures[call.name] = 0
            self._loop_guard.record(texts)

    def plan_calls(
        self, parsed_calls: Sequence[ToolCallPart], turn_context: TurnContext
    ) -> list[PlannedCall]:
        """The calls that a turn asks for, each with what is to become of it."""
        repairs = [repair_call(called, self._registry.by_name) for called in parsed_calls]
        fingerprints = [_compute_fingerprint(found) for found in repairs]
        repeated = self._loop_guard.find_repetitions({sign for sign in fingerprints if sign})
        if self._loop_guard.is_looping:
            self._close_reason = "loop"
        started = (
            self._find_recorded_calls(len(parsed_calls), turn_context)
            if self._is_restoring
            else _NO_STARTED_CALLS
        )
        first: dict[str, str] = {}
        planned: list[PlannedCall] = []
        for index, (called, found, fingerprint) in enumerate(
            zip(parsed_calls, repairs, fingerprints, strict=True)
        ):
            if index in started:
                if fingerprint:
                    first.setdefault(fingerprint, started[index].call.id)
                planned.append(self._plan_recorded_call(started[index], turn_context, index))
                continue
            identity = self._assign_id(called.id, turn_context.turn, index)
            if isinstance(found, RefusedCall):
                call = ToolCall(identity, called.name, _object_or_empty(called.arguments))
                planned.append(PlannedCall(call, message=found.message, is_invalid=True))
                continue
            call = ToolCall(identity, found.tool.name, found.arguments)
            self._emit_repairs(call, found)
            if fingerprint in repeated:
                planned.append(self._plan_repeated_call(call, fingerprint, turn_context))
            elif fingerprint in first:
                planned.append(PlannedCall(call, duplicate_of=first[fingerprint]))
            else:
                if fingerprint:
                    first[fingerprint] = identity
                planned.append(self._plan_call(call, found, fingerprint, turn_context, index))
        return planned

    def apply_decisions(
        self,
        pending_calls: Sequence[PendingCall],
        decisions: Mapping[str, Approved | Denied],
        turn_context: TurnContext,
    ) -> list[PlannedCall]:
        """Calls that waited, each with what was decided; one without a decision waits on."""
        indexes = _index_calls(turn_context.messages)
        planned: list[PlannedCall] = []
        for pending in pending_calls:
            index = indexes.get(pending.call.id, 0)
            recorded = self._scope.steps.find_recorded_call(turn_context.make_call_key(index))
            if recorded is not None:
                planned.append(self._plan_recorded_call(recorded, turn_context, index))
            else:
                decision = decisions.get(pending.call.id)
                planned.append(self._plan_decided_call(pending, decision, turn_context, index))
        return planned

    def plan_paused_calls(
        self, paused: Iterable[PausedAgentCall], turn_context: TurnContext
    ) -> list[PlannedCall]:
        """Calls of agents that waited: those about which something was decided go on."""
        indexes = _index_calls(turn_context.messages)
        self._paused_runs = {each.call.id: each.result for each in paused}
        return [
            self._plan_paused_call(each.call, turn_context, indexes.get(each.call.id, 0))
            for each in paused
        ]

    async def execute(self, planned: Sequence[PlannedCall]) -> TurnResults:
        """What became of the calls."""
        for item in planned:
            if item.message:
                result = self.results[item.call.id] = item.message_result
                self._emit_event(ToolCallRefused(item.call, result))
            elif item.result:
                self.results[item.call.id] = item.result
        invocations = [item.invocation for item in planned if item.invocation is not None]
        paused = await execute_calls(invocations, self._limits, self._scope, self.results)
        if paused:
            self._paused_runs |= paused
            planned = [_pause_call(item, paused) for item in planned]
        for item in planned:
            if item.duplicate_of:
                self.results[item.call.id] = self._copy_duplicate_result(item)
        self._record_results(planned)
        pending_items = [item for item in planned if item.is_pending]
        calls = (item.call for item in planned)
        results = tuple(self.results[call.id] for call in calls if call.id in self.results)
        self.is_tainted = self.is_tainted or is_tainted(results)
        if not pending_items:
            return TurnResults(results, (), self._close_reason)
        pending, paused_agents = self._collect_pending(pending_items)
        return TurnResults(results, pending, self._close_reason, paused_agents)

    def _collect_pending(
        self, items: Sequence[PlannedCall]
    ) -> tuple[tuple[PendingCall, ...], tuple[PausedAgentCall, ...]]:
        """The calls that wait, with those of agents; and the calls of these agents."""
        agent = self._scope.own_name
        own = (
            PendingCall(i.call, agent, i.reason)
            for i in items
            if i.call.id not in self._paused_runs
        )
        calls = (item.call for item in items)
        paused = tuple(
            PausedAgentCall(c, self._paused_runs[c.id]) for c in calls if c.id in self._paused_runs
        )
        nested = [pending for each in paused for pending in each.pending]
        for pending in nested:
            self._emit_event(ApprovalRequested(pending.call, pending.reason))
        return (*own, *nested), paused

    def _plan_call(
        self,
        call: ToolCall,
        repaired: RepairedCall,
        fingerprint: str,
        turn_context: TurnContext,
        index: int,
    ) -> PlannedCall:
        """A valid call that is no repetition."""
        max_calls = self._limits.calls_per_turn
        if max_calls is not None and index >= max_calls:
            message = (
                f"Not called: only {max_calls} calls of one turn are. Make it in your next turn."
            )
            return PlannedCall(call, message=message)
        invocation = self._create_invocation(call, repaired, turn_context, index)
        decision = self._evaluate_policy(invocation)
        if isinstance(decision, Deny):
            return PlannedCall(
                call,
                message=format_policy_denial(decision),
                fingerprint=fingerprint,
                is_invalid=True,
            )
        scope = self._scope
        if isinstance(decision, Ask) and not self._has_approval_rule(call, tainted=self.is_tainted):
            was_granted = self.is_tainted and self._has_approval_rule(call, tainted=False)
            reason = decision.reason or (_REAPPROVAL_REASON if was_granted else "")
            self._emit_event(ApprovalRequested(call, reason))
            return PlannedCall(call, reason=reason, fingerprint=fingerprint)
        limit = scope.budget.count_tool_call()
        if limit is not None:
            self._close_reason = "max_tool_calls"
            message = f"Not called: this run may make {limit} tool calls, and all are used up."
            return PlannedCall(call, message=message)
        return PlannedCall(call, invocation, fingerprint=fingerprint)

    def _has_approval_rule(self, call: ToolCall, *, tainted: bool) -> bool:
        return has_matching_rule(
            self._scope.approval_rules, call, self._scope.path, tainted=tainted
        )

    def _find_recorded_calls(
        self, count: int, turn_context: TurnContext
    ) -> Mapping[int, RecordedCall]:
        """The calls of a turn that an earlier process began; asked once, for its last turn."""
        self._is_restoring = False
        found = {
            index: self._scope.steps.find_recorded_call(turn_context.make_call_key(index))
            for index in range(count)
        }
        return {index: past for index, past in found.items() if past is not None}

    def _plan_recorded_call(
        self, recorded: RecordedCall, turn_context: TurnContext, index: int
    ) -> PlannedCall:
        """A call that an earlier process began; its tool may have changed since."""
        call = recorded.call
        self._ids.add(call.id)
        found = repair_call(ToolCallPart(call.name, call.arguments), self._registry.by_name)
        if isinstance(found, RefusedCall):
            self._scope.budget.count_tool_call(approved=True)
            return PlannedCall(call, result=recorded.result or create_unknown_result(call))
        marks = found.tool.options
        if recorded.result is None and marks.after_crash == "ask" and not marks.idempotent:
            self._emit_event(ApprovalRequested(call, INTERRUPTED))
            return PlannedCall(call, reason=INTERRUPTED, fingerprint=_compute_fingerprint(found))
        self._scope.budget.count_tool_call(approved=True)
        return PlannedCall(
            call,
            self._create_invocation(call, found, turn_context, index),
            fingerprint=_compute_fingerprint(found),
        )

    def _plan_decided_call(
        self,
        pending: PendingCall,
        decision: Approved | Denied | None,
        turn_context: TurnContext,
        index: int,
    ) -> PlannedCall:
        call = pending.call
        if decision is None:
            return PlannedCall(call, reason=pending.reason)
        found = self._resolve_exactly(call)
        if isinstance(found, RefusedCall):
            return PlannedCall(call, message=found.message, is_invalid=True)
        fingerprint = _compute_fingerprint(found)
        if isinstance(decision, Denied):
            return PlannedCall(call, message=format_denial(decision), fingerprint=fingerprint)
        invocation = self._create_invocation(call, found, turn_context, index)
        policy_decision = self._evaluate_policy(invocation)
        if isinstance(policy_decision, Deny):
            return PlannedCall(
                call, message=format_policy_denial(policy_decision), fingerprint=fingerprint
            )
        self._scope.budget.count_tool_call(approved=True)
        return PlannedCall(call, invocation, fingerprint=fingerprint)

    def _plan_paused_call(
        self, call: ToolCall, turn_context: TurnContext, index: int
    ) -> PlannedCall:
        found = self._resolve_exactly(call)
        if isinstance(found, RefusedCall) or not found.tool.options.delegates:
            del self._paused_runs[call.id]
            return PlannedCall(call, message=_TOOL_CHANGED, is_invalid=True)
        if call.id not in self._scope.children:
            return PlannedCall(call)
        del self._paused_runs[call.id]
        return PlannedCall(
            call,
            self._create_invocation(call, found, turn_context, index),
            fingerprint=_compute_fingerprint(found),
        )

    def _resolve_exactly(self, call: ToolCall) -> RepairedCall | RefusedCall:
        """The call to the letter: nothing else was approved. Refused if the tools have changed."""
        found = repair_call(ToolCallPart(call.name, call.arguments), self._registry.by_name)
        if isinstance(found, RefusedCall) or _is_verbatim(found, call):
            return found
        return RefusedCall(_TOOL_CHANGED)

    def _evaluate_policy(self, invocation: ToolInvocation) -> PolicyDecision:
        request = ToolCallRequest(
            invocation.call,
            invocation.tool,
            MappingProxyType(invocation.values),
            invocation.context,
        )
        policy = self._policy
        decision = default_policy(request) if policy is None else evaluate_policy(policy, request)
        if isinstance(decision, Deny):
            self._emit_event(ToolCallDenied(invocation.call, decision.reason))
        return decision

    def _create_invocation(
        self, call: ToolCall, repaired: RepairedCall, turn_context: TurnContext, index: int
    ) -> ToolInvocation:
        context: RunContext[Any] = RunContext(  # Any: the user's own type
            deps=turn_context.deps,
            usage=turn_context.usage,
            messages=turn_context.messages,
            retry=self._failures[call.name],
            tool_call_id=call.id,
            tool_name=call.name,
            run_id=turn_context.run_id,
            idempotency_key=f"{turn_context.run_id}:{turn_context.turn}:{index}",
            tainted=self.is_tainted,
        )
        return ToolInvocation(call, repaired.tool, repaired.values, context)

    def _plan_repeated_call(
        self, call: ToolCall, fingerprint: str, turn_context: TurnContext
    ) -> PlannedCall:
        note = "; the tools are closed" if self._loop_guard.is_looping else ""
        self._emit_event(LoopDetected(call, f"the same call again{note}"))
        message = format_repeated_call(call.name, self._loop_guard.get_last_text(fingerprint))
        results = (
            m for m in (*turn_context.messages, *self.results.values()) if isinstance(m, ToolResult)
        )
        untrusted = is_tainted(result for result in results if result.name == call.name)
        return PlannedCall(call, message=message, untrusted=untrusted)

    def _copy_duplicate_result(self, item: PlannedCall) -> ToolResult:
        found = self.results.get(item.duplicate_of)
        if found is None:
            message = "Not called: the same call of this turn waits for approval."
            return item._replace(message=message).message_result
        return replace(found, call_id=item.call.id, text=_DUPLICATE_NOTE + found.text)

    def _record_results(self, planned: Sequence[PlannedCall]) -> None:
        """Lets the guard know what a turn gave."""
        self._loop_guard.record(collect_texts(planned, self.results))
        errors = {item.message: MAX_SAME_ERRORS for item in planned if item.is_invalid}
        has_succeeded: dict[str, bool] = {}
        for invocation in (item.invocation for item in planned if item.invocation):
            name, result = invocation.call.name, self.results[invocation.call.id]
            has_succeeded[name] = has_succeeded.get(name, False) or not result.is_error
            if result.is_error:
                message = f"{name}: {result.text}"
                errors[message] = max(MAX_SAME_ERRORS, invocation.tool.options.retries + 1)
        for name, well in has_succeeded.items():
            self._failures[name] = 0 if well else self._failures[name] + 1
        if errors or has_succeeded:
            stuck = self._loop_guard.record_errors(
                errors, all_failed=not any(has_succeeded.values())
            )
            if stuck:
                self._close_reason = "loop"
                self._emit_event(LoopDetected(planned[-1].call, "the same error again and again"))

    def _assign_id(self, given: str, turn: int, index: int) -> str:
        # A slash joins the ids of calls of agents that are tools: no server may make such an id.
        is_free = given and given not in self._ids and "/" not in given
        identity = given if is_free else f"call_{turn}_{index}"
        while identity in self._ids:
            identity += "_"
        self._ids.add(identity)
        return identity

    def _emit_repairs(self, call: ToolCall, repaired: RepairedCall) -> None:
        for fix in repaired.fixes:
            self._emit_event(ToolCallRepaired(call, fix.rule, fix.before, fix.after))

    def _emit_event(self, event: Event) -> None:
        if self._scope.emit is not None:
            self._scope.emit(event)


def _pause_call(item: PlannedCall, paused: Collection[str]) -> PlannedCall:
    """A call that was carried out and is not done: the agent that it asks waits."""
    return item._replace(invocation=None) if item.call.id in paused else item


def _is_verbatim(repaired: RepairedCall, call: ToolCall) -> bool:
    return (repaired.tool.name, repaired.arguments) == (call.name, call.arguments)


def _compute_fingerprint(repaired: RepairedCall | RefusedCall) -> str:
    if isinstance(repaired, RefusedCall) or repaired.tool.options.polling:
        return ""
    return call_fingerprint(repaired.tool.name, repaired.values)


def _index_calls(messages: Iterable[Message]) -> dict[str, int]:
    """Where each call stands in its turn."""
    turns = (message.calls for message in messages if isinstance(message, Assistant))
    return {call.id: place for calls in turns for place, call in enumerate(calls)}


def _object_or_empty(arguments: str) -> str:
    """The arguments if they are a JSON object, else an empty one: servers refuse anything else."""
    try:
        return arguments if isinstance(orjson.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"
