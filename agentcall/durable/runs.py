"""Durable runs of an agent: recorded step by step, gone on with after a crash."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import replace
from time import time
from typing import Any, Generic, TypeVar

from typing_extensions import Self

from agentcall.agent import Agent, Deps, History, Output, Prompt, conversation, new_id
from agentcall.approval import Decision
from agentcall.durable.attempt import Attempt, begun, claimed, known, refuse_bad_id, taken
from agentcall.durable.clerk import Clerk, done
from agentcall.durable.code import Code
from agentcall.durable.journal import Journal
from agentcall.durable.ledger import Ledger
from agentcall.durable.leg import Leg
from agentcall.durable.opening import opener
from agentcall.durable.record import Record, sealed
from agentcall.errors import UsageError
from agentcall.events import Emit, Event, RunFinished
from agentcall.messages import JSON, Message, User, encoded, load, to_json
from agentcall.output import Unfit
from agentcall.result import Missing, RunResult
from agentcall.snapshot import as_json
from agentcall.sync import run_sync

T = TypeVar("T")

_TITLE = 200


class Durable(Generic[Output, Deps]):
    """An agent whose runs are recorded in a journal, and survive what ends their process.

    `run` with the id of a run that was cut off goes on with it; with that of one that ended it
    gives the recorded result. Close it, or use it in a `with`, to give the journal's file or
    connection up; runs that are cut off stay as they are.

    Raises UsageError for a URL that is no journal.
    """

    def __init__(
        self,
        agent: Agent[Output, Deps],
        url: str,
        *,
        lease: float = 30.0,
        recipe: Mapping[str, JSON] | None = None,
    ) -> None:
        self.agent = agent
        self._recipe = recipe
        self._clerk = Clerk(opener(url, lease=lease))
        self._closed = weakref.finalize(self, self._clerk.close)

    async def run(
        self,
        prompt: Prompt | None = None,
        *,
        run_id: str | None = None,
        messages: History = (),
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """Runs to the end, or goes on with the run of this id.

        prompt, messages: as `Agent.run` takes them; of a run that is there they may be left out,
            and have to be the same if they are not.
        run_id: 1 to 200 characters; without one the run gets a new one, which `result.run_id` is.
        deps: what tools get as `RunContext.deps`; not recorded, so given again.

        Raises what `Agent.run` raises; RunBusy if another process runs it, JournalError if a step
        cannot be recorded, JournalDamaged if the journal is not what was written. The run may be
        gone on with after all of them but the last.
        """
        return await self._run(prompt, run_id, messages, deps)

    def run_sync(
        self,
        prompt: Prompt | None = None,
        *,
        run_id: str | None = None,
        messages: History = (),
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """As `run`, from sync code."""
        return run_sync(self.run(prompt, run_id=run_id, messages=messages, deps=deps))

    def run_stream(
        self,
        prompt: Prompt | None = None,
        *,
        run_id: str | None = None,
        messages: History = (),
        deps: Deps | None = None,
    ) -> AsyncGenerator[Event, None]:
        """As `run`, with the events as they happen; what is replayed makes none.

        The last event, RunFinished, comes when the result is on the disk.
        """
        return _streamed(lambda emit: self._run(prompt, run_id, messages, deps, emit))

    async def resume(
        self,
        run: str | RunResult[Any],  # Any: the output's type does not matter here
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """Goes on with a run that waits for approval, as `Agent.resume` does.

        run: its id, or its result.
        """
        return await self._resume(run, decisions, deps)

    def resume_sync(
        self,
        run: str | RunResult[Any],  # Any: as above
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """As `resume`, from sync code."""
        return run_sync(self.resume(run, decisions, deps=deps))

    def resume_stream(
        self,
        run: str | RunResult[Any],  # Any: as above
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
    ) -> AsyncGenerator[Event, None]:
        """As `resume`, with the events as they happen."""
        return _streamed(lambda emit: self._resume(run, decisions, deps, emit))

    async def enqueue(
        self, prompt: Prompt | None = None, *, run_id: str | None = None, messages: History = ()
    ) -> str:
        """Leaves a run to the workers of this agent's name; gives its id.

        Does nothing if there is a run of this id.
        """
        first, title = self._first(prompt, run_id, messages)
        name = self.agent.name
        await done(self._clerk.order(lambda j: j.add(first, "", queue=name, title=title)))
        return first.run_id

    async def reopen(self, run_id: str) -> None:
        """Leaves a run that failed to the workers once more."""
        held = await self.ask(claimed(run_id))
        async with Attempt(self._clerk, held) as attempt:
            if attempt.ledger.error is not None:
                await Leg(self.agent, attempt, None, None).tell_changes()

    async def take(self) -> Attempt | None:
        """A hold on the next run that was left to workers; None if there is none."""
        held = await done(self._clerk.order(taken(self.agent.name)))
        return None if held is None else Attempt(self._clerk, held)

    async def carry_out(
        self, attempt: Attempt, *, deps: object = None, emit: Emit | None = None
    ) -> RunResult[Output]:
        """Brings a run that is held to its end. Raises what `run` raises."""
        kept = attempt.ledger.result
        if kept is not None:
            typed = self._typed(kept)
            if emit is not None:
                emit(RunFinished(typed))
            return typed
        return await Leg(self.agent, attempt, deps, emit).result()

    async def ask(self, work: Callable[[Journal], T]) -> T:
        """What some work on the journal gives."""
        return await done(self._clerk.order(work))

    def close(self) -> None:
        """Gives the journal up."""
        self._closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def _run(
        self,
        prompt: Prompt | None,
        run_id: str | None,
        messages: History,
        deps: object,
        emit: Emit | None = None,
    ) -> RunResult[Output]:
        first: Record | None = None
        history = load(messages)
        if prompt is None and run_id is not None and not history:
            held = await self.ask(known(run_id))
        else:
            first, title = self._first(prompt, run_id, history)
            held = await self.ask(begun(first, title))
        async with Attempt(self._clerk, held) as attempt:
            if first is not None:
                _refuse_another(attempt.ledger, first)
            return await self.carry_out(attempt, deps=deps, emit=emit)

    async def _resume(
        self,
        run: str | RunResult[Any],  # Any: as above
        decisions: Mapping[str, Decision | bool],
        deps: object,
        emit: Emit | None = None,
    ) -> RunResult[Output]:
        run_id = run if isinstance(run, str) else run.run_id
        held = await self.ask(claimed(run_id))
        async with Attempt(self._clerk, held) as attempt:
            leg = Leg(self.agent, attempt, deps, emit)
            await leg.decide(decisions)
            return await leg.result()

    def _first(
        self, prompt: Prompt | None, run_id: str | None, messages: History
    ) -> tuple[Record, str]:
        """The first record of a run, and its title."""
        run_id = new_id() if run_id is None else run_id
        refuse_bad_id(run_id)
        said, start = conversation(prompt, messages)
        body: dict[str, JSON] = {
            "agent": self.agent.name,
            "messages": [to_json(message) for message in said],
            "start": start,
            "code": Code.of(self.agent).json(),
            "recipe": self._recipe,
            "at": round(time(), 3),
        }
        return sealed(run_id, 1, "begin", body, ""), _title(said[-1])

    def _typed(self, result: RunResult[Any]) -> RunResult[Output]:
        """A recorded result with an output of the agent's type, where it still fits."""
        output = self.agent.plan.output
        if output.schema is None or isinstance(result.answer, Missing):
            return result
        value = output.read(encoded(as_json(result.answer)).decode())
        return result if isinstance(value, Unfit) else replace(result, answer=value)


def _title(message: Message) -> str:
    text = message.text if isinstance(message, User) else ""
    line = " ".join(text.split()).replace("\0", "").encode("utf-8", "replace").decode()
    return line[:_TITLE]


def _refuse_another(ledger: Ledger, first: Record) -> None:
    """Raises UsageError if the run that is there began otherwise."""
    said = load(first.fields["messages"])
    if ledger.begin.messages != said:
        raise UsageError(
            f"the run {ledger.run_id} began with another prompt; leave the prompt out to go on "
            "with it, or use another id"
        )


async def _streamed(
    work: Callable[[Emit], Coroutine[Any, Any, RunResult[Any]]],  # Any: as the agent says
) -> AsyncGenerator[Event, None]:
    """The events of a run that is given where to put them."""
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(events.put_nowait))
    task.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
