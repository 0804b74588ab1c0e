"""Who watches: what stands around the runs of this process, their requests and their calls.

Rules:
1. Nobody watches before `watch` is called; until then a run makes nothing and calls nothing more.
2. What a run, a request or a call does, it does inside `around`, in the same task or in one begun
   there: context variables that are set there are seen by the tool and by the HTTP client.
3. A run keeps the watcher that it began with, and its tools that are agents have the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from typing_extensions import Self

from agentcall.dialects.base import PromptSpec
from agentcall.messages import Message, ToolCall, ToolResult
from agentcall.models.base import Model, ModelRequest, ResponseEvent, close_response
from agentcall.result import RunResult
from agentcall.tools.tool import Tool


@dataclass(frozen=True, slots=True, eq=False)
class AgentSpan:
    """A run of an agent, or the part of one that another agent took over."""

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
    """One call of a tool."""

    agent: str
    call: ToolCall
    tool: Tool


InstrumentedSpan: TypeAlias = AgentSpan | ModelSpan | ToolSpan
SpanResult: TypeAlias = (
    "ResponseEvent | ToolResult | RunResult[Any]"  # Any: the agent knows its output's type
)
RecordResult: TypeAlias = Callable[[SpanResult], None]
"""Takes what comes of a work: the parts of an answer, a call's result, a run's."""


class Instrumentation(Protocol):
    """Stands around what runs do."""

    def observe(self, span: InstrumentedSpan) -> AbstractContextManager[RecordResult]:
        """What is entered before a work and left after it, with the error if it raised."""
        ...


_instrumentations: list[Instrumentation] = []


def add_instrumentation(instrumentation: Instrumentation) -> InstrumentationHandle:
    """Has every run of this process that begins from now on watched."""
    _instrumentations.append(instrumentation)
    return InstrumentationHandle(instrumentation)


class InstrumentationHandle:
    """A watcher that is there until `stop`, or until the end of a `with`."""

    def __init__(self, instrumentation: Instrumentation) -> None:
        self._instrumentation = instrumentation

    def remove(self) -> None:
        """Watches no run that begins later."""
        if self._instrumentation in _instrumentations:
            _instrumentations.remove(self._instrumentation)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()


def get_instrumentation() -> Instrumentation | None:
    """Who watches a run that begins now."""
    if not _instrumentations:
        return None
    return (
        _instrumentations[0]
        if len(_instrumentations) == 1
        else _InstrumentationChain(tuple(_instrumentations))
    )


class _InstrumentationChain:
    """Watchers as one, the first of them outside."""

    def __init__(self, instrumentations: tuple[Instrumentation, ...]) -> None:
        self._instrumentations = instrumentations

    @contextmanager
    def observe(self, span: InstrumentedSpan) -> Generator[RecordResult, None, None]:
        with ExitStack() as stack:
            recorders = [
                stack.enter_context(watcher.observe(span)) for watcher in self._instrumentations
            ]

            def record(result: SpanResult) -> None:
                for each in recorders:
                    each(result)

            yield record


def instrument_model(model: Model, agent: str, instrumentation: Instrumentation | None) -> Model:
    """The model, its requests watched if somebody does."""
    return model if instrumentation is None else _InstrumentedModel(model, agent, instrumentation)


class _InstrumentedModel:
    """A model with somebody around its requests."""

    def __init__(self, model: Model, agent: str, instrumentation: Instrumentation) -> None:
        self._model = model
        self._agent = agent
        self._instrumentation = instrumentation

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """The parts of the model's answer."""
        with self._instrumentation.observe(ModelSpan(self._agent, self._model, request)) as record:
            answer = self._model.ask(request)
            try:
                async for part in answer:
                    record(part)
                    yield part
            finally:
                await close_response(answer)
