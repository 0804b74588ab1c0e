"""`Agent`: the configuration of a model, tools and instructions; `run` and `resume` execute it.

The runtime is imported when the first run starts: it is most of the package and imports asyncio,
and a file of agents is often imported only for their configuration.
"""

from __future__ import annotations

import os
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from inspect import iscoroutinefunction
from types import NoneType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    TypeAlias,
    TypedDict,
    cast,
    overload,
)

from typing_extensions import TypeVar, Unpack

from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import UsageError
from agentcall.messages import (
    Message,
    Prompt,
    to_user_message,
)
from agentcall.models.resolve import ModelLike, describe_model, resolve_model
from agentcall.policy import Policy, validate_policy
from agentcall.runtime.agent_spec import (
    AgentSpec,
    InstructionsFunction,
    check_compaction,
    find_required_deps,
)
from agentcall.runtime.output import OutputMode, OutputParser
from agentcall.settings import Limits, ModelSettings, check_settings, merge_settings
from agentcall.tools.registry import LazyToolSource, ToolRegistry
from agentcall.tools.tool import Tool, ToolOptionArguments, is_function

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from agentcall.approvals import Decision
    from agentcall.events import ProgressEvent, RunFinished
    from agentcall.result import RunResult, SavedOverrides, ToolErrorHandler
    from agentcall.runtime.compaction import CompactionStrategy
    from agentcall.runtime.hooks import Checks
    from agentcall.runtime.inbox import Inbox
    from agentcall.runtime.session import Session
    from agentcall.runtime.state import RunInput
    from agentcall.runtime.text_stream import SyncTextStream, TextStream
    from agentcall.tools.skill import Skill, SkillSet

    class AgentFields(TypedDict, total=False):
        """The fields of `Agent` that are always given by name."""

        limits: Limits
        name: str
        policy: Policy | None
        max_tools: int | None
        handoffs: Sequence[Agent[Any, Any]]
        required_tools: Sequence[str | Callable[..., Any]]
        on_tool_error: Literal["raise"] | ToolErrorHandler | None
        settings: ModelSettings | None
        skills: Sequence[Skill]
        first_tool: str | Callable[..., Any] | None
        compact: CompactionStrategy | None
        hooks: Sequence[object]
        check_input: Checks
        check_output: Checks
        output_mode: OutputMode

    class OverrideArguments(TypedDict, total=False):
        """The keyword arguments of a run that change its agent."""

        limits: Limits | None
        instructions: str | InstructionsFunction | None
        model: ModelLike | None
        tools: object
        output_type: TypeForm[Any]

    class ResumeArguments(TypedDict, total=False):
        """The keyword arguments of `Agent.resume`, without the deps and the `output_type`."""

        session: Session | None
        settings: ModelSettings | None
        inbox: Inbox | None
        limits: Limits | None
        instructions: str | InstructionsFunction | None
        model: ModelLike | None
        tools: object

    class RunArguments(ResumeArguments, total=False):
        """The keyword arguments of `Agent.run`, without the deps and the `output_type`."""

        messages: History


Output = TypeVar("Output", default=str)
OtherOutput = TypeVar("OtherOutput")
Deps = TypeVar("Deps", default=None, contravariant=True)

History: TypeAlias = str | bytes | Iterable[object] | None

_REPLACED = ("limits", "model", "output_type")
"""The arguments of a run that replace a field of its agent."""
_MAX_VARIANTS = 16
"""How many agents of runs with such arguments are kept, to use their models and types again."""


