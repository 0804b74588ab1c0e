"""A chat: a talk with an agent that a person sees, stops and decides in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from agentcall.agent import Prompt
from agentcall.approvals import Decision
from agentcall.cli.answer import AnswerWriter
from agentcall.cli.calltext import format_pending_calls
from agentcall.cli.conversation import ApprovalLoop, LoopOutcome
from agentcall.cli.face import ChatUI
from agentcall.cli.faults import (
    UNFINISHED,
    WAITING,
    get_exit_code,
    is_debugging,
    print_error,
    print_warning,
)
from agentcall.cli.gauge import UsageMeter
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launching import print_launch_hint
from agentcall.cli.screen import RunDisplay
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import Image
from agentcall.result import RunResult
from agentcall.serving.conversation import Conversation

AnyRunResult = RunResult[Any]  # Any: the output's type is known to the user's agent alone
T = TypeVar("T")


class TerminalChat:
    """A talk with a face.

    images: what goes with the next question. code: the exit code that the last question makes.
    is_stopped: whether Ctrl-C was the last thing that the person did.
    """

    def __init__(self, conversation: Conversation, loop: InterruptibleLoop, ui: ChatUI) -> None:
        self.conversation = conversation
        self.ui = ui
        self.meter = UsageMeter()
        self.images: list[Image] = []
        self.exit_code = 0
        self.is_interrupted = False
        self._loop = loop

    def ask(self, text: str) -> None:
        """Asks, with the images that were named before, and shows what comes of it."""
        prompt: Prompt = [*self.images, text] if self.images else text
        self.images = []
        self._run_and_show(
            lambda shown: shown.run(self._record_events(self.conversation.ask(prompt)))
        )

    def ask_again(self, text: str | None) -> None:
        """Asks the last question anew, or another in its place."""
        self._run_and_show(
            lambda shown: shown.run(self._record_events(self.conversation.retry(text)))
        )

    def decide(self, decision: Decision | None) -> None:
        """Decides about every call of the run that waits; without a decision the person is asked.

        Raises UsageError if none waits.
        """
        waiting = self.conversation.paused_runs
        if not waiting:
            raise UsageError("no call waits for approval")
        result = waiting[-1]
        decisions = {} if decision is None else {each.call.id: decision for each in result.pending}
        self._run_and_show(lambda shown: shown.resume(result, decisions))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:  # Any: what it sends is its own
        """What the work gives. Raises KeyboardInterrupt at Ctrl-C."""
        return self._loop.run(work)

    # What a conversation goes on by.

    def resume_stream(
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """The events of a run after a person has decided."""
        return self._record_events(self.conversation.decide(decisions, result.run_id))

    def check(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]) -> None:
        """Raises UsageError for decisions that cannot be carried out."""
        self.conversation.check_decisions(decisions, result.run_id)

    async def _record_events(
        self, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(events):
            async for event in events:
                self.meter.record(event)
                yield event
        await self.meter.fetch_window(self.conversation.agent)

    # What is shown.

    def _run_and_show(self, start: Callable[[ApprovalLoop], LoopOutcome]) -> None:
        """Lets the talk go on, and tells whatever goes wrong: the chat itself goes on."""
        answer, notes = self.ui.open_writers()
        screen = RunDisplay(answer, notes)
        try:
            with self.ui.mute_echo():
                self._print_outcome(self._run_loop(start, answer, screen), screen)
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
        except BaseException:  # Ctrl-C too
            display.close()
            writer.finish(None, None)
            raise
        display.close()
        writer.finish(outcome.result, outcome.error)
        return outcome

    def _print_outcome(self, outcome: LoopOutcome, display: RunDisplay) -> None:
        if outcome.error is not None:
            self.report_error(outcome.error)
            print_launch_hint(_get_model_shorthand(self.conversation), outcome.error)
            self._suggest_retry()
            return
        result = outcome.result
        if result is None:
            return
        display.end(result, outcome.seconds)
        for note in result.notes:
            print_warning(note)
        self.exit_code = 0 if result.stop_reason == "final" else UNFINISHED

    def handle_interrupt(self, done: str) -> None:
        """Ctrl-C came: says what it did, and what another one does."""
        self.is_interrupted = True
        print_warning(f"{done}Ctrl-C once more leaves")
        self.print_pending_calls()

    def report_error(self, error: Exception) -> None:
        """Tells what went wrong."""
        if is_debugging():
            raise error
        print_error(error)
        self.exit_code = get_exit_code(error)

    def _suggest_retry(self) -> None:
        if self.conversation.history:
            print_warning("/retry asks the last question again, /undo takes it back")

    def print_pending_calls(self) -> None:
        """Says which calls wait, and how to decide about them."""
        lines = [
            line
            for result in self.conversation.paused_runs
            for line in format_pending_calls(result)
        ]
        if lines:
            for line in (
                *lines,
                "/approve asks about them; /approve yes and /approve no WHY decide",
            ):
                print_warning(line)
            self.exit_code = WAITING


def _get_model_shorthand(conversation: Conversation) -> str | None:
    """The shorthand of the model that is talked to, if it has one."""
    model = conversation.agent.model
    return model if isinstance(model, str) else None
