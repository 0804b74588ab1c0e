"""A run from the command line: made, watched, asked about approvals; and its exit code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from agentcall.agent import Prompt
from agentcall.approval import Approved, Decision, Edited
from agentcall.calltext import whole_call
from agentcall.cli.answer import Answer, answer_for
from agentcall.cli.approving import Keyboard, Matter, Person, decide
from agentcall.cli.faults import UNFINISHED, WAITING, exit_code, tell, warn
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launching import hint
from agentcall.cli.run import RunOptions
from agentcall.cli.screen import Screen, notes_for
from agentcall.errors import ModelError
from agentcall.events import Event, RunFinished
from agentcall.messages import ToolCall
from agentcall.result import PendingCall, RunResult, result_of

Result = RunResult[Any]  # Any: the output's type is known to the user's agent alone


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a conversation came to; a result and an error if it broke halfway."""

    result: Result | None
    seconds: float
    error: ModelError | None = None


class Resumer(Protocol):
    """What goes on with a run when a person has decided."""

    def resume_stream(
        self, result: Result, decisions: Mapping[str, Decision | bool], /
    ) -> AsyncIterator[Event]:
        """The events of a run after a person has decided."""
        ...

    def check(self, result: Result, decisions: Mapping[str, Decision | bool], /) -> None:
        """Raises UsageError for decisions that cannot be carried out."""
        ...


class Runner(Resumer, Protocol):
    """What may be asked: an agent, plain, in a session, or one whose runs are kept."""

    def run_stream(self, prompt: Prompt | None, /) -> AsyncIterator[Event]:
        """The events of a run."""
        ...

    def tell_how_to_go_on(self, result: Result, /) -> None:
        """Says with which command the run goes on, which waits for approval."""
        ...


def conversed(runner: Runner, prompt: Prompt | None, options: RunOptions) -> int:
    """Runs and prints what comes of it; gives the exit code."""
    return _shown(runner, options, lambda talk: talk.outcome(runner.run_stream(prompt)))


def conversed_on(
    runner: Runner, result: Result, decisions: Mapping[str, Decision | bool], options: RunOptions
) -> int:
    """Goes on with a run that waits; without decisions a person is asked. Gives the exit code."""
    return _shown(runner, options, lambda talk: talk.further(result, decisions))


def _shown(runner: Runner, options: RunOptions, talk: Callable[[Conversation], Outcome]) -> int:
    answer = answer_for(options)
    screen = Screen(answer, notes_for(options))
    with InterruptibleLoop() as loop:
        try:
            outcome = talk(Conversation(runner, loop, screen))
        except KeyboardInterrupt as interrupt:
            _leave(result_of(interrupt), answer)
            raise
        finally:
            screen.close()
    code = _told(outcome, answer, screen)
    if code == WAITING and outcome.result is not None:
        runner.tell_how_to_go_on(outcome.result)
    hint(options.model, outcome.error)
    return code


def _leave(result: Result | None, answer: Answer) -> None:
    """Prints what there was at Ctrl-C, where it can be gone on with."""
    if result is not None:
        answer.see(RunFinished(result))
        answer.finish(result, None)


def _told(outcome: Outcome, answer: Answer, screen: Screen) -> int:
    """Prints how it ended."""
    answer.finish(outcome.result, outcome.error)
    if outcome.error is not None:
        tell(outcome.error)
        return exit_code(outcome.error)
    if outcome.result is None:
        return UNFINISHED
    screen.end(outcome.result, outcome.seconds)
    for note in outcome.result.notes:
        warn(note)
    if outcome.result.pending:
        return WAITING
    return 0 if outcome.result.stop_reason == "final" else UNFINISHED


class Conversation:
    """A run and what follows from its approvals, as one."""

    def __init__(
        self, runner: Resumer, loop: InterruptibleLoop, screen: Screen, person: Person | None = None
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._screen = screen
        self._person = person or Keyboard()
        self._started = monotonic()
        self._result: Result | None = None

    def outcome(self, events: AsyncIterator[Event]) -> Outcome:
        """Goes on until nothing waits that can be asked about. Raises what is no ModelError."""
        try:
            self._leg(events)
            while (result := self._result) is not None and result.pending:
                if not self._person.is_there:
                    break
                self._leg(self._runner.resume_stream(result, self._decisions(result)))
        except ModelError as error:
            return Outcome(self._result, monotonic() - self._started, error)
        return Outcome(self._result, monotonic() - self._started)

    def further(self, result: Result, decisions: Mapping[str, Decision | bool]) -> Outcome:
        """Goes on with a run that waits."""
        decided = decisions or self._decisions(result)
        return self.outcome(self._runner.resume_stream(result, decided))

    def _leg(self, events: AsyncIterator[Event]) -> None:
        self._loop.run(self._watched(events))

    async def _watched(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, RunFinished):
                self._result = event.result
            self._screen.see(event)

    def _decisions(self, result: Result) -> Mapping[str, Decision]:
        """What a person decides about each call; not asked is what is approved always by now."""
        self._screen.close()
        decisions: dict[str, Decision] = {}
        always: set[tuple[str, str]] = set()
        for pending in result.pending:
            call = pending.call
            if _tool_of(call) in always:
                continue
            self._screen.decided(call)
            decision = decisions[call.id] = self._decided(pending, result)
            if isinstance(decision, Approved) and decision.always == "tool":
                always.add(_tool_of(call))
        return decisions

    def _decided(self, pending: PendingCall, result: Result) -> Decision:
        call = pending.call

        def check(edited: Edited) -> None:
            self._runner.check(result, {call.id: edited})

        matter = Matter(call, whole_call(call, result.asked_by(call.id)), pending.reason)
        return decide(matter, self._person, check)


def _tool_of(call: ToolCall) -> tuple[str, str]:
    """Whose tool it is, and which."""
    return call.id.rpartition("/")[0], call.name