@dataclass(frozen=True, eq=False)  # no slots: cached properties need a __dict__
class Agent(Generic[Output, Deps]):
    """A model with tools, which it calls until it has an answer.

    model: a shorthand such as "lmdeploy:internlm2_5-7b-chat", "http://host:port/v1#model" or
        "embedded", or a Model; a list of these is several servers of one model (docs/scaling.md).
        None uses AGENTCALL_MODEL, then a local LMDeploy, then the embedded model.
    tools: functions, tools, modules, objects or a ToolRegistry; one of them, a list or None. A tool
        that is added to a registry later is offered from the next run on. See `max_tools`.
    instructions: the system message: a text, or a function of a `RunContext`, async or not, that
        returns it; it is called once for each run.
    output_type: the type of the output: `str`, or any type that pydantic supports, such as a model,
        `list[A]`, `A | B` or a Literal; or a function, whose arguments the model gives and whose
        value is the output; or a list of types and functions, one of which is it. Type checkers
        infer the type of `result.output` from it.
    output_mode: how the model is held to a type that is not `str` (docs/output.md). "prompt": the
        JSON Schema is in the instructions. "schema": also in the request (`response_format`), so
        that the server lets the model write nothing else. "auto": as "schema", where the server
        supports it. "tool": the model calls a tool that takes the output.
    deps_type: the type of `RunContext.deps` of the tools. A run of an agent that declares it, or
        has a tool that takes `RunContext[T]`, needs deps, unless None is of the type.
    limits: the limits of a run.
    policy: decides whether a call is executed, waits for a person, or is denied: a function of a
        `policy.ToolCallRequest`. None uses `policy.default_policy`.
    max_tools: with more tools than this, the model is offered those that match the user's words,
        and finds others itself with `find_tools` (docs/tool_search.md). None offers all.
    name: the agent's name in results and events, and for agents that hand over to it.
    handoffs: the agents that may take a conversation over; every agent needs a unique name.
    required_tools: the tools, or their names, that have to be called with success before an answer.
        A model that answers without them, or only announces what it will do, is informed once;
        after that the run ends with the stop reason "error".
    hooks: objects that change what is sent to the model and what comes from it and from tools, such
        as subclasses of `Hooks` (docs/agents.md).
    check_input, check_output: functions, async or not, of the value, or of a `RunContext` and the
        value: of the user's message before the first request, and of the output. They return None
        to let it pass or a changed value, or raise `Blocked`, which ends the run; check_output may
        raise ModelRetry, and the model is asked again.
    first_tool: the tool, or its name, that the first turn calls; after that the model is free. It
        is `ModelSettings.tool_choice` for this agent, and gives way to that of the run.
    on_tool_error: what happens when a tool raises an exception other than ToolError and ModelRetry.
        None: the model reads the type and the message. "raise": the run ends with that exception. A
        function of a `result.ToolFailure` returns the text for the model, or raises. In each case
        the exception is logged and in `result.tool_errors` (docs/observability.md).
    settings: how the model answers: temperature, max_tokens, ... (docs/settings.md).
    skills: instructions with tools that the model loads when a task needs them (docs/skills.md).
    compact: what happens to a conversation that is longer than the window of the model, unless the
        session has a rule: `Summary(keep=10)` or `Window(20)` of `agentcall.sessions`. None: tool
        results are shortened, and the oldest messages left out (docs/sessions.md).

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
    instructions: str | InstructionsFunction | None = ""
    output_type: TypeForm[Output] = cast("TypeForm[Output]", str)  # noqa: RUF009 - no call
    deps_type: TypeForm[Deps] = cast("TypeForm[Deps]", None)  # noqa: RUF009 - as above
    limits: Limits = field(default_factory=Limits)
    name: str = "agent"
    policy: Policy | None = None
    max_tools: int | None = 40
    handoffs: Sequence[Agent[Any, Any]] = ()  # Any: the output is that of the agent that answers
    required_tools: Sequence[
        str | Callable[..., Any]
    ] = ()  # Any: a tool may take and give anything
    on_tool_error: Literal["raise"] | ToolErrorHandler | None = None
    settings: ModelSettings | None = None
    skills: Sequence[Skill] = ()
    first_tool: str | Callable[..., Any] | None = None  # Any: as above
    compact: CompactionStrategy | None = None
    hooks: Sequence[object] = ()
    check_input: Checks = ()
    check_output: Checks = ()
    output_mode: OutputMode = "auto"
    # No fields: only an agent that `with_overrides` makes has them, as attributes of its own.
    _base: ClassVar[Agent[Any, Any] | None] = None
    _overrides: ClassVar[Mapping[str, Any] | None] = None

    if TYPE_CHECKING:  # so that the type of the output is inferred: of a type, or of functions

        @overload
        def __init__(
            self,
            model: ModelLike | None = None,
            tools: object = (),
            instructions: str | InstructionsFunction | None = "",
            output_type: TypeForm[Output] = ...,
            deps_type: TypeForm[Deps] = ...,
            **options: Unpack[AgentFields],
        ) -> None: ...
        @overload
        def __init__(
            self,
            model: ModelLike | None = None,
            tools: object = (),
            instructions: str | InstructionsFunction | None = "",
            *,
            output_type: Callable[..., Awaitable[Output]]
            | Sequence[Callable[..., Awaitable[Output]]],
            deps_type: TypeForm[Deps] = ...,
            **options: Unpack[AgentFields],
        ) -> None: ...
        @overload
        def __init__(
            self,
            model: ModelLike | None = None,
            tools: object = (),
            instructions: str | InstructionsFunction | None = "",
            *,
            output_type: Callable[..., Output]
            | Sequence[TypeForm[Output] | Callable[..., Awaitable[Output]] | Callable[..., Output]],
            deps_type: TypeForm[Deps] = ...,
            **options: Unpack[AgentFields],
        ) -> None: ...
        def __init__(
            self,
            model: ModelLike | None = None,
            tools: object = (),
            instructions: str | InstructionsFunction | None = "",
            output_type: Any = ...,
            deps_type: Any = ...,
            **options: Any,
        ) -> None: ...

    def __post_init__(self) -> None:
        _check_fields(self)
        check_settings(self.settings)
        check_compaction(self.compact)
        # Tools and types that cannot be offered are refused here, not in a run; but the tools of
        # an MCP server are not known yet: the first run waits for them.
        if not self._remote_sources:
            _ = self.spec

    def __repr__(self) -> str:
        tools = ", ".join(self.registry.names)
        return f"Agent({describe_model(self.model)}, tools=[{tools}], name={self.name!r})"

    if TYPE_CHECKING:

        @overload
        async def run(
            self: Agent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[RunArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def run(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[RunArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def run(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[RunArguments],
        ) -> RunResult[OtherOutput]: ...

    async def run(
        self,
        prompt: Prompt | None = None,
        *,
        messages: History = (),
        session: Session | None = None,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """Run to the end and return the result.

        prompt: the user's message: a text, an image, or a list of these. An image is an `Image`,
            the bytes of an image file, or an image of Pillow. May be omitted if `messages` ends
            with it.
        messages: the conversation so far, such as `result.messages` of an earlier run; also one of
            another library, see `agentcall.runtime.history`.
        session: keeps the conversation, instead of `messages`: the run continues it.
        deps: `RunContext.deps` of the tools.
        settings: how the model answers in this run; they replace those of the agent, one by one.
        inbox: takes messages for the run while it is under way (docs/agents.md).
        limits, model, output_type: replace those of the agent.
        instructions, tools: are added to those of the agent.

        Raises ModelError if the server fails permanently, and PolicyFailed if the policy does; the
        error's `result` is what the run had achieved. So has the CancelledError of a cancelled run
        (`agentcall.result.result_of`). Raises SessionError if the session cannot be used.
        """
        agent = self.with_overrides(overrides) if overrides else self
        run_input = _prepare_run(prompt, messages, session, deps, settings, inbox)
        return await agent._run(run_input, session)

    if TYPE_CHECKING:

        @overload
        def run_sync(
            self: Agent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[RunArguments],
        ) -> RunResult[Output]: ...
        @overload
        def run_sync(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[RunArguments],
        ) -> RunResult[Output]: ...
        @overload
        def run_sync(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[RunArguments],
        ) -> RunResult[OtherOutput]: ...

    def run_sync(
        self,
        prompt: Prompt | None = None,
        *,
        messages: History = (),
        session: Session | None = None,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """As `run`, from sync code; also works inside a running event loop, which it blocks.

        Ctrl-C cancels the run and raises KeyboardInterrupt, whose `result` is what the run had
        achieved.
        """
        from agentcall.runtime.runner import run_sync

        agent = self.with_overrides(overrides) if overrides else self
        run_input = _prepare_run(prompt, messages, session, deps, settings, inbox)
        return run_sync(agent._run(run_input, session))

    if TYPE_CHECKING:

        @overload
        def run_stream(
            self: Agent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[RunArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def run_stream(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[RunArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def run_stream(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[RunArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[OtherOutput], None]: ...

    def run_stream(
        self,
        prompt: Prompt | None = None,
        *,
        messages: History = (),
        session: Session | None = None,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> AsyncGenerator[ProgressEvent | RunFinished[Any], None]:
        """Yield the events of a run as they happen; the last is RunFinished, with the result.

        Leaving the loop early cancels the run. Raises what `run` raises, after the events.
        """
        agent = self.with_overrides(overrides) if overrides else self
        run_input = _prepare_run(prompt, messages, session, deps, settings, inbox)
        return agent._stream(run_input, session)

    if TYPE_CHECKING:

        @overload
        def run_stream_sync(
            self: Agent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[RunArguments],
        ) -> Generator[ProgressEvent | RunFinished[Output], None, None]: ...
        @overload
        def run_stream_sync(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[RunArguments],
        ) -> Generator[ProgressEvent | RunFinished[Output], None, None]: ...
        @overload
        def run_stream_sync(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[RunArguments],
        ) -> Generator[ProgressEvent | RunFinished[OtherOutput], None, None]: ...

    def run_stream_sync(
        self,
        prompt: Prompt | None = None,
        *,
        deps: Deps | None = None,
        **options: Any,  # as in the overloads
    ) -> Generator[ProgressEvent | RunFinished[Any], None, None]:
        """As `run_stream`, from sync code: `for event in agent.run_stream_sync(prompt)`."""
        from agentcall.runtime.runner import iterate_sync

        return iterate_sync(self.run_stream(prompt, deps=cast("Deps", deps), **options))

    if TYPE_CHECKING:

        @overload
        def stream_text(
            self: Agent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[RunArguments],
        ) -> TextStream[Output]: ...
        @overload
        def stream_text(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[RunArguments],
        ) -> TextStream[Output]: ...
        @overload
        def stream_text(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[RunArguments],
        ) -> TextStream[OtherOutput]: ...

    def stream_text(
        self,
        prompt: Prompt | None = None,
        *,
        deps: Deps | None = None,
        **options: Any,  # as in the overloads
    ) -> TextStream[Any]:
        """Yield the text of the model as it arrives; `result` of the stream is the result.

        `async for text in agent.stream_text(prompt)`; see `agentcall.runtime.text_stream`.
        """
        from agentcall.runtime.text_stream import TextStream

        return TextStream(self.run_stream(prompt, deps=cast("Deps", deps), **options))

    if TYPE_CHECKING:

        @overload
        def stream_text_sync(
            self: Agent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[RunArguments],
        ) -> SyncTextStream[Output]: ...
        @overload
        def stream_text_sync(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[RunArguments],
        ) -> SyncTextStream[Output]: ...
        @overload
        def stream_text_sync(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[RunArguments],
        ) -> SyncTextStream[OtherOutput]: ...

    def stream_text_sync(
        self,
        prompt: Prompt | None = None,
        *,
        deps: Deps | None = None,
        **options: Any,  # as in the overloads
    ) -> SyncTextStream[Any]:
        """As `stream_text`, from sync code: `for text in agent.stream_text_sync(prompt)`."""
        from agentcall.runtime.text_stream import SyncTextStream

        return SyncTextStream(self.run_stream(prompt, deps=cast("Deps", deps), **options))

    if TYPE_CHECKING:

        @overload
        async def resume(
            self: Agent[Output, None],
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: None = None,
            **options: Unpack[ResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def resume(
            self,
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: Deps,
            **options: Unpack[ResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def resume(
            self,
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[ResumeArguments],
        ) -> RunResult[OtherOutput]: ...

    async def resume(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        *,
        session: Session | None = None,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """Continue a run that waits for approval.

        result: a result with `pending` calls, or the text of its `to_json`.
        decisions: by call id: Approved(), Edited(arguments), Denied(reason), True or False. A call
            without a decision continues to wait.
        session: the session of the run, if it had one: it knows whether the run still waits.
        deps: as in `run`; they are not saved, so they have to be given again.
        settings: replace those that the run was started with, one by one. Its `extra_headers` are
            not saved.
        limits, instructions, model, tools, output_type: as in `run`. A run continues with those
            that it was started with. Tools, types, functions and Model objects are not saved:
            UsageError names those that have to be given again.

        Usage and limits include the earlier part of the run. Raises UsageError for a call that does
        not wait, and for edited arguments that are invalid.
        """
        agent, run_input = self._prepare_resume(result, decisions, deps, settings, overrides, inbox)
        return await agent._run(run_input, session)

    if TYPE_CHECKING:

        @overload
        def resume_sync(
            self: Agent[Output, None],
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: None = None,
            **options: Unpack[ResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        def resume_sync(
            self,
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: Deps,
            **options: Unpack[ResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        def resume_sync(
            self,
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[ResumeArguments],
        ) -> RunResult[OtherOutput]: ...

    def resume_sync(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        *,
        session: Session | None = None,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """As `resume`, from sync code."""
        from agentcall.runtime.runner import run_sync

        agent, run_input = self._prepare_resume(result, decisions, deps, settings, overrides, inbox)
        return run_sync(agent._run(run_input, session))

    if TYPE_CHECKING:

        @overload
        def resume_stream(
            self: Agent[Output, None],
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: None = None,
            **options: Unpack[ResumeArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def resume_stream(
            self,
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: Deps,
            **options: Unpack[ResumeArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def resume_stream(
            self,
            result: RunResult[Any] | str | bytes,
            decisions: Mapping[str, Decision | bool],
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[ResumeArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[OtherOutput], None]: ...

    def resume_stream(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        *,
        session: Session | None = None,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> AsyncGenerator[ProgressEvent | RunFinished[Any], None]:
        """As `resume`, with the events as they happen."""
        agent, run_input = self._prepare_resume(result, decisions, deps, settings, overrides, inbox)
        return agent._stream(run_input, session)

    def check_decisions(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        **overrides: Unpack[OverrideArguments],
    ) -> None:
        """Raise UsageError for decisions that `resume` would refuse; execute nothing."""
        self._prepare_resume(result, decisions, None, None, overrides)

    def with_overrides(self, overrides: Mapping[str, Any]) -> Agent[Any, Deps]:
        """Return the agent that a run with these arguments has; see `run`.

        Raises UsageError for values that do not fit, and TypeError for other names.
        """
        from agentcall.runtime.overrides import make_key, normalize_overrides

        given = normalize_overrides(overrides)
        tools = given.pop("tools", None)
        variant: Agent[Any, Deps] = self
        if given:
            key = make_key(given)
            variant = self._variants.get(key) or self._create_variant(given)
            if key is not None:
                if len(self._variants) >= _MAX_VARIANTS:
                    self._variants.clear()
                self._variants[key] = variant
        if tools is None:
            return variant
        base = variant.tools if variant._remote_sources else variant.registry
        return variant._create_variant({"tools": tools}, tools=[base, tools])

    def _create_variant(self, given: Mapping[str, Any], **changes: object) -> Agent[Any, Deps]:
        """Return this agent with other values; what is not changed is not made again."""
        changes = {name: given[name] for name in _REPLACED if name in given} | changes
        variant: Agent[Any, Deps] = object.__new__(type(self))
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {"_base": self, "_overrides": {**(self._overrides or {}), **given}}
        vars(variant).update(values, **changes)
        variant.__post_init__()
        return variant

    @cached_property
    def _variants(self) -> dict[object, Agent[Any, Deps]]:
        """The agents of the last runs that changed this one."""
        return {}

    @property
    def root(self) -> Agent[Any, Any]:
        """The agent that the program made."""
        return self if self._base is None else self._base.root

    @property
    def saved_overrides(self) -> SavedOverrides | None:
        """The arguments with which `with_overrides` made this agent, as far as they are data."""
        if self._overrides is None:
            return None
        from agentcall.runtime.overrides import save_overrides

        return save_overrides(self._overrides)

    @cached_property
    def registry(self) -> ToolRegistry:
        """The agent's tools."""
        tools = self.tools
        if isinstance(tools, ToolRegistry):
            return tools
        return ToolRegistry() if tools is None else ToolRegistry(tools)

    def as_tool(
        self,
        name: str | None = None,
        description: str | None = None,
        *,
        input_type: object = str,
        **options: Unpack[ToolOptionArguments],
    ) -> Tool:
        """Return this agent as a tool of another agent; its output is the result of the call.

        input_type: the type of the question: a text, or a type whose fields the model fills in (a
            pydantic model, a dataclass or a TypedDict).
        options: as for `@tool`; without a `timeout` its own limits end it, and those of the run.

        Its run counts towards the usage and the limits of the run that calls it; a call in it that
        needs approval makes that run wait.
        """
        from agentcall.runtime.agent_tool import create_agent_tool
        from agentcall.runtime.handoff import normalize_tool_name
        from agentcall.runtime.prompts import format_agent_description

        return create_agent_tool(
            lambda: self.spec,
            name=name or normalize_tool_name(self.name),
            description=description or format_agent_description(self.name, self._instructions_text),
            input_type=input_type,
            result_type=self.output_type,
            **options,
        )

    @property
    def _instruction_parts(self) -> Sequence[str | InstructionsFunction]:
        """The instructions of the agent and of the run."""
        added = None if self._overrides is None else self._overrides.get("instructions")
        return [part for part in (self.instructions, added) if part]

    @property
    def _instructions_text(self) -> str:
        return "\n\n".join(part for part in self._instruction_parts if isinstance(part, str))

    @cached_property
    def _skill_set(self) -> SkillSet | None:
        if not self.skills:
            return None
        from agentcall.tools.skill import SkillSet  # late, as few agents have skills

        return SkillSet(self.skills)

    @cached_property
    def _handoff(self) -> tuple[Tool, Callable[[], AgentSpec]]:
        """The tool with which another agent hands over to this one, and the spec of this one."""
        from agentcall.runtime.handoff import create_handoff_tool

        return create_handoff_tool(self.name, self._instructions_text), lambda: self.spec

    @cached_property
    def _spec_cache(self) -> list[AgentSpec]:
        """The last spec, in a list as an agent is frozen."""
        base = self._base
        is_same_model = base is not None and base.model is self.model
        output = self._output
        parts = self._instruction_parts
        has_function = not all(isinstance(part, str) for part in parts)
        for tool in self.registry:
            if tool.options.isolated:
                _ = tool.function_ref  # refuses a function that no other process can import
        spec = AgentSpec(
            model=base.spec.model if base and is_same_model else resolve_model(self.model),
            registry=ToolRegistry(),
            prompt=output.add_to_prompt(PromptSpec(self._instructions_text)),
            output=output,
            limits=self.limits,
            policy=validate_policy(self.policy),
            instructions=tuple(parts) if has_function else (),
            overrides=self.saved_overrides,
            on_tool_error=_resolve_error_handler(self.on_tool_error),
            name=self.name,
            agent=self.name,
            settings=self.settings,
            compact=self.compact,
            refresh=self._refresh_spec if self._remote_sources else None,
        )
        if self.hooks or self.check_input or self.check_output:
            from agentcall.runtime.hooks import HookSet  # late, as few agents have any

            spec = replace(spec, hooks=HookSet(self.hooks, self.check_input, self.check_output))
        return [self._bind_tools(spec)]

    @cached_property
    def _output(self) -> OutputParser:
        base = self._base
        if base is not None and base.output_type is self.output_type:
            return base._output
        return OutputParser(self.output_type, self.output_mode)

    @property
    def spec(self) -> AgentSpec:
        """The configuration of a run that starts now; the same object while the tools are equal."""
        cache = self._spec_cache
        if self._all_tools != cache[0].tools:
            cache[0] = self._bind_tools(cache[0])
        return cache[0]

    @property
    def _all_tools(self) -> tuple[Tool, ...]:
        tools = tuple(self.registry)
        if self.handoffs:
            tools += tuple(tool for tool, _ in self._handoff_targets)
        return tools + self._output.tools if self._output.tools else tools

    @property
    def _handoff_targets(self) -> Sequence[tuple[Tool, Callable[[], AgentSpec]]]:
        others = (other for other in self.handoffs if other is not self.root)
        return [other._handoff for other in others]

    def _bind_tools(self, spec: AgentSpec) -> AgentSpec:
        """Return the spec with the tools of now."""
        _check_unique_names(self)
        targets = self._handoff_targets
        required = _resolve_required_tools(self)
        registry, max_tools = ToolRegistry(self._all_tools), self.max_tools
        spec = replace(
            spec,
            registry=registry,
            handoffs={tool.name: get_spec for tool, get_spec in targets},
            required_deps=find_required_deps(
                self.name, self.deps_type, (*registry, *self._output.functions)
            ),
            settings=_add_first_tool(self, registry),
        )
        if max_tools is None or len(self.registry) <= max_tools:
            max_tools = None
        if max_tools is None and not self.skills:
            prompt = replace(spec.prompt, tools=tuple(registry))
            return self._bind_rules(replace(spec, prompt=prompt, finder=None), required)
        from agentcall.tools.selection import ToolFinder  # late, as few agents have so many tools

        final = [tool for tool in registry if tool.options.final]
        pinned = [*(tool for tool, _ in targets), *required, *final]
        finder = ToolFinder(registry, max_tools, pinned, self._skill_set)
        prompt = replace(spec.prompt, tools=())
        spec = replace(spec, registry=finder.registry, prompt=prompt, finder=finder)
        return self._bind_rules(spec, required)

    def _bind_rules(self, spec: AgentSpec, required: Sequence[Tool]) -> AgentSpec:
        """Return the spec with what its tools declare about a run. Raises UsageError."""
        if not required and not any(tool.options.has_rules for tool in spec.registry):
            return spec if spec.rules is None else replace(spec, rules=None)
        known = {*self.registry.names, *(tool.name for tool in self._output.tools)}
        for tool in spec.registry:
            if tool.options.final and tool.name not in known:
                raise UsageError(f"{tool.name} of a skill is final; make it a tool of the agent")
        from agentcall.runtime.call_rules import build_call_rules  # late, as few agents have any

        names = [tool.name for tool in required]
        rules = build_call_rules(spec.registry.by_name, names, self.output_type, spec.output)
        return replace(spec, rules=rules)

    async def _run(self, run_input: RunInput, session: Session | None) -> RunResult[Output]:
        from agentcall.runtime.runner import run_agent

        if self._remote_sources:
            await self._wait_for_remote_tools()
        return await run_agent(self.spec, run_input, session)

    def _stream(
        self, run_input: RunInput, session: Session | None
    ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]:
        from agentcall.runtime.runner import stream_agent

        if self._remote_sources:
            return self._stream_when_ready(run_input, session)
        return stream_agent(self.spec, run_input, session)

    async def _stream_when_ready(
        self, run_input: RunInput, session: Session | None
    ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]:
        from agentcall.runtime.runner import stream_agent

        await self._wait_for_remote_tools()
        async with aclosing(stream_agent(self.spec, run_input, session)) as events:
            async for event in events:
                yield event

    @cached_property
    def _remote_sources(self) -> Sequence[LazyToolSource]:
        return list(_iter_remote_sources(self.tools))

    async def _wait_for_remote_tools(self) -> None:
        """Wait for the tools of MCP servers, for each as long as a run may take."""
        for source in self._remote_sources:
            await source.wait_until_ready(self.limits.seconds)
        revisions = [source.revision for source in self._remote_sources]
        if vars(self).setdefault("_revisions", revisions) != revisions:
            vars(self)["_revisions"] = revisions
            vars(self).pop("registry", None)

    async def _refresh_spec(self) -> AgentSpec:
        """Return the spec with the tools that MCP servers list now."""
        await self._wait_for_remote_tools()
        return self.spec

    def _prepare_resume(
        self,
        result: RunResult[Any] | str | bytes,
        decisions: Mapping[str, Decision | bool],
        deps: object,
        settings: ModelSettings | None,
        overrides: Mapping[str, Any],
        inbox: Inbox | None = None,
    ) -> tuple[Agent[Any, Deps], RunInput]:
        """Return the agent that continues the run, and the input of its run."""
        from agentcall.result import RunResult
        from agentcall.runtime.overrides import restore_overrides
        from agentcall.runtime.resume import prepare_resume

        paused = result if isinstance(result, RunResult) else RunResult[Any].from_json(result)
        overrides = restore_overrides(paused.overrides, overrides)
        agent = self.with_overrides(overrides) if overrides else self
        run_input = prepare_resume(paused, decisions, agent.spec, deps)
        check_settings(settings)
        settings = merge_settings(run_input.settings, settings)
        return agent, run_input._replace(settings=settings, inbox=inbox)


