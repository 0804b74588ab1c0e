"""The tool calls of a turn, in three steps: resolve, decide, execute.

1. Resolve: each parsed call is repaired, and gets an id and a fingerprint.
2. Decide: each becomes a `PlannedCall` that runs, waits for approval, is refused, duplicates
   another call of the turn, or has a recorded result.
3. Execute: the executor runs the calls; each call has a result in the transcript, or waits.

Rules:
1. The repaired call is the one that is decided about, shown for approval, executed and recorded.
2. Every call of a conversation has an id of its own, whatever id the server sent.
3. A call that is refused has a result that says why; it does not count as a tool call.
4. Equal calls of one turn are executed once, and all have the result.
5. The policy decides about a call before it runs, and again after a person has approved it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import orjson

from agentcall.approvals import Denied, has_matching_rule
from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.display import to_single_line
from agentcall.errors import ModelRetry, UsageError
from agentcall.events import (
    ApprovalRequested,
    LoopDetected,
    ToolCallDenied,
    ToolCallRefused,
    ToolCallRepaired,
)
from agentcall.messages import Assistant, Message, ToolCall, ToolResult, User
from agentcall.policy import (
    Ask,
    Deny,
    PolicyDecision,
    ToolCallRequest,
    default_policy,
    evaluate_policy,
)
from agentcall.repair import RefusedCall, RepairedCall, repair_call
from agentcall.result import PausedAgentCall, PendingCall
from agentcall.runtime.checkpoint import INTERRUPTED, RecordedCall, create_unknown_result
from agentcall.runtime.executor import execute_calls
from agentcall.runtime.loop_guard import MAX_SAME_ERRORS, call_fingerprint
from agentcall.runtime.planned_call import OutputCall, PlannedCall, refuse_call
from agentcall.runtime.prompts import (
    DUPLICATE_PENDING,
    TOOL_CHANGED,
    format_call_after_end,
    format_closed_tool,
    format_duplicate_result,
    format_first_call,
    format_missing_calls,
    format_most_calls,
    format_next_step,
    format_person_denial,
    format_policy_denial,
    format_repeated_call,
    format_too_many_calls,
    format_tool_call_limit,
    format_unanswered_question,
    format_unfinished_calls,
)
from agentcall.runtime.state import RunState
from agentcall.tools.tool import RunContext

if TYPE_CHECKING:  # few agents have hooks
    from agentcall.runtime.hooks import HookSet

_REAPPROVAL_REASON = "it was approved always before untrusted content came into the conversation"
_NO_RECORDED_CALLS: Mapping[int, RecordedCall] = {}


class TurnPlanner:
    """Resolves the calls of one turn and decides about each."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        # What the tools are given: the state before the first call of the turn.
        self._messages = tuple(state.transcript)
        self._usage = state.budget.used
        # By the index of a call, if hooks have changed the calls of the turn.
        self._ids: dict[int, str] = {}
        self._refusals: dict[int, str] = {}

    async def change_calls(
        self, parsed_calls: Sequence[ToolCallPart], hooks: HookSet
    ) -> list[ToolCallPart]:
        """Return the calls as the hooks change them; those that they refuse are kept for later."""
        state = self._state
        changed_calls: list[ToolCallPart] = []
        for index, parsed in enumerate(parsed_calls):
            repaired = repair_call(parsed, state.tools)
            changed_calls.append(parsed)
            if isinstance(repaired, RefusedCall):
                continue
            self._ids[index] = call_id = self._assign_id(parsed.id, index)
            call = ToolCall(call_id, repaired.tool.name, repaired.arguments)
            try:
                with state.call_user_code():
                    changed = await hooks.change_call(self._create_context(call, index), call)
                    if changed != call:
                        changed_calls[-1] = self._replace_call(changed)
            except ModelRetry as error:
                self._refusals[index] = str(error)
        return changed_calls

    def _replace_call(self, call: ToolCall) -> ToolCallPart:
        """Return a call of a hook as if a model had made it. Raises UsageError if it is invalid."""
        parsed = ToolCallPart(call.name, call.arguments, call.id)
        repaired = repair_call(parsed, self._state.tools)
        if isinstance(repaired, RefusedCall):
            raise UsageError(f"before_tool returned an invalid call: {repaired.message}")
        return parsed

    def plan_calls(self, parsed_calls: Sequence[ToolCallPart]) -> list[PlannedCall]:
        """Plan the calls that the model asks for."""
        state = self._state
        repairs = [repair_call(parsed, state.tools) for parsed in parsed_calls]
        fingerprints = [_compute_fingerprint(repaired) for repaired in repairs]
        # A program repeats itself on purpose.
        asked = set[str]() if state.is_in_program else {text for text in fingerprints if text}
        repeated = state.loop_guard.find_repetitions(asked)
        if state.loop_guard.is_looping:
            state.closing_reason = "loop"
        recorded = (
            self._find_recorded_calls(len(parsed_calls))
            if state.is_restoring
            else _NO_RECORDED_CALLS
        )
        first_ids: dict[str, str] = {}  # by fingerprint
        planned: list[PlannedCall] = []
        wanted = self._find_awaited_tool(repairs) if state.awaited_tool else ""
        for index, fingerprint in enumerate(fingerprints):
            repaired = repairs[index]
            if index in recorded:
                item = self._plan_recorded_call(recorded[index], index)
            elif isinstance(repaired, RefusedCall):
                item = self._refuse_invalid_call(parsed_calls[index], repaired, index)
            else:
                call = self._resolve_call(parsed_calls[index], repaired, index)
                if fingerprint in repeated:
                    item = self._refuse_repeated_call(call, fingerprint)
                elif fingerprint in first_ids:
                    item = PlannedCall(call, "duplicate", duplicate_of=first_ids[fingerprint])
                elif wanted:
                    item = refuse_call(call, format_first_call(wanted))._replace(is_early=True)
                elif state.spec.rules is not None:
                    item = self._apply_rules(call, repaired, fingerprint, planned)
                else:
                    item = self._decide(call, repaired, fingerprint, index)
            if fingerprint:
                first_ids.setdefault(fingerprint, item.call.id)
            planned.append(item)
        return planned

    def plan_resumed_calls(self) -> list[PlannedCall]:
        """Plan the calls that waited; one without a decision continues to wait."""
        state, indexes = self._state, _index_calls(self._messages)
        planned: list[PlannedCall] = []
        for pending in state.input.pending:
            index = indexes.get(pending.call.id, 0)
            recorded = state.steps.find_recorded_call(self._make_key(index))
            planned.append(
                self._plan_pending_call(pending, index)
                if recorded is None or pending.call.id not in state.input.decisions
                else self._plan_recorded_call(recorded, index)
            )
        state.paused_runs = {paused.call.id: paused.result for paused in state.input.paused}
        for paused in state.input.paused:
            index = indexes.get(paused.call.id, 0)
            planned.append(self._plan_paused_call(paused.call, index))
        return planned

    # Step 1: resolve.

    def _resolve_call(self, parsed: ToolCallPart, repaired: RepairedCall, index: int) -> ToolCall:
        call_id = self._assign_id(parsed.id, index)
        call = ToolCall(call_id, repaired.tool.name, repaired.arguments)
        for fix in repaired.fixes:
            self._state.emit_event(ToolCallRepaired(call, fix.rule, fix.before, fix.after))
        return call

    def _assign_id(self, server_id: str, index: int) -> str:
        """Return the server's id, or another one if that is missing or taken.

        The other one has nine letters and digits, as the templates of Mistral's models require.
        """
        # A slash joins the ids of the calls of nested agents: no server may send such an id.
        call_ids = self._state.call_ids
        if index in self._ids:
            return self._ids[index]
        is_free = server_id and server_id not in call_ids and "/" not in server_id
        number = 100 * self._state.turns + index
        call_id = server_id if is_free else f"call{number:05}"
        while call_id in call_ids:
            number += 1
            call_id = f"call{number:05}"
        call_ids.add(call_id)
        return call_id

    def _resolve_exactly(self, call: ToolCall) -> RepairedCall | RefusedCall:
        """Resolve a call that was shown to a person: refused unless it is valid to the letter."""
        repaired = repair_call(ToolCallPart(call.name, call.arguments), self._state.tools)
        if isinstance(repaired, RefusedCall):
            return repaired
        is_verbatim = (repaired.tool.name, repaired.arguments) == (call.name, call.arguments)
        return repaired if is_verbatim else RefusedCall(TOOL_CHANGED)

    # Step 2: decide.

    def _refuse_invalid_call(
        self, parsed: ToolCallPart, refused: RefusedCall, index: int
    ) -> PlannedCall:
        call_id = self._assign_id(parsed.id, index)
        call = ToolCall(call_id, parsed.name, _object_or_empty(parsed.arguments))
        return refuse_call(call, refused.message, is_invalid=True)

    def _refuse_repeated_call(self, call: ToolCall, fingerprint: str) -> PlannedCall:
        state = self._state
        note = "; the tools are closed" if state.loop_guard.is_looping else ""
        state.emit_event(LoopDetected(call, f"the same call again{note}"))
        step = format_next_step(*state.list_next_calls()) if state.ends_by_call else ""
        last_text = state.loop_guard.get_last_text(fingerprint)
        message = format_repeated_call(call.name, last_text, step)
        if state.spec.rules is not None:
            state.repeated_tools[call.name] = state.turns
        # The message quotes a result, which has to keep its mark.
        results = (
            m for m in (*self._messages, *state.results.values()) if isinstance(m, ToolResult)
        )
        untrusted = any(result.untrusted for result in results if result.name == call.name)
        return refuse_call(call, message, untrusted=untrusted)

    def _decide(
        self, call: ToolCall, repaired: RepairedCall, fingerprint: str, index: int
    ) -> PlannedCall:
        """Decide about a new, valid call by the limits, the policy and the approvals."""
        state = self._state
        if state.spec.output.tools and state.spec.output.find_choice(call.name) is not None:
            return self._decide_output_call(call, repaired, fingerprint, index)
        if index in self._refusals:
            return refuse_call(call, self._refusals[index], is_invalid=True)
        max_calls = state.spec.limits.calls_per_turn
        if max_calls is not None and index >= max_calls:
            return refuse_call(call, format_too_many_calls(max_calls))
        item = self._plan_run(call, repaired, fingerprint, index)
        decision = self._evaluate_policy(item)
        if isinstance(decision, Deny):
            message = format_policy_denial(decision.reason)
            return refuse_call(call, message, fingerprint=fingerprint, is_invalid=True)
        if isinstance(decision, Ask) and not self._is_approved(call, tainted=state.is_tainted):
            was_approved = state.is_tainted and self._is_approved(call, tainted=False)
            reason = decision.reason or (_REAPPROVAL_REASON if was_approved else "")
            return self._ask(call, reason, fingerprint)
        limit = state.budget.count_tool_call(approved=call.name in state.final_offers)
        if limit is not None:
            state.closing_reason = "max_tool_calls"
            return refuse_call(call, format_tool_call_limit(limit))
        return item

    def _find_awaited_tool(self, repairs: Sequence[RepairedCall | RefusedCall]) -> str:
        """Return the tool that the turn has to call, if it calls only others and was not told so.

        A server that honours the tool choice lets no other call pass.
        """
        wanted = self._state.awaited_tool
        tools = [each.tool.name for each in repairs if isinstance(each, RepairedCall)]
        note = format_first_call(wanted)
        new = self._messages[self._state.input.start :]
        is_told = any(isinstance(m, ToolResult) and m.text == note for m in new)
        return "" if is_told or wanted in tools else wanted

    def _apply_rules(
        self,
        call: ToolCall,
        repaired: RepairedCall,
        fingerprint: str,
        planned: Sequence[PlannedCall],
    ) -> PlannedCall:
        """Decide about a call of an agent whose tools have rules (`call_rules.py`)."""
        state, name = self._state, call.name
        rules, record = state.spec.rules, state.call_record
        index, ids = len(planned), list[str]()
        if rules is None or record is None or name not in rules.tools:
            return self._decide(call, repaired, fingerprint, index)
        if state.close_reason and name not in state.final_offers:
            return refuse_call(call, format_closed_tool(state.final_offers), is_invalid=True)
        made = [item for item in planned if item.decision in ("run", "ask")]
        end = next((item.call.name for item in made if item.call.name in rules.final), "")
        if end:
            return refuse_call(call, format_call_after_end(end))
        if rules.is_exhausted(name, record, sum(item.call.name == name for item in made)):
            most = repaired.tool.options.most_calls or 0
            return refuse_call(call, format_most_calls(name, most), is_invalid=True)
        runs = {item.call.name: item.call.id for item in planned if item.decision == "run"}
        missing = rules.list_missing(name, record)
        uncovered = [each for each in missing if each not in runs]
        if uncovered:
            return refuse_call(call, format_missing_calls(name, uncovered), is_invalid=True)
        ids += [runs[each] for each in missing]
        if name in rules.final:
            unsure = [i.call.name for i in planned if i.decision == "ask" or i.is_invalid]
            if unsure:
                return refuse_call(call, format_unfinished_calls(name, unsure))
            ids += [item.call.id for item in planned if item.decision == "run"]
        item = self._decide(call, repaired, fingerprint, index)
        return item if item.decision == "refuse" else item._replace(follows=tuple(ids))

    def _decide_output_call(
        self, call: ToolCall, repaired: RepairedCall, fingerprint: str, index: int
    ) -> PlannedCall:
        """Decide about a call that ends the run: no limit counts it, and a type does nothing."""
        item = self._plan_run(call, repaired, fingerprint, index)
        choice = self._state.spec.output.find_choice(call.name)
        if choice is None or choice.function is None:
            return item
        decision = self._evaluate_policy(item)
        if isinstance(decision, Deny):
            message = format_policy_denial(decision.reason)
            return refuse_call(call, message, fingerprint=fingerprint, is_invalid=True)
        if isinstance(decision, Ask) and not self._is_approved(call, tainted=item.context.tainted):
            return self._ask(call, decision.reason, fingerprint)
        return item

    def plan_output_function(self, output: OutputCall) -> PlannedCall:
        """Plan the call of an output function by an answer in text."""
        tool = output.tool
        call = ToolCall(self._assign_id("", 0), tool.name, output.arguments)
        repaired = RepairedCall(tool, output.arguments, output.values)
        item = self._plan_run(call, repaired, "", 0)
        decision = self._evaluate_policy(item)
        if isinstance(decision, Deny):
            return refuse_call(call, format_policy_denial(decision.reason), is_invalid=True)
        if isinstance(decision, Ask):
            return PlannedCall(call, "ask", reason=decision.reason)
        return item

    def _plan_pending_call(self, pending: PendingCall, index: int) -> PlannedCall:
        """Apply a person's decision to a call that waited."""
        call, decision = pending.call, self._state.input.decisions.get(pending.call.id)
        if decision is None:
            if pending.question is not None:
                state = self._state
                state.questions = {**state.questions, call.id: pending.question}
            return PlannedCall(call, "ask", reason=pending.reason)
        repaired = self._resolve_exactly(call)
        if isinstance(repaired, RefusedCall):
            return refuse_call(call, repaired.message, is_invalid=True)
        fingerprint = _compute_fingerprint(repaired)
        if isinstance(decision, Denied):
            is_question = pending.question is not None
            format_denial = format_unanswered_question if is_question else format_person_denial
            message = format_denial(decision.reason)
            return refuse_call(call, message, fingerprint=fingerprint)
        if pending.definition not in ("", repaired.tool.definition_digest):
            return refuse_call(call, TOOL_CHANGED, is_invalid=True)
        item = self._plan_run(call, repaired, fingerprint, index)
        policy_decision = self._evaluate_policy(item)
        if isinstance(policy_decision, Deny):
            message = format_policy_denial(policy_decision.reason)
            return refuse_call(call, message, fingerprint=fingerprint)
        self._state.budget.count_tool_call(approved=True)
        return item

    def _plan_paused_call(self, call: ToolCall, index: int) -> PlannedCall:
        """Continue an agent whose run waited, if anything was decided about its calls."""
        repaired = self._resolve_exactly(call)
        if isinstance(repaired, RefusedCall) or not repaired.tool.options.delegates:
            del self._state.paused_runs[call.id]
            return refuse_call(call, TOOL_CHANGED, is_invalid=True)
        if call.id not in self._state.input.children:
            return PlannedCall(call, "ask")
        del self._state.paused_runs[call.id]
        return self._plan_run(call, repaired, _compute_fingerprint(repaired), index)

    def _plan_recorded_call(self, recorded: RecordedCall, index: int) -> PlannedCall:
        """Plan a call that an earlier process started; its tool may have changed since."""
        call, budget = recorded.call, self._state.budget
        self._state.call_ids.add(call.id)
        repaired = repair_call(ToolCallPart(call.name, call.arguments), self._state.tools)
        if isinstance(repaired, RefusedCall):
            budget.count_tool_call(approved=True)
            result = recorded.result or create_unknown_result(call)
            return PlannedCall(call, "recorded", result=result)
        fingerprint, options = _compute_fingerprint(repaired), repaired.tool.options
        if recorded.result is None and options.after_crash == "ask" and not options.idempotent:
            return self._ask(call, INTERRUPTED, fingerprint)
        budget.count_tool_call(approved=True)
        # It runs as a step, which returns the recorded result if there is one.
        return self._plan_run(call, repaired, fingerprint, index)

    def _plan_run(
        self, call: ToolCall, repaired: RepairedCall, fingerprint: str, index: int
    ) -> PlannedCall:
        context = self._create_context(call, index)
        return PlannedCall(
            call, "run", repaired.tool, repaired.values, context, fingerprint=fingerprint
        )

    def _create_context(
        self, call: ToolCall, index: int
    ) -> RunContext[Any]:  # Any: the user's own type
        state = self._state
        return RunContext(
            deps=state.input.deps,
            usage=self._usage,
            messages=self._messages,
            retry=state.failures[call.name],
            tool_call_id=call.id,
            tool_name=call.name,
            run_id=state.run_id,
            idempotency_key=f"{state.run_id}:{state.turns}:{index}",
            tainted=state.is_tainted,
            progress_sink=state.progress,
            takes_messages=True,
        )

    def _ask(self, call: ToolCall, reason: str, fingerprint: str) -> PlannedCall:
        self._state.emit_event(ApprovalRequested(call, reason))
        return PlannedCall(call, "ask", reason=reason, fingerprint=fingerprint)

    def _evaluate_policy(self, item: PlannedCall) -> PolicyDecision:
        request = ToolCallRequest(item.call, item.tool, MappingProxyType(item.values), item.context)
        policy = self._state.spec.policy
        decision = default_policy(request) if policy is None else evaluate_policy(policy, request)
        if isinstance(decision, Deny):
            self._state.emit_event(ToolCallDenied(item.call, decision.reason))
        return decision

    def _is_approved(self, call: ToolCall, *, tainted: bool) -> bool:
        """Whether a person has approved the call always."""
        state = self._state
        rules, definition = state.input.approval_rules, ""
        if rules:
            tool = state.tools.get(call.name)
            definition = "" if tool is None else tool.definition_digest
        return has_matching_rule(rules, call, state.path, tainted=tainted, definition=definition)

    def _find_recorded_calls(self, count: int) -> Mapping[int, RecordedCall]:
        """Return the calls of the turn that an earlier process started, by their index."""
        self._state.is_restoring = False  # only the turn that was interrupted has any
        calls = (
            (index, self._state.steps.find_recorded_call(self._make_key(index)))
            for index in range(count)
        )
        return {index: call for index, call in calls if call is not None}

    def _make_key(self, index: int) -> str:
        """Return the idempotency key of the turn's call with this index."""
        return f"{self._state.run_id}:{self._state.turns}:{index}"


