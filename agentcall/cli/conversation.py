"""A run from the command line: made, watched, asked about approvals; and its exit code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from agentcall.agent import Agent
from agentcall.approval import Decision
from agentcall.cli.answer import Answer, answer_for
from agentcall.cli.approving import decide
from agentcall.cli.asking import prompt_from
from agentcall.cli.faults import UNFINISHED, exit_code, tell
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launching import ensure_up, hint
from agentcall.cli.loading import agent_made
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
    agent = _agent(options)
    prompt = prompt_from(options.prompt, options.images or ())
    if options.launch:
        ensure_up(options.model)
    answer = answer_for(options)
    screen = Screen(answer, notes_for(options))
    with InterruptibleLoop() as loop:
        conversation = Conversation(agent, loop, screen)
        try:
            outcome = conversation.outcome(agent.run_stream(prompt))
        except KeyboardInterrupt as interrupt:
            _leave(result_of(interrupt), answer)
            raise
        finally:
            screen.close()
    code = _told(outcome, answer, screen)
    hint(options.model, outcome.error)
    return code


def _agent(options: RunOptions) -> Agent[Any, Any]:
    agent = agent_made(options)
    if options.max_requests is not None:
        agent = replace(agent, limits=replace(agent.limits, requests=options.max_requests))
    return agent


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
    return 0 if outcome.result.stop_reason == "final" else UNFINISHED


class Conversation:
    """A run and what follows from its approvals, as one."""

    def __init__(self, agent: Agent[Any, Any], loop: InterruptibleLoop, screen: Screen) -> None:
        self._agent = agent
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
                self._leg(self._agent.resume_stream(result, decisions))
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
