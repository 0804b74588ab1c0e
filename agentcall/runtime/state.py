"""The state of a run: its input, its budget, and all that changes until its result.

How the budgets of nested runs work:
1. What an agent as a tool uses, the run that calls it has used too.
2. So a nested run may use what is left of both limits, and one request less than the run above it
   has left: that run needs one for its own answer.
3. A request is reserved before it is made, so that agents that run at the same time do not exceed
   a limit together.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from agentcall.approvals import Answer, ApprovalRule, FinalDecision, Question
from agentcall.dialects.dialect import PromptSpec, ToolChoice
from agentcall.errors import AgentCallError, Blocked, ModelRetry, UsageError
from agentcall.events import ContextCompacted, Emit, Event, MessagesOmitted
from agentcall.messages import (
    Assistant,
    Message,
    ToolResult,
    Transcript,
    Usage,
    User,
    fill_missing_results,
    is_tainted,
)
from agentcall.models.errors import find_window
from agentcall.models.model import ModelRequest, fetch_context_window, find_context_window
from agentcall.result import (
    ContextCut,
    MissingOutput,
    PausedAgentCall,
    PendingCall,
    RunResult,
    StopReason,
    ToolFailure,
)
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.call_rules import CallRecord
from agentcall.runtime.checkpoint import RunCheckpoint
from agentcall.runtime.context_meter import (
    SMALLEST_WINDOW,
    TOOL_TOKENS,
    PromptMeter,
    estimate_message,
    reserve_answer,
)
from agentcall.runtime.context_trimming import ContextView
from agentcall.runtime.instrumentation import Instrumentation, get_instrumentation
from agentcall.runtime.loop_guard import LoopGuard
from agentcall.runtime.output import InvalidOutput
from agentcall.runtime.prompts import (
    FINAL_ANSWER,
    format_final_call,
    format_handoff,
)
from agentcall.runtime.tool_progress import ProgressQueue
from agentcall.settings import Limits, ModelSettings, merge_settings
from agentcall.tools.selection import ToolSelection
from agentcall.tools.tool import RunContext, Tool, is_offered

if TYPE_CHECKING:  # few runs compact anything
    from agentcall.runtime.compaction import CompactionPlan, CompactionStrategy, RunningModel
    from agentcall.runtime.inbox import Inbox

_log = logging.getLogger("agentcall.tools")

_NO_USAGE = Usage()
_FULL_SHARE = 0.9
_SMALLEST_ROOM = SMALLEST_WINDOW - reserve_answer(SMALLEST_WINDOW, None)
_NO_QUESTIONS: Mapping[str, Question] = {}


class RunInput(NamedTuple):
    """What a run starts with.

    messages: the conversation; the run's own messages begin at `start`.
    pending, decisions, paused, usage, turns, agent: of a run that is resumed: the calls that
        waited, the decisions about them by call id, the calls of nested agents that waited, what
        the run had used, and the name of the agent that continues.
    children: the inputs of the nested runs that continue, by the ids of their calls.
    parent: the run that calls this agent as a tool.
    wait_for_reader: waits until the reader of the run's events waits for more; None if nobody reads
        them one by one.
    elapsed_seconds: the time that an interrupted run had taken in earlier processes.
    settings: the model settings of the run, which replace those of its agents.
    cuts: the messages that the model does not get any more, of a run that is resumed.
    inbox: takes messages for the run while it is under way.
    undelivered: messages that the run took before it waited for approval.
    compact: the session's rule for a conversation that is longer than the window.
    save_compaction: stores a plan of it for the next runs of the session.
    """

    run_id: str
    messages: Sequence[Message]
    start: int
    deps: object = None
    pending: tuple[PendingCall, ...] = ()
    decisions: Mapping[str, FinalDecision] = {}
    usage: Usage = _NO_USAGE
    turns: int = 0
    agent: str = ""
    approval_rules: tuple[ApprovalRule, ...] = ()
    paused: tuple[PausedAgentCall, ...] = ()
    children: Mapping[str, RunInput] = {}
    parent: RunState | None = None
    wait_for_reader: Callable[[], Awaitable[None]] | None = None
    elapsed_seconds: float = 0.0
    settings: ModelSettings | None = None
    cuts: tuple[ContextCut, ...] = ()
    inbox: Inbox | None = None
    undelivered: tuple[User, ...] = ()
    compact: CompactionStrategy | None = None
    save_compaction: Callable[[CompactionPlan], Awaitable[None]] | None = None


_ONE_TOOL_CALL = Usage(tool_calls=1)


class Budget:
    """Counts what a run uses, against its own limits and those of the runs above it.

    used: what was used. reserved: the requests that are under way.
    """

    def __init__(
        self, limits: Limits, used: Usage = _NO_USAGE, parent: Budget | None = None
    ) -> None:
        self.limits = limits
        self.used = used
        self.reserved = 0
        self.chain: tuple[Budget, ...] = (self, *(parent.chain if parent is not None else ()))

    @property
    def requests_left(self) -> int | None:
        """The number of requests that may still be made; None if there is no limit."""
        return min(
            (
                budget.limits.requests - budget.used.requests - budget.reserved - depth
                for depth, budget in enumerate(self.chain)
                if budget.limits.requests is not None
            ),
            default=None,
        )

    def reserve_request(self) -> bool:
        """Reserve a request before it is made; False if none is left."""
        for depth, budget in enumerate(self.chain):
            limit = budget.limits.requests
            if limit is not None and limit - budget.used.requests - budget.reserved <= depth:
                return False
        for budget in self.chain:
            budget.reserved += 1
        return True

    def commit_usage(self, reserved: int, usage: Usage) -> None:
        """Count the usage of `reserved` requests, which have ended."""
        for budget in self.chain:
            budget.reserved -= reserved
            budget.used = usage if budget.used is _NO_USAGE else budget.used + usage

    def add_to_parents(self, usage: Usage) -> None:
        """Count what this run had used before it was interrupted in the runs above it."""
        for budget in self.chain[1:]:
            budget.used += usage

    def count_tool_call(self, *, approved: bool = False) -> int | None:
        """Count a tool call, or return the limit that is reached, in this run or above.

        approved: a person has approved the call, so it is counted whatever is left.
        """
        for budget in self.chain:
            limit = budget.limits.tool_calls
            if limit is not None and budget.used.tool_calls >= limit and not approved:
                return limit
        for budget in self.chain:
            budget.used += _ONE_TOOL_CALL
        return None

    def return_tool_call(self) -> None:
        """Uncount a tool call that was counted and is not made."""
        for budget in self.chain:
            budget.used -= _ONE_TOOL_CALL

    def find_exceeded_limit(self) -> tuple[StopReason, str] | None:
        """Return the stop reason and its explanation if no further request may be made."""
        for depth, budget in enumerate(self.chain):
            limits, used = budget.limits, budget.used
            requests = used.requests + budget.reserved + depth
            if limits.requests is not None and requests >= limits.requests:
                return "max_requests", self._explain(f"it made {self.used.requests} requests")
            if limits.tokens is not None and used.total_tokens >= limits.tokens:
                return "max_tokens", self._explain(f"it used {self.used.total_tokens} tokens")
        return None

    def _explain(self, used: str) -> str:
        is_nested = len(self.chain) > 1
        return f"{used}, and the run that called it may have used the rest" if is_nested else used


class RunState:
    """All that changes in a run; the loop, the planner and the executor work on it.

    A nested run reads the state of the run above it: see `current_run`. `messages` are those of the
    input, with what is known of their provenance.
    """

    questions: Mapping[str, Question] = _NO_QUESTIONS  # that calls ask a person, by call id

    def __init__(
        self,
        spec: AgentSpec,
        run_input: RunInput,
        messages: Sequence[Message],
        emit: Emit | None = None,
    ) -> None:
        parent = run_input.parent
        self.input = run_input
        self.run_id = run_input.run_id
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.steps = spec.steps
        self.emit, self.progress = emit, None if emit is None else ProgressQueue(emit)
        self.wait_for_reader = run_input.wait_for_reader
        if parent is not None:
            self.wait_for_reader = parent.wait_for_reader
        self.instrumentation: Instrumentation | None = (
            get_instrumentation() if parent is None else parent.instrumentation
        )
        parent_budget = None if parent is None else parent.budget
        self.budget: Budget = Budget(spec.limits, run_input.usage, parent_budget)
        self._init_conversation(run_input, messages, spec.limits)
        # The tool calls: every result by call id, also those of a turn that is under way.
        self.results: dict[str, ToolResult] = {}
        self.call_ids = {call.id for m in messages if isinstance(m, Assistant) for call in m.calls}
        self.failures: Counter[str] = Counter()  # in a row, by tool
        self.loop_guard = LoopGuard()
        self.paused_runs: dict[str, RunResult[Any]] = {}  # Any: there is no output yet
        self.is_restoring = False  # until the calls of the interrupted turn are planned
        self.tool_errors: list[ToolFailure] = []
        # An exception of a tool that ends the run, as `Agent.on_tool_error` decided.
        self.fatal_error: Exception | None = None
        self.fatal_source = "a tool"
        # Why the tools will be closed when this turn ends, and why they are closed.
        self.closing_reason: StopReason | None = None
        self.close_reason: StopReason | None = None
        self.switch_agent(spec)
        if self.turns and not self._has_just_taken_over(messages):
            self.free_tool_choice()

    def _has_just_taken_over(self, messages: Sequence[Message]) -> bool:
        """Whether a run that continues is at the first turn of an agent after a handoff."""
        last = messages[-1] if messages else None
        return isinstance(last, ToolResult) and last.text == format_handoff(self.spec.name)

    def _init_conversation(
        self, run_input: RunInput, messages: Sequence[Message], limits: Limits
    ) -> None:
        self.view = ContextView()
        self.trim_events: list[Event] = []  # of the history, before the run began
        self.transcript = Transcript(self._shorten_long_results(messages, limits))
        if run_input.cuts:
            self.view.cuts = run_input.cuts
            self.transcript = Transcript(self.view.show(messages))
        self.is_tainted = is_tainted(messages)
        self.turns = run_input.turns
        self.inbox = run_input.inbox
        self.invalid_answers = 0  # in a row
        self.holds_answer = False  # whether the next answer has to be an output
        # What output tools and functions have returned, by call id; None until one is called.
        self.output_values: dict[str, object] | None = None
        self.prompt_meter = PromptMeter()
        self.is_in_program = False  # the next turn is a step of a program: no request is made
        # What `AgentSpec.rules` are about; None while no agent of the run has any.
        self.call_record: CallRecord | None = None
        self._recorded_hidden: Collection[str] | None = None  # of a request of an earlier process

    def switch_agent(self, spec: AgentSpec) -> None:
        """Continue as this agent, with its prompt, tools and settings."""
        self.spec = spec
        self.settings = merge_settings(spec.settings, self.input.settings)
        # For the next turn; None leaves it to the model's own settings. The choice of a run is that
        # of its first turn, and does not concern an agent that takes over.
        first = spec.settings if self.turns else self.settings
        self.tool_choice: ToolChoice | None = None if first is None else first.tool_choice
        parent = self.input.parent
        self.path: str = spec.name if parent is None else f"{parent.path}/{spec.name}"
        if spec.output.tools and self.tool_choice is None and self._has_only_output_tools(spec):
            self.tool_choice = "required"
        self.prompt = spec.prompt
        self.tools: Mapping[str, Tool] = spec.registry.by_name
        self._tool_selection = None
        if spec.finder is not None:
            self._tool_selection = ToolSelection(spec.finder, self.tool_choice)
        self._reader_tools: tuple[Tool, ...] = ()
        if self.view.has_shortened_results:
            self._offer_readers()
        self._hidden: frozenset[str] = frozenset()
        self.final_offers: Sequence[str] = ()  # the tools that may be called once they are closed
        if spec.rules is not None:
            self.repeated_tools: dict[str, int] = {}  # of which a call was repeated, in which turn
            self._ruled_prompt: tuple[object, PromptSpec] = (None, self.prompt)
            if self.call_record is None:
                made = self.view.restore(self.transcript)[self.input.start :]
                self.call_record = CallRecord.from_messages(made)
        self.prompt_meter.reset()  # prompts of two agents cannot be compared
        self._has_fetched_window = False
        self._set_window(spec.limits.context)

    def _has_only_output_tools(self, spec: AgentSpec) -> bool:
        """Whether the model can do nothing but call an output tool."""
        return len(spec.prompt.tools) == len(spec.output.tools) and not spec.output.accepts_text

    def create_context(self) -> RunContext[Any]:  # Any: the user's own type
        """Return the context of a function of the user that is not a tool."""
        return RunContext(
            deps=self.input.deps,
            usage=self.budget.used,
            messages=tuple(self.transcript),
            run_id=self.run_id,
            tainted=self.is_tainted,
        )

    async def write_instructions(self) -> None:
        """Put what the agent's functions of the instructions return into the prompt."""
        context, texts = self.create_context(), list[str]()
        for part in self.spec.instructions:
            returned = part if isinstance(part, str) else part(context)
            text = cast("object", await returned if isawaitable(returned) else returned)
            if not isinstance(text, str):
                name = self.spec.name
                raise UsageError(f"the instructions of {name} returned {text!r:.100}, not a text")
            texts.append(text)
        text = "\n\n".join(filter(None, texts))
        self.prompt = replace(self.prompt, instructions=text)
        self._set_window(self.window)

    def free_tool_choice(self) -> None:
        """Leave it to the model whether it calls tools, unless it may call none."""
        if self.tool_choice != "none":
            self.tool_choice = "auto"

    def emit_event(self, event: Event) -> None:
        """Report an event, if anybody listens."""
        if self.emit is not None:
            self.emit(event)

    def record_tool_error(self, failure: ToolFailure) -> None:
        """Keep a tool's exception for the result of this run and of the runs above it."""
        self.tool_errors.append(failure)
        if self.input.parent is not None:
            self.input.parent.record_tool_error(failure)

    def end_with_error(self, error: Exception, source: str = "a tool") -> None:
        """End this run and the runs above it with this error when the current call is recorded."""
        if self.fatal_error is None:
            self.fatal_error, self.fatal_source = error, source
        if self.input.parent is not None:
            self.input.parent.end_with_error(error, source)

    @contextmanager
    def call_user_code(self) -> Generator[RunContext[Any], None, None]:  # Any: the user's own type
        """Call hooks or checks: an error that they do not mean for the model ends the run."""
        try:
            yield self.create_context()
        except (Blocked, ModelRetry):
            raise
        except Exception as error:
            self.end_with_error(error, "a hook or a check")
            raise

    def find_answers(self, call_id: str) -> tuple[Answer, ...]:
        """Return what a person has answered to the questions of a call."""
        waited = (item for item in self.input.pending if item.call.id == call_id)
        return next((item.answers for item in waited), ())

    # Interrupted runs.

    def create_checkpoint(self) -> RunCheckpoint:
        """Return the state to continue from if the process ends during the next request."""
        return RunCheckpoint(
            messages=self.view.restore(self.transcript),
            usage=self.budget.used,
            turns=self.turns,
            close_reason=self.close_reason,
            faults=self.invalid_answers,
            prompt_tokens=self.prompt_meter.tokens,
            counted_messages=self.prompt_meter.counted,
            agent=self.spec.name,
            hidden_tools=tuple(self._hidden),
            cuts=self.view.cuts,
            lengths=self.view.lengths,
            held=self.holds_answer,
        )

    def restore(self, checkpoint: RunCheckpoint) -> None:
        """Restore what the messages of a checkpoint do not contain."""
        self.invalid_answers = checkpoint.faults
        if checkpoint.cuts or checkpoint.lengths:
            self.view.cuts, self.view.lengths = checkpoint.cuts, dict(checkpoint.lengths)
            self._show(checkpoint.messages)
        self.holds_answer = checkpoint.held
        for _ in range(checkpoint.trims):
            self.trim()
        self.close_reason = checkpoint.close_reason
        self._recorded_hidden = checkpoint.hidden_tools
        if self.close_reason is not None:
            self.update_offered_tools()
            self.offer_last_tools()
        self.prompt_meter.tokens = checkpoint.prompt_tokens
        self.prompt_meter.counted = checkpoint.counted_messages

    # The prompt.

    def close_tools(self, reason: StopReason) -> None:
        """Close the tools and ask for the final answer; the first reason is kept."""
        if self.close_reason is None:
            self.close_reason = reason
            self.offer_last_tools()
            note = FINAL_ANSWER
            if self.final_offers and self.spec.rules is not None:
                self.invalid_answers = 0
                note = format_final_call(self.final_offers, tuple(self.spec.rules.final))
            self.transcript.append(User(note))

    def offer_last_tools(self) -> None:
        """Leave the tools open that end the run and may be called now.

        A model that repeats itself before that is left the next step that is missing.
        """
        rules, record = self.spec.rules, self.call_record
        if rules is not None and rules.final and record is not None:
            self.final_offers = rules.list_final_offers(record, self._hidden)
            if not self.final_offers and self.close_reason == "loop":
                self.final_offers = rules.list_next_steps(record, self._hidden)

    @property
    def are_tools_open(self) -> bool:
        """Whether the model may call a tool in this turn."""
        if self.close_reason is not None:
            return bool(self.final_offers)
        return self.tool_choice != "none"

    @property
    def request_choice(self) -> ToolChoice | None:
        """The tool choice of the next request."""
        if self.close_reason is None:
            return self.tool_choice
        if not self.final_offers:
            return "none"
        if self.spec.output.accepts_text and self.spec.output.tools:
            return "auto"
        return self.final_offers[0] if len(self.final_offers) == 1 else "required"

    @property
    def request_prompt(self) -> PromptSpec:
        """The prompt of the next request, as the rules of the tools want it.

        What a dialect shows first, the list of tools, stays the same while a run makes its steps,
        so that the server's prefix cache hits: tools that may not be called now are only withheld
        from the grammar, where there is one. A tool whose `offered` says no is left out.
        """
        rules, record = self.spec.rules, self.call_record
        if rules is None or record is None:
            return self.prompt
        left_out = self._hidden
        if self.final_offers:
            left_out = left_out.union(rules.tools, self.tools).difference(self.final_offers)
        last_turn = self.turns - 1
        repeated = {name for name, turn in self.repeated_tools.items() if turn == last_turn}
        withheld = rules.find_withheld(record) | repeated
        may_answer = not (rules.ends_by_call or rules.list_missing_for_answer(record))
        key = (self.prompt, left_out, withheld, may_answer)
        if key != self._ruled_prompt[0]:
            final = self._list_final_tools()
            prompt = replace(
                self.prompt,
                answer_schema=None if final else self.prompt.answer_schema,
                final=final,
                withheld=withheld,
                may_answer=may_answer or self.close_reason is not None,
            )
            if left_out:
                kept = tuple(tool for tool in prompt.tools if tool.name not in left_out)
                prompt = replace(prompt, tools=kept)
            self._ruled_prompt = (key, prompt)
        return self._ruled_prompt[1]

    @property
    def message_count(self) -> int:
        """The number of messages of the whole conversation."""
        return len(self.transcript) + self.view.hidden_count

    def _list_final_tools(self) -> tuple[str, ...]:
        """Return the tools of which one has to be called at the end."""
        rules = self.spec.rules
        if rules is None or not rules.ends_by_call:
            return ()
        return tuple(name for name in rules.final if name not in self._hidden)

    async def refresh_tools(self, refresh: Callable[[], Awaitable[AgentSpec]]) -> None:
        """Offer the tools of now, if servers have changed theirs; otherwise keep those of before.

        What is wrong with the new ones must not end a run that does without.
        """
        try:
            current = await refresh()
        except AgentCallError as error:
            _log.warning("the tools of %s stay as they were: %s", self.spec.agent, error)
            return
        if current.tools == self.spec.tools:
            return
        self.spec = replace(
            self.spec,
            registry=current.registry,
            finder=current.finder,
            rules=current.rules,
            handoffs=current.handoffs,
        )
        readers = tuple(tool for tool in self._reader_tools if tool.name not in current.registry)
        self.prompt = replace(self.prompt, tools=(*current.prompt.tools, *readers))
        self.tools = {tool.name: tool for tool in (*current.registry, *readers)}
        self._hidden = frozenset()
        if current.finder is not None:
            self._tool_selection = ToolSelection(current.finder, self.tool_choice)
        self.prompt_meter.reset()

    def update_offered_tools(self) -> None:
        """Offer the tools that the new messages select, if the agent selects its tools."""
        if self._tool_selection is not None:
            tools = (*self._tool_selection.update(self.transcript), *self._reader_tools)
            if tools != self.prompt.tools:
                self.prompt = replace(self.prompt, tools=tools)
        if self.spec.rules is not None and self.spec.rules.conditional:
            self._update_hidden_tools(self.spec.rules.conditional)

    def _update_hidden_tools(self, conditional: Sequence[Tool]) -> None:
        """Find the tools that are not offered with the next request."""
        if self._recorded_hidden is not None:  # the recorded turn belongs to the request of then
            hidden, self._recorded_hidden = frozenset(self._recorded_hidden), None
        else:
            context = self.create_context()
            hidden = frozenset(tool.name for tool in conditional if not is_offered(tool, context))
        if hidden != self._hidden:
            self._hidden = hidden
            known = (*self.spec.registry, *self._reader_tools)
            self.tools = {tool.name: tool for tool in known if tool.name not in hidden}
        if self.tool_choice in hidden:
            self.free_tool_choice()

    def trim(self) -> bool:
        """Shorten the largest tool results and offer `read_result`; False if none is long."""
        messages = self.view.restore(self.transcript)
        events = self.view.shorten(tuple(self.transcript))
        if not events:
            return False
        self._show(messages)
        for event in events:
            self.emit_event(event)
        return True

    def omit_messages(self) -> bool:
        """Leave the oldest messages out of the requests; False if nothing may be left out."""
        messages = self.view.restore(self.transcript)
        omitted = self.view.omit(messages, self._find_question(messages))
        if not omitted:
            return False
        self._show(messages)
        self.emit_event(MessagesOmitted(omitted))
        return True

    async def compact(self, running: RunningModel) -> bool:
        """Compact the conversation by the rule of the session or the agent.

        Returns False without a rule, or if it leaves nothing out. Raises what the rule raises.
        """
        rule = self.input.compact or self.spec.compact
        if rule is None:
            return False
        from agentcall.runtime.compaction import compact_view

        before, messages = len(self.transcript), self.view.restore(self.transcript)
        question = self._find_question(messages)
        plan = await compact_view(self.view, rule, messages, question, running)
        if plan is None:
            return False
        self._show(messages)
        self.emit_event(ContextCompacted(before, len(self.transcript)))
        if self.input.save_compaction is not None:
            await self.input.save_compaction(plan)
        return True

    @property
    def has_compaction(self) -> bool:
        """Whether the session or the agent has a rule for conversations that are too long."""
        return self.input.compact is not None or self.spec.compact is not None

    def describe_size(self) -> str:
        """Say how many tokens the parts of the conversation have that cannot be left out."""
        messages = tuple(self.transcript)
        question = max((i for i, m in enumerate(messages) if isinstance(m, User)), default=0)
        sizes = [estimate_message(message) for message in messages]
        prompt = self.prompt_meter.estimate_prompt(self.prompt)
        return (
            f"its instructions and tools have about {prompt:,} tokens, the message of the user "
            f"about {sizes[question]:,}, and the rest about {sum(sizes) - sizes[question]:,}"
        )

    def _find_question(self, messages: Sequence[Message]) -> int:
        """Return the index of the last message of the user before the run's own."""
        last = min(self.input.start, len(messages) - 1)
        indexes = (i for i in range(last, -1, -1) if isinstance(messages[i], User))
        return next(indexes, 0)

    def _show(self, messages: Sequence[Message]) -> None:
        """Send the view of these messages from now on."""
        self.transcript = Transcript(self.view.show(messages))
        self.prompt_meter.reset()
        self.prompt_meter.counted = len(self.transcript)
        if self.view.has_shortened_results:
            self._offer_readers()

    def put_messages(self, messages: Iterable[User]) -> None:
        """Let the run take messages before its next request."""
        for message in messages:
            if self.inbox is None:
                from agentcall.runtime.inbox import Inbox  # late, as few runs take messages

                self.inbox = Inbox()
            self.inbox.send(message)

    def replace_message(self, index: int, message: Message) -> None:
        """Replace a message that has not been sent."""
        if message is not self.transcript[index]:
            self._edit(index, (message, *tuple(self.transcript)[index + 1 :]))

    def drop_messages(self, begin: int) -> None:
        """Drop the messages from this index on."""
        self._edit(begin, ())

    def _edit(self, begin: int, messages: Sequence[Message]) -> None:
        """Put messages in place of the last ones, from the index on, which are not cut."""
        if begin >= self.view.viewed_count:
            self.transcript = Transcript((*tuple(self.transcript)[:begin], *messages))
        else:
            whole = self.view.restore(self.transcript)[: begin + self.view.hidden_count]
            self.transcript = Transcript(self.view.show((*whole, *messages)))

    def append_result(self, result: ToolResult) -> None:
        """Append a tool's result; the model gets a long one shortened."""
        limit = self.spec.limits.result_chars
        if limit is not None and len(result.text) > limit:
            result, event = self.view.offload(result, limit)
            self._offer_readers()
            self.emit_event(event)
        if self.call_record is not None:
            self.call_record.add(result)
        self.transcript.append(result)

    def _shorten_long_results(
        self, messages: Sequence[Message], limits: Limits
    ) -> Sequence[Message]:
        limit = limits.result_chars
        if limit is None:
            return messages
        shortened: list[Message] = []
        for message in messages:
            if isinstance(message, ToolResult) and len(message.text) > limit:
                message, event = self.view.offload(message, limit)
                self.trim_events.append(event)
            shortened.append(message)
        return shortened

    def _offer_readers(self) -> None:
        """Offer the tools that read shortened results, unless the agent has some of their names."""
        if not self._reader_tools:
            registry = self.spec.registry
            readers = self.view.create_reader_tools()
            self._reader_tools = tuple(tool for tool in readers if tool.name not in registry)
            self.prompt = replace(self.prompt, tools=(*self.prompt.tools, *self._reader_tools))
            self.tools = {**self.tools, **{tool.name: tool for tool in self._reader_tools}}

    # The context window.

    def _set_window(self, window: int | None) -> None:
        """Set the known window in tokens, and the size up to which the conversation fits it.

        A token has at least one character, and few tools have more than `TOOL_TOKENS`: a smaller
        conversation is not even estimated.
        """
        self.window = window
        if window is None and self.settings is None:
            self._room = _SMALLEST_ROOM
        else:
            tokens = window or SMALLEST_WINDOW
            max_tokens = None if self.settings is None else self.settings.max_tokens
            self._room = tokens - reserve_answer(tokens, max_tokens)
        prompt = self.prompt
        self.small_size = self._room - len(prompt.instructions) - TOOL_TOKENS * len(prompt.tools)

    async def can_send(self, request: ModelRequest) -> bool:
        """Whether a request that the hooks changed fits the window, as far as that is known."""
        if request.transcript is self.transcript and request.transcript.size <= self.small_size:
            return True
        return await self._fits(
            self.prompt_meter.estimate_whole(request.transcript, request.prompt)
        )

    async def fits_window(self) -> bool:
        """Whether the next request fits the window, as far as that is known."""
        return await self._fits(self.prompt_meter.estimate(self.transcript, self.prompt))

    async def _fits(self, tokens: int) -> bool:
        if tokens > self._room and self.window is None:
            window = await find_context_window(self.spec.model)
            if window is None:
                return True
            self._set_window(window)
        return tokens <= self._room

    async def is_context_cut(self, usage: Usage) -> bool:
        """Whether the server silently dropped a part of the conversation."""
        return await self.prompt_meter.is_cut(
            self.transcript, self.prompt, usage, self._fetch_window
        )

    @property
    def has_full_window(self) -> bool:
        """Whether the server reported about as many tokens as the window has."""
        return self.window is not None and self.prompt_meter.tokens >= self.window * _FULL_SHARE

    def learn_window(self, refusal: str) -> None:
        """Learn the window from the refusal of a conversation that was too long."""
        window = find_window(refusal)
        if window is not None and (self.window is None or window < self.window):
            self._set_window(window)

    async def _fetch_window(self) -> int | None:
        """Return the window of the agent's model; None if it is not known."""
        if self.window is None and not self._has_fetched_window:
            self._has_fetched_window = True
            window = await find_context_window(self.spec.model)
            self._set_window(window or await fetch_context_window(self.spec.model))
        return self.window

    # The result.

    def build_result(
        self,
        reason: StopReason,
        answer: object,
        *,
        pending: tuple[PendingCall, ...] = (),
        paused: tuple[PausedAgentCall, ...] = (),
    ) -> RunResult[Any]:  # Any: the agent knows its output's type
        """Build the result that ends the run; every call in it that does not wait has a result."""
        waiting = [call.call for call in pending] + [call.call for call in paused]
        return RunResult(
            answer=answer,
            messages=fill_missing_results(
                self.view.restore(self.transcript), self.results, pending=waiting
            ),
            start=self.input.start,
            usage=self.budget.used,
            stop_reason=reason,
            run_id=self.run_id,
            pending=pending,
            turns=self.turns,
            agent=self.spec.name,
            approval_rules=self.input.approval_rules,
            paused=paused,
            tool_errors=tuple(self.tool_errors),
            settings=self.input.settings,
            overrides=(self.spec.first or self.spec).overrides,
            cuts=self.view.cuts if pending else (),
        )

    @property
    def new_messages(self) -> Sequence[Message]:
        """The messages of this run."""
        return self.view.restore(self.transcript)[self.input.start :]

    @property
    def awaits_first_call(self) -> bool:
        """Whether `ModelSettings.tool_choice` demands a call that has not been made."""
        is_open = self.tool_choice in (None, "auto", "none")
        if self.tool_choice == "required" and self.spec.output.tools:
            return False  # the output that the call would give may be written in words
        return not is_open and self.close_reason is None

    @property
    def awaited_tool(self) -> str:
        """The name of the tool that this turn has to call; empty for any, or none."""
        choice = self.tool_choice
        is_named = choice not in (None, "auto", "none", "required") and self.close_reason is None
        return str(choice) if is_named else ""

    def list_next_calls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the tools that end the run, and what is missing before one of them is called."""
        rules, record = self.spec.rules, self.call_record
        if rules is None or record is None:
            return (), ()
        offers = [name for name in rules.final if name not in self._hidden]
        missing = [rules.list_missing(name, record) for name in offers]
        return offers or list(rules.final), min(missing, key=len, default=())

    @property
    def ends_by_call(self) -> bool:
        """Whether the call of a tool ends the run, and an answer in words does not."""
        return self.spec.rules is not None and self.spec.rules.ends_by_call

    def is_output(self, text: str) -> bool:
        """Whether an answer in words is an output although the call of an output tool ends the run.

        A model may write what it was to call.
        """
        output = self.spec.output
        return bool(output.tools) and not isinstance(output.parse(text), InvalidOutput)

    def hold_next_answer(self) -> None:
        """Have the server hold the next answer to the output type: the last one was not of it."""
        self.holds_answer = self.spec.output.mode in ("auto", "schema")

    def list_missing_steps(self) -> list[str]:
        """Return the names of the required tools that have not been called with success.

        None are missing once the tools are closed.
        """
        rules, record = self.spec.rules, self.call_record
        if rules is None or record is None or self.close_reason:
            return []
        return rules.list_missing_for_answer(record)

    def build_partial_result(self, reason: StopReason, why: str) -> RunResult[Any]:
        """Build the result of a run that ends without an answer.

        A text that was rejected or announced a call is not an output, and neither is the result of
        a tool: `RunResult.text` and `RunResult.last_tool_result` have them.
        """
        return self.build_result(reason, MissingOutput(why))


current_run: ContextVar[RunState | None] = ContextVar("current_run", default=None)
"""The run that calls an agent as a tool; None outside of such a call."""
