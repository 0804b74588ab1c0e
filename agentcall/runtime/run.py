"""The loop: ask the model, execute its tool calls, append the results; until an answer or a limit.

Rules:
1. What the model does wrong is reported to the model; what the server does wrong is retried a few
   times and then raised; a limit ends the run with a result.
2. Nothing of an answer that was cut is executed: no call of an answer without an end, or of one
   that ended at the length limit.
3. The last request that the limits allow is made with the tools closed, for a final answer.
4. A conversation that is longer than the model's window is compacted or trimmed
   (`context_trimming.py`), and the run continues: before it is sent if the window is known,
   otherwise when the server refuses it or drops a part of it.
5. Every tool call in a result's messages is followed by its result, however the run ended, unless
   it waits for approval.
6. An agent that takes the conversation over continues the same run: with its own model,
   instructions and tools, within the same limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from agentcall.dialects.answer_parts import MalformedCallPart
from agentcall.errors import (
    BadAnswer,
    Blocked,
    ContextOverflow,
    CutAnswer,
    JournalError,
    ModelError,
    ModelRetry,
    PolicyFailed,
    SessionError,
    UsageError,
    attach_result,
)
from agentcall.events import (
    AnswerDiscarded,
    Emit,
    HandedOver,
    MessageReceived,
    RunBlocked,
    RunFinished,
    RunStarted,
    TextDelta,
)
from agentcall.messages import (
    Assistant,
    EnclosingCall,
    Message,
    ToolCall,
    ToolResult,
    Transcript,
    Usage,
    User,
    assess_messages,
    enclosing_call,
    format_json,
    is_tainted,
)
from agentcall.models.model import PROGRAM_STEP, Model, ModelRequest
from agentcall.result import MissingOutput, RunResult
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.call_rules import FinalTool
from agentcall.runtime.checkpoint import RunCheckpoint
from agentcall.runtime.handoff import find_handoff, keep_first_handoff
from agentcall.runtime.instrumentation import AgentSpan, instrument_model
from agentcall.runtime.output import InvalidOutput
from agentcall.runtime.planned_call import OutputCall, PlannedCall
from agentcall.runtime.prompts import (
    EMPTY_ANSWER,
    TRUNCATED_CALL,
    UNKNOWN_OUTCOME,
    format_call_example,
    format_end_with_call,
    format_failed_output,
    format_failed_program,
    format_malformed_call,
    format_missing_steps,
)
from agentcall.runtime.state import RunInput, RunState
from agentcall.runtime.tool_calls import TurnPlanner, collect_pending, execute_plan, restore_turns
from agentcall.runtime.turn import ModelCaller, ModelTurn
from agentcall.tools.importable import is_importing

if TYPE_CHECKING:  # few agents have hooks
    from agentcall.runtime.hooks import HookSet
    from agentcall.runtime.inbox import Inbox

_log = logging.getLogger("agentcall.models")

MAX_INVALID_ANSWERS = 3
"""How many answers in a row may be cut, empty or invalid before the run gives up."""

_MIN_REQUESTS_LEFT = 3
"""For a summary, the answer to this turn, and the last one without tools."""

_CUT_CONVERSATION = "the server left a part of the conversation out, and nothing can be shortened"
_ONLY_THINKING = (
    "it wrote only thinking, or the server takes its answers for thinking: try the server without "
    "its reasoning parser (--reasoning-parser of LMDeploy, vLLM and SGLang, --reasoning-format "
    "none of llama.cpp), or with thinking off"
)
_RUN_DURING_IMPORT = (
    "the file of an isolated tool runs an agent when it is imported; put the run under "
    '`if __name__ == "__main__":`'
)


class _TooLong(ContextOverflow):
    """What the hooks would send is longer than the window; it has not been sent."""


class AgentRun:
    """One run, from its input to its result; an instance runs once.

    final_result: the result of the run, once it has ended, also if it raised.
    """

    def __init__(self, spec: AgentSpec, run_input: RunInput, emit: Emit | None = None) -> None:
        checkpoint, before = spec.steps.load_checkpoint(run_input.run_id), run_input.usage
        if checkpoint is not None:
            run_input = _start_at_checkpoint(checkpoint, run_input)
        if run_input.agent:
            spec = spec.for_agent(run_input.agent)
        spec.check_settings(run_input.settings)
        spec.check_deps(run_input.deps)
        self._enclosing_call = enclosing_call.get()
        messages = _inherit_taint(
            self._enclosing_call, run_input, assess_messages(run_input.messages, spec)
        )
        self._state = RunState(spec, run_input, messages, emit)
        self._model_caller = self._create_model_caller()
        self._handoff_spans = ExitStack()
        self._may_compact = self._may_make_room = False
        self._restored_turn = 0 if checkpoint is None else checkpoint.turns
        self.final_result: RunResult[Any] | None = None
        self._is_new = checkpoint is None and not run_input.turns
        self._has_sent_changed = False  # by a hook
        if checkpoint is not None:
            self._state.budget.add_to_parents(checkpoint.usage - before)
            restore_turns(checkpoint.messages[run_input.start :], self._state)
            self._state.restore(checkpoint)

    def _create_model_caller(self) -> ModelCaller:
        state = self._state
        model = instrument_model(state.spec.model, state.spec.name, state.instrumentation)
        emit = state.emit
        if emit is not None and state.spec.output.schema is not None and not state.ends_by_call:
            emit = state.spec.output.emit_partial_outputs(emit)
        return ModelCaller(model, emit, type(state.spec.model).__name__)

    async def execute(self) -> RunResult[Any]:  # Any: the agent knows its output's type
        """Run to the end.

        Raises ModelError or PolicyFailed, whose `result` is what the run had achieved; so has the
        CancelledError of a run that is cancelled.
        """
        if is_importing():
            raise UsageError(_RUN_DURING_IMPORT)
        if self._state.spec.instructions:
            await self._state.write_instructions()
        if self._state.instrumentation is None:
            return await self._execute()
        with self._state.instrumentation.observe(self._create_span()) as record:
            try:
                return await self._execute()
            finally:
                if self.final_result is not None:
                    record(self.final_result)

    def _create_span(self) -> AgentSpan:
        state = self._state
        return AgentSpan(state.spec.name, state.run_id, state.prompt, tuple(state.transcript))

    async def _execute(self) -> RunResult[Any]:
        state = self._state
        if state.inbox is not None:
            state.inbox.open()
        if state.input.undelivered:
            state.put_messages(state.input.undelivered)
        state.emit_event(RunStarted(state.run_id))
        for event in state.trim_events:
            state.emit_event(event)
        try:
            result = await self._run_with_timeout()
        except (ModelError, PolicyFailed) as error:
            error.result = self._finish(state.build_partial_result("error", str(error)))
            raise
        except asyncio.CancelledError as error:
            result = self._finish(state.build_partial_result("cancelled", "it was cancelled"))
            attach_result(error, result)
            raise
        except Blocked as error:
            state.emit_event(RunBlocked(str(error)))
            result = state.build_partial_result("blocked", str(error))
        except Exception as error:
            if error is state.fatal_error:
                why = f"{state.fatal_source} raised {type(error).__name__}"
                attach_result(error, self._finish(state.build_partial_result("error", why)))
            elif state.inbox is not None:
                state.inbox.close()
            raise
        return self._finish(result)

    def _finish(self, result: RunResult[Any]) -> RunResult[Any]:
        if self._state.inbox is not None:
            result = replace(result, undelivered=self._state.inbox.close())
        self.final_result = result
        if self._enclosing_call is not None and is_tainted(result.messages):
            self._enclosing_call.has_read_untrusted = True
        self._state.emit_event(RunFinished(result))
        return result

    @property
    def message_count(self) -> int:
        """The number of messages in the conversation."""
        return self._state.message_count

    @property
    def is_unanswered(self) -> bool:
        """Whether the model has written nothing in this run."""
        return not any(isinstance(message, Assistant) for message in self._state.new_messages)

    @property
    def partial_result(self) -> RunResult[Any]:
        """The result to save now, in case the process ends before the run does."""
        why = MissingOutput("the process ended before the run did")
        return self._state.build_result("error", why)

    async def _run_with_timeout(self) -> RunResult[Any]:
        state = self._state
        seconds = state.spec.limits.seconds
        if seconds is None:
            return await self._loop()
        task = asyncio.ensure_future(self._loop())
        try:
            await asyncio.wait({task}, timeout=max(seconds - state.input.elapsed_seconds, 0))
        finally:
            is_late = not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if is_late and task.cancelled():
            return state.build_partial_result("timeout", f"it took longer than {seconds:g} seconds")
        return task.result()

    async def _loop(self) -> RunResult[Any]:
        state = self._state
        with self._handoff_spans:
            result: RunResult[Any] | None = None
            if state.input.pending or state.input.paused:
                result = await self._execute_calls(TurnPlanner(state).plan_resumed_calls())
                state.is_in_program = state.are_tools_open and _is_in_program(state.transcript)
            elif self._is_new and state.spec.hooks is not None:
                await self._check_input(state.spec.hooks)
            while True:
                if result is not None and state.spec.hooks is not None:
                    result = await self._check_output(result, state.spec.hooks)
                if result is not None and state.inbox is not None:
                    result = None if await self._may_continue(result) else result
                if result is not None:
                    return result
                exceeded = None if state.is_in_program else state.budget.find_exceeded_limit()
                if exceeded is not None:
                    return state.build_partial_result(*exceeded)
                used = state.budget.used.requests
                may_close = used and state.spec.registry and not state.is_in_program
                if may_close and state.budget.requests_left == 1:
                    state.close_tools("max_requests")
                if state.inbox is not None:
                    await self._deliver_messages(state.inbox)
                result = await self._process_turn(await self._request_turn())

    # Messages that are sent to the run.

    async def _may_continue(self, result: RunResult[Any]) -> bool:  # Any: known to the agent
        """Whether a run that has an answer continues, as a message waits for the model."""
        state = self._state
        if state.wait_for_reader is not None:  # who reads the answer may have something to say
            await state.wait_for_reader()
        last = state.transcript[len(state.transcript) - 1]
        if result.stop_reason != "final" or not isinstance(last, Assistant) or last.calls:
            return False
        if state.inbox is None or state.budget.find_exceeded_limit() is not None:
            return False
        return not state.inbox.close_if_empty()

    async def _deliver_messages(self, inbox: Inbox) -> None:
        """Append the messages that wait; they are recorded, as nobody sends them again."""
        state = self._state
        if state.wait_for_reader is not None:
            await state.wait_for_reader()
        messages = inbox.take()
        hooks, enclosing = state.spec.hooks, self._enclosing_call
        for message in messages:
            if hooks is not None and hooks.checks_input:
                with state.call_user_code() as context:
                    message = await hooks.check_input(context, message)
            if enclosing is not None and enclosing.tainted and not state.depth:
                message = replace(message, tainted=True)
            state.transcript.append(message)
            state.emit_event(MessageReceived(message.text))
        if messages:
            state.invalid_answers = 0
            checkpoint = replace(state.create_checkpoint(), turns=state.turns + 1)
            await state.steps.save_checkpoint(state.run_id, checkpoint)

    # The user's checks and hooks.

    async def _check_input(self, hooks: HookSet) -> None:
        """Let the checks change the messages of the user that the run answers. Raises Blocked."""
        state = self._state
        messages = tuple(state.transcript)
        begin = next(
            (i for i in range(len(messages), 0, -1) if not isinstance(messages[i - 1], User)), 0
        )
        for index in range(begin, len(messages)):
            message = messages[index]
            if not (hooks.checks_input and isinstance(message, User)):
                continue
            try:
                with state.call_user_code() as context:
                    checked = await hooks.check_input(context, message)
            except Blocked:
                state.drop_messages(index)  # a session would send it with the next run
                raise
            state.replace_message(index, checked)

    async def _check_output(
        self, result: RunResult[Any], hooks: HookSet
    ) -> RunResult[Any] | None:  # Any: the agent knows its output's type
        """Return the result with a checked output; None if the model is asked again."""
        state, last = self._state, len(self._state.transcript) - 1
        if not hooks.checks_output or isinstance(result.answer, MissingOutput):
            return result
        answer = state.transcript[last]
        is_text = isinstance(answer, Assistant) and not answer.calls
        try:
            with state.call_user_code() as context:
                value = await hooks.check_output(context, result.answer, state.spec.output)
        except Blocked as error:
            state.emit_event(AnswerDiscarded(str(error)))
            if is_text:
                state.drop_messages(last)
            raise
        except ModelRetry as error:
            reason = f"was rejected by a check: {error}"
            if result.stop_reason != "final":
                return state.build_partial_result(result.stop_reason, f"the answer {reason}")
            return self._reject_answer("", str(error), reason)
        if value is result.answer:
            return result
        if is_text and isinstance(answer, Assistant):
            text = hooks.format_output(value)
            state.emit_event(AnswerDiscarded("a check changed the output"))
            state.emit_event(TextDelta(text))
            state.replace_message(last, replace(answer, text=text))
        return state.build_result(result.stop_reason, value)

    async def _change_answer(self, turn: ModelTurn, hooks: HookSet) -> ModelTurn:
        """Return the model's answer as the hooks change it. Raises Blocked and ModelRetry."""
        state = self._state
        try:
            with state.call_user_code() as context:
                changed = await hooks.change_turn(context, turn)
        except Blocked as error:
            state.emit_event(AnswerDiscarded(str(error)))
            raise
        if changed.text != turn.text:
            state.emit_event(AnswerDiscarded("a hook changed the answer"))
            state.emit_event(TextDelta(changed.text))
        return changed

    async def _request_changed(
        self, request: ModelRequest, reserve_retry: Callable[[], bool], hooks: HookSet
    ) -> ModelTurn:
        """Send a request as the hooks change it, and return the model's answer."""
        self._model_caller.wasted_usage = Usage()  # of this request, if a hook raises
        step = hooks.create_step(request)
        with self._state.call_user_code() as context:
            changed = await hooks.change_request(context, step)
        # Then the tokens of the request say nothing about the conversation.
        self._has_sent_changed = changed.messages is not step.messages
        if changed is not step:
            request = hooks.apply_step(request, changed)
        if self._may_make_room and not await self._state.can_send(request):
            raise _TooLong("what the hooks send is longer than the context window", status=400)
        return await self._model_caller.request_turn(request, reserve_retry)

    # The model's turn.

    async def _request_turn(self) -> ModelTurn:
        """Return the model's answer to a conversation that fits its window."""
        state = self._state
        state.turns += 1
        self._may_compact = self._may_make_room = True
        while True:
            if state.transcript.size > state.small_size and not state.is_in_program:
                await self._fit_window()
            try:
                turn = await self._request_model()
            except ContextOverflow as error:
                state.learn_window(error.body)
                self._may_make_room = await self._make_room()
                if not (self._may_make_room or isinstance(error, _TooLong)):
                    raise self._explain_overflow(error) from error
                continue
            is_step = turn.finish == PROGRAM_STEP and not turn.usage.requests
            if is_step or self._has_sent_changed:  # the tokens say nothing about the conversation
                return turn
            if state.transcript.size <= state.small_size:
                state.prompt_meter.tokens = turn.usage.input_tokens
                return turn
            if not await state.is_context_cut(turn.usage):
                return turn
            if not await self._make_room():
                if state.has_full_window:
                    raise self._explain_overflow(None)
                _log.warning(_CUT_CONVERSATION)
                return turn
            state.emit_event(AnswerDiscarded("the server left a part of the conversation out"))

    async def _fit_window(self) -> None:
        """Make the conversation shorter until it fits the window, or nothing can be left out."""
        if self._state.turns == self._restored_turn:
            return  # its turn may be recorded, and belongs to what was sent then
        hooks = self._state.spec.hooks
        if hooks is not None and hooks.before_model:
            return  # what they send is compared, in `_request_changed`
        while not await self._state.fits_window():
            if not await self._make_room():
                return

    async def _make_room(self) -> bool:
        """Make the conversation shorter; False if nothing more can be left out."""
        state = self._state
        if self._may_compact and state.has_compaction:
            self._may_compact = False  # once for each turn, also if it fails
            from agentcall.runtime.compaction import RunningModel

            try:
                if await state.compact(RunningModel(self._ask_for_summary, state.window)):
                    return True
            except (SessionError, JournalError, PolicyFailed):
                raise
            except Exception as error:  # the user's own rule may raise anything
                why = f"{type(error).__name__}: {error}"
                _log.warning("the conversation was not compacted, and is trimmed: %s", why)
        return state.trim() or state.omit_messages()

    async def _ask_for_summary(self, model: Model | None, request: ModelRequest) -> ModelTurn:
        """Request a turn for a summary, as a step of the run."""
        state = self._state
        left = state.budget.requests_left
        if left is not None and left < _MIN_REQUESTS_LEFT:
            raise BadAnswer("no request is left for a summary")
        if state.wait_for_reader is not None:
            await state.wait_for_reader()
        if model is None:
            settings = state.settings
            if settings is not None:
                settings = replace(settings, max_tokens=None, stop=None, tool_choice=None)
            request = replace(request, settings=settings)
        caller = ModelCaller(
            instrument_model(model or state.spec.model, state.spec.name, state.instrumentation)
        )
        # By its content, so that a run that continues finds it, and no other one.
        digest = blake2b(request.transcript[0].text.encode("utf-8", "replace"), digest_size=8)
        key = f"{state.run_id}:{state.turns}:summary-{digest.hexdigest()}:1"
        return await self._call_model(key, caller, request, lambda: RunCheckpoint((), Usage(), 1))

    def _explain_overflow(self, error: ContextOverflow | None) -> ContextOverflow:
        """Return the error for a conversation that is too long with all left out that may be."""
        state = self._state
        size = "" if state.window is None else f" of {state.window:,} tokens"
        message = (
            f"the conversation is longer than the context window{size}: {state.describe_size()}"
        )
        if error is None:
            return ContextOverflow(f"{message}; the server left a part of it out", status=200)
        return ContextOverflow(f"{message} ({error})", status=error.status, body=error.body)

    async def _request_model(self) -> ModelTurn:
        state = self._state
        if state.wait_for_reader is not None:
            await state.wait_for_reader()
        if state.spec.refresh is not None:
            await state.refresh_tools(state.spec.refresh)
        state.update_offered_tools()
        request = ModelRequest(
            state.transcript,
            state.request_prompt,
            state.request_choice,
            stream=state.emit is not None,
            settings=state.settings,
            holds_answer=state.holds_answer,
            whole=state.view.restore(state.transcript) if state.view.is_partial else None,
            is_step=state.is_in_program,
            begin=state.input.start,
        )
        key, hooks = f"{state.run_id}:{state.turns}", state.spec.hooks
        if hooks is not None and not hooks.before_model:
            hooks = None
        return await self._call_model(
            key, self._model_caller, request, state.create_checkpoint, hooks
        )

    async def _call_model(
        self,
        key: str,
        caller: ModelCaller,
        request: ModelRequest,
        create_checkpoint: Callable[[], RunCheckpoint],
        hooks: HookSet | None = None,
    ) -> ModelTurn:
        """Return a turn within the budget, as the step with this key."""
        budget = self._state.budget
        reserved = 0 if self._state.is_in_program else 1

        def reserve_retry() -> bool:
            nonlocal reserved
            may_retry = reserved < MAX_INVALID_ANSWERS and budget.reserve_request()
            reserved += may_retry
            return may_retry

        if reserved and not budget.reserve_request():
            raise CutAnswer("the server left a part of the conversation out, or cut its answer")
        try:
            turn = await self._state.steps.call_model(
                key,
                lambda: (
                    caller.request_turn(request, reserve_retry)
                    if hooks is None
                    else self._request_changed(request, reserve_retry, hooks)
                ),
                create_checkpoint,
            )
        except BaseException:
            budget.commit_usage(reserved, caller.wasted_usage)
            raise
        budget.commit_usage(reserved, turn.usage)
        return turn

    async def _process_turn(self, turn: ModelTurn) -> RunResult[Any] | None:
        """Act on a turn: return the run's result, or None to continue."""
        hooks = self._state.spec.hooks
        if hooks is not None and hooks.after_model:
            try:
                turn = await self._change_answer(turn, hooks)
            except ModelRetry as error:
                return self._reject_answer(turn.text, str(error), f"was rejected: {error}")
        is_open = self._state.are_tools_open
        self._state.is_in_program = turn.finish == PROGRAM_STEP and is_open
        if turn.finish == "length":
            return await self._process_truncated_answer(turn)
        if turn.finish == "content_filter":
            return self._process_filtered_answer(turn)
        if turn.calls and is_open:
            return await self._process_calls(turn)
        if turn.broken and is_open:
            if turn.finish == PROGRAM_STEP:
                return self._reject_program(turn)
            reason = f"had a tool call that cannot be parsed: {turn.broken[0].reason}"
            message = self._format_malformed_call(turn.broken[0])
            return self._reject_answer(turn.text, message, reason)
        if turn.finish == PROGRAM_STEP and not turn.text:  # the program gave no answer
            self._state.is_in_program = False
            return None
        result = self._process_answer(turn)
        return await self._call_output(turn, result) if isinstance(result, OutputCall) else result

    # Tool calls.

    async def _process_calls(self, turn: ModelTurn) -> RunResult[Any] | None:
        state = self._state
        was_closed = state.close_reason is not None
        if not was_closed:
            state.invalid_answers = 0
        state.holds_answer = False
        planner, calls, hooks = TurnPlanner(state), turn.calls, state.spec.hooks
        if hooks is not None and hooks.before_tool:
            calls = tuple(await planner.change_calls(calls, hooks))
        planned = planner.plan_calls(calls)
        if state.tool_choice != "auto":
            self._release_tool_choice(planned)
        if state.spec.handoffs:
            planned = keep_first_handoff(planned, state.spec.handoffs)
        self._append_answer(turn.text, tuple([item.call for item in planned]), turn.thinking)
        result = await self._execute_calls(planned)
        if result is None and turn.broken and not state.close_reason:
            self._append_correction(self._format_malformed_call(turn.broken[0]))
        if result is None and was_closed:
            state.offer_last_tools()
            state.invalid_answers += 1
            if state.invalid_answers >= MAX_INVALID_ANSWERS:
                why = f"no call of {' or '.join(state.final_offers)} succeeded"
                return state.build_partial_result(state.close_reason or "error", why)
        return result

    def _release_tool_choice(self, planned: Sequence[PlannedCall]) -> None:
        """Leave the choice to the model again, unless the tool of the first turn was passed over.

        In that case its calls were refused, which `plan_calls` does once.
        """
        wanted = self._state.awaited_tool
        if wanted and all(item.is_early for item in planned):
            return
        self._state.free_tool_choice()

    async def _execute_calls(self, planned: Sequence[PlannedCall]) -> RunResult[Any] | None:
        """Execute calls; return a result if one waits for approval."""
        state = self._state
        if state.spec.output.tools:
            from agentcall.runtime.output_calls import capture_values  # late: few agents need it

            planned = capture_values(planned, state)
        waiting = await execute_plan(planned, state)
        if waiting:
            pending, paused = collect_pending(waiting, state)
            why = MissingOutput("; ".join(dict.fromkeys(map(str, pending))))
            return state.build_result("approval", why, pending=pending, paused=paused)
        if state.spec.rules is not None and state.spec.rules.final:
            result = self._end_by_call(planned)
            if result is not None:
                return result
        if state.spec.handoffs:
            await self._hand_over()
        if state.closing_reason:
            state.close_tools(state.closing_reason)
        return None

    def _end_by_call(self, planned: Sequence[PlannedCall]) -> RunResult[Any] | None:
        """Return the result of the run if the call of a final tool has succeeded."""
        state, rules = self._state, self._state.spec.rules
        for item in planned:
            final = None if rules is None else rules.final.get(item.call.name)
            result = state.results.get(item.call.id)
            if final is None or result is None or result.is_error or result.not_called:
                continue
            value = self._read_output(final, item.call, result)
            if isinstance(value, InvalidOutput):
                why = f"the call of {final.name} ended the run, but its output is not of the "
                return state.build_result("error", MissingOutput(f"{why}type: {value.reason}"))
            return state.build_result(state.close_reason or "final", value)
        return None

    def _read_output(self, final: FinalTool, call: ToolCall, result: ToolResult) -> object:
        """Return the output that a final call gave, or why it is none."""
        output = self._state.spec.output
        choice = output.find_choice(call.name)
        if choice is None:
            return output.parse_exactly(final.read_output(call, result))
        from agentcall.runtime.output_calls import read_output

        return read_output(choice, call, result, self._state)

    async def _hand_over(self) -> None:
        """Continue as another agent, if the last turn handed the conversation over."""
        state = self._state
        get_spec = find_handoff(state.transcript, state.spec.handoffs)
        if get_spec is None:
            return
        before = state.spec
        state.switch_agent(before.hand_over_to(get_spec()))
        if state.spec.instructions:
            await state.write_instructions()
        self._model_caller = self._create_model_caller()
        self._has_sent_changed = False
        if state.instrumentation is not None:
            self._handoff_spans.enter_context(state.instrumentation.observe(self._create_span()))
        state.emit_event(HandedOver(before.name, state.spec.name))

    # Answers without calls.

    async def _process_truncated_answer(self, turn: ModelTurn) -> RunResult[Any] | None:
        state = self._state
        if (turn.calls or turn.broken) and state.are_tools_open:
            reason = "had a tool call that the length limit cut off"
            return self._reject_answer(turn.text, TRUNCATED_CALL, reason)
        if not (turn.text or turn.thinking) and await self._make_room():
            # LMDeploy 0.5 reports a conversation that is longer than its window in this way.
            return None
        if turn.text:
            self._append_answer(turn.text, thinking=turn.thinking)
            value = self._parse_cut_output(turn.text)
            if not isinstance(value, MissingOutput):
                return state.build_result("max_tokens", value)
        return state.build_partial_result("max_tokens", "the answer reached the length limit")

    def _process_filtered_answer(self, turn: ModelTurn) -> RunResult[Any]:
        """End the run: what the filter removed is not known, so no call is executed."""
        state, why = self._state, "the server's content filter stopped the answer"
        if not turn.text:
            return state.build_result("content_filter", MissingOutput(why))
        self._append_answer(turn.text, thinking=turn.thinking)
        value = self._parse_cut_output(turn.text)
        answer = MissingOutput(why) if isinstance(value, MissingOutput) else value
        return state.build_result("content_filter", answer)

    def _parse_cut_output(self, text: str) -> object:
        """Return the output in an answer without its end: a text, or a value that is closed.

        The last digits of a number may be missing, and no value says so.
        """
        output = self._state.spec.output
        if self._state.ends_by_call:
            return MissingOutput("it ended without its final call")
        if output.schema is not None and not text.rstrip().endswith(("}", "]", '"', "`")):
            return MissingOutput("the answer was cut")
        value = output.parse(text)
        if isinstance(value, OutputCall):
            return MissingOutput("nothing is called by an answer that was cut")
        return MissingOutput(value.reason) if isinstance(value, InvalidOutput) else value

    def _process_answer(self, turn: ModelTurn) -> RunResult[Any] | OutputCall | None:
        if not turn.text.strip():
            return self._process_thinking(turn) or self._process_empty_answer(turn)
        if self._state.ends_by_call and not self._state.is_output(turn.text):
            return self._process_words(turn)
        missing = self._state.list_missing_steps()
        if missing or self._state.awaits_first_call:
            note = format_missing_steps(missing or [self._state.tool_choice])
            if not self._is_informed(note):
                self._reject_early_answer(turn, note)
                return None
        if missing:
            self._append_answer(turn.text, thinking=turn.thinking)
            why = MissingOutput(f"the model answered without {', '.join(missing)}")
            return self._state.build_result("error", why)
        value = self._state.spec.output.parse(turn.text)
        if isinstance(value, InvalidOutput):
            reason = f"did not fit the output type: {value.reason}"
            self._state.hold_next_answer()
            return self._reject_answer(turn.text, value.message, reason)
        if isinstance(value, OutputCall):
            return value
        self._append_answer(turn.text, thinking=turn.thinking)
        return self._state.build_result(self._state.close_reason or "final", value)

    def _process_words(self, turn: ModelTurn) -> RunResult[Any] | None:
        """Tell a model whose run ends with a call that it has written words instead.

        First it is reminded, then it is shown the call, then the run ends.
        """
        state = self._state
        self._append_answer(turn.text, thinking=turn.thinking)
        state.invalid_answers += 1
        offers, missing = state.list_next_calls()
        if state.invalid_answers >= MAX_INVALID_ANSWERS or not state.are_tools_open:
            why = f"the model answered in words and did not call {' or '.join(offers)}"
            return state.build_partial_result(state.close_reason or "error", why)
        note = format_end_with_call(offers, missing)
        if state.invalid_answers > 1:
            from agentcall.tools.schema.example import build_example  # late: few models need it

            shown = state.tools.get((missing or offers)[0])
            if shown is not None:
                arguments = build_example(shown.parameters)
                example = format_json({"name": shown.name, "arguments": arguments})
                note = f"{note}\n{format_call_example(example)}"
        state.emit_event(AnswerDiscarded(note))
        self._append_correction(note)
        if state.tool_choice in (None, "auto"):
            state.tool_choice = "required"
        return None

    async def _call_output(self, turn: ModelTurn, output: OutputCall) -> RunResult[Any] | None:
        """Call the output function that an answer gives the arguments of."""
        from agentcall.runtime.output_calls import call_output_function

        state = self._state
        item = TurnPlanner(state).plan_output_function(output)
        result, name = item.result, output.tool.name
        value: object = None
        if item.decision == "ask":
            self._append_answer(turn.text, thinking=turn.thinking)
            note = f'the policy asks a person about {name}; only output_mode="tool" can wait'
            return state.build_result("error", MissingOutput(note))
        if item.decision == "run":
            result, value = await call_output_function(item, output, state)
        if result is not None and result.is_error:
            if result.text == UNKNOWN_OUTCOME:
                self._append_answer(turn.text, thinking=turn.thinking)
                note = f"{name} was interrupted and not called again; its outcome is unknown"
                return state.build_result("error", MissingOutput(note))
            state.hold_next_answer()
            message = format_failed_output(result.text)
            return self._reject_answer(turn.text, message, f"failed in {name}: {result.text}")
        self._append_answer(turn.text, thinking=turn.thinking)
        return state.build_result(state.close_reason or "final", value)

    def _process_thinking(self, turn: ModelTurn) -> RunResult[Any] | None:
        """Take the thinking as the answer if the model has given no other one before.

        Some servers take everything that a model writes for thinking.
        """
        state = self._state
        if not turn.thinking.strip() or not (state.invalid_answers or state.close_reason):
            return None
        if state.list_missing_steps() or state.ends_by_call:
            return None
        value = state.spec.output.parse(turn.thinking.strip())
        if isinstance(value, (InvalidOutput, OutputCall)):
            return None
        state.emit_event(TextDelta(turn.thinking))
        self._append_answer(turn.thinking)
        return state.build_result(state.close_reason or "final", value)

    def _is_informed(self, note: str) -> bool:
        """Whether the model has got this note in this run."""
        new = self._state.new_messages
        return any(message.text == note for message in new if isinstance(message, User))

    def _reject_early_answer(self, turn: ModelTurn, note: str) -> None:
        """Inform the model, once, that a call has to come before the answer."""
        self._append_answer(turn.text, thinking=turn.thinking)
        self._state.emit_event(AnswerDiscarded(note))
        self._append_correction(note)

    def _process_empty_answer(self, turn: ModelTurn) -> RunResult[Any] | None:
        """Ask again as it was, then with a note about it, then give up."""
        state = self._state
        if state.close_reason:
            why = "the model gave no answer without tools"
            return state.build_partial_result(state.close_reason, why)
        state.invalid_answers += 1
        if state.invalid_answers >= MAX_INVALID_ANSWERS:
            advice = f"; {_ONLY_THINKING}" if turn.thinking.strip() else ""
            raise BadAnswer(f"the model gave an empty answer {MAX_INVALID_ANSWERS} times{advice}")
        if state.invalid_answers == MAX_INVALID_ANSWERS - 1:
            note = format_end_with_call(*state.list_next_calls()) if state.ends_by_call else ""
            state.transcript.append(User(note or EMPTY_ANSWER))
        return None

    def _reject_program(self, turn: ModelTurn) -> RunResult[Any] | None:
        """Report to the model why its program failed, which then writes another one."""
        self._state.is_in_program = False
        if turn.thinking:  # it has the program, which failed before its first call
            self._append_answer(turn.text, thinking=turn.thinking)
        message = format_failed_program(turn.broken[0].reason)
        return self._reject_answer("", message, f"had a program that failed: {message}")

    def _reject_answer(self, text: str, message: str, reason: str) -> RunResult[Any] | None:
        """Report to the model what is wrong with its answer; end the run if that did not help.

        reason: follows "the answer" in a sentence for the developer.
        """
        state = self._state
        state.invalid_answers += 1
        if text:
            self._append_answer(text)
        if state.invalid_answers >= MAX_INVALID_ANSWERS:
            why = f"{MAX_INVALID_ANSWERS} answers in a row were rejected; the last one {reason}"
            return state.build_partial_result(state.close_reason or "error", why)
        state.emit_event(AnswerDiscarded(message))
        self._append_correction(message)
        return None

    def _format_malformed_call(self, broken: MalformedCallPart) -> str:
        tools = (tool.name for tool in self._state.prompt.tools)
        return format_malformed_call(broken.reason, broken.text, tools)

    def _append_answer(
        self, text: str, calls: tuple[ToolCall, ...] = (), thinking: str = ""
    ) -> None:
        """Append the model's answer, marked if untrusted content had been read before it."""
        tainted = self._state.is_tainted
        self._state.transcript.append(Assistant(text, calls, thinking, tainted, assessed=True))

    def _append_correction(self, message: str) -> None:
        """Append a message that may quote the model: it does not count as the user's words."""
        self._state.transcript.append(User(message, tainted=self._state.is_tainted))


