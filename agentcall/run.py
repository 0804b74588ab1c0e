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
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentcall.approval import Verdict
from agentcall.calls import CallDesk, Scene
from agentcall.dialects.parts import Broken
from agentcall.dialects.protocol import Offer
from agentcall.errors import (
    BadAnswer,
    ContextOverflow,
    ModelError,
    PolicyFailed,
    UsageError,
    keep_result,
)
from agentcall.events import AnswerDiscarded, Event, RunFinished, RunStarted
from agentcall.execute import Emit
from agentcall.home import is_loading
from agentcall.judged import Judged
from agentcall.limits import Limits
from agentcall.messages import Assistant, Message, ToolCall, Usage, User
from agentcall.models.protocol import Model, Request
from agentcall.output import OutputReader, Unfit
from agentcall.policy import Policy
from agentcall.progress import Progress
from agentcall.registry import ToolRegistry
from agentcall.result import Missing, RunResult, StopReason
from agentcall.shortlist import Finder, Shortlist
from agentcall.steps import Direct, Steps
from agentcall.taint import marked
from agentcall.tool import Tool
from agentcall.turn import Listener, Turn

PATIENCE = 3
"""How often in a row an answer that is cut, empty or unfit is asked for before we give up."""

_EMPTY = "Your answer was empty. Call a tool, or give your final answer."
_CUT_CALL = (
    "Your answer reached the length limit before the tool call was complete, so nothing was "
    "called. Call again, with fewer words."
)
_LOADING = (
    "the file of an isolated tool runs an agent when it is imported; put the run under "
    '`if __name__ == "__main__":`'
)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a run is made of and does not change: everything that an agent decides."""

    model: Model
    registry: ToolRegistry
    offer: Offer
    output: OutputReader
    limits: Limits
    steps: Steps = field(default_factory=Direct)
    policy: Policy | None = None
    finder: Finder | None = None

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The agent's own tools, offered or not."""
        return self.offer.tools if self.finder is None else self.finder.tools

    def is_untrusted(self, name: str) -> bool:
        """Whether the results of the tool of this name may hold text of strangers."""
        found = self.registry.by_name.get(name)
        return found is not None and found.marks.untrusted


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run begins: the conversation, its new part, and what the tools depend on.

    A run that is resumed brings what waited, what was decided, and what it had used.
    """

    run_id: str
    messages: Sequence[Message]
    start: int
    deps: object = None
    pending: tuple[ToolCall, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    usage: Usage = field(default_factory=Usage)
    turns: int = 0


class Run:
    """One run, from its origin to its result; good for once."""

    def __init__(self, plan: Plan, origin: Origin, emit: Emit | None = None) -> None:
        self._plan = plan
        self._origin = origin
        self._emit = emit
        messages = marked(origin.messages, plan.is_untrusted)
        self._progress = Progress(origin.run_id, messages, origin.start, origin.usage, origin.turns)
        self._desk = CallDesk(plan.registry, plan.limits, plan.steps, emit, policy=plan.policy)
        self._desk.recall(messages, origin.usage.tool_calls)
        self._offer = plan.offer
        self._shortlist = None if plan.finder is None else Shortlist(plan.finder)
        self._reader: tuple[Tool, ...] = ()
        self._listener = Listener(plan.model, emit)
        self._faults = 0

    async def result(self) -> RunResult[Any]:  # Any: the agent knows its output's type
        """Goes on until the run ends.

        Raises ModelError or PolicyFailed, whose `result` is what there is so far; so has the
        CancelledError of a run that is cancelled.
        """
        if is_loading():
            raise UsageError(_LOADING)
        self._tell(RunStarted(self._origin.run_id))
        try:
            result = await self._within_time()
        except (ModelError, PolicyFailed) as error:
            error.result = result = self._ended("error", str(error))
            self._tell(RunFinished(result))
            raise
        except asyncio.CancelledError as error:
            result = self._ended("cancelled", "it was cancelled")
            keep_result(error, result)
            self._tell(RunFinished(result))
            raise
        self._tell(RunFinished(result))
        return result

    async def _within_time(self) -> RunResult[Any]:
        seconds = self._plan.limits.seconds
        if seconds is None:
            return await self._loop()
        task = asyncio.ensure_future(self._loop())
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            is_late = not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if is_late and task.cancelled():
            return self._ended("timeout", f"it took longer than {seconds:g} seconds")
        return task.result()

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
        waiting, verdicts = self._origin.pending, self._origin.verdicts
        return await self._carried_out(self._desk.decided(waiting, verdicts, self._scene()))

    # What the limits say.

    def _spent(self) -> RunResult[Any] | None:
        limits, used = self._plan.limits, self._progress.usage
        if limits.requests is not None and used.requests >= limits.requests:
            return self._ended("max_requests", f"it made {used.requests} requests")
        if limits.tokens is not None and used.total_tokens >= limits.tokens:
            return self._ended("max_tokens", f"it used {used.total_tokens} tokens")
        return None

    @property
    def _requests_left(self) -> int | None:
        limit = self._plan.limits.requests
        return None if limit is None else limit - self._progress.usage.requests

    def _close_before_last_request(self) -> None:
        used = self._progress.usage.requests
        if self._requests_left == 1 and used and self._plan.registry:
            self._progress.close("max_requests")

    # The model's turn.

    async def _turn(self) -> Turn:
        """The model's next answer, to a conversation that fits its window."""
        self._progress.turns += 1
        while True:
            try:
                turn = await self._asked()
            except ContextOverflow:
                if not self._trimmed():
                    raise
                continue
            if not (self._progress.was_cut(turn.usage) and self._trimmed()):
                return turn
            self._tell(AnswerDiscarded("the server left a part of the conversation out"))

    def _trimmed(self) -> bool:
        """Whether the conversation could be made shorter."""
        cuts = self._progress.trim()
        for cut in cuts:
            self._tell(cut)
        reader = self._progress.reader()
        if cuts and not self._reader and reader.name not in self._plan.registry:
            self._reader = (reader,)
            self._offer = replace(self._offer, tools=(*self._offer.tools, reader))
            self._desk.offer(self._plan.registry.merge(reader))
        return bool(cuts)

    def _lengthen_offer(self, shortlist: Shortlist) -> None:
        """Offers what the conversation has come upon."""
        tools = (*shortlist.follow(self._progress.transcript), *self._reader)
        if tools != self._offer.tools:
            self._offer = replace(self._offer, tools=tools)

    async def _asked(self) -> Turn:
        progress = self._progress
        if self._shortlist is not None:
            self._lengthen_offer(self._shortlist)
        request = Request(
            progress.transcript,
            self._offer,
            "none" if progress.closed else "auto",
            stream=self._emit is not None,
        )
        left = self._requests_left
        tries = PATIENCE if left is None else min(PATIENCE, left)
        try:
            turn = await self._plan.steps.model(
                f"{progress.run_id}:{progress.turns}",
                lambda: self._listener.whole(request, tries),
            )
        except ModelError:
            progress.usage += self._listener.lost
            raise
        progress.usage += turn.usage
        return turn

    async def _took(self, turn: Turn) -> RunResult[Any] | None:
        """What follows from a turn: the run's result, or None to go on."""
        if turn.finish == "length":
            return self._too_long(turn)
        if turn.calls and not self._progress.closed:
            return await self._called(turn)
        if turn.broken and not self._progress.closed:
            return self._told(turn.text, self._unreadable(turn.broken[0]))
        return self._answered(turn)

    async def _called(self, turn: Turn) -> RunResult[Any] | None:
        self._faults = 0
        judged = self._desk.judged(turn.calls, self._scene())
        calls = tuple(item.call for item in judged)
        self._progress.transcript.append(Assistant(turn.text, calls, turn.thinking))
        result = await self._carried_out(judged)
        if result is None and turn.broken and not self._progress.closed:
            self._progress.transcript.append(User(self._unreadable(turn.broken[0])))
        return result

    async def _carried_out(self, judged: Sequence[Judged]) -> RunResult[Any] | None:
        """Carries calls out and puts their results down."""
        progress = self._progress
        progress.count_calls(self._desk.carried_out)
        done = await self._desk.carry_out(judged)
        for result in done.results:
            progress.transcript.append(result)
        if done.pending:
            return progress.result("approval", Missing(done.waiting), pending=done.pending)
        if done.close:
            progress.close(done.close)
        return None

    def _scene(self) -> Scene:
        progress = self._progress
        messages = tuple(progress.transcript)
        return Scene(progress.run_id, progress.turns, self._origin.deps, progress.usage, messages)

    # Answers that are no calls.

    def _too_long(self, turn: Turn) -> RunResult[Any] | None:
        if (turn.calls or turn.broken) and not self._progress.closed:
            return self._told(turn.text, _CUT_CALL)
        if not (turn.text or turn.thinking) and self._trimmed():
            return None  # LMDeploy 0.5 says so that the conversation is longer than its window
        if turn.text:
            self._progress.transcript.append(Assistant(turn.text, thinking=turn.thinking))
            value = self._plan.output.read(turn.text)
            if not isinstance(value, Unfit):
                return self._progress.result("max_tokens", value)
        return self._ended("max_tokens", "the answer reached the length limit")

    def _unreadable(self, broken: Broken) -> str:
        return (
            f"A tool call in your answer could not be read: {broken.reason}. You wrote:\n"
            f"{broken.text[:1000]}\nWrite the call again, its arguments as one JSON object. "
            f"The tools are: {', '.join(tool.name for tool in self._offer.tools)}."
        )

    def _answered(self, turn: Turn) -> RunResult[Any] | None:
        if not turn.text.strip():
            return self._said_nothing()
        value = self._plan.output.read(turn.text)
        if isinstance(value, Unfit):
            return self._told(turn.text, value.words)
        self._progress.transcript.append(Assistant(turn.text, thinking=turn.thinking))
        return self._progress.result(self._progress.closed or "final", value)

    def _said_nothing(self) -> RunResult[Any] | None:
        """One more try as it was, one with a word about it, then the end."""
        if self._progress.closed:
            return self._ended(self._progress.closed, "the model gave no answer without tools")
        self._faults += 1
        if self._faults >= PATIENCE:
            raise BadAnswer(f"the model gave an empty answer {PATIENCE} times")
        if self._faults == PATIENCE - 1:
            self._progress.transcript.append(User(_EMPTY))
        return None

    def _told(self, text: str, words: str) -> RunResult[Any] | None:
        """Tells the model what was wrong with its answer; ends the run if that does not help."""
        self._faults += 1
        if text:
            self._progress.transcript.append(Assistant(text))
        if self._faults >= PATIENCE:
            return self._ended(self._progress.closed or "error", words)
        self._tell(AnswerDiscarded(words))
        self._progress.transcript.append(User(words))
        return None

    def _ended(self, reason: StopReason, why: str) -> RunResult[Any]:
        """A result without a whole answer: the best words where plain text is asked for."""
        known = self._desk.known
        is_plain = self._plan.output.schema is None
        answer = self._progress.best(why, known) if is_plain else Missing(why)
        return self._progress.result(reason, answer, known=known)

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)
