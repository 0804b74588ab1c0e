"""A conversation with an agent at the terminal, and the meter of its status line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from agentcall.agent import Agent
from agentcall.approvals import Decision
from agentcall.cli.approvals import format_pending_calls
from agentcall.cli.chat.ui import ChatUI
from agentcall.cli.errors import (
    UNFINISHED,
    WAITING,
    get_exit_code,
    is_debugging,
    print_error,
    print_tool_errors,
    print_warning,
)
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.model_server import print_launch_hint
from agentcall.cli.output import AnswerWriter, RunDisplay
from agentcall.cli.run_loop import ApprovalLoop, LoopOutcome
from agentcall.errors import UsageError
from agentcall.events import Event, ModelAnswered
from agentcall.messages import Image, Prompt, Usage
from agentcall.models.http_chat import HTTPChat
from agentcall.models.resolve import get_resolved_model
from agentcall.result import RunResult
from agentcall.serving.conversation import Conversation

_WINDOW_TIMEOUT = 1.0
"""Seconds to wait for the size of the context window; some servers need several requests."""


class UsageMeter:
    """Measures the last answer.

    context: tokens of the conversation. rate: tokens per second.
    """

    def __init__(self) -> None:
        self.context = 0
        self.rate = 0.0
        self._window_task: asyncio.Task[int | None] | None = None

    def record(self, event: Event) -> None:
        """Measure an answer."""
        if isinstance(event, ModelAnswered) and event.usage.input_tokens:
            usage = event.usage
            self.context = usage.total_tokens // max(usage.requests, 1)
            self.rate = usage.tokens_per_second or 0.0

    async def fetch_window(self, agent: Agent[Any, Any]) -> None:  # Any: the user's own types
        """Ask the server for its context window, once, when the server is known."""
        model = get_resolved_model(agent.spec.model)
        if self._window_task is None and isinstance(model, HTTPChat):
            self._window_task = asyncio.ensure_future(model.fetch_context_window())
            await asyncio.wait([self._window_task], timeout=_WINDOW_TIMEOUT)

    @property
    def window(self) -> int | None:
        """The model's context window in tokens; None if it is not known."""
        task = self._window_task
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result()

    def format(self, usage: Usage) -> str:
        """Return the status line, with the usage of the conversation."""
        parts: list[str] = []
        if self.context:
            window = self.window
            of = f" of {window:,} ({self.context * 100 // window}%)" if window else ""
            parts.append(f"context {self.context:,}{of}")
        if self.rate:
            parts.append(f"{self.rate:.1f} tokens/s")
        parts.append(f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out")
        return " · ".join(parts)


AnyRunResult = RunResult[Any]  # Any: only the user's agent knows its output type
T = TypeVar("T")


class TerminalChat:
    """Runs the questions of a conversation and shows the answers.

    images: images for the next question.
    verbose: whether the traceback of a tool's exception is shown.
    exit_code: the exit code of the last question.
    is_interrupted: whether the last input was Ctrl-C.
    """

    def __init__(self, conversation: Conversation, loop: InterruptibleLoop, ui: ChatUI) -> None:
        self.conversation = conversation
        self.ui = ui
        self.meter = UsageMeter()
        self.images: list[Image] = []
        self.verbose = False
        self.exit_code = 0
        self.is_interrupted = False
        self._loop = loop

    def ask(self, text: str) -> None:
        """Ask a question, with the images that were added before, and show the answer."""
        prompt: Prompt = [*self.images, text] if self.images else text
        self.images = []
        self._run_and_show(
            lambda loop: loop.run(self._record_events(self.conversation.ask(prompt)))
        )

    def ask_again(self, text: str | None) -> None:
        """Ask the last question again, or another one in its place."""
        self._run_and_show(
            lambda loop: loop.run(self._record_events(self.conversation.retry(text)))
        )

    def decide(self, decision: Decision | None) -> None:
        """Apply a decision to every pending call; ask the user if it is None.

        Raises UsageError if no call is pending.
        """
        paused_runs = self.conversation.paused_runs
        if not paused_runs:
            raise UsageError("no call waits for approval")
        result = paused_runs[-1]
        decisions = {} if decision is None else {p.call.id: decision for p in result.pending}
        self._run_and_show(lambda loop: loop.resume(result, decisions))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:  # Any: it sends nothing
        """Run a coroutine and return its result. Raises KeyboardInterrupt at Ctrl-C."""
        return self._loop.run(work)

    # The protocol SupportsResume.
    def resume_stream(
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """Continue a run after a person has decided and yield its events."""
        return self._record_events(self.conversation.decide(decisions, result.run_id))

    def check(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]) -> None:
        """Raise UsageError for decisions that cannot be applied."""
        self.conversation.check_decisions(decisions, result.run_id)

    async def _record_events(
        self, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(events):
            async for event in events:
                self.meter.record(event)
                yield event
        await self.meter.fetch_window(self.conversation.agent)

    # Output.
    def _run_and_show(self, start: Callable[[ApprovalLoop], LoopOutcome]) -> None:
        """Run and show the answer; an error is reported, and the chat continues."""
        writer, activity = self.ui.open_writers()
        display = RunDisplay(writer, activity)
        try:
            with self.ui.mute_echo():
                self._print_outcome(self._run_loop(start, writer, display), display)
        except KeyboardInterrupt:
            self.is_interrupted = self._loop.interrupts > 1
            raise
        except Exception as error:
            self.report_error(error)
            self._suggest_retry()
        self.print_pending_calls()

    def _run_loop(
        self,
        start: Callable[[ApprovalLoop], LoopOutcome],
        writer: AnswerWriter,
        display: RunDisplay,
    ) -> LoopOutcome:
        try:
            outcome = start(ApprovalLoop(self, self._loop, display, self.ui.prompter))
        except BaseException:  # also at Ctrl-C
            display.close()
            writer.finish(None, None)
            raise
        display.close()
        writer.finish(outcome.result, outcome.error)
        return outcome

    def _print_outcome(self, outcome: LoopOutcome, display: RunDisplay) -> None:
        if outcome.error is not None:
            self.report_error(outcome.error)
            model = self.conversation.agent.model
            print_launch_hint(model if isinstance(model, str) else None, outcome.error)
            self._suggest_retry()
            return
        result = outcome.result
        if result is None:
            return
        display.end(result, outcome.seconds)
        print_tool_errors(result.tool_errors, verbose=self.verbose)
        for note in result.notes:
            print_warning(note)
        self.exit_code = 0 if result.stop_reason == "final" else UNFINISHED

    def handle_interrupt(self, done: str) -> None:
        """Report what Ctrl-C did, and that another one leaves."""
        self.is_interrupted = True
        print_warning(f"{done}press Ctrl-C again to leave")
        self.print_pending_calls()

    def report_error(self, error: Exception) -> None:
        """Print an error."""
        if is_debugging():
            raise error
        print_error(error)
        self.exit_code = get_exit_code(error)

    def _suggest_retry(self) -> None:
        if self.conversation.history:
            print_warning("/retry asks the last question again, /undo removes it")

    def print_pending_calls(self) -> None:
        """Print the calls that wait for approval, and the commands that decide about them."""
        paused_runs = self.conversation.paused_runs
        for result in paused_runs:
            for line in format_pending_calls(result):
                print_warning(line)
        if paused_runs:
            print_warning("/approve asks about them; /approve yes and /approve no WHY decide")
            self.exit_code = WAITING