def _is_in_program(transcript: Transcript) -> bool:
    """Whether a program waits for the results of the calls that end a conversation."""
    from agentcall.dialects.code import parse_saved_program  # late: only runs that are resumed

    for index in range(len(transcript) - 1, -1, -1):
        message = transcript[index]
        if isinstance(message, Assistant) and message.calls:
            if message.thinking:
                return parse_saved_program(message.thinking) is not None
        elif not isinstance(message, ToolResult):
            break
    return False


def _inherit_taint(
    enclosing: EnclosingCall | None, run_input: RunInput, messages: Sequence[Message]
) -> Sequence[Message]:
    """Mark the messages of a run that a tool starts by itself: they contain the model's words."""
    if enclosing is None or not enclosing.tainted or run_input.parent is not None:
        return messages
    return tuple(
        replace(message, tainted=True)
        if isinstance(message, User) and index >= run_input.start
        else message
        for index, message in enumerate(messages)
    )


def _start_at_checkpoint(checkpoint: RunCheckpoint, run_input: RunInput) -> RunInput:
    """Return the input of a run that continues from a checkpoint; nothing waits any more."""
    return run_input._replace(
        messages=checkpoint.messages,
        usage=checkpoint.usage,
        turns=checkpoint.turns - 1,
        agent=checkpoint.agent,
        pending=(),
        paused=(),
        decisions={},
    )
