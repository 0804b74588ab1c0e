"""The loop: ask the model, read, repair, carry out, append; until an answer or a limit.

Rules:
1. What the model does wrong is told to it; what the server does wrong is asked again a few times
   and then raised; a limit ends the run with a result.
2. Nothing of an answer that was cut is carried out: not of one without an end, and no calls of one
   that ended by its length.
3. The last request that the limits allow is asked for an answer, with the tools closed.
4. Every tool call in a result's messages has its own result behind it, however the run ended,
   unless it waits for approval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentcall.approval import Decision
from agentcall.calls import CallDesk, Round, Scene
from agentcall.dialects.protocol import Choice, Offer
from agentcall.errors import BadAnswer, CutAnswer, ModelError
from agentcall.events import AnswerDiscarded, Event, RunFinished, RunStarted
from agentcall.execute import Emit
from agentcall.limits import Limits
from agentcall.messages import Assistant, Message, ToolCall, ToolResult, Usage, User
from agentcall.models.protocol import Model, Request
from agentcall.output import OutputReader, Unfit
from agentcall.registry import ToolRegistry
from agentcall.result import Missing, RunResult, StopReason
from agentcall.steps import Direct, Steps
from agentcall.transcript import Transcript
from agentcall.turn import Turn, heard

PATIENCE = 3
"""How often in a row an answer that is cut, empty or unfit is asked for before we give up."""

_CLOSING = "You cannot call tools any more. Give your final answer now, with what you know."
_EMPTY = "Your answer was empty. Call a tool, or give your final answer."
_CUT_CALL = (
    "Your answer reached the length limit before the tool call was complete, so nothing was "
    "called. Call again, with fewer words."
)
_UNDONE = "The run ended before this call did; its outcome is unknown."


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a run is made of and does not change: everything that an agent decides."""

    model: Model
    registry: ToolRegistry
    offer: Offer
    output: OutputReader
    limits: Limits
    steps: Steps = field(default_factory=Direct)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run begins: the conversation, its new part, and what the tools depend on."""

    run_id: str
    messages: Sequence[Message]
    start: int
    deps: object = None
    pending: tuple[ToolCall, ...] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])


class Run:
    """One run, from its origin to its result; good for once."""

    def __init__(self, plan: Plan, origin: Origin, emit: Emit | None = None) -> None:
        self._plan = plan
        self._origin = origin
        self._emit = emit
        self._transcript = Transcript(origin.messages)
        self._desk = CallDesk(plan.registry, plan.limits, plan.steps, emit)
        self._usage = Usage()
        self._turns = 0
        self._faults = 0
        self._closed: StopReason | None = None

    async def result(self) -> RunResult[Any]:  # Any: the agent knows its output's type
        """Goes on until the run ends. Raises ModelError, whose `result` is what there is so far."""
        self._tell(RunStarted(self._origin.run_id))
        try:
            result = await self._within_time()
        except ModelError as error:
            error.result = result = self._ended("error", str(error))
            self._tell(RunFinished(result))
            raise
        self._tell(RunFinished(result))
        return result

    async def _within_time(self) -> RunResult[Any]:
        seconds = self._plan.limits.seconds
        if seconds is None:
            return await self._loop()
        try:
            return await asyncio.wait_for(self._loop(), seconds)
        except ModelError:
            raise
        except (asyncio.TimeoutError, TimeoutError):
            return self._ended("timeout", f"it took longer than {seconds:g} seconds")

    async def _loop(self) -> RunResult[Any]:
        result = await self._resumed()
        while result is None:
            result = self._spent()
            if result is None:
                self._close_before_last_request()
                result = await self._took(await self._turn())
        return result

    async def _resumed(self) -> RunResult[Any] | None:
        """Carries out what was decided about the calls that waited."""
        if not self._origin.pending:
            return None
        waiting, decisions = self._origin.pending, self._origin.decisions
        return self._entered(await self._desk.decided(waiting, decisions, self._scene()))

    # What the limits say.

    def _spent(self) -> RunResult[Any] | None:
        limits, used = self._plan.limits, self._usage
        if used.requests >= limits.requests:
            return self._ended("max_requests", f"it made {used.requests} requests")
        if limits.tokens is not None and used.total_tokens >= limits.tokens:
            return self._ended("max_tokens", f"it used {used.total_tokens} tokens")
        return None

    def _close_before_last_request(self) -> None:
        left = self._plan.limits.requests - self._usage.requests
        if left == 1 and self._usage.requests and self._plan.offer.tools:
            self._close("max_requests")

    def _close(self, reason: StopReason) -> None:
        if self._closed is None:
            self._closed = reason
            self._transcript.append(User(_CLOSING))

    # The model's turn.

    async def _turn(self) -> Turn:
        """The model's next answer; one that is cut or garbled is asked for again."""
        self._turns += 1
        key = f"{self._origin.run_id}:{self._turns}"
        fault: ModelError = CutAnswer("the stream ended before the answer did")
        for attempt in range(PATIENCE):
            if attempt:
                self._tell(AnswerDiscarded(str(fault)))
            try:
                turn = await self._plan.steps.model(key, self._ask)
            except BadAnswer as error:
                self._usage += Usage(1)
                fault = error
                continue
            self._usage += turn.usage
            if turn.finish is not None:
                return turn
        raise fault

    async def _ask(self) -> Turn:
        choice: Choice = "none" if self._closed else "auto"
        stream = self._emit is not None
        request = Request(self._transcript, self._plan.offer, choice, stream)
        return await heard(self._plan.model.ask(request), self._emit)

    async def _took(self, turn: Turn) -> RunResult[Any] | None:
        """What follows from a turn: the run's result, or None to go on."""
        if turn.finish == "length":
            return self._too_long(turn)
        if turn.calls and not self._closed:
            return await self._called(turn)
        if turn.broken and not self._closed:
            return self._unreadable(turn)
        return self._answered(turn)

    async def _called(self, turn: Turn) -> RunResult[Any] | None:
        self._faults = 0
        done = await self._desk.round(turn.calls, self._scene())
        self._transcript.append(Assistant(turn.text, done.calls, turn.thinking))
        return self._entered(done)

    def _entered(self, done: Round) -> RunResult[Any] | None:
        """Puts the results of a round down."""
        for result in done.results:
            self._transcript.append(result)
        if done.pending:
            names = ", ".join(call.name for call in done.pending)
            return self._ended("approval", f"{names} waits for approval", done.pending)
        if done.close:
            self._close(done.close)
        return None

    def _scene(self) -> Scene:
        origin = self._origin
        return Scene(origin.run_id, self._turns, origin.deps, self._usage, tuple(self._transcript))

    # Answers that are no calls.

    def _too_long(self, turn: Turn) -> RunResult[Any] | None:
        if (turn.calls or turn.broken) and not self._closed:
            return self._told(turn.text, _CUT_CALL)
        if turn.text:
            self._transcript.append(Assistant(turn.text, thinking=turn.thinking))
        return self._ended("max_tokens", "the answer reached the length limit")

    def _unreadable(self, turn: Turn) -> RunResult[Any] | None:
        broken = turn.broken[0]
        return self._told(
            turn.text,
            f"A tool call in your answer could not be read: {broken.reason}. You wrote:\n"
            f"{broken.text[:1000]}\nWrite the call again, its arguments as one JSON object. "
            f"The tools are: {', '.join(self._plan.registry.names)}.",
        )

    def _answered(self, turn: Turn) -> RunResult[Any] | None:
        if not turn.text.strip():
            return self._said_nothing()
        value = self._plan.output.read(turn.text)
        if isinstance(value, Unfit):
            return self._told(turn.text, value.words)
        self._transcript.append(Assistant(turn.text, thinking=turn.thinking))
        return self._result(self._closed or "final", value)

    def _said_nothing(self) -> RunResult[Any] | None:
        """One more try as it was, one with a word about it, then the end."""
        self._faults += 1
        if self._closed and self._closed != "max_tool_calls":
            return self._ended(self._closed, "the model gave no answer without tools")
        if self._faults >= PATIENCE:
            raise BadAnswer(f"the model gave an empty answer {PATIENCE} times")
        if self._faults == PATIENCE - 1:
            self._transcript.append(User(_EMPTY))
        return None

    def _told(self, text: str, words: str) -> RunResult[Any] | None:
        """Tells the model what was wrong with its answer; ends the run if that does not help."""
        self._faults += 1
        if text:
            self._transcript.append(Assistant(text))
        if self._faults >= PATIENCE:
            return self._ended(self._closed or "error", words)
        self._transcript.append(User(words))
        return None

    # The end.

    def _ended(
        self, reason: StopReason, why: str, pending: tuple[ToolCall, ...] = ()
    ) -> RunResult[Any]:
        """A result without a whole answer: the model's last words where plain text is asked for."""
        said = next((m.text for m in reversed(self._new()) if isinstance(m, Assistant)), "")
        plain = self._plan.output.schema is None and said and reason != "approval"
        return self._result(reason, said if plain else Missing(why), pending)

    def _result(
        self, reason: StopReason, answer: object, pending: tuple[ToolCall, ...] = ()
    ) -> RunResult[Any]:
        usage = self._usage + Usage(tool_calls=self._desk.carried_out)
        messages = _with_all_results(tuple(self._transcript), pending)
        origin = self._origin
        return RunResult(answer, messages, origin.start, usage, reason, origin.run_id, pending)

    def _new(self) -> Sequence[Message]:
        return tuple(self._transcript)[self._origin.start :]

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)


def _with_all_results(
    messages: tuple[Message, ...], pending: tuple[ToolCall, ...]
) -> tuple[Message, ...]:
    """The messages, with a result for each call that has none and does not wait."""
    if not messages or isinstance(messages[-1], User):
        return messages
    known = {m.call_id for m in messages if isinstance(m, ToolResult)}
    known.update(call.id for call in pending)
    asked = (call for m in messages if isinstance(m, Assistant) for call in m.calls)
    undone = [call for call in asked if call.id not in known]
    return (*messages, *(ToolResult(c.id, c.name, _UNDONE, is_error=True) for c in undone))
