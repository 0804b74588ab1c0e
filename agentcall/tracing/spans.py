"""Build spans of runs, requests and tool calls, by OpenTelemetry's conventions for generative AI.

`SpanBuilder` is an instrumentation of the runtime; it sends its spans to a `Tracer`, which is
OpenTelemetry or a file. Rules:

1. A span contains no text of the user, the model or a tool unless content is turned on.
2. No text contains a key or password of a model's server, even if the server echoes it. `redact`
   removes anything else that must not be seen.
3. A failure of a tool is a failed span; a run that waits for approval or reaches a limit is not.

Source: open-telemetry/semantic-conventions 1.41, docs/gen-ai, gen-ai-agent-spans.md and
gen-ai-spans.md (both in development). Attributes without a name there are called `agentcall.*`.

Messages are JSON text of roles with parts, after the JSON schemas gen-ai-input-messages,
gen-ai-output-messages and gen-ai-system-instructions there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import orjson

from agentcall.errors import ModelRefused, ModelTimeout, ModelUnreachable
from agentcall.messages import (
    JSON,
    Assistant,
    Image,
    Message,
    System,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    User,
    encode_json,
)
from agentcall.models.errors import expand_secrets, mask_text
from agentcall.models.model import ResponseEnd, ResponseEvent, ResponseStart, collect_secrets
from agentcall.result import RunResult
from agentcall.runtime.executor import AgentRunPaused
from agentcall.runtime.instrumentation import (
    AgentSpan,
    InstrumentedSpan,
    ModelSpan,
    RecordResult,
    SpanResult,
    ToolSpan,
)
from agentcall.runtime.turn import ModelTurn, build_turn
from agentcall.settings import ModelSettings
from agentcall.tools.tool import Tool


def format_messages(messages: Iterable[Message]) -> str:
    """Format a conversation, for `gen_ai.input.messages`."""
    return _dump_json(
        [{"role": _get_role(message), "parts": _build_parts(message)} for message in messages]
    )


def format_turn(turn: ModelTurn) -> str:
    """Format a model's answer, for `gen_ai.output.messages`."""
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in turn.calls)
    return format_answer(Assistant(turn.text, calls, turn.thinking), turn.finish or "error")


def format_answer(message: Assistant, finish: str) -> str:
    """Format an assistant message and its finish reason."""
    return _dump_json(
        [{"role": "assistant", "parts": _build_parts(message), "finish_reason": finish}]
    )


def format_instructions(instructions: str) -> str:
    """Format an agent's instructions, for `gen_ai.system_instructions`."""
    return _dump_json([_build_text_part(instructions)])


def format_tools(tools: Iterable[Tool]) -> str:
    """Format the tools of a request, for `gen_ai.tool.definitions`."""
    return _dump_json(
        [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            }
            for tool in tools
        ]
    )


def _get_role(message: Message) -> str:
    match message:
        case System():
            return "system"
        case User():
            return "user"
        case Assistant():
            return "assistant"
        case ToolResult():
            return "tool"


def _build_parts(message: Message) -> list[JSON]:
    match message:
        case System(text):
            return [_build_text_part(text)]
        case User(content):
            if isinstance(content, str):
                return [_build_text_part(content)]
            return [*map(_build_part, content)]
        case ToolResult():
            part: JSON = {
                "type": "tool_call_response",
                "id": message.call_id,
                "response": message.text,
            }
            return [part]
        case Assistant(text, calls, thinking):
            parts: list[JSON] = []
            if thinking:
                parts.append({"type": "reasoning", "content": thinking})
            if text:
                parts.append(_build_text_part(text))
            return parts + [_build_call_part(call) for call in calls]


def _build_text_part(text: str) -> JSON:
    return {"type": "text", "content": text}


def _build_part(part: Text | Image) -> JSON:
    if isinstance(part, Text):
        return _build_text_part(part.text)
    if not part.url.startswith("data:"):
        return {"type": "uri", "modality": "image", "uri": part.url}
    return _build_text_part(f"[{part.description}]")  # a trace is no place for a picture


def _build_call_part(call: ToolCall) -> JSON:
    try:
        arguments: JSON = orjson.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}


def _dump_json(value: Sequence[JSON]) -> str:
    return encode_json(value).decode()


