"""Makes spans of what runs do, by OpenTelemetry's conventions for generative AI.

Rules:
1. A span has no text of the user, the model or a tool unless content is asked for.
2. A key or password of a model's server is in no text, not even where the server repeats it; what
   else must not be seen, `redact` takes out.
3. A tool's failure is a failed span; a run that waits for approval or meets a limit is none.

Source: open-telemetry/semantic-conventions 1.41, docs/gen-ai, gen-ai-agent-spans.md and
gen-ai-spans.md (in development there). What they have no name for is called `agentcall.*`.

What a span is, and what takes spans; OpenTelemetry and a file are two that do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from agentcall.errors import ModelRefused, ModelTimeout, ModelUnreachable
from agentcall.messages import Assistant, ToolResult, Usage
from agentcall.models.base import ResponseEnd, ResponseEvent, ResponseStart, collect_secrets
from agentcall.models.errors import expand_secrets, mask_text
from agentcall.result import RunResult
from agentcall.runtime.executor import AgentRunPaused
from agentcall.runtime.hooks import (
    AgentSpan,
    InstrumentedSpan,
    ModelSpan,
    RecordResult,
    SpanResult,
    ToolSpan,
)
from agentcall.runtime.turn import build_turn
from agentcall.tracing.genai import (
    format_answer,
    format_instructions,
    format_messages,
    format_tools,
    format_turn,
)

AttributeValue: TypeAlias = str | int | float | bool | Sequence[str]
Attributes: TypeAlias = Mapping[str, AttributeValue]
OperationKind: TypeAlias = Literal["client", "internal"]


@dataclass(frozen=True, slots=True)
class SpanStart:
    """How a span begins: its name, whether it asks another server, and what is known of it."""

    name: str
    kind: OperationKind
    attributes: Attributes


class Span(Protocol):
    """A span that has begun; it ends with the `with` that it began in, also where that raises."""

    def rename(self, name: str) -> None:
        """Gives it another name."""
        ...

    def set_attributes(self, attributes: Attributes) -> None:
        """Adds to what is known of it."""
        ...

    def record_error(self, kind: str, message: str) -> None:
        """Says that it went wrong: the kind of error, and its words."""
        ...


class Tracer(Protocol):
    """Takes spans."""

    def start_span(self, start: SpanStart) -> AbstractContextManager[Span]:
        """A span, inside of the one that is open in this task."""
        ...


PROVIDER = "openai"
"""The conventions' word for servers that speak OpenAI's protocol, whoever's they are."""

_FAILED_REASONS = ("error", "timeout", "cancelled")
_CANCELLED = (asyncio.CancelledError, GeneratorExit)


class SpanBuilder:
    """Watches runs, and has a tracer keep what it sees.

    content: whether messages, arguments and results are written too.
    redact: what a text becomes before it is written.
    """

    def __init__(
        self, tracer: Tracer, *, content: bool = False, redact: Callable[[str], str] = str
    ) -> None:
        self._tracer = tracer
        self._content = content
        self._redact = redact
        self._secrets: set[str] = set()
        self._secret_forms: Sequence[str] = ()

    @contextmanager
    def observe(self, span: InstrumentedSpan) -> Generator[RecordResult, None, None]:
        """The span of a work, from its begin to its end."""
        with self._tracer.start_span(_build_start(span)) as trace_span:
            writer = self._make_writer(span, trace_span)
            try:
                yield writer.record
            except AgentRunPaused:
                trace_span.set_attributes({"agentcall.stop_reason": "approval"})
                writer.finish()
                raise
            except BaseException as error:  # asyncio.CancelledError too
                writer.finish()
                self._record_error(trace_span, error)
                raise
            else:
                writer.finish()

    def _record_error(self, span: Span, error: BaseException) -> None:
        if isinstance(error, _CANCELLED):
            span.record_error("cancelled", "")
            return
        if isinstance(error, ModelRefused):
            span.set_attributes({"http.response.status_code": error.status})
        is_ours = isinstance(error, (ModelUnreachable, ModelTimeout))
        words = self._redact_text(str(error)) if self._content or is_ours else ""
        span.record_error(type(error).__name__, words)

    def _make_writer(
        self, work: InstrumentedSpan, span: Span
    ) -> _RunSpanWriter | _ChatSpanWriter | _ToolSpanWriter:
        match work:
            case AgentSpan():
                return _RunSpanWriter(self, work, span)
            case ModelSpan():
                return _ChatSpanWriter(self, work, span)
            case ToolSpan():
                return _ToolSpanWriter(self, work, span)

    def add_secrets(self, asking: ModelSpan) -> None:
        """Keeps the secrets of a model that was asked out of what is written from now on."""
        found = collect_secrets([asking.model])
        if not self._secrets.issuperset(found):
            self._secrets.update(found)
            self._secret_forms = expand_secrets(self._secrets)

    def set_text(self, span: Span, name: str, text: Callable[[], str]) -> None:
        """Adds a text to a span, if texts are wanted."""
        if self._content:
            span.set_attributes({name: self._redact_text(text())})

    def _redact_text(self, text: str) -> str:
        """The text as it may be seen; `redact` may fail, which is no reason to end a run."""
        try:
            clean = self._redact(mask_text(text, self._secret_forms))
        except Exception as error:
            clean = f"(left out: redact raised {type(error).__name__})"
        return clean.encode("utf-8", "replace").decode()  # no exporter takes a lone surrogate


