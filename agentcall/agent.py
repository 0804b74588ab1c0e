"""An agent: a model, tools and instructions, ready to be run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeAlias

from typing_extensions import TypeVar

from agentcall.approval import Approved, Decision, Denied
from agentcall.dialects.protocol import Offer
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.execute import Emit
from agentcall.limits import Limits
from agentcall.messages import JSON, Image, Message, Text, User, load
from agentcall.models.protocol import Model
from agentcall.models.shorthand import model_from
from agentcall.output import OutputReader
from agentcall.registry import ToolRegistry
from agentcall.result import RunResult
from agentcall.run import Origin, Plan, Run
from agentcall.sync import run_sync

Output = TypeVar("Output", default=str)
Deps = TypeVar("Deps", default=None)

Prompt: TypeAlias = str | Sequence[str | Text | Image]
History: TypeAlias = Iterable[Message | Mapping[str, JSON]]


@dataclass(frozen=True)
class Agent(Generic[Output, Deps]):
    """A model with tools, which it calls until it has an answer.

    model: a shorthand such as "lmdeploy:internlm2_5-7b-chat", "http://host:port/v1#model" or
        "embedded", or a Model; None asks AGENTCALL_MODEL, then a local LMDeploy, then embedded.
    tools: functions, tools, modules, objects or a ToolRegistry.
    instructions: what the model is told before everything else.
    output_type: the type of the output; `str`, or anything pydantic knows.
    deps_type: the type of what tools get as `RunContext.deps`; for type checkers.
    limits: the bounds of a run.

    >>> from agentcall import tool
    >>> from agentcall.testing import ScriptedModel, call, say
    >>> @tool
    ... def add(a: int, b: int) -> int:
    ...     "Add two numbers."
    ...     return a + b
    >>> agent = Agent(ScriptedModel([call("add", a=2, b=3), say("It is 5.")]), tools=[add])
    >>> agent.run_sync("What is 2+3?").output
    'It is 5.'
    """

    model: Model | str | None = None
    tools: Iterable[object] = ()
    instructions: str = ""
    output_type: type[Output] | Any = str  # Any: a Union or an alias is no `type`
    deps_type: type[Deps] | None = None
    limits: Limits = field(default_factory=Limits)
    name: str = "agent"

    def __post_init__(self) -> None:
        _ = self._plan  # tools and types that cannot be offered are refused here, not in a run

    async def run(
        self, prompt: Prompt | None = None, *, messages: History = (), deps: Deps | None = None
    ) -> RunResult[Output]:
        """Runs to the end.

        prompt: what the user says; may be left out if `messages` ends with it.
        messages: the conversation so far, such as `result.messages` of an earlier run.
        deps: what tools get as `RunContext.deps`.

        Raises ModelError if the server fails for good; its `result` is what there was until then.
        """
        return await self._run(_origin(prompt, messages, deps))

    def run_sync(
        self, prompt: Prompt | None = None, *, messages: History = (), deps: Deps | None = None
    ) -> RunResult[Output]:
        """As `run`, from sync code; works inside a running event loop too, and blocks it."""
        return run_sync(self.run(prompt, messages=messages, deps=deps))

    async def run_stream(
        self, prompt: Prompt | None = None, *, messages: History = (), deps: Deps | None = None
    ) -> AsyncIterator[Event]:
        """The events of a run as they happen; the last is RunFinished, with the result.

        Leaving the loop early cancels the run.
        """
        async for event in self._streamed(_origin(prompt, messages, deps)):
            yield event

    async def resume(
        self,
        result: RunResult[Any],
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """Goes on with a run that waits for approval.

        result: one whose `pending` names the calls that wait.
        decisions: by call id: Approved(), Edited(arguments), Denied(reason), True or False. A
            call without a decision goes on waiting.
        """
        return await self._run(_resumed(result, decisions, deps))

    async def resume_stream(
        self,
        result: RunResult[Any],
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
    ) -> AsyncIterator[Event]:
        """As `resume`, with the events as they happen."""
        async for event in self._streamed(_resumed(result, decisions, deps)):
            yield event

    @cached_property
    def registry(self) -> ToolRegistry:
        """The agent's tools."""
        tools = self.tools
        return tools if isinstance(tools, ToolRegistry) else ToolRegistry(*tools)

    @cached_property
    def _plan(self) -> Plan:
        model = self.model
        output = OutputReader(self.output_type)
        return Plan(
            model_from(model) if model is None or isinstance(model, str) else model,
            self.registry,
            Offer(self.instructions, tuple(self.registry), output.schema),
            output,
            self.limits,
        )

    async def _run(self, origin: Origin, emit: Emit | None = None) -> RunResult[Output]:
        return await Run(self._plan, origin, emit).result()

    async def _streamed(self, origin: Origin) -> AsyncIterator[Event]:
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.ensure_future(self._run(origin, events.put_nowait))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


def _origin(prompt: Prompt | None, messages: History, deps: object) -> Origin:
    history = load(messages)
    said = () if prompt is None else (_user(prompt),)
    if not history and not said:
        raise UsageError("a run needs a prompt, or messages that end with one")
    return Origin(_new_id(), (*history, *said), len(history), deps)


def _user(prompt: Prompt) -> User:
    if isinstance(prompt, str):
        return User(prompt)
    return User(tuple(Text(part) if isinstance(part, str) else part for part in prompt))


def _resumed(
    result: RunResult[Any], decisions: Mapping[str, Decision | bool], deps: object
) -> Origin:
    waiting = {call.id for call in result.pending}
    unknown = [identity for identity in decisions if identity not in waiting]
    if unknown or not waiting:
        known = ", ".join(waiting) or "none"
        raise UsageError(f"no call {', '.join(unknown)} waits for approval; waiting: {known}")
    decided = {identity: _decision(value) for identity, value in decisions.items()}
    messages = result.messages
    return Origin(result.run_id, messages, result.start, deps, result.pending, decided)


def _decision(value: Decision | bool) -> Decision:
    if isinstance(value, bool):
        return Approved() if value else Denied()
    return value


def _new_id() -> str:
    return uuid.uuid4().hex[:16]
