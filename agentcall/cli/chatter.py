"""A chat: a talk with an agent that a person sees, stops and decides in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from agentcall.agent import Prompt
from agentcall.approval import Decision
from agentcall.cli.answer import Answer
from agentcall.cli.calltext import waiting_lines
from agentcall.cli.conversation import Conversation, Outcome
from agentcall.cli.face import Face
from agentcall.cli.faults import (
    UNFINISHED,
    WAITING,
    debugging,
    exit_code,
    tell,
    warn,
)
from agentcall.cli.gauge import Gauge
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launching import hint
from agentcall.cli.screen import Screen
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import Image
from agentcall.result import RunResult
from agentcall.talk import Talk

Result = RunResult[Any]  # Any: the output's type is known to the user's agent alone
T = TypeVar("T")


class Chat:
    """A talk with a face.

    images: what goes with the next question. code: the exit code that the last question makes.
    is_stopped: whether Ctrl-C was the last thing that the person did.
    """

    def __init__(self, talk: Talk, loop: InterruptibleLoop, face: Face) -> None:
        self.talk = talk
        self.face = face
        self.gauge = Gauge()
        self.images: list[Image] = []
        self.code = 0
        self.is_stopped = False
        self._loop = loop

    def ask(self, text: str) -> None:
        """Asks, with the images that were named before, and shows what comes of it."""
        prompt: Prompt = [*self.images, text] if self.images else text
        self.images = []
        self._show(lambda shown: shown.outcome(self._heard(self.talk.ask(prompt))))

    def ask_again(self, text: str | None) -> None:
        """Asks the last question anew, or another in its place."""
        self._show(lambda shown: shown.outcome(self._heard(self.talk.retry(text))))

    def decide(self, decision: Decision | None) -> None:
        """Decides about every call of the run that waits; without a decision the person is asked.

        Raises UsageError if none waits.
        """
        waiting = self.talk.session.waiting
        if not waiting:
            raise UsageError("no call waits for approval")
        result = waiting[-1]
        decisions = {} if decision is None else {each.call.id: decision for each in result.pending}
        self._show(lambda shown: shown.further(result, decisions))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:  # Any: what it sends is its own
        """What the work gives. Raises KeyboardInterrupt at Ctrl-C."""
        return self._loop.run(work)

    # What a conversation goes on by.

    def resume_stream(
        self, result: Result, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """The events of a run after a person has decided."""
        return self._heard(self.talk.decide(decisions, result.run_id))

    def check(self, result: Result, decisions: Mapping[str, Decision | bool]) -> None:
        """Raises UsageError for decisions that cannot be carried out."""
        self.talk.check(decisions, result.run_id)

    async def _heard(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        async with aclosing(events):
            async for event in events:
                self.gauge.see(event)
                yield event
        await self.gauge.look(self.talk.agent)

    # What is shown.

    def _show(self, go: Callable[[Conversation], Outcome]) -> None:
        """Lets the talk go on, and tells whatever goes wrong: the chat itself goes on."""
        answer, notes = self.face.shown()
        screen = Screen(answer, notes)
        try:
            with self.face.busy():
                self._end(self._outcome(go, answer, screen), screen)
        except KeyboardInterrupt:
            self.is_stopped = self._loop.interrupts > 1
            raise
        except Exception as error:
            self.fail(error)
            self._tell_way_out()
        self.tell_waiting()

    def _outcome(
        self, go: Callable[[Conversation], Outcome], answer: Answer, screen: Screen
    ) -> Outcome:
        try:
            outcome = go(Conversation(self, self._loop, screen, self.face.person))
        except BaseException:  # Ctrl-C too
            screen.close()
            answer.finish(None, None)
            raise
        screen.close()
        answer.finish(outcome.result, outcome.error)
        return outcome

    def _end(self, outcome: Outcome, screen: Screen) -> None:
        if outcome.error is not None:
            self.fail(outcome.error)
            hint(_words(self.talk), outcome.error)
            self._tell_way_out()
            return
        result = outcome.result
        if result is None:
            return
        screen.end(result, outcome.seconds)
        for note in result.notes:
            warn(note)
        self.code = 0 if result.stop_reason == "final" else UNFINISHED

    def stop(self, done: str) -> None:
        """Ctrl-C came: says what it did, and what another one does."""
        self.is_stopped = True
        warn(f"{done}Ctrl-C once more leaves")
        self.tell_waiting()

    def fail(self, error: Exception) -> None:
        """Tells what went wrong."""
        if debugging():
            raise error
        tell(error)
        self.code = exit_code(error)

    def _tell_way_out(self) -> None:
        if self.talk.history:
            warn("/retry asks the last question again, /undo takes it back")

    def tell_waiting(self) -> None:
        """Says which calls wait, and how to decide about them."""
        lines = [line for result in self.talk.session.waiting for line in waiting_lines(result)]
        if lines:
            for line in (
                *lines,
                "/approve asks about them; /approve yes and /approve no WHY decide",
            ):
                warn(line)
            self.code = WAITING


def _words(talk: Talk) -> str | None:
    """The shorthand of the model that is talked to, if it has one."""
    model = talk.agent.model
    return model if isinstance(model, str) else None