# Step 3: execute.


async def execute_plan(planned: Sequence[PlannedCall], state: RunState) -> list[PlannedCall]:
    """Execute the calls of a turn and append their results; return the calls that wait."""
    results = state.results
    for item in planned:
        if item.result is not None:
            results[item.call.id] = item.result
            if item.decision == "refuse":
                state.emit_event(ToolCallRefused(item.call, item.result))
    if state.spec.rules is not None and any(item.follows for item in planned):
        planned, paused = await _execute_in_order(planned, state)
    else:
        paused = await execute_calls(planned, state)
    if paused:
        planned = [
            item._replace(decision="ask") if item.call.id in paused else item for item in planned
        ]
    _copy_results(planned, results)
    _record_turn(planned, state)
    for item in planned:
        if item.call.id in results:
            result = results[item.call.id]
            state.append_result(result)
            state.is_tainted = state.is_tainted or result.untrusted
            sent = item.context.call_state.sent
            if sent:
                state.put_messages([User(text, tainted=state.is_tainted) for text in sent])
    return [item for item in planned if item.decision == "ask"]


async def _execute_in_order(
    planned: Sequence[PlannedCall], state: RunState
) -> tuple[list[PlannedCall], set[str]]:
    """Execute calls of which some are made only if others of the turn have succeeded."""
    kept: list[PlannedCall] = []
    waiting: list[PlannedCall] = []
    paused: set[str] = set()
    names = {item.call.id: item.call.name for item in planned}
    for item in planned:
        if item.follows:
            paused |= await execute_calls(waiting, state)
            waiting.clear()
            results = {call_id: state.results.get(call_id) for call_id in item.follows}
            failed = [names[i] for i, result in results.items() if not result or result.is_error]
            if failed:
                if item.decision == "run":
                    state.budget.return_tool_call()
                item = refuse_call(item.call, format_unfinished_calls(item.call.name, failed))
                if item.result is not None:
                    state.results[item.call.id] = item.result
                    state.emit_event(ToolCallRefused(item.call, item.result))
        kept.append(item)
        waiting.append(item)
    return kept, paused | await execute_calls(waiting, state)