AttributeValue: TypeAlias = str | int | float | bool | Sequence[str]
Attributes: TypeAlias = Mapping[str, AttributeValue]
OperationKind: TypeAlias = Literal["client", "internal"]


@dataclass(frozen=True, slots=True)
class SpanStart:
    """The name, the kind and the first attributes of a span; "client" asks another server."""

    name: str
    kind: OperationKind
    attributes: Attributes


class Span(Protocol):
    """A span that has started; it ends with its `with` block, also if that raises."""

    def rename(self, name: str) -> None:
        """Change the name."""
        ...

    def set_attributes(self, attributes: Attributes) -> None:
        """Add attributes."""
        ...

    def record_error(self, kind: str, message: str) -> None:
        """Mark the span as failed, with the kind of the error and its message."""
        ...


class Tracer(Protocol):
    """Receives spans."""

    def start_span(self, start: SpanStart) -> AbstractContextManager[Span]:
        """Start a child of the task's current span."""
        ...


PROVIDER = "openai"
"""The conventions' value for any server with OpenAI's protocol."""

_FAILED_REASONS = ("error", "timeout", "cancelled")
_CANCELLED = (asyncio.CancelledError, GeneratorExit)


class SpanBuilder:
    """Sends the spans of runs, requests and tool calls to a tracer.

    content: whether spans contain messages, arguments and results.
    redact: applied to each text before it is added to a span.
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
        """Trace a run, a request or a tool call from its start to its end."""
        with self._tracer.start_span(_build_start(span)) as trace_span:
            writer = _make_writer(self, span, trace_span)
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
        # The messages of these errors contain no content: they are about the connection.
        has_no_content = isinstance(error, (ModelUnreachable, ModelTimeout))
        message = self._redact_text(str(error)) if self._content or has_no_content else ""
        span.record_error(type(error).__name__, message)

    def add_secrets(self, source: ModelSpan) -> None:
        """Remove the secrets of a request's model from all texts from now on.

        They are known only after the request: a shorthand is resolved by it.
        """
        secrets = collect_secrets([source.model])
        if not self._secrets.issuperset(secrets):
            self._secrets.update(secrets)
            self._secret_forms = expand_secrets(self._secrets)

    def set_text(self, span: Span, name: str, build_text: Callable[[], str]) -> None:
        """Add a text to a span if content is turned on."""
        if self._content:
            span.set_attributes({name: self._redact_text(build_text())})

    def _redact_text(self, text: str) -> str:
        try:
            redacted = self._redact(mask_text(text, self._secret_forms))
        except Exception as error:  # a failure of the user's function must not end the run
            redacted = f"(left out: redact raised {type(error).__name__})"
        return redacted.encode("utf-8", "replace").decode()  # exporters fail on lone surrogates


def _build_start(source: InstrumentedSpan) -> SpanStart:
    attributes: dict[str, AttributeValue] = {
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.name": source.agent,
    }
    match source:
        case AgentSpan(agent, run_id):
            attributes["gen_ai.operation.name"] = "invoke_agent"
            attributes["agentcall.run.id"] = run_id
            return SpanStart(f"invoke_agent {agent}".strip(), "internal", attributes)
        case ModelSpan(_, _, request):
            has_schema = request.prompt.answer_schema is not None
            attributes["gen_ai.operation.name"] = "chat"
            attributes["gen_ai.request.stream"] = request.stream
            attributes["gen_ai.output.type"] = "json" if has_schema else "text"
            if request.settings is not None:
                attributes |= _describe_settings(request.settings)
            return SpanStart("chat", "client", attributes)  # renamed when the model is known
        case ToolSpan(_, call, tool):
            attributes["gen_ai.operation.name"] = "execute_tool"
            attributes["gen_ai.tool.name"] = call.name
            attributes["gen_ai.tool.call.id"] = call.id
            attributes["gen_ai.tool.type"] = "function"
            if tool.description:
                attributes["gen_ai.tool.description"] = tool.description
            return SpanStart(f"execute_tool {call.name}", "internal", attributes)


def _describe_settings(settings: ModelSettings) -> dict[str, AttributeValue]:
    """Return the settings of an agent and a run; those of its model are not known here."""
    values: dict[str, AttributeValue | None] = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
        "stop_sequences": list(settings.stop) if settings.stop else None,
    }
    return {f"gen_ai.request.{name}": v for name, v in values.items() if v is not None}


def _make_writer(
    builder: SpanBuilder, source: InstrumentedSpan, span: Span
) -> _RunSpanWriter | _ChatSpanWriter | _ToolSpanWriter:
    match source:
        case AgentSpan():
            return _RunSpanWriter(builder, source, span)
        case ModelSpan():
            return _ChatSpanWriter(builder, source, span)
        case ToolSpan():
            return _ToolSpanWriter(builder, source, span)


class _RunSpanWriter:
    """Sets the attributes of a run's span."""

    def __init__(self, builder: SpanBuilder, source: AgentSpan, span: Span) -> None:
        self._builder, self._source, self._span = builder, source, span
        self._result: RunResult[Any] | None = None  # Any: the type of the agent's output

    def record(self, result: SpanResult) -> None:
        if isinstance(result, RunResult):
            self._result = result

    def finish(self) -> None:
        result, span, builder = self._result, self._span, self._builder
        prompt, messages = self._source.prompt, self._source.messages
        builder.set_text(span, "gen_ai.input.messages", lambda: format_messages(messages))
        if instructions := prompt.instructions:
            builder.set_text(
                span, "gen_ai.system_instructions", lambda: format_instructions(instructions)
            )
        if prompt.tools:
            builder.set_text(span, "gen_ai.tool.definitions", lambda: format_tools(prompt.tools))
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
            reason = result.stop_reason
            builder.set_text(
                span, "gen_ai.output.messages", lambda: format_answer(last_message, reason)
            )


