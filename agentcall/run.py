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

from agentcall.calls import CallDesk, Scene
from agentcall.dialects.parts import Broken
from agentcall.errors import (
    BadAnswer,
    ContextOverflow,
    CutAnswer,
    ModelError,
    PolicyFailed,
    UsageError,
    keep_result,
)
from agentcall.events import (
    AnswerDiscarded,
    Emit,
    Event,
    HandedOver,
    RunFinished,
    RunStarted,
)
from agentcall.handoff import first_only, handed_to
from agentcall.home import is_loading
from agentcall.judged import Judged
from agentcall.messages import Assistant, Message, ToolCall, User
from agentcall.models.protocol import Request
from agentcall.origin import Origin, lineage_of
from agentcall.output import Unfit
from agentcall.plan import Plan
from agentcall.progress import Progress
from agentcall.result import Missing, RunResult, StopReason
from agentcall.shortlist import Shortlist
from agentcall.steps import Point
from agentcall.taint import CallAround, assessed, call_around, is_tainted
from agentcall.tool import Tool
from agentcall.turn import Listener, Turn
from agentcall.watch import Running, watched

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


class Run:
    """One run, from its origin to its result; good for once."""

    def __init__(self, plan: Plan, origin: Origin, emit: Emit | None = None) -> None:
        reached, before = plan.steps.reached(origin.run_id), origin.usage
        if reached is not None:
            origin = _origin_at(reached, origin)
        plan = plan.of(origin.agent) if origin.agent else plan
        self._plan = plan
        self._around = call_around.get()
        messages = _asked_in(self._around, origin, assessed(origin.messages, plan))
        self._origin = origin = replace(origin, messages=messages)
        self._emit = emit
        home = lineage_of(plan, origin, emit)
        self._progress = Progress(origin, home.budget, plan.name)
        self._desk = CallDesk(plan.registry, plan.limits, home, policy=plan.policy)
        self._desk.recall(origin.messages)
        self._home = home
        self._offer = plan.offer
        self._shortlist = None if plan.finder is None else Shortlist(plan.finder)
        self._reader: tuple[Tool, ...] = ()
        self._listener = Listener(watched(plan.model, plan.name, home.watcher), emit)
        self._taken_over = ExitStack()
        self._faults = 0
        self._trims = 0
        self.ended: RunResult[Any] | None = None
        if reached is not None:
            home.budget.count_above(reached.usage - before)
            self._go_on(reached)

    async def result(self) -> RunResult[Any]:  # Any: the agent knows its output's type
        """Goes on until the run ends.

        Raises ModelError or PolicyFailed, whose `result` is what there is so far; so has the
        CancelledError of a run that is cancelled.
        """
        if is_loading():
            raise UsageError(_LOADING)
        watcher = self._home.watcher
        if watcher is None:
            return await self._result()
        with watcher.around(self._running()) as note:
            try:
                return await self._result()
            finally:
                if self.ended is not None:
                    note(self.ended)

    def _running(self) -> Running:
        plan, said = self._plan, tuple(self._progress.transcript)
        return Running(plan.name, self._origin.run_id, plan.offer, said)

    async def _result(self) -> RunResult[Any]:
        self._tell(RunStarted(self._origin.run_id))
        try:
            result = await self._within_time()
        except (ModelError, PolicyFailed) as error:
            error.result = self._finish(self._ended("error", str(error)))
            raise
        except asyncio.CancelledError as error:
            keep_result(error, self._finish(self._ended("cancelled", "it was cancelled")))
            raise
        return self._finish(result)

    def _finish(self, result: RunResult[Any]) -> RunResult[Any]:
        self.ended = result
        if self._around is not None and is_tainted(result.messages):
            self._around.has_read = True
        self._tell(RunFinished(result))
        return result

    @property
    def size(self) -> int:
        """How many messages the conversation has by now."""
        return len(self._progress.transcript)

    @property
    def so_far(self) -> RunResult[Any]:
        """What the run has come to, as it stands if nothing more comes."""
        why = Missing("the process ended before the run did")
        return self._progress.result("error", why, known=self._desk.known)

    async def _within_time(self) -> RunResult[Any]:
        seconds = self._plan.limits.seconds
        if seconds is None:
            return await self._loop()
        task = asyncio.ensure_future(self._loop())
        try:
            await asyncio.wait({task}, timeout=max(seconds - self._origin.spent, 0))
        finally:
            is_late = not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if is_late and task.cancelled():
            return self._ended("timeout", f"it took longer than {seconds:g} seconds")
        return task.result()

    async def _loop(self) -> RunResult[Any]:
        with self._taken_over:
            result = await self._resumed()
            while result is None:
                spent = self._progress.budget.spent()
                if spent is not None:
                    return self._ended(*spent)
                self._close_before_last_request()
                result = await self._took(await self._turn())
            return result

    async def _resumed(self) -> RunResult[Any] | None:
        """Carries out what was decided about the calls that waited."""
        origin = self._origin
        if not (origin.pending or origin.paused):
            return None
        scene = self._scene()
        judged = self._desk.decided(origin.pending, origin.verdicts, scene)
        return await self._carried_out([*judged, *self._desk.continued(origin.paused, scene)])

    # What the limits say.

    def _close_before_last_request(self) -> None:
        used = self._progress.budget.used.requests
        if used and self._plan.registry and self._progress.budget.requests_left == 1:
            self._progress.close("max_requests")

    # Where it stands.

    def _point(self) -> Point:
        point = self._progress.point()
        return replace(point, faults=self._faults, trims=self._trims)

    def _go_on(self, point: Point) -> None:
        """Goes on from where an earlier process was cut off."""
        self._faults = point.faults
        self._desk.recall_turns(point.messages[self._origin.start :])
        for _ in range(point.trims):
            self._trimmed()
        self._progress.go_on(point)

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
        self._trims += bool(cuts)
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
        budget, taken = progress.budget, 1

        def again() -> bool:
            nonlocal taken
            may = taken < PATIENCE and budget.take_request()
            taken += may
            return may

        if not budget.take_request():
            raise CutAnswer("the server left a part of the conversation out, or cut its answer")
        try:
            turn = await self._plan.steps.model(
                f"{progress.run_id}:{progress.turns}",
                lambda: self._listener.whole(request, again),
                self._point,
            )
        except BaseException:
            budget.settle(taken, self._listener.lost)
            raise
        budget.settle(taken, turn.usage)
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
        if self._plan.handoffs:
            judged = first_only(judged, self._plan.handoffs)
        calls = tuple(item.call for item in judged)
        self._say(turn.text, calls, turn.thinking)
        result = await self._carried_out(judged)
        if result is None and turn.broken and not self._progress.closed:
            self._tell_model(self._unreadable(turn.broken[0]))
        return result

    async def _carried_out(self, judged: Sequence[Judged]) -> RunResult[Any] | None:
        """Carries calls out and puts their results down."""
        progress = self._progress
        done = await self._desk.carry_out(judged)
        for result in done.results:
            progress.transcript.append(result)
        if done.pending:
            why = Missing("; ".join(dict.fromkeys(map(str, done.pending))))
            return progress.result("approval", why, pending=done.pending, paused=done.paused)
        if self._plan.handoffs:
            self._hand_over()
        if done.close:
            progress.close(done.close)
        return None

    def _hand_over(self) -> None:
        """Goes on as another agent, where the last turn called for one."""
        make = handed_to(self._progress.transcript, self._plan.handoffs)
        if make is None:
            return
        old, new = self._plan, make()
        self._plan = old.handed_to(new)
        self._home = replace(self._home, path=self._home.beside(new.name), asker=new.agent)
        self._offer = self._plan.offer
        self._shortlist = None if new.finder is None else Shortlist(new.finder)
        self._reader = ()
        watcher = self._home.watcher
        self._listener = Listener(watched(new.model, new.name, watcher), self._emit)
        if watcher is not None:
            self._taken_over.enter_context(watcher.around(self._running()))
        self._desk.offer(new.registry)
        self._desk.move(self._home, new.policy)
        self._progress.hand_over(new.name)
        self._tell(HandedOver(old.name, new.name))

    def _say(self, text: str, calls: tuple[ToolCall, ...] = (), thinking: str = "") -> None:
        """Appends what the model said, with the mark of what it had read by then."""
        tainted = self._desk.is_tainted
        self._progress.transcript.append(Assistant(text, calls, thinking, tainted, assessed=True))

    def _scene(self) -> Scene:
        progress = self._progress
        used, messages = progress.budget.used, tuple(progress.transcript)
        return Scene(progress.run_id, progress.turns, self._origin.deps, used, messages)

    # Answers that are no calls.

    def _too_long(self, turn: Turn) -> RunResult[Any] | None:
        if (turn.calls or turn.broken) and not self._progress.closed:
            return self._told(turn.text, _CUT_CALL)
        if not (turn.text or turn.thinking) and self._trimmed():
            return None  # LMDeploy 0.5 says so that the conversation is longer than its window
        if turn.text:
            self._say(turn.text, thinking=turn.thinking)
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
        self._say(turn.text, thinking=turn.thinking)
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
            self._say(text)
        if self._faults >= PATIENCE:
            return self._ended(self._progress.closed or "error", words)
        self._tell(AnswerDiscarded(words))
        self._tell_model(words)
        return None

    def _tell_model(self, words: str) -> None:
        """Tells the model words that may quote it; they are no words of the user."""
        transcript = self._progress.transcript
        transcript.append(User(words, tainted=is_tainted(transcript)))

    def _ended(self, reason: StopReason, why: str) -> RunResult[Any]:
        """A result without a whole answer: the best words where plain text is asked for."""
        known = self._desk.known
        is_plain = self._plan.output.schema is None
        answer = self._progress.best(why, known) if is_plain else Missing(why)
        return self._progress.result(reason, answer, known=known)

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)


def _asked_in(
    around: CallAround | None, origin: Origin, messages: Sequence[Message]
) -> Sequence[Message]:
    """The messages of a run that a tool makes by itself: what its model wrote goes into them."""
    if around is None or not around.tainted or origin.above is not None:
        return messages
    return tuple(
        replace(message, tainted=True)
        if isinstance(message, User) and place >= origin.start
        else message
        for place, message in enumerate(messages)
    )


def _origin_at(point: Point, origin: Origin) -> Origin:
    """The origin of a run that stands at the point; what waited before it is over."""
    return replace(
        origin,
        messages=point.messages,
        usage=point.usage,
        turns=point.turns - 1,
        agent=point.agent,
        pending=(),
        paused=(),
        verdicts={},
    )
