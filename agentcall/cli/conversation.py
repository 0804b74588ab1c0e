"""A run from the command line: made, watched, asked about approvals; and its exit code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from agentcall.agent import Agent, Prompt
from agentcall.approval import Decision
from agentcall.cli.answer import Answer, answer_for
from agentcall.cli.approving import decide
from agentcall.cli.asking import prompt_from
from agentcall.cli.faults import UNFINISHED, UNREACHED, exit_code, tell, warn
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launching import ensure_up, hint
from agentcall.cli.making import agent_of
from agentcall.cli.run import RunOptions
from agentcall.cli.screen import Screen, notes_for
from agentcall.errors import ModelError, UsageError
from agentcall.events import ApprovalRequested, Event, RunFinished
from agentcall.messages import ToolCall
from agentcall.result import RunResult, result_of

Result = RunResult[Any]  # Any: the output's type is known to the user's agent alone


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a conversation came to; a result and an error if it broke halfway."""

    result: Result | None
    seconds: float
    error: ModelError | None = None


def converse(options: RunOptions) -> int:
    """Runs and prints what the options say; gives the exit code."""
    if options.json and options.events:
        raise UsageError("--json and --events both print to standard output; choose one")
    agent = agent_of(options)
    prompt = prompt_from(options.prompt, options.images or ())
    if options.launch:
        ensure_up(options.model)
    if options.durable or options.db or options.run_id:
        return _kept(agent, prompt, options)
    return _conversed(agent, prompt, options)


def converse_again(options: RunOptions) -> int:
    """Goes on with a durable run; gives the exit code."""
    return _kept(agent_of(options), None, options)


def _kept(agent: Agent[Any, Any], prompt: Prompt | None, options: RunOptions) -> int:
    """Runs so that another process may go on, and says how."""
    from agentcall.cli.keeping import Kept

    kept = Kept(agent, options, db=options.db, run_id=options.run_id)
    try:
        code = _conversed(kept, prompt, options)
    except KeyboardInterrupt:
        kept.tell_how_to_go_on()
        raise
    finally:
        kept.close()
    if code == UNREACHED:
        kept.tell_how_to_go_on()
    return code


class Runner(Protocol):
    """What may be talked to: an agent, or one whose runs are kept."""

    def run_stream(self, prompt: Prompt | None, /) -> AsyncIterator[Event]:
        """The events of a run."""
        ...

    def resume_stream(
        self, result: Result, decisions: Mapping[str, Decision | bool], /
    ) -> AsyncIterator[Event]:
        """The events of a run after a person has decided."""
        ...


def _conversed(runner: Runner, prompt: Prompt | None, options: RunOptions) -> int:
    answer = answer_for(options)
    screen = Screen(answer, notes_for(options))
    with InterruptibleLoop() as loop:
        conversation = Conversation(runner, loop, screen)
        try:
            outcome = conversation.outcome(runner.run_stream(prompt))
        except KeyboardInterrupt as interrupt:
            _leave(result_of(interrupt), answer)
            raise
        finally:
            screen.close()
    code = _told(outcome, answer, screen)
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
    return 0 if outcome.result.stop_reason == "final" else UNFINISHED


class Conversation:
    """A run and what follows from its approvals, as one."""

    def __init__(self, runner: Runner, loop: InterruptibleLoop, screen: Screen) -> None:
        self._runner = runner
        self._loop = loop
        self._screen = screen
        self._result: Result | None = None
        self._reasons: dict[str, str] = {}

    def outcome(self, events: AsyncIterator[Event]) -> Outcome:
        """Goes on until nothing waits for approval. Raises what is no ModelError."""
        started = monotonic()
        try:
            self._leg(events)
            while (result := self._result) is not None and result.pending:
                decisions = self._decisions(result.pending)
                self._leg(self._runner.resume_stream(result, decisions))
        except ModelError as error:
            return Outcome(self._result, monotonic() - started, error)
        return Outcome(self._result, monotonic() - started)

    def _leg(self, events: AsyncIterator[Event]) -> None:
        self._loop.run(self._watched(events))

    async def _watched(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, RunFinished):
                self._result = event.result
            elif isinstance(event, ApprovalRequested):
                self._reasons[event.call.id] = event.reason
            self._screen.see(event)

    def _decisions(self, pending: Sequence[ToolCall]) -> Mapping[str, Decision]:
        self._screen.close()
        for call in pending:
            self._screen.decided(call)
        return {call.id: decide(call, self._reasons.get(call.id, "")) for call in pending}
