"""Instrumentation: hooks around the runs of this process, their requests and their tool calls.

Rules:
1. Without instrumentation a run creates no spans and makes no additional calls.
2. A run, a request or a call happens inside `observe`, in the same task or in one that is started
   there: the tool and the HTTP client see context variables that are set in it.
3. A run keeps the instrumentation that it started with, and so do its nested runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from typing_extensions import Self

from agentcall.dialects.dialect import PromptSpec
from agentcall.messages import Message, ToolCall, ToolResult
from agentcall.models.model import Model, ModelRequest, ResponseEvent, close_response
from agentcall.result import RunResult
from agentcall.tools.tool import Tool


@dataclass(frozen=True, slots=True, eq=False)
class AgentSpan:
    """A run of an agent, or the part of a run after a handoff."""

    agent: str
    run_id: str
    prompt: PromptSpec
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True, eq=False)
class ModelSpan:
    """One request to a model."""

    agent: str
    model: Model
    request: ModelRequest


@dataclass(frozen=True, slots=True, eq=False)
class ToolSpan:
    """One tool call."""

    agent: str
    call: ToolCall
    tool: Tool


InstrumentedSpan: TypeAlias = AgentSpan | ModelSpan | ToolSpan
SpanResult: TypeAlias = (
    "ResponseEvent | ToolResult | RunResult[Any]"  # Any: the agent knows its output's type
)
RecordResult: TypeAlias = Callable[[SpanResult], None]
"""Records what a span produces: the parts of an answer, or the result of a call or a run."""


class Instrumentation(Protocol):
    """Observes what runs do."""

    def observe(self, span: InstrumentedSpan) -> AbstractContextManager[RecordResult]:
        """Return a context that is entered before the work, and left after it, with its error."""
        ...


_instrumentations: list[Instrumentation] = []


def add_instrumentation(instrumentation: Instrumentation) -> InstrumentationHandle:
    """Observe every run of this process that starts from now on."""
    _instrumentations.append(instrumentation)
    return InstrumentationHandle(instrumentation)


class InstrumentationHandle:
    """An instrumentation that is active until `remove`, or until the end of a `with` block."""

    def __init__(self, instrumentation: Instrumentation) -> None:
        self._instrumentation = instrumentation

    def remove(self) -> None:
        """Observe no run that starts later."""
        if self._instrumentation in _instrumentations:
            _instrumentations.remove(self._instrumentation)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()


def get_instrumentation() -> Instrumentation | None:
    """Return the instrumentation of a run that starts now."""
    if not _instrumentations:
        return None
    return (
        _instrumentations[0]
        if len(_instrumentations) == 1
        else _InstrumentationChain(tuple(_instrumentations))
    )


class _InstrumentationChain:
    """Several instrumentations as one, the first of them outermost."""

    def __init__(self, instrumentations: tuple[Instrumentation, ...]) -> None:
        self._instrumentations = instrumentations

    @contextmanager
    def observe(self, span: InstrumentedSpan) -> Generator[RecordResult, None, None]:
        with ExitStack() as stack:
            recorders = [stack.enter_context(each.observe(span)) for each in self._instrumentations]

            def record(result: SpanResult) -> None:
                for record_one in recorders:
                    record_one(result)

            yield record


def instrument_model(model: Model, agent: str, instrumentation: Instrumentation | None) -> Model:
    """Return the model, with its requests observed if there is an instrumentation."""
    return model if instrumentation is None else _InstrumentedModel(model, agent, instrumentation)


class _InstrumentedModel:
    """A model whose requests are observed."""

    def __init__(self, model: Model, agent: str, instrumentation: Instrumentation) -> None:
        self._model = model
        self._agent = agent
        self._instrumentation = instrumentation

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of the model's answer."""
        with self._instrumentation.observe(ModelSpan(self._agent, self._model, request)) as record:
            answer = self._model.ask(request)
            try:
                async for part in answer:
                    record(part)
                    yield part
            finally:
                await close_response(answer)