class _ChatSpanWriter:
    """Sets the attributes of a model request's span."""

    def __init__(self, builder: SpanBuilder, source: ModelSpan, span: Span) -> None:
        self._builder, self._source, self._span = builder, source, span
        self._parts: list[ResponseEvent] = []
        self._started = perf_counter()
        self._first_chunk_seconds: float | None = None

    def record(self, result: SpanResult) -> None:
        if isinstance(result, (ToolResult, RunResult)):
            return
        if isinstance(result, ResponseStart):
            self._started = perf_counter()
            self._set_model_attributes(result)
        elif self._first_chunk_seconds is None:
            self._first_chunk_seconds = perf_counter() - self._started
        self._parts.append(result)

    def _set_model_attributes(self, start: ResponseStart) -> None:
        attributes: dict[str, AttributeValue] = {"agentcall.dialect": start.dialect}
        if start.model:
            self._span.rename(f"chat {start.model}")
            attributes["gen_ai.request.model"] = start.model
        attributes |= _build_server_attributes(start.url)
        self._span.set_attributes(attributes)

    def finish(self) -> None:
        span, builder, request = self._span, self._builder, self._source.request
        builder.add_secrets(self._source)
        builder.set_text(span, "gen_ai.input.messages", lambda: format_messages(request.transcript))
        builder.set_text(
            span, "gen_ai.output.messages", lambda: format_turn(build_turn(self._parts))
        )
        if request.stream and self._first_chunk_seconds is not None:
            span.set_attributes({"gen_ai.response.time_to_first_chunk": self._first_chunk_seconds})
        end = self._parts[-1] if self._parts else None
        if not isinstance(end, ResponseEnd):
            return
        span.set_attributes(
            {
                **_build_token_attributes(end.usage),
                "gen_ai.response.finish_reasons": [end.finish_reason or "error"],
            }
        )
        if end.finish_reason is None:
            span.record_error("CutAnswer", "the answer was cut off")


class _ToolSpanWriter:
    """Sets the attributes of a tool call's span."""

    def __init__(self, builder: SpanBuilder, source: ToolSpan, span: Span) -> None:
        self._builder, self._source, self._span = builder, source, span
        self._result: ToolResult | None = None

    def record(self, result: SpanResult) -> None:
        if isinstance(result, ToolResult):
            self._result = result

    def finish(self) -> None:
        result, span, builder = self._result, self._span, self._builder
        builder.set_text(span, "gen_ai.tool.call.arguments", lambda: self._source.call.arguments)
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
    """Return the host and the port of a URL, if it has them."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return {}
    if not parts.hostname or port is None:
        return {}
    return {"server.address": parts.hostname, "server.port": port}