def _build_start(work: InstrumentedSpan) -> SpanStart:
    match work:
        case AgentSpan(agent, run_id):
            fields: dict[str, AttributeValue] = {"agentcall.run.id": run_id}
            return _build_named_start("invoke_agent", agent, agent, fields)
        case ModelSpan(agent, _, request):
            asked: dict[str, AttributeValue] = {"gen_ai.request.stream": request.stream}
            asked["gen_ai.output.type"] = "text" if request.prompt.answer_schema is None else "json"
            return _build_named_start("chat", "", agent, asked, kind="client")
        case ToolSpan(agent, call, tool):
            called: dict[str, AttributeValue] = {
                "gen_ai.tool.name": call.name,
                "gen_ai.tool.call.id": call.id,
                "gen_ai.tool.type": "function",
            }
            if tool.description:
                called["gen_ai.tool.description"] = tool.description
            return _build_named_start("execute_tool", call.name, agent, called)


def _build_named_start(
    operation: str,
    target: str,
    agent: str,
    fields: dict[str, AttributeValue],
    *,
    kind: OperationKind = "internal",
) -> SpanStart:
    known: dict[str, AttributeValue] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.name": agent,
    }
    return SpanStart(f"{operation} {target}".strip(), kind, {**known, **fields})


class _RunSpanWriter:
    """What is written of a run."""

    def __init__(self, builder: SpanBuilder, work: AgentSpan, span: Span) -> None:
        self._builder, self._work, self._span = builder, work, span
        self._result: RunResult[Any] | None = None  # Any: the agent knows its output's type

    def record(self, fact: SpanResult) -> None:
        if isinstance(fact, RunResult):
            self._result = fact

    def finish(self) -> None:
        result, span, builder = self._result, self._span, self._builder
        offer, input_messages = self._work.prompt, self._work.messages
        builder.set_text(span, "gen_ai.input.messages", lambda: format_messages(input_messages))
        if offer.instructions:
            instructions = offer.instructions
            builder.set_text(
                span, "gen_ai.system_instructions", lambda: format_instructions(instructions)
            )
        if offer.tools:
            builder.set_text(span, "gen_ai.tool.definitions", lambda: format_tools(offer.tools))
        if result is None:
            return
        span.set_attributes(
            {
                **_build_token_attributes(result.usage),
                "agentcall.stop_reason": result.stop_reason,
                "agentcall.usage.requests": result.usage.requests,
                "agentcall.usage.tool_calls": result.usage.tool_calls,
            }
        )
        if result.stop_reason in _FAILED_REASONS:
            span.record_error(result.stop_reason, "")
        last_message = result.messages[-1] if result.messages else None
        if isinstance(last_message, Assistant):
            ending = result.stop_reason
            builder.set_text(
                span, "gen_ai.output.messages", lambda: format_answer(last_message, ending)
            )


class _ChatSpanWriter:
    """What is written of a request to a model."""

    def __init__(self, builder: SpanBuilder, work: ModelSpan, span: Span) -> None:
        self._builder, self._work, self._span = builder, work, span
        self._parts: list[ResponseEvent] = []
        self._started = perf_counter()
        self._first_chunk_seconds: float | None = None

    def record(self, fact: SpanResult) -> None:
        if isinstance(fact, (ToolResult, RunResult)):
            return
        if isinstance(fact, ResponseStart):
            self._started = perf_counter()
            self._set_model_attributes(fact)
        elif self._first_chunk_seconds is None:
            self._first_chunk_seconds = perf_counter() - self._started
        self._parts.append(fact)

    def _set_model_attributes(self, chosen: ResponseStart) -> None:
        fields: dict[str, AttributeValue] = {"agentcall.dialect": chosen.dialect}
        if chosen.model:
            self._span.rename(f"chat {chosen.model}")
            fields["gen_ai.request.model"] = chosen.model
        fields |= _build_server_attributes(chosen.url)
        self._span.set_attributes(fields)

    def finish(self) -> None:
        span, builder, request = self._span, self._builder, self._work.request
        builder.add_secrets(self._work)
        builder.set_text(span, "gen_ai.input.messages", lambda: format_messages(request.transcript))
        builder.set_text(
            span, "gen_ai.output.messages", lambda: format_turn(build_turn(self._parts))
        )
        if request.stream and self._first_chunk_seconds is not None:
            span.set_attributes({"gen_ai.response.time_to_first_chunk": self._first_chunk_seconds})
        ended = self._parts[-1] if self._parts else None
        if not isinstance(ended, ResponseEnd):
            return
        span.set_attributes(
            {
                **_build_token_attributes(ended.usage),
                "gen_ai.response.finish_reasons": [ended.finish_reason or "error"],
            }
        )
        if ended.finish_reason is None:
            span.record_error("CutAnswer", "the answer has no end")


class _ToolSpanWriter:
    """What is written of a tool call."""

    def __init__(self, builder: SpanBuilder, work: ToolSpan, span: Span) -> None:
        self._builder, self._work, self._span = builder, work, span
        self._result: ToolResult | None = None

    def record(self, fact: SpanResult) -> None:
        if isinstance(fact, ToolResult):
            self._result = fact

    def finish(self) -> None:
        result, span, builder = self._result, self._span, self._builder
        builder.set_text(span, "gen_ai.tool.call.arguments", lambda: self._work.call.arguments)
        if result is None:
            return
        if result.is_error:
            span.record_error("tool_error", "")
        builder.set_text(span, "gen_ai.tool.call.result", lambda: result.text)


def _build_token_attributes(usage: Usage) -> dict[str, AttributeValue]:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
    }


def _build_server_attributes(url: str) -> dict[str, AttributeValue]:
    """The host and the port of a URL, where it has them."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return {}
    if not parts.hostname or port is None:
        return {}
    return {"server.address": parts.hostname, "server.port": port}
