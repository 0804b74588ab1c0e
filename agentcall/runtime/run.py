"""The loop: ask the model, read, repair, carry out, append; until an answer or a limit.

Rules:
1. What the model does wrong is told to it; what the server does wrong is asked again a few times
   and then raised; a limit ends the run with a result.
2. Nothing of an answer that was cut is carried out: not of one without an end, and no calls of one
   that ended by its length.
3. The last request that the limits allow is asked for an answer, with the tools closed.
4. A conversation that is longer than the model's window is shortened (`trim`), and goes on.
5. Every tool call in a result's messages has its own result behind it, however the run ended,
   unless it waits for approval.
6. An agent that the conversation is handed over to goes on in the same run: with its own model,
   instructions and tools, within the same limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from agentcall.dialects.base import MalformedCallPart
from agentcall.errors import (
    BadAnswer,
    ContextOverflow,
    CutAnswer,
    ModelError,
    PolicyFailed,
    UsageError,
    attach_result,
)
from agentcall.events import (
    AnswerDiscarded,
    Emit,
    Event,
    HandedOver,
    RunFinished,
    RunStarted,
)
from agentcall.messages import (
    Assistant,
    EnclosingCall,
    Message,
    ToolCall,
    User,
    assess_messages,
    enclosing_call,
    is_tainted,
)
from agentcall.models.base import ModelRequest
from agentcall.result import MissingOutput, RunResult, StopReason
from agentcall.runtime.checkpoint import RunCheckpoint
from agentcall.runtime.context import RunInput, create_scope
from agentcall.runtime.handoff import find_handoff, keep_first_handoff
from agentcall.runtime.hooks import AgentSpan, instrument_model
from agentcall.runtime.output import InvalidOutput
from agentcall.runtime.spec import AgentSpec
from agentcall.runtime.state import RunState
from agentcall.runtime.tool_calls import PlannedCall, ToolCallProcessor, TurnContext
from agentcall.runtime.turn import ModelCaller, ModelTurn
from agentcall.tools.importable import is_importing
from agentcall.tools.selection import ToolSelection
from agentcall.tools.tool import Tool

MAX_INVALID_ANSWERS = 3
"""How often in a row an answer that is cut, empty or unfit is asked for before we give up."""

_EMPTY_ANSWER = "Your answer was empty. Call a tool, or give your final answer."
_TRUNCATED_CALL = (
    "Your answer reached the length limit before the tool call was complete, so nothing was "
    "called. Call again, with fewer words."
)
_RUN_DURING_IMPORT = (
    "the file of an isolated tool runs an agent when it is imported; put the run under "
    '`if __name__ == "__main__":`'
)


class AgentRun:
    """One run, from its origin to its result; good for once."""

    def __init__(self, spec: AgentSpec, run_input: RunInput, emit: Emit | None = None) -> None:
        checkpoint, before = spec.steps.load_checkpoint(run_input.run_id), run_input.usage
        if checkpoint is not None:
            run_input = _start_at_checkpoint(checkpoint, run_input)
        spec = spec.for_agent(run_input.agent) if run_input.agent else spec
        self._spec = spec
        self._enclosing_call = enclosing_call.get()
        messages = _inherit_taint(
            self._enclosing_call, run_input, assess_messages(run_input.messages, spec)
        )
        self._input = run_input = replace(run_input, messages=messages)
        self._emit = emit
        scope = create_scope(spec, run_input, emit)
        self._state = RunState(run_input, scope.budget, spec.name)
        self._tool_calls = ToolCallProcessor(spec.registry, spec.limits, scope, policy=spec.policy)
        self._tool_calls.load_history(run_input.messages)
        self._scope = scope
        self._prompt = spec.prompt
        self._tool_selection = None if spec.finder is None else ToolSelection(spec.finder)
        self._reader_tools: tuple[Tool, ...] = ()
        self._model_caller = ModelCaller(
            instrument_model(spec.model, spec.name, scope.instrumentation), emit
        )
        self._handoff_spans = ExitStack()
        self._invalid_answers = 0
        self._trims = 0
        self.final_result: RunResult[Any] | None = None
        if checkpoint is not None:
            scope.budget.add_to_parents(checkpoint.usage - before)
            self._restore(checkpoint)

    async def execute(self) -> RunResult[Any]:  # Any: the agent knows its output's type
        """Goes on until the run ends.

        Raises ModelError or PolicyFailed, whose `result` is what there is so far; so has the
        CancelledError of a run that is cancelled.
        """
        if is_importing():
            raise UsageError(_RUN_DURING_IMPORT)
        instrumentation = self._scope.instrumentation
        if instrumentation is None:
            return await self._execute()
        with instrumentation.observe(self._create_span()) as record:
            try:
                return await self._execute()
            finally:
                if self.final_result is not None:
                    record(self.final_result)

    def _create_span(self) -> AgentSpan:
        plan, said = self._spec, tuple(self._state.transcript)
        return AgentSpan(plan.name, self._input.run_id, plan.prompt, said)

    async def _execute(self) -> RunResult[Any]:
        self._emit_event(RunStarted(self._input.run_id))
        try:
            result = await self._run_with_timeout()
        except (ModelError, PolicyFailed) as error:
            error.result = self._finish(self._build_partial_result("error", str(error)))
            raise
        except asyncio.CancelledError as error:
            attach_result(
                error, self._finish(self._build_partial_result("cancelled", "it was cancelled"))
            )
            raise
        return self._finish(result)

    def _finish(self, result: RunResult[Any]) -> RunResult[Any]:
        self.final_result = result
        if self._enclosing_call is not None and is_tainted(result.messages):
            self._enclosing_call.has_read_untrusted = True
        self._emit_event(RunFinished(result))
        return result

    @property
    def message_count(self) -> int:
        """How many messages the conversation has by now."""
        return len(self._state.transcript)

    @property
    def partial_result(self) -> RunResult[Any]:
        """What the run has come to, as it stands if nothing more comes."""
        why = MissingOutput("the process ended before the run did")
        return self._state.build_result("error", why, results=self._tool_calls.results)

    async def _run_with_timeout(self) -> RunResult[Any]:
        seconds = self._spec.limits.seconds
        if seconds is None:
            return await self._loop()
        task = asyncio.ensure_future(self._loop())
        try:
            await asyncio.wait({task}, timeout=max(seconds - self._input.elapsed_seconds, 0))
        finally:
            is_late = not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if is_late and task.cancelled():
            return self._build_partial_result("timeout", f"it took longer than {seconds:g} seconds")
        return task.result()

    async def _loop(self) -> RunResult[Any]:
        with self._handoff_spans:
            result = await self._execute_decided_calls()
            while result is None:
                spent = self._state.budget.find_exceeded_limit()
                if spent is not None:
                    return self._build_partial_result(*spent)
                self._close_before_last_request()
                result = await self._process_turn(await self._request_turn())
            return result

    async def _execute_decided_calls(self) -> RunResult[Any] | None:
        """Carries out what was decided about the calls that waited."""
        run_input = self._input
        if not (run_input.pending or run_input.paused):
            return None
        turn_context = self._create_turn_context()
        planned = self._tool_calls.apply_decisions(
            run_input.pending, run_input.decisions, turn_context
        )
        return await self._execute_calls(
            [*planned, *self._tool_calls.plan_paused_calls(run_input.paused, turn_context)]
        )

    # What the limits say.

    def _close_before_last_request(self) -> None:
        used = self._state.budget.used.requests
        if used and self._spec.registry and self._state.budget.requests_left == 1:
            self._state.close_tools("max_requests")

    # Where it stands.

    def _create_checkpoint(self) -> RunCheckpoint:
        checkpoint = self._state.create_checkpoint()
        return replace(checkpoint, faults=self._invalid_answers, trims=self._trims)

    def _restore(self, checkpoint: RunCheckpoint) -> None:
        """Goes on from where an earlier process was cut off."""
        self._invalid_answers = checkpoint.faults
        self._tool_calls.restore_turns(checkpoint.messages[self._input.start :])
        for _ in range(checkpoint.trims):
            self._trim()
        self._state.restore(checkpoint)

    # The model's turn.

    async def _request_turn(self) -> ModelTurn:
        """The model's next answer, to a conversation that fits its window."""
        self._state.turns += 1
        while True:
            try:
                turn = await self._request_model()
            except ContextOverflow:
                if not self._trim():
                    raise
                continue
            if not (self._state.is_context_cut(turn.usage) and self._trim()):
                return turn
            self._emit_event(AnswerDiscarded("the server left a part of the conversation out"))

    def _trim(self) -> bool:
        """Whether the conversation could be made shorter."""
        cuts = self._state.trim()
        self._trims += bool(cuts)
        for cut in cuts:
            self._emit_event(cut)
        reader = self._state.create_reader_tool()
        if cuts and not self._reader_tools and reader.name not in self._spec.registry:
            self._reader_tools = (reader,)
            self._prompt = replace(self._prompt, tools=(*self._prompt.tools, reader))
            self._tool_calls.set_tools(self._spec.registry.merge(reader))
        return bool(cuts)

    def _extend_offered_tools(self, selection: ToolSelection) -> None:
        """Offers what the conversation has come upon."""
        tools = (*selection.update(self._state.transcript), *self._reader_tools)
        if tools != self._prompt.tools:
            self._prompt = replace(self._prompt, tools=tools)

    async def _request_model(self) -> ModelTurn:
        state = self._state
        if self._tool_selection is not None:
            self._extend_offered_tools(self._tool_selection)
        request = ModelRequest(
            state.transcript,
            self._prompt,
            "none" if state.close_reason else "auto",
            stream=self._emit is not None,
        )
        budget, reserved = state.budget, 1

        def reserve_retry() -> bool:
            nonlocal reserved
            may = reserved < MAX_INVALID_ANSWERS and budget.reserve_request()
            reserved += may
            return may

        if not budget.reserve_request():
            raise CutAnswer("the server left a part of the conversation out, or cut its answer")
        try:
            turn = await self._spec.steps.call_model(
                f"{state.run_id}:{state.turns}",
                lambda: self._model_caller.request_turn(request, reserve_retry),
                self._create_checkpoint,
            )
        except BaseException:
            budget.commit_usage(reserved, self._model_caller.wasted_usage)
            raise
        budget.commit_usage(reserved, turn.usage)
        return turn

    async def _process_turn(self, turn: ModelTurn) -> RunResult[Any] | None:
        """What follows from a turn: the run's result, or None to go on."""
        if turn.finish == "length":
            return self._process_truncated_answer(turn)
        if turn.calls and not self._state.close_reason:
            return await self._process_calls(turn)
        if turn.broken and not self._state.close_reason:
            return self._reject_answer(turn.text, self._format_broken_call(turn.broken[0]))
        return self._process_answer(turn)

    async def _process_calls(self, turn: ModelTurn) -> RunResult[Any] | None:
        self._invalid_answers = 0
        planned = self._tool_calls.plan_calls(turn.calls, self._create_turn_context())
        if self._spec.handoffs:
            planned = keep_first_handoff(planned, self._spec.handoffs)
        calls = tuple(item.call for item in planned)
        self._append_answer(turn.text, calls, turn.thinking)
        result = await self._execute_calls(planned)
        if result is None and turn.broken and not self._state.close_reason:
            self._append_correction(self._format_broken_call(turn.broken[0]))
        return result

    async def _execute_calls(self, planned: Sequence[PlannedCall]) -> RunResult[Any] | None:
        """Carries calls out and puts their results down."""
        state = self._state
        turn_results = await self._tool_calls.execute(planned)
        for result in turn_results.results:
            state.transcript.append(result)
        if turn_results.pending:
            why = MissingOutput("; ".join(dict.fromkeys(map(str, turn_results.pending))))
            return state.build_result(
                "approval", why, pending=turn_results.pending, paused=turn_results.paused
            )
        if self._spec.handoffs:
            self._hand_over()
        if turn_results.close_reason:
            state.close_tools(turn_results.close_reason)
        return None

    def _hand_over(self) -> None:
        """Goes on as another agent, where the last turn called for one."""
        make = find_handoff(self._state.transcript, self._spec.handoffs)
        if make is None:
            return
        old, new = self._spec, make()
        self._spec = old.hand_over_to(new)
        self._scope = replace(
            self._scope, path=self._scope.sibling_path(new.name), own_name=new.agent
        )
        self._prompt = self._spec.prompt
        self._tool_selection = None if new.finder is None else ToolSelection(new.finder)
        self._reader_tools = ()
        instrumentation = self._scope.instrumentation
        self._model_caller = ModelCaller(
            instrument_model(new.model, new.name, instrumentation), self._emit
        )
        if instrumentation is not None:
            self._handoff_spans.enter_context(instrumentation.observe(self._create_span()))
        self._tool_calls.set_tools(new.registry)
        self._tool_calls.set_agent(self._scope, new.policy)
        self._state.switch_agent(new.name)
        self._emit_event(HandedOver(old.name, new.name))

    def _append_answer(
        self, text: str, calls: tuple[ToolCall, ...] = (), thinking: str = ""
    ) -> None:
        """Appends what the model said, with the mark of what it had read by then."""
        tainted = self._tool_calls.is_tainted
        self._state.transcript.append(Assistant(text, calls, thinking, tainted, assessed=True))

    def _create_turn_context(self) -> TurnContext:
        state = self._state
        used, messages = state.budget.used, tuple(state.transcript)
        return TurnContext(state.run_id, state.turns, self._input.deps, used, messages)

    # Answers that are no calls.

    def _process_truncated_answer(self, turn: ModelTurn) -> RunResult[Any] | None:
        if (turn.calls or turn.broken) and not self._state.close_reason:
            return self._reject_answer(turn.text, _TRUNCATED_CALL)
        if not (turn.text or turn.thinking) and self._trim():
            return None  # LMDeploy 0.5 says so that the conversation is longer than its window
        if turn.text:
            self._append_answer(turn.text, thinking=turn.thinking)
            value = self._spec.output.parse(turn.text)
            if not isinstance(value, InvalidOutput):
                return self._state.build_result("max_tokens", value)
        return self._build_partial_result("max_tokens", "the answer reached the length limit")

    def _format_broken_call(self, broken: MalformedCallPart) -> str:
        return (
            f"A tool call in your answer could not be read: {broken.reason}. You wrote:\n"
            f"{broken.text[:1000]}\nWrite the call again, its arguments as one JSON object. "
            f"The tools are: {', '.join(tool.name for tool in self._prompt.tools)}."
        )

    def _process_answer(self, turn: ModelTurn) -> RunResult[Any] | None:
        if not turn.text.strip():
            return self._process_empty_answer()
        value = self._spec.output.parse(turn.text)
        if isinstance(value, InvalidOutput):
            return self._reject_answer(turn.text, value.message)
        self._append_answer(turn.text, thinking=turn.thinking)
        return self._state.build_result(self._state.close_reason or "final", value)

    def _process_empty_answer(self) -> RunResult[Any] | None:
        """One more try as it was, one with a word about it, then the end."""
        if self._state.close_reason:
            return self._build_partial_result(
                self._state.close_reason, "the model gave no answer without tools"
            )
        self._invalid_answers += 1
        if self._invalid_answers >= MAX_INVALID_ANSWERS:
            raise BadAnswer(f"the model gave an empty answer {MAX_INVALID_ANSWERS} times")
        if self._invalid_answers == MAX_INVALID_ANSWERS - 1:
            self._state.transcript.append(User(_EMPTY_ANSWER))
        return None

    def _reject_answer(self, text: str, message: str) -> RunResult[Any] | None:
        """Tells the model what was wrong with its answer; ends the run if that does not help."""
        self._invalid_answers += 1
        if text:
            self._append_answer(text)
        if self._invalid_answers >= MAX_INVALID_ANSWERS:
            return self._build_partial_result(self._state.close_reason or "error", message)
        self._emit_event(AnswerDiscarded(message))
        self._append_correction(message)
        return None

    def _append_correction(self, message: str) -> None:
        """Tells the model words that may quote it; they are no words of the user."""
        transcript = self._state.transcript
        transcript.append(User(message, tainted=is_tainted(transcript)))

    def _build_partial_result(self, reason: StopReason, why: str) -> RunResult[Any]:
        """A result without a whole answer: the best words where plain text is asked for."""
        results = self._tool_calls.results
        is_plain = self._spec.output.schema is None
        answer = self._state.find_best_answer(why, results) if is_plain else MissingOutput(why)
        return self._state.build_result(reason, answer, results=results)

    def _emit_event(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)


def _inherit_taint(
    enclosing: EnclosingCall | None, run_input: RunInput, messages: Sequence[Message]
) -> Sequence[Message]:
    """The messages of a run that a tool makes by itself: what its model wrote goes into them."""
    if enclosing is None or not enclosing.tainted or run_input.parent is not None:
        return messages
    return tuple(
        replace(message, tainted=True)
        if isinstance(message, User) and place >= run_input.start
        else message
        for place, message in enumerate(messages)
    )


def _start_at_checkpoint(checkpoint: RunCheckpoint, run_input: RunInput) -> RunInput:
    """The origin of a run that stands at the point; what waited before it is over."""
    return replace(
        run_input,
        messages=checkpoint.messages,
        usage=checkpoint.usage,
        turns=checkpoint.turns - 1,
        agent=checkpoint.agent,
        pending=(),
        paused=(),
        decisions={},
    )
