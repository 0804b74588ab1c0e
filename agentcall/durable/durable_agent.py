"""Durable runs of an agent: recorded step by step, and continued after a crash."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, cast, overload

from typing_extensions import Self, Unpack

from agentcall.agent import (
    Agent,
    Deps,
    History,
    OtherOutput,
    Output,
    generate_run_id,
    prepare_messages,
)
from agentcall.approvals import Decision, Denied
from agentcall.durable.journal import (
    Journal,
    JournalEntry,
    JournalRecord,
    RecordKind,
    RunStatus,
    seal_record,
)
from agentcall.durable.lease import (
    ClaimedRun,
    RunLease,
    begin_run,
    check_run_id,
    claim_next_run,
    claim_run,
    open_run,
)
from agentcall.durable.open import make_opener
from agentcall.durable.run_state import (
    AgentFingerprint,
    DurableRunState,
    get_call_run_id,
    map_decision_ids,
)
from agentcall.durable.steps import describe_unknown_outcome
from agentcall.durable.writer_thread import WriterThread, wait_shielded
from agentcall.errors import RunBusy, UsageError
from agentcall.events import Event, ProgressEvent, RunFinished
from agentcall.messages import (
    JSON,
    Message,
    Prompt,
    ToolCall,
    ToolResult,
    User,
    encode_json,
    to_json,
)
from agentcall.result import MissingOutput, RunResult
from agentcall.runtime.history import read_history
from agentcall.runtime.overrides import restore_overrides
from agentcall.runtime.prompts import format_unanswered_question
from agentcall.runtime.resume import prepare_resume
from agentcall.runtime.run import AgentRun
from agentcall.runtime.runner import EventReader, iterate_sync, run_sync, stream_events
from agentcall.runtime.state import RunInput
from agentcall.runtime.text_stream import SyncTextStream, TextStream
from agentcall.settings import Limits, ModelSettings, merge_settings
from agentcall.storage.codec import AnyResult, decision_to_json, result_to_json
from agentcall.storage.locks import describe_owner
from agentcall.tools.serialize import to_json_value

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from agentcall.agent import OverrideArguments
    from agentcall.models.resolve import ModelLike
    from agentcall.runtime.agent_spec import InstructionsFunction
    from agentcall.runtime.inbox import Inbox

    class DurableResumeArguments(TypedDict, total=False):
        """The arguments of `DurableAgent.resume`, without the deps and the `output_type`."""

        settings: ModelSettings | None
        inbox: Inbox | None
        limits: Limits | None
        instructions: str | InstructionsFunction | None
        model: ModelLike | None
        tools: object

    class DurableRunArguments(DurableResumeArguments, total=False):
        """The arguments of `DurableAgent.run`, without the deps and the `output_type`."""

        run_id: str | None
        messages: History


T = TypeVar("T")

_TITLE_LENGTH = 200
_NOT_REPEATED = (
    "This call was begun, and then the program that ran it was cut off. Its outcome is unknown, "
    "and a person decided not to carry it out again"
)


class DurableAgent(Generic[Output, Deps]):
    """An agent whose runs are recorded in a journal and survive the end of their process.

    `run` with the id of an interrupted run continues it; with the id of a run that has ended, it
    returns the recorded result. Use the agent in a `with` statement, or close it, to close the
    file or connection of the journal. That leaves interrupted runs as they are.

    recipe: how a program can build the agent again; recorded for it, and otherwise not used.
    Raises UsageError if the URL is not that of a journal.
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
        self._writer = WriterThread(make_opener(url, lease=lease))
        self._finalizer = weakref.finalize(self, self._writer.close)

    if TYPE_CHECKING:

        @overload
        async def run(
            self: DurableAgent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[DurableRunArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def run(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[DurableRunArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def run(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableRunArguments],
        ) -> RunResult[OtherOutput]: ...

    async def run(
        self,
        prompt: Prompt | None = None,
        *,
        run_id: str | None = None,
        messages: History = (),
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """Execute a run, or continue the run of this id.

        prompt, messages: as in `Agent.run`. They may be omitted for an existing run; if given, they
            have to be the same as at its start.
        run_id: 1 to 200 characters; by default a new id, which `result.run_id` returns.
        deps: what tools get as `RunContext.deps`. It is not recorded, so it has to be given again.
        settings: as in `Agent.run`. They are recorded when the run starts, without
            `extra_headers`, and apply to its whole life; those that are given again replace them.
        limits, instructions, model, tools, output_type: as in `Agent.run`. They are recorded as
            `settings` are. Tools, types, functions and Model objects are not recorded: UsageError
            names those that have to be given again to continue the run.

        Raises what `Agent.run` raises; RunBusy if another process executes the run; JournalError
        if a step cannot be recorded; JournalDamaged if the journal is not what was written. The run
        can be continued after all of them except JournalDamaged.
        """
        return await self._run(prompt, run_id, messages, deps, settings, inbox, overrides)

    if TYPE_CHECKING:

        @overload
        def run_sync(
            self: DurableAgent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[DurableRunArguments],
        ) -> RunResult[Output]: ...
        @overload
        def run_sync(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[DurableRunArguments],
        ) -> RunResult[Output]: ...
        @overload
        def run_sync(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableRunArguments],
        ) -> RunResult[OtherOutput]: ...

    def run_sync(
        self,
        prompt: Prompt | None = None,
        *,
        run_id: str | None = None,
        messages: History = (),
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """Like `run`, from sync code."""
        return run_sync(self._run(prompt, run_id, messages, deps, settings, inbox, overrides))

    if TYPE_CHECKING:

        @overload
        def run_stream(
            self: DurableAgent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[DurableRunArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def run_stream(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[DurableRunArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def run_stream(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableRunArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[OtherOutput], None]: ...

    def run_stream(
        self,
        prompt: Prompt | None = None,
        *,
        run_id: str | None = None,
        messages: History = (),
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> AsyncGenerator[ProgressEvent | RunFinished[Any], None]:
        """Like `run`, with the events as they happen. Recorded steps emit no events.

        The last event, RunFinished, comes when the result is on the disk.
        """
        return stream_events(
            lambda reader: self._run(
                prompt, run_id, messages, deps, settings, inbox, overrides, reader
            )
        )

    if TYPE_CHECKING:

        @overload
        def run_stream_sync(
            self: DurableAgent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[DurableRunArguments],
        ) -> Generator[ProgressEvent | RunFinished[Output], None, None]: ...
        @overload
        def run_stream_sync(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[DurableRunArguments],
        ) -> Generator[ProgressEvent | RunFinished[Output], None, None]: ...
        @overload
        def run_stream_sync(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableRunArguments],
        ) -> Generator[ProgressEvent | RunFinished[OtherOutput], None, None]: ...

    def run_stream_sync(
        self,
        prompt: Prompt | None = None,
        *,
        deps: Deps | None = None,
        **options: Any,  # as in the overloads
    ) -> Generator[ProgressEvent | RunFinished[Any], None, None]:
        """Like `run_stream`, from sync code."""
        return iterate_sync(self.run_stream(prompt, deps=cast("Deps", deps), **options))

    if TYPE_CHECKING:

        @overload
        def stream_text(
            self: DurableAgent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[DurableRunArguments],
        ) -> TextStream[Output]: ...
        @overload
        def stream_text(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[DurableRunArguments],
        ) -> TextStream[Output]: ...
        @overload
        def stream_text(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableRunArguments],
        ) -> TextStream[OtherOutput]: ...

    def stream_text(
        self,
        prompt: Prompt | None = None,
        *,
        deps: Deps | None = None,
        **options: Any,  # as in the overloads
    ) -> TextStream[Any]:
        """Like `Agent.stream_text`."""
        return TextStream(self.run_stream(prompt, deps=cast("Deps", deps), **options))

    if TYPE_CHECKING:

        @overload
        def stream_text_sync(
            self: DurableAgent[Output, None],
            prompt: Prompt | None = None,
            *,
            deps: None = None,
            **options: Unpack[DurableRunArguments],
        ) -> SyncTextStream[Output]: ...
        @overload
        def stream_text_sync(
            self,
            prompt: Prompt | None = None,
            *,
            deps: Deps,
            **options: Unpack[DurableRunArguments],
        ) -> SyncTextStream[Output]: ...
        @overload
        def stream_text_sync(
            self,
            prompt: Prompt | None = None,
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableRunArguments],
        ) -> SyncTextStream[OtherOutput]: ...

    def stream_text_sync(
        self,
        prompt: Prompt | None = None,
        *,
        deps: Deps | None = None,
        **options: Any,  # as in the overloads
    ) -> SyncTextStream[Any]:
        """Like `stream_text`, from sync code."""
        return SyncTextStream(self.run_stream(prompt, deps=cast("Deps", deps), **options))

    if TYPE_CHECKING:

        @overload
        async def resume(
            self: DurableAgent[Output, None],
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: None = None,
            **options: Unpack[DurableResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def resume(
            self,
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: Deps,
            **options: Unpack[DurableResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        async def resume(
            self,
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableResumeArguments],
        ) -> RunResult[OtherOutput]: ...

    async def resume(
        self,
        run: str | AnyResult,
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """Continue a run that waits for approval, like `Agent.resume`.

        run: its id or its result.
        """
        return await self._resume(run, decisions, deps, settings, inbox, overrides)

    if TYPE_CHECKING:

        @overload
        def resume_sync(
            self: DurableAgent[Output, None],
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: None = None,
            **options: Unpack[DurableResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        def resume_sync(
            self,
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: Deps,
            **options: Unpack[DurableResumeArguments],
        ) -> RunResult[Output]: ...
        @overload
        def resume_sync(
            self,
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableResumeArguments],
        ) -> RunResult[OtherOutput]: ...

    def resume_sync(
        self,
        run: str | AnyResult,
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """Like `resume`, from sync code."""
        return run_sync(self._resume(run, decisions, deps, settings, inbox, overrides))

    if TYPE_CHECKING:

        @overload
        def resume_stream(
            self: DurableAgent[Output, None],
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: None = None,
            **options: Unpack[DurableResumeArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def resume_stream(
            self,
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            deps: Deps,
            **options: Unpack[DurableResumeArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[Output], None]: ...
        @overload
        def resume_stream(
            self,
            run: str | AnyResult,
            decisions: Mapping[str, Decision | bool],
            *,
            output_type: TypeForm[OtherOutput],
            deps: Deps = ...,
            **options: Unpack[DurableResumeArguments],
        ) -> AsyncGenerator[ProgressEvent | RunFinished[OtherOutput], None]: ...

    def resume_stream(
        self,
        run: str | AnyResult,
        decisions: Mapping[str, Decision | bool],
        *,
        deps: Deps | None = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> AsyncGenerator[ProgressEvent | RunFinished[Any], None]:
        """Like `resume`, with the events as they happen."""
        return stream_events(
            lambda reader: self._resume(run, decisions, deps, settings, inbox, overrides, reader)
        )

    async def enqueue(
        self,
        prompt: Prompt | None = None,
        *,
        run_id: str | None = None,
        messages: History = (),
        settings: ModelSettings | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> str:
        """Queue a run for the workers of agents with this name, and return its id.

        Does nothing if the run exists. Raises UsageError for arguments that are not recorded:
        settings with `extra_headers`, and what is not data, such as tools.
        """
        if settings is not None and settings.extra_headers:
            raise UsageError(
                "the extra_headers of a queued run are not recorded; give them to the agent of "
                "the workers: Agent(settings=)"
            )
        agent = self.agent.with_overrides(overrides)
        saved = agent.saved_overrides
        if saved is not None and saved.unsaved:
            raise UsageError(
                f"{saved.unsaved[0]}= of a queued run cannot be recorded; give it to the agent of "
                "the workers"
            )
        first, title = self._build_first_record(agent, prompt, run_id, messages, settings)
        name = self.agent.name
        await self.query_journal(
            lambda journal: journal.create_run(first, "", queue=name, title=title)
        )
        return first.run_id

    async def reopen(self, run_id: str) -> None:
        """Queue a failed run again."""
        claim = await self.query_journal(lambda journal: claim_run(journal, run_id))
        async with RunLease(self._writer, claim) as lease:
            if lease.state.error is not None:
                agent = _continue_with(self.agent, lease, {})
                await RunExecution(agent, lease, None, None).record_changes()

    async def claim_next(self) -> RunLease | None:
        """Claim the next queued run; return None if there is none."""
        name = self.agent.name
        claim = await self.query_journal(lambda journal: claim_next_run(journal, name))
        return None if claim is None else RunLease(self._writer, claim)

    async def execute(
        self,
        lease: RunLease,
        *,
        deps: object = None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
        reader: EventReader | None = None,
        **overrides: Unpack[OverrideArguments],
    ) -> RunResult[Any]:
        """Execute a leased run to its end. Raises what `run` raises."""
        recorded = lease.state.result
        if recorded is not None:
            result = _restore_output(self.agent.with_overrides(overrides), recorded)
            if reader is not None:
                reader.emit(RunFinished(result))
            if inbox is not None:
                inbox.close()
            return result
        agent = _continue_with(self.agent, lease, overrides)
        return await RunExecution(agent, lease, deps, reader, settings, inbox).execute()

    async def query_journal(self, work: Callable[[Journal], T]) -> T:
        """Execute work on the journal in its thread and return the result."""
        return await wait_shielded(self._writer.submit(work))

    def close(self) -> None:
        """Close the journal."""
        self._finalizer()

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
        settings: ModelSettings | None,
        inbox: Inbox | None,
        overrides: OverrideArguments,
        reader: EventReader | None = None,
    ) -> RunResult[Any]:
        agent = self.agent.with_overrides(overrides) if overrides else self.agent
        agent.spec.check_settings(settings)
        first: JournalRecord | None = None
        history = read_history(messages)
        if prompt is None and run_id is not None and not history:
            claim = await self.query_journal(lambda journal: open_run(journal, run_id))
        else:
            first, title = record, _ = self._build_first_record(
                agent, prompt, run_id, history, settings
            )
            claim = await self.query_journal(lambda journal: begin_run(journal, record, title))
        async with RunLease(self._writer, claim) as lease:
            if first is not None:
                _check_same_input(lease.state, first)
            return await self.execute(
                lease, deps=deps, settings=settings, inbox=inbox, reader=reader, **overrides
            )

    async def _resume(
        self,
        run: str | AnyResult,
        decisions: Mapping[str, Decision | bool],
        deps: object,
        settings: ModelSettings | None,
        inbox: Inbox | None,
        overrides: OverrideArguments,
        reader: EventReader | None = None,
    ) -> RunResult[Any]:
        run_id = run if isinstance(run, str) else run.run_id
        claim = await self.query_journal(lambda journal: claim_run(journal, run_id))
        async with RunLease(self._writer, claim) as lease:
            agent = _continue_with(self.agent, lease, overrides)
            agent.spec.check_settings(settings)
            execution = RunExecution(agent, lease, deps, reader, settings, inbox)
            await execution.record_decisions(decisions)
            return await execution.execute()

    def _build_first_record(
        self,
        agent: Agent[Any, Deps],
        prompt: Prompt | None,
        run_id: str | None,
        messages: History,
        settings: ModelSettings | None,
    ) -> tuple[JournalRecord, str]:
        """Return the first record of a run, and its title."""
        run_id = generate_run_id() if run_id is None else run_id
        check_run_id(run_id)
        conversation_messages, start = prepare_messages(prompt, messages)
        body: dict[str, JSON] = {
            "agent": self.agent.name,
            "messages": [to_json(message) for message in conversation_messages],
            "start": start,
            "code": AgentFingerprint.from_agent(agent).to_json(),
            "recipe": self._recipe,
            "at": round(time(), 3),
        }
        if settings is not None:
            body["settings"] = settings.to_json()
        if agent.saved_overrides is not None:
            body["overrides"] = agent.saved_overrides.to_json()
        return seal_record(run_id, 1, "begin", body, ""), _make_title(conversation_messages[-1])


def _continue_with(
    agent: Agent[Any, Deps], lease: RunLease, overrides: Mapping[str, Any]
) -> Agent[Any, Deps]:
    """Return the agent that continues a run: as the run was started, and with what is given again.

    Raises UsageError if something is not given again that could not be recorded.
    """
    recorded = lease.state.begin.overrides
    if recorded is None and not overrides:
        return agent
    return agent.with_overrides(restore_overrides(recorded, overrides))


def _restore_output(agent: Agent[Any, Any], result: AnyResult) -> AnyResult:
    """Return the result with an output of the agent's type, if the value fits."""
    output = agent.spec.output
    if output.is_plain_text or isinstance(result.answer, MissingOutput):
        return result
    value = output.load(encode_json(to_json_value(result.answer)).decode())
    return replace(result, answer=value)


def _make_title(message: Message) -> str:
    text = message.text if isinstance(message, User) else ""
    line = " ".join(text.split()).replace("\0", "").encode("utf-8", "replace").decode()
    return line[:_TITLE_LENGTH]


def _check_same_input(state: DurableRunState, first: JournalRecord) -> None:
    """Raise UsageError if the existing run began with other messages."""
    messages = read_history(first.fields["messages"])
    if state.begin.messages != messages:
        raise UsageError(
            f"the run {state.run_id} began with another prompt; omit the prompt to continue "
            "it, or use another id"
        )


class RunExecution(Generic[Output, Deps]):
    """One execution of a leased run, from its recorded state to its end or to a pause."""

    def __init__(
        self,
        agent: Agent[Output, Deps],
        lease: RunLease,
        deps: object,
        reader: EventReader | None,
        settings: ModelSettings | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        self._agent = agent
        self._inbox = inbox
        self._lease = lease
        self._state = lease.state
        self._recorder = lease.recorder
        self._deps = deps
        self._settings = settings
        self._reader = reader
        self._finished_event: RunFinished | None = None

    async def execute(self) -> RunResult[Output]:
        """Execute the run and return its result. Raises ModelError, JournalError and RunBusy."""
        await self.record_changes()
        spec = replace(self._agent.spec, steps=self._recorder)
        emit = None if self._reader is None else self._forward_event
        task = asyncio.ensure_future(AgentRun(spec, self._build_input(), emit).execute())
        self._lease.watch(task)
        try:
            result = await task
        except Exception:  # an error of the model, or of a tool (Agent.on_tool_error)
            self._emit_event(self._finished_event)
            raise
        except asyncio.CancelledError:
            if not self._lease.is_stopped:
                raise
            if not await self._lease.is_cancelled():
                raise RunBusy(
                    f"the run {self._state.run_id} was taken over by another process"
                ) from None
            result = self._state.build_cancelled_result("it was cancelled")
        result = replace(result, notes=tuple(self._state.notes))
        body = {"result": result_to_json(result, self._state.get_messages(result.run_id))}
        if result.pending:
            await self._recorder.append("pause", body, "paused", result.stop_reason)
        else:
            await self._recorder.append("finish", body, "finished", result.stop_reason)
        self._emit_event(RunFinished(result))
        return result

    async def record_decisions(self, decisions: Mapping[str, Decision | bool]) -> None:
        """Record a person's decisions about the waiting calls. Raises UsageError."""
        waiting = self._state.paused_result
        if waiting is None:
            raise UsageError(f"the run {self._state.run_id} does not wait for a decision")
        prepare_resume(waiting, decisions, self._agent.spec)  # raises for decisions that do not fit
        ids = map_decision_ids(waiting)
        asking = {pending.call.id for pending in waiting.pending if pending.question is not None}
        for key, call in self._state.interrupted_calls.items():
            decision_id = ids.get((get_call_run_id(key), call.id), "")
            decision = decisions.get(decision_id)
            if decision is False or isinstance(decision, Denied):
                denied, is_question = decision or Denied(), decision_id in asking
                await self._recorder.record_unknown_outcome(
                    key, _build_denied_result(call, denied, is_question=is_question)
                )
        wire = {name: decision_to_json(decision) for name, decision in decisions.items()}
        await self._recorder.append("decide", {"decisions": wire})

    async def record_changes(self) -> None:
        """Record who continues the run and what has changed; nothing if the run has just begun."""
        now = AgentFingerprint.from_agent(self._agent)
        changes = self._state.fingerprint.describe_changes(now)
        for call in self._state.interrupted_calls.values():
            if call.name not in self._agent.registry:
                changes.append(describe_unknown_outcome(call))
        if self._state.sequence > 1 or changes:
            body: dict[str, JSON] = {
                "by": self._lease.claim.lease_id,
                "code": now.to_json(),
                "notes": changes,
            }
            await self._recorder.append("resume", body)

    def _build_input(self) -> RunInput:
        state = self._state
        settings = merge_settings(state.begin.settings, self._settings)
        origin = RunInput(
            run_id=state.run_id,
            messages=state.begin.messages,
            start=state.begin.start,
            deps=self._deps,
        )
        if state.pending_resume is not None:
            before, decisions = state.pending_resume
            origin = prepare_resume(before, decisions, self._agent.spec, self._deps)
        wait = None if self._reader is None else self._reader.wait
        return origin._replace(
            elapsed_seconds=state.spent,
            settings=settings,
            wait_for_reader=wait,
            inbox=self._inbox,
        )

    def _forward_event(self, event: Event) -> None:
        """Emit an event, except RunFinished, which waits until the result is on the disk."""
        if isinstance(event, RunFinished):
            self._finished_event = event
        else:
            self._emit_event(event)

    def _emit_event(self, event: Event | None) -> None:
        if self._reader is not None and event is not None:
            self._reader.emit(event)


def _build_denied_result(call: ToolCall, decision: Denied, *, is_question: bool) -> ToolResult:
    if is_question:
        text = format_unanswered_question(decision.reason)
        return ToolResult(call.id, call.name, text, is_error=True, assessed=True)
    reason = f": {decision.reason}" if decision.reason else "."
    return ToolResult(call.id, call.name, _NOT_REPEATED + reason, is_error=True, assessed=True)


def cancel_run(journal: Journal, run_id: str) -> str:
    """Cancel a run, or ask the process that executes it to do so; return a message that says which.

    Raises UsageError if the run does not exist or has ended.
    """
    header = journal.find_run(run_id)
    if header is None:
        raise UsageError(f"there is no run {run_id} in {journal.database.location}")
    if header.state == "finished":
        raise UsageError(f"the run {run_id} has ended already: {header.outcome}")
    journal.request_cancel(run_id)
    if journal.is_leased(header):
        return f"asked {describe_owner(header.holder)} to stop the run {run_id}"
    claim = claim_run(journal, run_id)
    _write_result(journal, claim, None)
    return f"cancelled the run {run_id}"


def record_result(
    journal: Journal,
    agent: Agent[Any, Any],  # Any: the types of the output and of deps do not matter here
    result: AnyResult,
    recipe: Mapping[str, JSON],
) -> None:
    """Record the result of a run that was not durable: its pause, or its end after a pause.

    Raises JournalError, RunBusy.
    """
    prompt = result.messages[: result.start + 1]
    body: dict[str, JSON] = {
        "agent": agent.name,
        "messages": [to_json(message) for message in prompt],
        "start": result.start,
        "code": AgentFingerprint.from_agent(agent).to_json(),
        "recipe": recipe,
        "at": round(time(), 3),
    }
    if result.settings is not None:
        body["settings"] = result.settings.to_json()
    if result.overrides is not None:
        body["overrides"] = result.overrides.to_json()
    first = seal_record(result.run_id, 1, "begin", body, "")
    # One transaction: of a run without its result, every call would be executed again.
    last = _build_last_entry(DurableRunState(result.run_id, [first]), "", result)
    if not journal.create_run(first, "", title=_make_title(prompt[-1]), last=last):
        _write_result(journal, claim_run(journal, result.run_id), result)


def _write_result(journal: Journal, claim: ClaimedRun, result: AnyResult | None) -> None:
    """Append the last record of a claimed run, and release the run. None: it was cancelled."""
    try:
        state = DurableRunState(claim.run_id, claim.records)
        if result is None:
            result = state.build_cancelled_result("it was cancelled")
        entry = _build_last_entry(state, claim.lease_id, result)
        for error in filter(None, journal.append([entry])):
            raise error
    finally:
        journal.release(claim.run_id, claim.lease_id)


def _build_last_entry(state: DurableRunState, lease_id: str, result: AnyResult) -> JournalEntry:
    kind: RecordKind = "pause" if result.pending else "finish"
    status: RunStatus = "paused" if result.pending else "finished"
    wire = result_to_json(result, state.get_messages(state.run_id))
    body: dict[str, JSON] = {"result": wire, "at": round(time(), 3)}
    record = seal_record(state.run_id, state.sequence + 1, kind, body, state.digest)
    return JournalEntry(record, lease_id, state.digest, status, result.stop_reason)
