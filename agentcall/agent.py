"""An agent: a model, tools and instructions, ready to be run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import UnionType
from typing import Any, Generic, TypeAlias, cast

from typing_extensions import TypeVar

from agentcall.approval import Decision, decided
from agentcall.dialects.protocol import Offer
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.execute import Emit
from agentcall.history import completed
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


@dataclass(frozen=True, eq=False)  # no slots: it keeps what it makes of its fields
class Agent(Generic[Output, Deps]):
    """A model with tools, which it calls until it has an answer.

    model: a shorthand such as "lmdeploy:internlm2_5-7b-chat", "http://host:port/v1#model" or
        "embedded", or a Model; None asks AGENTCALL_MODEL, then a local LMDeploy, then embedded.
    tools: functions, tools, modules, objects or a ToolRegistry; one of them or a list. What is
        added to a registry later is offered from the next run on.
    instructions: what the model is told before everything else.
    output_type: the type of the output; `str`, or anything pydantic knows. A type checker knows
        that of a Union if it is named: `Agent[A | B](output_type=A | B)`.
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
    tools: object = ()
    instructions: str = ""
    output_type: type[Output] | UnionType = cast("type[Output]", str)  # noqa: RUF009 - no call
    deps_type: type[Deps] | None = None
    limits: Limits = field(default_factory=Limits)
    name: str = "agent"

    def __post_init__(self) -> None:
        # Tools and types that cannot be offered are refused here, not in a run.
        _ = self.plan

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

    def run_stream(
        self, prompt: Prompt | None = None, *, messages: History = (), deps: Deps | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of a run as they happen; the last is RunFinished, with the result.

        Leaving the loop early cancels the run. Raises what `run` raises, after its events.
        """
        return self._streamed(_origin(prompt, messages, deps))

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

        Usage and limits count on from where the run stopped. Raises UsageError for a call that
        does not wait, and for edited arguments that do not fit.
        """
        return await self._run(self._resumed(result, decisions, deps))

    def resume_sync(
        self,
        result: RunResult[Any],
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """As `resume`, from sync code."""
        return run_sync(self.resume(result, decisions, deps=deps))

    def resume_stream(
        self,
        result: RunResult[Any],
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
    ) -> AsyncGenerator[Event, None]:
        """As `resume`, with the events as they happen."""
        return self._streamed(self._resumed(result, decisions, deps))

    @cached_property
    def registry(self) -> ToolRegistry:
        """The agent's tools."""
        tools = self.tools
        return tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools)

    @cached_property
    def _fixed_plan(self) -> Plan:
        model = self.model
        output = OutputReader(self.output_type)
        return Plan(
            model_from(model) if model is None or isinstance(model, str) else model,
            ToolRegistry(self.registry),
            Offer(self.instructions, tuple(self.registry), output.schema),
            output,
            self.limits,
        )

    @property
    def plan(self) -> Plan:
        """What a run that begins now is made of; the same object while the tools are the same."""
        plan = self._fixed_plan
        tools = tuple(self.registry)
        if tools == plan.offer.tools:
            return plan
        return replace(
            plan, registry=ToolRegistry(self.registry), offer=replace(plan.offer, tools=tools)
        )

    async def _run(self, origin: Origin, emit: Emit | None = None) -> RunResult[Output]:
        return await Run(self.plan, origin, emit).result()

    async def _streamed(self, origin: Origin) -> AsyncGenerator[Event, None]:
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.ensure_future(self._run(origin, events.put_nowait))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _resumed(
        self, result: RunResult[Any], decisions: Mapping[str, Decision | bool], deps: object
    ) -> Origin:
        begin = decided(result, decisions, self.registry)
        return Origin(
            run_id=result.run_id,
            messages=begin.messages,
            start=result.start,
            deps=deps,
            pending=begin.pending,
            verdicts=begin.verdicts,
            usage=result.usage,
            turns=result.turns,
        )


def conversation(prompt: Prompt | None, messages: History) -> tuple[tuple[Message, ...], int]:
    """The messages that a run begins with, and how many of them are its past."""
    history = completed(load(messages))
    said = () if prompt is None else (_user(prompt),)
    if not history and not said:
        raise UsageError("a run needs a prompt, or messages that end with one")
    return (*history, *said), len(history)


def _origin(prompt: Prompt | None, messages: History, deps: object) -> Origin:
    begin, past = conversation(prompt, messages)
    return Origin(new_id(), begin, past, deps)


def _user(prompt: Prompt) -> User:
    if isinstance(prompt, str):
        return User(prompt)
    return User(tuple(Text(part) if isinstance(part, str) else part for part in prompt))


def new_id() -> str:
    """A run id that nobody has."""
    return uuid.uuid4().hex[:16]
