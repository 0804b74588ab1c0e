"""A run at the command line: its events are shown, a person is asked about approvals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from agentcall.agent import Agent
from agentcall.approvals import Approved, Decision, Edited
from agentcall.cli.approvals import Prompter, TerminalPrompter, ask_for_decision
from agentcall.cli.errors import (
    UNFINISHED,
    UNREACHABLE,
    WAITING,
    get_exit_code,
    print_error,
    print_tool_errors,
    print_warning,
)
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.model_server import print_launch_hint
from agentcall.cli.options import RunOptions
from agentcall.cli.output import AnswerWriter, RunDisplay, choose_answer_writer, choose_display
from agentcall.display import format_full_call
from agentcall.errors import ModelError
from agentcall.events import Event, RunFinished
from agentcall.messages import JSON, Prompt, ToolCall
from agentcall.result import PendingCall, RunResult, result_of
from agentcall.sessions import SQLiteSession

if TYPE_CHECKING:
    from agentcall.cli.durable import DurableRunner

    Runner: TypeAlias = "AgentRunner | DurableRunner"

AnyRunResult = RunResult[Any]  # Any: only the user's agent knows its output type


@dataclass(frozen=True, slots=True)
class LoopOutcome:
    """The end of a run: its result, and an error if the model's server failed."""

    result: AnyRunResult | None
    seconds: float
    error: ModelError | None = None


class SupportsResume(Protocol):
    """Continues a run after a person has decided."""

    def resume_stream(
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool], /
    ) -> AsyncIterator[Event]:
        """Continue the run and yield its events."""
        ...

    def check(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool], /) -> None:
        """Raise UsageError for decisions that cannot be applied."""
        ...


def run_and_print(runner: Runner, prompt: Prompt | None, options: RunOptions) -> int:
    """Run, print the answer, and return the exit code."""
    return _run_and_print(runner, options, lambda loop: loop.run(runner.run_stream(prompt)))


def resume_and_print(
    runner: Runner,
    result: AnyRunResult,
    decisions: Mapping[str, Decision | bool],
    options: RunOptions,
) -> int:
    """Continue a paused run and return the exit code; a person is asked if nothing is decided."""
    return _run_and_print(runner, options, lambda loop: loop.resume(result, decisions))


def _run_and_print(
    runner: Runner, options: RunOptions, start: Callable[[ApprovalLoop], LoopOutcome]
) -> int:
    writer = choose_answer_writer(options)
    display = RunDisplay(writer, choose_display(options))
    with InterruptibleLoop() as loop:
        try:
            outcome = start(ApprovalLoop(runner, loop, display))
        except KeyboardInterrupt as interrupt:
            if (partial := result_of(interrupt)) is not None:
                writer.handle(RunFinished(partial))
                writer.finish(partial, None)
                runner.handle_result(partial)
            raise
        finally:
            display.close()
    code = _print_outcome(outcome, writer, display)
    if outcome.result is not None:
        print_tool_errors(outcome.result.tool_errors, verbose=options.verbose)
    if outcome.result is not None and not (outcome.error and outcome.result.pending):
        runner.handle_result(outcome.result)
    print_launch_hint(options.model, outcome.error)
    return code


def _print_outcome(outcome: LoopOutcome, writer: AnswerWriter, display: RunDisplay) -> int:
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
    """Runs, asks a person about calls that wait for approval, and continues."""

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
        """Run until no call waits, or nobody can be asked. Raises all errors but ModelError."""
        error: ModelError | None = None
        try:
            self._loop.run(self._show_events(events))
            while (result := self._result) is not None and result.pending:
                if not self._prompter.is_available:
                    break
                decisions = self._ask_for_decisions(result)
                self._loop.run(self._show_events(self._runner.resume_stream(result, decisions)))
        except ModelError as failure:
            error = failure
        return LoopOutcome(self._result, monotonic() - self._started, error)

    def resume(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]) -> LoopOutcome:
        """Continue a paused run as `run` does; ask a person if nothing is decided."""
        return self.run(
            self._runner.resume_stream(result, decisions or self._ask_for_decisions(result))
        )

    async def _show_events(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, RunFinished):
                self._result = event.result
            self._display.handle(event)

    def _ask_for_decisions(self, result: AnyRunResult) -> Mapping[str, Decision]:
        """Ask about each call, except those of a tool that was just approved always."""
        self._display.close()
        decisions: dict[str, Decision] = {}
        approved_tools: set[tuple[str, str]] = set()
        for pending in result.pending:
            call = pending.call
            if _identify_tool(call) in approved_tools:
                continue
            self._display.skip_refusal(call)
            decision = decisions[call.id] = self._ask_about_call(pending, result)
            if isinstance(decision, Approved) and decision.always == "tool":
                approved_tools.add(_identify_tool(call))
        return decisions

    def _ask_about_call(self, pending: PendingCall, result: AnyRunResult) -> Decision:
        call = pending.call

        def validate(edited: Edited) -> None:
            self._runner.check(result, {call.id: edited})

        shown_call = format_full_call(call, result.get_agent_path(call.id))
        return ask_for_decision(pending, shown_call, self._prompter, validate)


def _identify_tool(call: ToolCall) -> tuple[str, str]:
    """Return the agent's part of the call id, and the tool's name."""
    return call.id.rpartition("/")[0], call.name


class AgentRunner:
    """Runs an agent; only a run that pauses is recorded.

    recipe: how the agent was made, so that another process can make it.
    db: the journal, if it is not the default one.
    is_recorded: whether the run is in the journal already, because it paused before.
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        session: SQLiteSession | None,
        recipe: Mapping[str, JSON],
        *,
        db: str | None = None,
        is_recorded: bool = False,
    ) -> None:
        self._agent = agent
        self._session = session
        self._recipe = recipe
        self._db = db
        self._is_recorded = is_recorded

    def run_stream(self, prompt: Prompt | None) -> AsyncIterator[Event]:
        """Run and yield the events."""
        return self._agent.run_stream(prompt, session=self._session)

    def resume_stream(
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """Continue the run after a person has decided and yield its events."""
        return self._agent.resume_stream(result, decisions, session=self._session)

    def check(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]) -> None:
        """Raise UsageError for decisions that cannot be applied."""
        self._agent.check_decisions(result, decisions)

    def handle_result(self, result: AnyRunResult) -> None:
        """Record a run that pauses, or that ends after a pause; print how to resume it."""
        if not (result.pending or self._is_recorded):
            return
        from agentcall.cli.durable import open_journal, print_pending_calls
        from agentcall.durable.durable_agent import record_result

        recipe = dict(self._recipe)
        if self._session is not None:
            path = str(self._session.store.path.absolute())
            recipe["session"] = {"id": self._session.id, "file": path}
        with open_journal(self._db) as journal:
            record_result(journal, self._agent, result, recipe)
        if result.pending:
            print_pending_calls(result, result.run_id, self._db)


def run_durably(runner: DurableRunner, prompt: Prompt | None, options: RunOptions) -> int:
    """Start or continue a durable run, close its runner, and return the exit code."""
    try:
        code = run_and_print(runner, prompt, options)
    except KeyboardInterrupt:
        runner.print_resume_hint()
        raise
    finally:
        runner.close()
    if code == UNREACHABLE:
        runner.print_resume_hint()
    return code
