"""An agent: a model, tools and instructions, ready to be run.

What carries a run out is imported when the first one begins: it is most of the package, and brings
asyncio along, while a file of agents is often imported for what it says alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, cast

from typing_extensions import TypeVar, Unpack

from agentcall.dialects.base import PromptSpec
from agentcall.errors import UsageError
from agentcall.messages import JSON, Image, Message, Text, User, fill_missing_results, load_messages
from agentcall.models.resolve import ModelLike, describe_model, resolve_model
from agentcall.policy import Policy, validate_policy
from agentcall.runtime.output import OutputParser
from agentcall.runtime.spec import AgentSpec
from agentcall.settings import Limits
from agentcall.tools.registry import LazyToolSource, ToolRegistry
from agentcall.tools.tool import Tool, ToolOptionArguments

if TYPE_CHECKING:
    from agentcall.approvals import Decision
    from agentcall.events import Event
    from agentcall.result import RunResult
    from agentcall.runtime.session import Session
    from agentcall.runtime.state import RunInput

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
        added to a registry later is offered from the next run on. See `max_tools`.
    instructions: what the model is told before everything else.
    output_type: the type of the output; `str`, or anything pydantic knows. A type checker knows
        that of a Union if it is named: `Agent[A | B](output_type=A | B)`.
    deps_type: the type of what tools get as `RunContext.deps`; for type checkers.
    limits: the bounds of a run.
    policy: what decides whether a call is carried out, waits for a person, or is denied: a function
        of a `policy.Attempt`. Without one, `policy.default_policy`.
    max_tools: of more tools than so many the model is offered those that fit the user's words,
        and finds others itself with `find_tools` (docs/tool_search.md). None: always all.
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

    model: ModelLike | None = None
    tools: object = ()
    instructions: str = ""
    output_type: type[Output] | UnionType = cast("type[Output]", str)  # noqa: RUF009 - no call
    deps_type: type[Deps] | None = None
    limits: Limits = field(default_factory=Limits)
    name: str = "agent"
    policy: Policy | None = None
    max_tools: int | None = 40
    handoffs: Sequence[Agent[Any, Any]] = ()  # Any: the output is that of whoever answers

    def __post_init__(self) -> None:
        # Tools and types that cannot be offered are refused here, not in a run. The tools of a
        # server are not known yet: the first run waits for them.
        if not self._remote_sources:
            _ = self.spec

    def __repr__(self) -> str:
        tools = ", ".join(self.registry.names)
        return f"Agent({describe_model(self.model)}, tools=[{tools}], name={self.name!r})"

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
        `result` is what there was until then. So it is with the CancelledError of a run that is
        cancelled (`agentcall.result.result_of`). Raises SessionError if the session cannot be used.
        """
        return await self._run(_prepare_run(prompt, messages, session, deps), session)

    def run_sync(
        self,
        prompt: Prompt | None = None,
        *,
        messages: History = (),
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """As `run`, from sync code; works inside a running event loop too, and blocks it.

        Ctrl-C cancels the run and raises KeyboardInterrupt, whose `result` is what there was.
        """
        from agentcall.runtime.runner import run_sync

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
        return self._stream(_prepare_run(prompt, messages, session, deps), session)

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
        return await self._run(self._prepare_resume(result, decisions, deps), session)

    def resume_sync(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        *,
        session: Session | None = None,
        deps: Deps | None = None,
    ) -> RunResult[Output]:
        """As `resume`, from sync code."""
        from agentcall.runtime.runner import run_sync

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
        return self._stream(self._prepare_resume(result, decisions, deps), session)

    def check_decisions(
        self, result: RunResult[Any] | str | bytes, decisions: Mapping[str, Decision | bool]
    ) -> None:
        """Raises UsageError for decisions that `resume` would refuse; carries nothing out."""
        self._prepare_resume(result, decisions, None)

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
        **marks: Unpack[ToolOptionArguments],
    ) -> Tool:
        """This agent as a tool of another one, which gives its output as the result.

        input_type: what it is asked with: a text, or a type whose fields the model fills in: a
            pydantic model, a dataclass or a TypedDict.
        marks: as those of `@tool`; without a `timeout` its own limits end it, and those of the run.

        Its run counts into the usage and the limits of the run that calls it; a call in it that
        needs approval makes that run wait.
        """
        first = self.instructions.strip().partition("\n")[0]
        from agentcall.runtime.agent_tool import create_agent_tool
        from agentcall.runtime.handoff import normalize_tool_name

        return create_agent_tool(
            lambda: self.spec,
            name=name or normalize_tool_name(self.name),
            description=description or f"Ask the agent {self.name}. {first}".strip(),
            input_type=input_type,
            **marks,
        )

    @cached_property
    def _handoff(self) -> tuple[Tool, Callable[[], AgentSpec]]:
        """The tool with which another agent hands over to this one, and what it leads to."""
        from agentcall.runtime.handoff import create_handoff_tool

        return create_handoff_tool(self.name, self.instructions), lambda: self.spec

    @cached_property
    def _spec_cache(self) -> list[AgentSpec]:
        """The last plan, in a list of its own as an agent is frozen."""
        output = OutputParser(self.output_type)
        for made in self.registry:
            if made.options.isolated:
                _ = made.function_ref  # one that no other process can find is refused here
        offer = PromptSpec(self.instructions, (), output.schema)
        model, policy = resolve_model(self.model), validate_policy(self.policy)
        bare = AgentSpec(model, ToolRegistry(), offer, output, self.limits, policy=policy)
        return [self._bind_tools(replace(bare, name=self.name, agent=self.name))]

    @property
    def spec(self) -> AgentSpec:
        """What a run that begins now is made of; the same object while the tools are the same."""
        plans = self._spec_cache
        if self._all_tools != plans[0].tools:
            plans[0] = self._bind_tools(plans[0])
        return plans[0]

    @property
    def _all_tools(self) -> tuple[Tool, ...]:
        if not self.handoffs:
            return tuple(self.registry)
        return (*self.registry, *(tool for tool, _ in self._handoff_targets))

    @property
    def _handoff_targets(self) -> Sequence[tuple[Tool, Callable[[], AgentSpec]]]:
        others = (other for other in self.handoffs if other is not self)
        return [other._handoff for other in others]  # noqa: SLF001 - of this very class

    def _bind_tools(self, spec: AgentSpec) -> AgentSpec:
        """The plan with the tools as they are now."""
        _check_unique_names(self)
        spec = replace(
            spec, handoffs={tool.name: leads_to for tool, leads_to in self._handoff_targets}
        )
        registry, most = ToolRegistry(self._all_tools), self.max_tools
        if most is None or len(self.registry) <= most:
            offer = replace(spec.prompt, tools=tuple(registry))
            return replace(spec, registry=registry, prompt=offer, finder=None)
        from agentcall.tools.selection import ToolFinder  # here, as few agents have so many tools

        finder = ToolFinder(registry, most, pinned=[tool for tool, _ in self._handoff_targets])
        offer = replace(spec.prompt, tools=())
        return replace(spec, registry=finder.registry, prompt=offer, finder=finder)

    async def _run(self, run_input: RunInput, session: Session | None) -> RunResult[Output]:
        from agentcall.runtime.runner import run_agent

        if self._remote_sources:
            await self._wait_for_remote_tools()
        return await run_agent(self.spec, run_input, session)

    def _stream(self, run_input: RunInput, session: Session | None) -> AsyncGenerator[Event, None]:
        from agentcall.runtime.runner import stream_agent

        if self._remote_sources:
            return self._stream_when_ready(run_input, session)
        return stream_agent(self.spec, run_input, session)

    async def _stream_when_ready(
        self, run_input: RunInput, session: Session | None
    ) -> AsyncGenerator[Event, None]:
        from agentcall.runtime.runner import stream_agent

        await self._wait_for_remote_tools()
        async with aclosing(stream_agent(self.spec, run_input, session)) as events:
            async for event in events:
                yield event

    @cached_property
    def _remote_sources(self) -> Sequence[LazyToolSource]:
        tools = self.tools
        sources = cast("Sequence[object]", tools) if isinstance(tools, (list, tuple)) else [tools]
        return [source for source in sources if isinstance(source, LazyToolSource)]

    async def _wait_for_remote_tools(self) -> None:
        """Waits for the tools of servers: for each as long as a run may take."""
        for source in self._remote_sources:
            await source.wait_until_ready(self.limits.seconds)

    def _prepare_resume(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        deps: object,
    ) -> RunInput:
        from agentcall.result import RunResult
        from agentcall.runtime.resume import prepare_resume

        state = result if isinstance(result, RunResult) else RunResult[Any].from_json(result)
        return prepare_resume(state, decisions, self.spec, deps)


def _check_unique_names(agent: Agent[Any, Any]) -> None:
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


def _prepare_run(
    prompt: Prompt | None, messages: History, session: Session | None, deps: object
) -> RunInput:
    from agentcall.runtime.state import RunInput

    if session is None:
        return RunInput(generate_run_id(), *prepare_messages(prompt, messages), deps)
    if tuple(messages):
        raise UsageError("messages= and session= are both the conversation so far; give one")
    return RunInput(
        generate_run_id(), () if prompt is None else (_to_user_message(prompt),), 0, deps
    )


def prepare_messages(prompt: Prompt | None, messages: History) -> tuple[tuple[Message, ...], int]:
    """The messages that a run begins with, and how many of them are its past."""
    history = fill_missing_results(load_messages(messages))
    said = () if prompt is None else (_to_user_message(prompt),)
    if not history and not said:
        raise UsageError("a run needs a prompt, or messages that end with one")
    return (*history, *said), len(history)


def _to_user_message(prompt: Prompt) -> User:
    if isinstance(prompt, str):
        return User(prompt)
    return User(tuple(Text(part) if isinstance(part, str) else part for part in prompt))


def generate_run_id() -> str:
    """A run id that nobody has."""
    return os.urandom(8).hex()