def _iter_remote_sources(tools: object) -> Iterator[LazyToolSource]:
    if isinstance(tools, LazyToolSource):
        yield tools
    elif isinstance(tools, (list, tuple)):
        for source in cast("Sequence[object]", tools):
            yield from _iter_remote_sources(source)


def _resolve_error_handler(
    handler: Literal["raise"] | ToolErrorHandler | None,
) -> ToolErrorHandler | None:
    """Return the function that decides about a tool's exception. Raises UsageError."""
    if handler == "raise":
        from agentcall.result import raise_tool_error

        return raise_tool_error
    if handler is None or (
        callable(handler) and not isinstance(handler, type) and not iscoroutinefunction(handler)
    ):
        return handler
    raise UsageError(
        f'on_tool_error={handler!r} is not None, "raise" or a function, not async, of a ToolFailure'
    )


def _resolve_required_tools(agent: Agent[Any, Any]) -> list[Tool]:
    """Return the tools that have to be called. Raises UsageError for one that the agent lacks."""
    required: object = agent.required_tools  # a program without a type checker passes anything
    if not isinstance(required, (list, tuple)):
        raise UsageError(f"required_tools={required!r:.100} is not a list of tools")
    tools = agent.registry.by_name
    found: list[Tool] = []
    for item in cast("Sequence[object]", required):
        name = item if isinstance(item, str) else getattr(item, "name", None)
        name = name or getattr(item, "__name__", None) or repr(item)
        if name not in tools:
            known = ", ".join(tools) or "none"
            raise UsageError(f"required_tools has {name!r}, which is not among its tools: {known}")
        found.append(tools[name])
    return found


