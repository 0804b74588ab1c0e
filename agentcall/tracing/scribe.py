"""Makes spans of what runs do, by OpenTelemetry's conventions for generative AI.

Rules:
1. A span has no text of the user, the model or a tool unless content is asked for.
2. A key or password of a model's server is in no text, not even where the server repeats it; what
   else must not be seen, `redact` takes out.
3. A tool's failure is a failed span; a run that waits for approval or meets a limit is none.

Source: open-telemetry/semantic-conventions 1.41, docs/gen-ai, gen-ai-agent-spans.md and
gen-ai-spans.md (in development there). What they have no name for is called `agentcall.*`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from agentcall.errors import ModelRefused, ModelTimeout, ModelUnreachable
from agentcall.messages import Assistant, ToolResult, Usage
from agentcall.models.protocol import Answer, Chosen, Ended, secrets_of
from agentcall.models.refusal import forms_of, without
from agentcall.origin import Pause
from agentcall.result import RunResult
from agentcall.tracing.content import (
    answer_text,
    instructions_text,
    messages_text,
    tools_text,
    turn_text,
)
from agentcall.tracing.span import Begun, Kind, Span, Tracer, Value
from agentcall.turn import turn_of
from agentcall.watch import Asking, Calling, Fact, Note, Running, Work

PROVIDER = "openai"
"""The conventions' word for servers that speak OpenAI's protocol, whoever's they are."""

_FAILED = ("error", "timeout", "cancelled")
_CANCELLED = (asyncio.CancelledError, GeneratorExit)


class Scribe:
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
        self._forms: Sequence[str] = ()

    @contextmanager
    def around(self, work: Work) -> Generator[Note, None, None]:
        """The span of a work, from its begin to its end."""
        with self._tracer.span(_begun(work)) as span:
            page = self._page(work, span)
            try:
                yield page.note
            except Pause:
                span.set({"agentcall.stop_reason": "approval"})
                page.close()
                raise
            except BaseException as error:  # asyncio.CancelledError too
                page.close()
                self._fail(span, error)
                raise
            else:
                page.close()

    def _fail(self, span: Span, error: BaseException) -> None:
        if isinstance(error, _CANCELLED):
            span.fail("cancelled", "")
            return
        if isinstance(error, ModelRefused):
            span.set({"http.response.status_code": error.status})
        is_ours = isinstance(error, (ModelUnreachable, ModelTimeout))
        words = self._shown(str(error)) if self._content or is_ours else ""
        span.fail(type(error).__name__, words)

    def _page(self, work: Work, span: Span) -> _RunPage | _ChatPage | _CallPage:
        match work:
            case Running():
                return _RunPage(self, work, span)
            case Asking():
                return _ChatPage(self, work, span)
            case Calling():
                return _CallPage(self, work, span)

    def knows(self, asking: Asking) -> None:
        """Keeps the secrets of a model that was asked out of what is written from now on."""
        found = secrets_of([asking.model])
        if not self._secrets.issuperset(found):
            self._secrets.update(found)
            self._forms = forms_of(self._secrets)

    def write(self, span: Span, name: str, text: Callable[[], str]) -> None:
        """Adds a text to a span, if texts are wanted."""
        if self._content:
            span.set({name: self._shown(text())})

    def _shown(self, text: str) -> str:
        """The text as it may be seen; `redact` may fail, which is no reason to end a run."""
        try:
            clean = self._redact(without(text, self._forms))
        except Exception as error:
            clean = f"(left out: redact raised {type(error).__name__})"
        return clean.encode("utf-8", "replace").decode()  # no exporter takes a lone surrogate


def _begun(work: Work) -> Begun:
    match work:
        case Running(agent, run_id):
            fields: dict[str, Value] = {"agentcall.run.id": run_id}
            return _named("invoke_agent", agent, agent, fields)
        case Asking(agent, _, request):
            asked: dict[str, Value] = {"gen_ai.request.stream": request.stream}
            asked["gen_ai.output.type"] = "text" if request.offer.answer is None else "json"
            return _named("chat", "", agent, asked, kind="client")
        case Calling(agent, call, tool):
            called: dict[str, Value] = {
                "gen_ai.tool.name": call.name,
                "gen_ai.tool.call.id": call.id,
                "gen_ai.tool.type": "function",
            }
            if tool.description:
                called["gen_ai.tool.description"] = tool.description
            return _named("execute_tool", call.name, agent, called)