def _copy_results(planned: Sequence[PlannedCall], results: dict[str, ToolResult]) -> None:
    """Give the calls that are equal to another one of the turn its result."""
    for item in planned:
        if item.decision == "duplicate":
            results[item.call.id] = _copy_result(item.call, results.get(item.duplicate_of))


def _copy_result(call: ToolCall, result: ToolResult | None) -> ToolResult:
    """Return the result of the first of two equal calls for the second one."""
    if result is None:
        return ToolResult(
            call.id, call.name, DUPLICATE_PENDING, is_error=True, assessed=True, not_called=True
        )
    text = format_duplicate_result(result.text)
    return replace(result, call_id=call.id, text=text, images=(), seconds=None, not_called=True)


def _record_turn(planned: Sequence[PlannedCall], state: RunState) -> None:
    """Record the results and the errors of a turn for the loop guard."""
    texts: dict[str, str] = {}
    errors: dict[str, int] = {}
    has_succeeded: dict[str, bool] = {}
    for item in planned:
        if item.decision == "ask":
            continue
        result, name = state.results[item.call.id], item.call.name
        if item.is_invalid:
            errors[result.text] = MAX_SAME_ERRORS
        if item.decision != "run":
            if item.fingerprint:
                texts[item.fingerprint] = result.text
            continue
        has_succeeded[name] = has_succeeded.get(name, False) or not result.is_error
        if result.is_error:
            errors[f"{name}: {result.text}"] = max(MAX_SAME_ERRORS, item.tool.options.retries + 1)
        # A call that failed has another fingerprint, as it may be made again; a polled call, which
        # has none, breaks a circle.
        mark = "failed " if result.is_error else ""
        texts[f"{mark}{item.fingerprint}" if item.fingerprint else item.call.id] = (
            result.text if item.fingerprint else ""
        )
    state.loop_guard.record(texts)
    for name, succeeded in has_succeeded.items():
        state.failures[name] = 0 if succeeded else state.failures[name] + 1
    if (errors or has_succeeded) and state.loop_guard.record_errors(
        errors, all_failed=not any(has_succeeded.values())
    ):
        state.closing_reason = "loop"
        state.emit_event(LoopDetected(planned[-1].call, "the same error again and again"))


