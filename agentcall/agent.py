"""An agent: a model, tools and instructions, ready to be run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import UnionType
from typing import Any, Generic, TypeAlias, cast

from typing_extensions import TypeVar, Unpack

from agentcall.approval import Decision
from agentcall.decisions import resumed
from agentcall.delegation import delegate
from agentcall.dialects.protocol import Offer
from agentcall.errors import UsageError
from agentcall.events import Emit, Event
from agentcall.handoff import handoff_tool, tool_name
from agentcall.history import completed
from agentcall.keeping import run_in
from agentcall.limits import Limits
from agentcall.memory import Session
from agentcall.messages import JSON, Image, Message, Text, User, load
from agentcall.models.shorthand import Named, model_from
from agentcall.origin import Origin
from agentcall.output import OutputReader
from agentcall.plan import Plan
from agentcall.policy import Policy, checked
from agentcall.registry import ToolRegistry
from agentcall.result import RunResult
from agentcall.run import Run
from agentcall.sync import run_sync
from agentcall.tool import MarkArguments, Tool

Output = TypeVar("Output", default=str)
Deps = TypeVar("Deps", default=None)

Prompt: TypeAlias = str | Sequence[str | Text | Image]
History: TypeAlias = Iterable[Message | Mapping[str, JSON]]


@dataclass(frozen=True, eq=False)  # no slots: it keeps what it makes of its fields
class Agent(Generic[Output, Deps]):
    """A model with tools, which it calls until it has an answer.

    model: a shorthand such as "lmdeploy:internlm2_5-7b-chat", "http://host:port/v1#model" or
        "embedded", or a Model; a list of these is several servers of one model (docs/scaling.md);
        None asks AGENTCALL_MODEL, then a local LMDeploy, then embedded.
    tools: functions, tools, modules, objects or a ToolRegistry; one of them or a list. What is
        added to a registry later is offered from the next run on.
    instructions: what the model is told before everything else.
    output_type: the type of the output; `str`, or anything pydantic knows. A type checker knows
        that of a Union if it is named: `Agent[A | B](output_type=A | B)`.
    deps_type: the type of what tools get as `RunContext.deps`; for type checkers.
    limits: the bounds of a run.
    policy: what decides whether a call is carried out, waits for a person, or is denied: a function
        of a `policy.Attempt`. Without one, `policy.default_policy`.
    name: what it is called in results and events, and by agents that hand over to it.
    handoffs: agents that may take a conversation over from this one; each has a name of its own.

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

    model: Named | None = None
    tools: object = ()
    instructions: str = ""
    output_type: type[Output] | UnionType = cast("type[Output]", str)  # noqa: RUF009 - no call
    deps_type: type[Deps] | None = None
    limits: Limits = field(default_factory=Limits)
    name: str = "agent"
    policy: Policy | None = None
    handoffs: Sequence[Agent[Any, Any]] = ()  # Any: the output is that of whoever answers

    def __post_init__(self) -> None:
        # Tools and types that cannot be offered are refused here, not in a run.
        _ = self._plan

    async def run(
        self,
        prompt: Prompt | None = None,
        *,
        messages: History = (),
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """Runs to the end.

        prompt: what the user says; may be left out if `messages` ends with it.
        messages: the conversation so far, such as `result.messages` of an earlier run.
        session: where the conversation is kept, instead of `messages`: the run goes on with it.
        deps: what tools get as `RunContext.deps`.

        Raises ModelError if the server fails for good, and PolicyFailed if the policy does; its
        `result` is what there was until then. Raises SessionError if the session cannot be used.
        """
        return await self._run(_origin(prompt, messages, session, deps), session)

    def run_sync(
        self,
        prompt: Prompt | None = None,
        *,
        messages: History = (),
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """As `run`, from sync code; works inside a running event loop too, and blocks it."""
        return run_sync(self.run(prompt, messages=messages, session=session, deps=deps))

    def run_stream(
        self,
        prompt: Prompt | None = None,
        *,
        messages: History = (),
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The events of a run as they happen; the last is RunFinished, with the result.

        Leaving the loop early cancels the run. Raises what `run` raises, after its events.
        """
        return self._streamed(_origin(prompt, messages, session, deps), session)

    async def resume(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        *,
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """Goes on with a run that waits for approval.

        result: one whose `pending` names the calls that wait, or the text that its `to_json` gave.
        decisions: by call id: Approved(), Edited(arguments), Denied(reason), True or False. A
            call without a decision goes on waiting.
        session: that of the run, if it had one: it knows whether the run still waits.

        Usage and limits count on from where the run stopped. Raises UsageError for a call that
        does not wait, and for edited arguments that do not fit.
        """
        return await self._run(self._resumed(result, decisions, deps), session)

    def resume_sync(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        *,
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """As `resume`, from sync code."""
        return run_sync(self.resume(result, decisions, session=session, deps=deps))

    def resume_stream(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        *,
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> AsyncGenerator[Event, None]:
        """As `resume`, with the events as they happen."""
        return self._streamed(self._resumed(result, decisions, deps), session)

    def check(
        self, result: RunResult[Any] | str | bytes, decisions: Mapping[str, Decision | bool]
    ) -> None:
        """Raises UsageError for decisions that `resume` would refuse; carries nothing out."""
        self._resumed(result, decisions, None)

    @cached_property
    def registry(self) -> ToolRegistry:
        """The agent's tools."""
        tools = self.tools
        return tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools)

    def as_tool(
        self,
        name: str | None = None,
        description: str | None = None,
        *,
        input_type: object = str,
        **marks: Unpack[MarkArguments],
    ) -> Tool:
        """This agent as a tool of another one, which gives its output as the result.

        input_type: what it is asked with: a text, or a type whose fields the model fills in: a
            pydantic model, a dataclass or a TypedDict.
        marks: as those of `@tool`; without a `timeout` its own limits end it, and those of the run.

        Its run counts into the usage and the limits of the run that calls it; a call in it that
        needs approval makes that run wait.
        """
        first = self.instructions.strip().partition("\n")[0]
        return delegate(
            lambda: self._plan,
            name=name or tool_name(self.name),
            description=description or f"Ask the agent {self.name}. {first}".strip(),
            input_type=input_type,
            **marks,
        )

    @cached_property
    def _handoff(self) -> tuple[Tool, Callable[[], Plan]]:
        """The tool with which another agent hands over to this one, and what it leads to."""
        return handoff_tool(self.name, self.instructions), lambda: self._plan

    @cached_property
    def _fixed_plan(self) -> Plan:
        output = OutputReader(self.output_type)
        plan = Plan(
            model_from(self.model),
            ToolRegistry(),
            Offer(self.instructions, (), output.schema),
            output,
            self.limits,
            policy=checked(self.policy),
            name=self.name,
        )
        return self._offering(plan, self._offered)

    @property
    def _plan(self) -> Plan:
        """The plan for a run that begins now; the same object while the tools are the same."""
        plan, tools = self._fixed_plan, self._offered
        return plan if tools == plan.offer.tools else self._offering(plan, tools)

    @property
    def _offered(self) -> tuple[Tool, ...]:
        if not self.handoffs:
            return tuple(self.registry)
        return (*self.registry, *(tool for tool, _ in self._ways_out))

    @property
    def _ways_out(self) -> Iterable[tuple[Tool, Callable[[], Plan]]]:
        others = (other for other in self.handoffs if other is not self)
        return [other._handoff for other in others]  # noqa: SLF001 - of this very class

    def _offering(self, plan: Plan, tools: tuple[Tool, ...]) -> Plan:
        _refuse_namesakes(self)
        return replace(
            plan,
            registry=ToolRegistry(tools),
            offer=replace(plan.offer, tools=tools),
            handoffs={tool.name: leads_to for tool, leads_to in self._ways_out},
        )

    async def _run(
        self, origin: Origin, session: Session | None = None, emit: Emit | None = None
    ) -> RunResult[Output]:
        if session is not None:
            return await run_in(session, self._plan, origin, emit)
        return await Run(self._plan, origin, emit).result()

    async def _streamed(
        self, origin: Origin, session: Session | None = None
    ) -> AsyncGenerator[Event, None]:
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.ensure_future(self._run(origin, session, events.put_nowait))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _resumed(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        deps: object,
    ) -> Origin:
        state = result if isinstance(result, RunResult) else RunResult[Any].from_json(result)
        return resumed(state, decisions, self._plan, deps)


def _refuse_namesakes(agent: Agent[Any, Any]) -> None:
    """Raises UsageError if two agents that handoffs lead to are called alike."""
    known: dict[str, Agent[Any, Any]] = {}
    waiting = [agent]
    for one in waiting:
        if known.setdefault(one.name, one) is not one:
            raise UsageError(
                f"two agents that may answer are called {one.name!r}; give each a name of its own: "
                f"Agent(name=...)"
            )
        waiting += [other for other in one.handoffs if other not in waiting]


def _origin(
    prompt: Prompt | None, messages: History, session: Session | None, deps: object
) -> Origin:
    history = completed(load(messages))
    said = () if prompt is None else (_user(prompt),)
    if session is not None and history:
        raise UsageError("messages= and session= are both the conversation so far; give one")
    if not history and not said and session is None:
        raise UsageError("a run needs a prompt, or messages that end with one")
    return Origin(_new_id(), (*history, *said), len(history), deps)


def _user(prompt: Prompt) -> User:
    if isinstance(prompt, str):
        return User(prompt)
    return User(tuple(Text(part) if isinstance(part, str) else part for part in prompt))


def _new_id() -> str:
    return uuid.uuid4().hex[:16]