def _add_first_tool(agent: Agent[Any, Any], registry: ToolRegistry) -> ModelSettings | None:
    """Return the settings with the choice of the tool of the first turn. Raises UsageError."""
    if agent.first_tool is None:
        return agent.settings
    from agentcall.runtime.call_rules import resolve_first_tool

    choice = None if agent.settings is None else agent.settings.tool_choice
    if choice is not None:
        raise UsageError(
            f"first_tool={agent.first_tool!r:.100} and ModelSettings(tool_choice={choice!r}) both "
            "say what the first turn calls; give one of them"
        )
    name = resolve_first_tool(agent.first_tool, registry.by_name)
    return replace(agent.settings or ModelSettings(), tool_choice=name)


def _check_fields(agent: Agent[Any, Any]) -> None:
    """Raise UsageError for a field of the wrong type, which would fail later or not at all."""
    fields: Mapping[str, object] = vars(agent)  # a program without a type checker passes anything
    handoffs, max_tools = fields["handoffs"], fields["max_tools"]
    instructions: Any = fields["instructions"]
    is_list = isinstance(handoffs, (list, tuple))
    others = cast("Sequence[object]", handoffs) if is_list else ()
    is_right = {
        "instructions": isinstance(instructions, (str, NoneType)) or is_function(instructions, 1),
        "name": isinstance(fields["name"], str) and fields["name"] != "",
        "limits": isinstance(fields["limits"], Limits),
        "max_tools": max_tools is None or (type(max_tools) is int and max_tools > 0),
        "handoffs": is_list and all(isinstance(other, Agent) for other in others),
        "skills": _are_skills(fields["skills"]),
        "deps_type": not isinstance(fields["deps_type"], (str, bytes, int, Mapping, list, tuple)),
    }
    for name, expected in _EXPECTED_FIELDS.items():
        if not is_right[name]:
            raise UsageError(f"Agent({name}={fields[name]!r:.100}): it has to be {expected}")


