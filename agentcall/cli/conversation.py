"""A run from the command line: made, watched, asked about approvals; and its exit code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from agentcall.agent import Prompt
from agentcall.approvals import Approved, Decision, Edited
from agentcall.cli.answer import AnswerWriter, choose_answer_writer
from agentcall.cli.approving import ApprovalRequest, Prompter, TerminalPrompter, ask_for_decision
from agentcall.cli.faults import UNFINISHED, WAITING, get_exit_code, print_error, print_warning
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launching import print_launch_hint
from agentcall.cli.run import RunOptions
from agentcall.cli.screen import RunDisplay, choose_display
from agentcall.display import format_full_call
from agentcall.errors import ModelError
from agentcall.events import Event, RunFinished
from agentcall.messages import ToolCall
from agentcall.result import PendingCall, RunResult, result_of

AnyRunResult = RunResult[Any]  # Any: the output's type is known to the user's agent alone


@dataclass(frozen=True, slots=True)
class LoopOutcome:
    """What a conversation came to; a result and an error if it broke halfway."""

    result: AnyRunResult | None
    seconds: float
    error: ModelError | None = None


class SupportsResume(Protocol):
    """What goes on with a run when a person has decided."""

    def resume_stream(
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool], /
    ) -> AsyncIterator[Event]:
        """The events of a run after a person has decided."""
        ...

    def check(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool], /) -> None:
        """Raises UsageError for decisions that cannot be carried out."""
        ...


class SupportsRun(SupportsResume, Protocol):
    """What may be asked: an agent, plain, in a session, or one whose runs are kept."""

    def run_stream(self, prompt: Prompt | None, /) -> AsyncIterator[Event]:
        """The events of a run."""
        ...

    def print_resume_hint(self, result: AnyRunResult, /) -> None:
        """Says with which command the run goes on, which waits for approval."""
        ...


def run_and_print(runner: SupportsRun, prompt: Prompt | None, options: RunOptions) -> int:
    """Runs and prints what comes of it; gives the exit code."""
    return _run_and_report(runner, options, lambda talk: talk.run(runner.run_stream(prompt)))


def resume_and_print(
    runner: SupportsRun,
    result: AnyRunResult,
    decisions: Mapping[str, Decision | bool],
    options: RunOptions,
) -> int:
    """Goes on with a run that waits; without decisions a person is asked. Gives the exit code."""
    return _run_and_report(runner, options, lambda talk: talk.resume(result, decisions))


def _run_and_report(
    runner: SupportsRun, options: RunOptions, start: Callable[[ApprovalLoop], LoopOutcome]
) -> int:
    answer = choose_answer_writer(options)
    screen = RunDisplay(answer, choose_display(options))
    with InterruptibleLoop() as loop:
        try:
            outcome = start(ApprovalLoop(runner, loop, screen))
        except KeyboardInterrupt as interrupt:
            _print_partial_result(result_of(interrupt), answer)
            raise
        finally:
            screen.close()
    code = _print_outcome(outcome, answer, screen)
    if code == WAITING and outcome.result is not None:
        runner.print_resume_hint(outcome.result)
    print_launch_hint(options.model, outcome.error)
    return code


def _print_partial_result(result: AnyRunResult | None, writer: AnswerWriter) -> None:
    """Prints what there was at Ctrl-C, where it can be gone on with."""
    if result is not None:
        writer.handle(RunFinished(result))
        writer.finish(result, None)


def _print_outcome(outcome: LoopOutcome, writer: AnswerWriter, display: RunDisplay) -> int:
    """Prints how it ended."""
    writer.finish(outcome.result, outcome.error)
    if outcome.error is not None:
        print_error(outcome.error)
        return get_exit_code(outcome.error)
    if outcome.result is None:
        return UNFINISHED
    display.end(outcome.result, outcome.seconds)
    for note in outcome.result.notes:
        print_warning(note)
    if outcome.result.pending:
        return WAITING
    return 0 if outcome.result.stop_reason == "final" else UNFINISHED


class ApprovalLoop:
    """A run and what follows from its approvals, as one."""

    def __init__(
        self,
        runner: SupportsResume,
        loop: InterruptibleLoop,
        display: RunDisplay,
        prompter: Prompter | None = None,
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._display = display
        self._prompter = prompter or TerminalPrompter()
        self._started = monotonic()
        self._result: AnyRunResult | None = None

    def run(self, events: AsyncIterator[Event]) -> LoopOutcome:
        """Goes on until nothing waits that can be asked about. Raises what is no ModelError."""
        try:
            self._run_events(events)
            while (result := self._result) is not None and result.pending:
                if not self._prompter.is_available:
                    break
                self._run_events(
                    self._runner.resume_stream(result, self._ask_for_decisions(result))
                )
        except ModelError as error:
            return LoopOutcome(self._result, monotonic() - self._started, error)
        return LoopOutcome(self._result, monotonic() - self._started)

    def resume(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]) -> LoopOutcome:
        """Goes on with a run that waits."""
        decided = decisions or self._ask_for_decisions(result)
        return self.run(self._runner.resume_stream(result, decided))

    def _run_events(self, events: AsyncIterator[Event]) -> None:
        self._loop.run(self._show_events(events))

    async def _show_events(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, RunFinished):
                self._result = event.result
            self._display.handle(event)

    def _ask_for_decisions(self, result: AnyRunResult) -> Mapping[str, Decision]:
        """What a person decides about each call; not asked is what is approved always by now."""
        self._display.close()
        decisions: dict[str, Decision] = {}
        always: set[tuple[str, str]] = set()
        for pending in result.pending:
            call = pending.call
            if _identify_tool(call) in always:
                continue
            self._display.skip_refusal(call)
            decision = decisions[call.id] = self._ask_about_call(pending, result)
            if isinstance(decision, Approved) and decision.always == "tool":
                always.add(_identify_tool(call))
        return decisions

    def _ask_about_call(self, pending: PendingCall, result: AnyRunResult) -> Decision:
        call = pending.call

        def check(edited: Edited) -> None:
            self._runner.check(result, {call.id: edited})

        matter = ApprovalRequest(
            call, format_full_call(call, result.get_agent_path(call.id)), pending.reason
        )
        return ask_for_decision(matter, self._prompter, check)


def _identify_tool(call: ToolCall) -> tuple[str, str]:
    """Whose tool it is, and which."""
    return call.id.rpartition("/")[0], call.name