def collect_pending(
    waiting: Iterable[PlannedCall], state: RunState
) -> tuple[tuple[PendingCall, ...], tuple[PausedAgentCall, ...]]:
    """Return the calls that wait, with those of nested agents; and the calls of these agents."""
    own: list[PendingCall] = []
    paused: list[PausedAgentCall] = []
    for item in waiting:
        if item.call.id in state.paused_runs:
            paused.append(PausedAgentCall(item.call, state.paused_runs[item.call.id]))
        elif item.call.id in state.questions:
            question, answers = state.questions[item.call.id], state.find_answers(item.call.id)
            reason, definition = to_single_line(question.text), _get_definition(item.call, state)
            agent = state.spec.agent
            own.append(PendingCall(item.call, agent, reason, question, answers, definition))
            if not item.reason:  # it did not wait before
                state.emit_event(ApprovalRequested(item.call, reason))
        else:
            definition = _get_definition(item.call, state)
            own.append(PendingCall(item.call, state.spec.agent, item.reason, definition=definition))
    nested = [pending for agent_call in paused for pending in agent_call.pending]
    for pending in nested:
        state.emit_event(ApprovalRequested(pending.call, pending.reason))
    return (*own, *nested), tuple(paused)


def _get_definition(call: ToolCall, state: RunState) -> str:
    """Return the digest of the definition of a call's tool, as the person has seen it first."""
    for pending in state.input.pending:
        if pending.call.id == call.id:
            return pending.definition
    tool = state.tools.get(call.name)
    return "" if tool is None else tool.definition_digest