def _are_skills(value: object) -> bool:
    # Their class is imported only if an agent has any.
    items = cast("Sequence[object]", value if isinstance(value, (list, tuple)) else [value])
    is_list = isinstance(value, (list, tuple))
    return is_list and all(hasattr(i, "list_files") and not isinstance(i, type) for i in items)


_EXPECTED_FIELDS = {
    "instructions": "a text, or a function of a RunContext",
    "name": "a text",
    "limits": "a Limits, such as Limits(requests=5)",
    "max_tools": "a number above 0, or None",
    "handoffs": "a list of agents",
    "skills": "a list of Skill",
    "deps_type": "a type",
}


def _check_conversation(messages: object, session: object) -> None:
    """Raise UsageError for `messages` or a `session` of a type that is often confused with it."""
    if hasattr(messages, "new_messages"):
        raise UsageError("messages= is a RunResult; pass result.messages")
    if session is not None and (isinstance(session, type) or not hasattr(session, "acquire")):
        raise UsageError(f"session={session!r:.100} is not a session; use SQLiteSession(id)")


def _check_unique_names(agent: Agent[Any, Any]) -> None:
    """Raise UsageError if two agents that handoffs lead to have one name."""
    known: dict[str, Agent[Any, Any]] = {}
    agents = [agent]
    for current in agents:
        if known.setdefault(current.name, current).root is not current.root:
            raise UsageError(
                f"two agents that may answer are called {current.name!r}; give each a unique name: "
                f"Agent(name=...)"
            )
        agents += [other for other in current.handoffs if other not in agents]


