"""An agent: a model, tools and instructions, ready to be run."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import UnionType
from typing import Any, Generic, TypeAlias, cast

from typing_extensions import TypeVar

from agentcall.approval import Decision, decided
from agentcall.dialects.protocol import Offer
from agentcall.errors import UsageError, keep_result
from agentcall.events import Event
from agentcall.execute import Emit
from agentcall.history import completed
from agentcall.limits import Limits
from agentcall.messages import JSON, Image, Message, Text, User, load
from agentcall.models.shorthand import Named, model_from, place_of
from agentcall.output import OutputReader
from agentcall.policy import Policy, checked
from agentcall.registry import ToolRegistry
from agentcall.result import RunResult
from agentcall.run import Origin, Plan, Run
from agentcall.shortlist import Finder
from agentcall.sync import run_sync

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
        added to a registry later is offered from the next run on. See `most_tools`.
    instructions: what the model is told before everything else.
    output_type: the type of the output; `str`, or anything pydantic knows. A type checker knows
        that of a Union if it is named: `Agent[A | B](output_type=A | B)`.
    deps_type: the type of what tools get as `RunContext.deps`; for type checkers.
    limits: the bounds of a run.
    policy: what decides whether a call is carried out, waits for a person, or is denied: a function
        of a `policy.Attempt`. Without one, `policy.default_policy`.
    most_tools: of more tools than so many the model is offered those that fit the user's words,
        and finds others itself with `find_tools` (docs/tool_search.md). None: always all.

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
    most_tools: int | None = 40

    def __post_init__(self) -> None:
        # Tools and types that cannot be offered are refused here, not in a run.
        _ = self._plan

    def __repr__(self) -> str:
        tools = ", ".join(self.registry.names)
        return f"Agent({place_of(self.model)}, tools=[{tools}], name={self.name!r})"

    async def run(
        self, prompt: Prompt | None = None, *, messages: History = (), deps: Deps | None = None
    ) -> RunResult[Output]:
        """Runs to the end.

        prompt: what the user says; may be left out if `messages` ends with it.
        messages: the conversation so far, such as `result.messages` of an earlier run.
        deps: what tools get as `RunContext.deps`.

        Raises ModelError if the server fails for good, and PolicyFailed if the policy does; its
        `result` is what there was until then. So it is with the CancelledError of a run that is
        cancelled (`agentcall.result.result_of`).
        """
        return await self._run(_origin(prompt, messages, deps))

    def run_sync(
        self, prompt: Prompt | None = None, *, messages: History = (), deps: Deps | None = None
    ) -> RunResult[Output]:
        """As `run`, from sync code; works inside a running event loop too, and blocks it.

        Ctrl-C cancels the run and raises KeyboardInterrupt, whose `result` is what there was.
        """
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
    def _plans(self) -> list[Plan]:
        """The last plan, in a list of its own as an agent is frozen."""
        output = OutputReader(self.output_type)
        for made in self.registry:
            if made.marks.isolated:
                _ = made.home  # one that no other process can find is refused here
        offer = Offer(self.instructions, (), output.schema)
        model, policy = model_from(self.model), checked(self.policy)
        bare = Plan(model, ToolRegistry(), offer, output, self.limits, policy=policy)
        return [self._with_tools(bare)]

    @property
    def _plan(self) -> Plan:
        """The plan for a run that begins now; the same object while the tools are the same."""
        plans = self._plans
        if tuple(self.registry) != plans[0].tools:
            plans[0] = self._with_tools(plans[0])
        return plans[0]

    def _with_tools(self, plan: Plan) -> Plan:
        """The plan with the tools as they are now."""
        registry, most = ToolRegistry(self.registry), self.most_tools
        if most is None or len(registry) <= most:
            offer = replace(plan.offer, tools=tuple(registry))
            return replace(plan, registry=registry, offer=offer, finder=None)
        finder, offer = Finder(registry, most), replace(plan.offer, tools=())
        return replace(plan, registry=finder.registry, offer=offer, finder=finder)

    async def _run(self, origin: Origin, emit: Emit | None = None) -> RunResult[Output]:
        return await Run(self._plan, origin, emit).result()

    async def _streamed(self, origin: Origin) -> AsyncGenerator[Event, None]:
        events: deque[Event] = deque()
        news = asyncio.Event()

        def emit(event: Event) -> None:
            events.append(event)
            news.set()

        task = asyncio.ensure_future(self._run(origin, emit))
        task.add_done_callback(lambda _: news.set())
        try:
            while not task.done():
                await news.wait()
                news.clear()
                while events:
                    yield events.popleft()
            await task
        except asyncio.CancelledError as error:
            await _stopped(task)
            keep_result(error, _left_by(task))
            raise
        finally:
            await _stopped(task)

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


async def _stopped(task: asyncio.Task[RunResult[Any]]) -> None:
    """Waits until a run has ended, which is cancelled if it has not."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _left_by(task: asyncio.Task[RunResult[Any]]) -> object:
    """What a run had come to that has ended."""
    try:
        return task.result()
    except BaseException as error:  # asyncio.CancelledError too
        return getattr(error, "result", None)


def _origin(prompt: Prompt | None, messages: History, deps: object) -> Origin:
    history = completed(load(messages))
    said = () if prompt is None else (_user(prompt),)
    if not history and not said:
        raise UsageError("a run needs a prompt, or messages that end with one")
    return Origin(_new_id(), (*history, *said), len(history), deps)


def _user(prompt: Prompt) -> User:
    if isinstance(prompt, str):
        return User(prompt)
    return User(tuple(Text(part) if isinstance(part, str) else part for part in prompt))


def _new_id() -> str:
    return os.urandom(8).hex()
