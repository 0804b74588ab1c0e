"""Compaction: give a run, or the next runs of a session, less of its conversation. All is kept.

Rules:
1. A tool call is never separated from its results: the messages that are kept begin with a user
   message, or with an assistant message if the last run alone is too long.
2. A prompt always begins with a user message, since chat templates require it.
3. A summary is written in parts that fit the context window of the model. If it fails, nothing
   changes.
4. A tainted conversation remains tainted, even if the untrusted content is left out or summarized.
5. Within a run, its question and its last step stay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import BadAnswer, ContextOverflow, UsageError
from agentcall.messages import (
    Assistant,
    Message,
    System,
    ToolResult,
    Transcript,
    User,
    is_tainted,
    mark_messages,
)
from agentcall.models.model import Model, ModelRequest, find_context_window
from agentcall.models.resolve import resolve_model
from agentcall.result import ContextCut
from agentcall.runtime.context_meter import overestimate_text
from agentcall.runtime.context_trimming import ContextView
from agentcall.runtime.prompts import (
    OMITTED_NOTICE,
    SUMMARY_INSTRUCTIONS,
    SUMMARY_QUESTION,
    format_summary,
    format_summary_request,
)
from agentcall.runtime.turn import ModelCaller, ModelTurn
from agentcall.tools.serialize import truncate_text

_CHUNK_CHARS, _MIN_CHUNK_CHARS = 24_000, 1_000
"""Characters of a conversation that are summarized at once: the first size, and the smallest."""
_SUMMARY_TOKENS = 800
"""What a summary and the instructions for it take of the window."""
_MAX_RESULT_CHARS = 2_000
_MAX_ATTEMPTS = 3


class RunningModel(NamedTuple):
    """The model of a run that is compacted.

    ask: requests a turn of it, or of another model, as a step of the run.
    window: its context window in tokens, if it is known.
    """

    ask: Callable[[Model | None, ModelRequest], Awaitable[ModelTurn]]
    window: int | None = None


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What the next runs get: `head`, followed by the last `keep_last` messages."""

    keep_last: int
    head: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """How many messages the next run starts with, before and after the compaction."""

    before: int
    after: int


class CompactionStrategy(Protocol):
    """A way to shorten a conversation: for `session.compact`, or a session's or agent's rule."""

    async def plan_compaction(self, messages: Sequence[Message]) -> CompactionPlan:
        """Return what the next runs get of these messages."""
        ...


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class Window:
    """Keeps the last messages, at most `keep`."""

    def __init__(self, keep: int = 20) -> None:
        if not _is_count(keep, 1):
            raise UsageError(f"Window({keep!r:.100}): it has to be a number of at least 1")
        self._keep = keep

    async def plan_compaction(self, messages: Sequence[Message]) -> CompactionPlan:
        """Keep the last messages."""
        kept = count_tail(messages, self._keep)
        old = messages[: len(messages) - kept]
        begins_well = not old or (kept and isinstance(messages[-kept], User))
        tainted = is_tainted(old)
        return CompactionPlan(
            kept, () if begins_well and not tainted else (User(OMITTED_NOTICE, tainted),)
        )