def _check_inbox(inbox: object) -> None:
    """Raise UsageError for anything but an inbox."""
    if isinstance(inbox, type) or not hasattr(inbox, "close_if_empty"):
        raise UsageError(f"inbox={inbox!r:.100} is not an Inbox: inbox = Inbox()")


def _prepare_run(
    prompt: Prompt | None,
    messages: History,
    session: Session | None,
    deps: object,
    settings: ModelSettings | None,
    inbox: Inbox | None,
) -> RunInput:
    from agentcall.runtime.state import RunInput

    _check_conversation(messages, session)
    if inbox is not None:
        _check_inbox(inbox)
    if session is None:
        conversation = prepare_messages(prompt, messages)
        return RunInput(generate_run_id(), *conversation, deps, settings=settings, inbox=inbox)
    if messages and prepare_messages("", messages)[1]:
        raise UsageError("messages= and session= are both the conversation so far; pass one")
    new = () if prompt is None else (to_user_message(prompt),)
    return RunInput(generate_run_id(), new, 0, deps, settings=settings, inbox=inbox)


def prepare_messages(prompt: Prompt | None, messages: History) -> tuple[tuple[Message, ...], int]:
    """Return the messages that a run starts with, and the number of messages before the prompt."""
    history: tuple[Message, ...] = ()
    if messages:
        from agentcall.runtime.history import (
            read_history,
        )  # late, as most runs begin without a history

        history = read_history(messages)
    new = () if prompt is None else (to_user_message(prompt),)
    if not history and not new:
        raise UsageError("a run needs a prompt, or messages that end with one")
    return (*history, *new), len(history)


def generate_run_id() -> str:
    """Return a new, random run id."""
    return os.urandom(8).hex()