def restore_turns(messages: Sequence[Message], state: RunState) -> None:
    """Record the calls that the turns of this run made in an earlier process."""
    state.is_restoring = True
    for index, message in enumerate(messages):
        if not isinstance(message, Assistant) or not message.calls:
            continue
        following = takewhile(lambda m: isinstance(m, ToolResult), messages[index + 1 :])
        results = {m.call_id: m for m in following if isinstance(m, ToolResult)}
        texts: dict[str, str] = {}
        for call in message.calls:
            result = results.get(call.id)
            repaired = repair_call(ToolCallPart(call.name, call.arguments), state.tools)
            fingerprint = _compute_fingerprint(repaired)
            if result is not None and fingerprint and not result.not_called:
                texts[f"failed {fingerprint}" if result.is_error else fingerprint] = result.text
                state.failures[call.name] = state.failures[call.name] + 1 if result.is_error else 0
        state.loop_guard.record(texts)


def _compute_fingerprint(repaired: RepairedCall | RefusedCall) -> str:
    """Return what identifies a valid call for the loop guard; empty if its tool is polled."""
    if isinstance(repaired, RefusedCall) or repaired.tool.options.polling:
        return ""
    return call_fingerprint(repaired.tool.name, repaired.values)


def _index_calls(messages: Iterable[Message]) -> dict[str, int]:
    """Return the index of each call in its turn, by call id."""
    turns = (message.calls for message in messages if isinstance(message, Assistant))
    return {call.id: index for calls in turns for index, call in enumerate(calls)}


def _object_or_empty(arguments: str) -> str:
    """Return the arguments if they are a JSON object, else `{}`: servers refuse anything else."""
    try:
        return arguments if isinstance(orjson.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"