class Summary:
    """Keeps the last messages, at most `keep`, and a summary of the earlier ones by a model.

    model: as in `Agent`; None is the model of the agent that runs, or without a run the default.
    """

    def __init__(self, model: Model | str | None = None, keep: int = 10) -> None:
        if not _is_count(keep, 0):
            raise UsageError(f"Summary(keep={keep!r:.100}): it has to be a number of at least 0")
        self._model = None if model is None else resolve_model(model)
        self._keep = keep

    async def plan_compaction(
        self, messages: Sequence[Message], running: RunningModel | None = None
    ) -> CompactionPlan:
        """Keep the last messages, after a summary. Raises ModelError."""
        kept = count_tail(messages, self._keep)
        old = messages[: len(messages) - kept]
        if not old:
            return CompactionPlan(kept)
        model = running or RunningModel(_ask_directly)
        if self._model is not None:
            model = model._replace(window=await find_context_window(self._model))
        summary = await self._summarize("\n\n".join(_render_messages(old)), model)
        tainted = is_tainted(old)
        if kept and not isinstance(messages[-kept], User):
            return CompactionPlan(kept, (User(format_summary(summary), tainted),))
        return CompactionPlan(
            kept, mark_messages((User(SUMMARY_QUESTION), Assistant(summary)), tainted=tainted)
        )

    async def _summarize(self, text: str, model: RunningModel) -> str:
        """Summarize a text of any length, in smaller parts if one exceeds the context window."""
        summary, size = "", _CHUNK_CHARS
        while text:
            room = None if model.window is None else model.window - _SUMMARY_TOKENS
            while room is not None and size > _MIN_CHUNK_CHARS:
                if overestimate_text(text[:size]) + overestimate_text(summary) <= room:
                    break
                size //= 2
            try:
                summary = await self._summarize_chunk(summary, text[:size], model)
                if model.window is not None:  # it has to leave room for the rest
                    summary = truncate_text(summary, max(model.window, _MIN_CHUNK_CHARS))
            except ContextOverflow:
                if size <= _MIN_CHUNK_CHARS:
                    raise
                size //= 2
            else:
                text = text[size:]
        return summary

    async def _summarize_chunk(self, summary: str, chunk: str, model: RunningModel) -> str:
        prompt = User(format_summary_request(summary, chunk))
        request = ModelRequest(Transcript([prompt]), PromptSpec(SUMMARY_INSTRUCTIONS))
        turn = await model.ask(self._model, request)
        text = turn.text.strip()
        if not text and turn.finish == "length":
            raise ContextOverflow("the part leaves no room for a summary", status=400)
        if not text:
            raise BadAnswer("the model returned an empty summary; the session has not changed")
        return text


async def _ask_directly(model: Model | None, request: ModelRequest) -> ModelTurn:
    """Request a turn outside of a run."""
    tries = iter(range(_MAX_ATTEMPTS - 1))
    caller = ModelCaller(resolve_model(None) if model is None else model)
    return await caller.request_turn(request, lambda: next(tries, None) is not None)


async def compact_view(
    view: ContextView,
    strategy: CompactionStrategy,
    messages: Sequence[Message],
    question: int,
    running: RunningModel,
) -> CompactionPlan | None:
    """Give the model of a run less of its conversation; None if the strategy keeps all of it.

    messages: the whole conversation. question: the index of the message that the run answers, which
        stays, as the last step does.

    Returns the plan that does the same for the whole conversation. Raises what the strategy raises.
    """
    first = next((i for i, m in enumerate(messages) if not isinstance(m, System)), 0)
    visible = list(view.iter_visible(messages, first))
    texts = [message for message, _ in visible]
    if isinstance(strategy, Summary):
        plan = await strategy.plan_compaction(texts, running)
    else:
        plan = await strategy.plan_compaction(texts)
    kept = min(plan.keep_last, len(visible))
    place = visible[-kept][1] if kept else len(messages)
    steps = [i for i in range(question + 1, len(messages)) if isinstance(messages[i], Assistant)]
    end = min(place or 0, steps[-1] if steps else question)
    done = max((cut.end for cut in view.cuts), default=first)
    if end <= (max(done, question + 1) if done >= question else done):
        return None
    tainted = is_tainted(messages[first:end])
    head = tuple(mark_messages(plan.head, tainted=tainted))
    if end <= question:
        view.cuts = (ContextCut(first, end, head), *(cut for cut in view.cuts if cut.start >= end))
    else:  # a summary in one message of the user tells what has happened since the question
        is_exchange = not head or isinstance(head[-1], Assistant)
        before, after = (head, ()) if is_exchange else ((), head)
        view.cuts = (ContextCut(first, question, before), ContextCut(question + 1, end, after))
        if is_exchange:
            head = (*head, User(OMITTED_NOTICE, tainted))
    return CompactionPlan(len(messages) - end, head)


def count_tail(messages: Sequence[Message], limit: int) -> int:
    """Return how many of the last messages can be kept, at most `limit`; see rule 1."""
    if len(messages) <= limit:
        return len(messages)
    places = range(len(messages) - limit, len(messages))
    for kind in (User, Assistant):
        for place in places:
            if isinstance(messages[place], kind):
                return len(messages) - place
    return 0


def _render_messages(messages: Sequence[Message]) -> Iterator[str]:
    """Yield a conversation as text, with long tool results shortened."""
    for message in messages:
        match message:
            case Assistant():
                calls = (f"(calls {call.name} {call.arguments})" for call in message.calls)
                yield "\n".join(filter(None, [f"Assistant: {message.text}", *calls]))
            case ToolResult():
                yield f"{message.name} returned: {truncate_text(message.text, _MAX_RESULT_CHARS)}"
            case User():
                yield f"User: {message.text}"
            case _:
                yield f"System: {message.text}"