def _named(
    operation: str, of: str, agent: str, fields: dict[str, Value], *, kind: Kind = "internal"
) -> Begun:
    known: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.name": agent,
    }
    return Begun(f"{operation} {of}".strip(), kind, {**known, **fields})


class _RunPage:
    """What is written of a run."""

    def __init__(self, scribe: Scribe, work: Running, span: Span) -> None:
        self._scribe, self._work, self._span = scribe, work, span
        self._result: RunResult[Any] | None = None  # Any: the agent knows its output's type

    def note(self, fact: Fact) -> None:
        if isinstance(fact, RunResult):
            self._result = fact

    def close(self) -> None:
        result, span, scribe = self._result, self._span, self._scribe
        offer, asked = self._work.offer, self._work.messages
        scribe.write(span, "gen_ai.input.messages", lambda: messages_text(asked))
        if offer.instructions:
            told = offer.instructions
            scribe.write(span, "gen_ai.system_instructions", lambda: instructions_text(told))
        if offer.tools:
            scribe.write(span, "gen_ai.tool.definitions", lambda: tools_text(offer.tools))
        if result is None:
            return
        span.set(
            {
                **_tokens(result.usage),
                "agentcall.stop_reason": result.stop_reason,
                "agentcall.usage.requests": result.usage.requests,
                "agentcall.usage.tool_calls": result.usage.tool_calls,
            }
        )
        if result.stop_reason in _FAILED:
            span.fail(result.stop_reason, "")
        said = result.messages[-1] if result.messages else None
        if isinstance(said, Assistant):
            ending = result.stop_reason
            scribe.write(span, "gen_ai.output.messages", lambda: answer_text(said, ending))


class _ChatPage:
    """What is written of a request to a model."""

    def __init__(self, scribe: Scribe, work: Asking, span: Span) -> None:
        self._scribe, self._work, self._span = scribe, work, span
        self._parts: list[Answer] = []
        self._began = perf_counter()
        self._waited: float | None = None

    def note(self, fact: Fact) -> None:
        if isinstance(fact, (ToolResult, RunResult)):
            return
        if isinstance(fact, Chosen):
            self._began = perf_counter()
            self._address(fact)
        elif self._waited is None:
            self._waited = perf_counter() - self._began
        self._parts.append(fact)

    def _address(self, chosen: Chosen) -> None:
        fields: dict[str, Value] = {"agentcall.dialect": chosen.dialect}
        if chosen.model:
            self._span.rename(f"chat {chosen.model}")
            fields["gen_ai.request.model"] = chosen.model
        fields |= _server(chosen.place)
        self._span.set(fields)

    def close(self) -> None:
        span, scribe, request = self._span, self._scribe, self._work.request
        scribe.knows(self._work)
        scribe.write(span, "gen_ai.input.messages", lambda: messages_text(request.transcript))
        scribe.write(span, "gen_ai.output.messages", lambda: turn_text(turn_of(self._parts)))
        if request.stream and self._waited is not None:
            span.set({"gen_ai.response.time_to_first_chunk": self._waited})
        ended = self._parts[-1] if self._parts else None
        if not isinstance(ended, Ended):
            return
        span.set(
            {**_tokens(ended.usage), "gen_ai.response.finish_reasons": [ended.finish or "error"]}
        )
        if ended.finish is None:
            span.fail("CutAnswer", "the answer has no end")


class _CallPage:
    """What is written of a tool call."""

    def __init__(self, scribe: Scribe, work: Calling, span: Span) -> None:
        self._scribe, self._work, self._span = scribe, work, span
        self._result: ToolResult | None = None

    def note(self, fact: Fact) -> None:
        if isinstance(fact, ToolResult):
            self._result = fact

    def close(self) -> None:
        result, span, scribe = self._result, self._span, self._scribe
        scribe.write(span, "gen_ai.tool.call.arguments", lambda: self._work.call.arguments)
        if result is None:
            return
        if result.is_error:
            span.fail("tool_error", "")
        scribe.write(span, "gen_ai.tool.call.result", lambda: result.text)


def _tokens(usage: Usage) -> dict[str, Value]:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
    }


def _server(place: str) -> dict[str, Value]:
    """The host and the port of a URL, where it has them."""
    try:
        parts = urlsplit(place)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return {}
    if not parts.hostname or port is None:
        return {}
    return {"server.address": parts.hostname, "server.port": port}
