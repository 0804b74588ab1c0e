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

from agentcall.dialects.protocol import Offer
from agentcall.messages import Message, ToolCall, ToolResult
from agentcall.models.protocol import Answer, Model, Request, closed
from agentcall.result import RunResult
from agentcall.tool import Tool


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """A run of an agent, or the part of one that another agent took over."""

    agent: str
    run_id: str
    offer: Offer
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One request to a model."""

    agent: str
    model: Model
    request: Request


@dataclass(frozen=True, slots=True, eq=False)
class Calling:
    """One call of a tool."""

    agent: str
    call: ToolCall
    tool: Tool


Work: TypeAlias = Running | Asking | Calling
Fact: TypeAlias = "Answer | ToolResult | RunResult[Any]"  # Any: the agent knows its output's type
Note: TypeAlias = Callable[[Fact], None]
"""Takes what comes of a work: the parts of an answer, a call's result, a run's."""


class Watcher(Protocol):
    """Stands around what runs do."""

    def around(self, work: Work) -> AbstractContextManager[Note]:
        """What is entered before a work and left after it, with the error if it raised."""
        ...


_watchers: list[Watcher] = []


def watch(watcher: Watcher) -> Watch:
    """Has every run of this process that begins from now on watched."""
    _watchers.append(watcher)
    return Watch(watcher)


class Watch:
    """A watcher that is there until `stop`, or until the end of a `with`."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def stop(self) -> None:
        """Watches no run that begins later."""
        if self._watcher in _watchers:
            _watchers.remove(self._watcher)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def watching() -> Watcher | None:
    """Who watches a run that begins now."""
    if not _watchers:
        return None
    return _watchers[0] if len(_watchers) == 1 else _Several(tuple(_watchers))


class _Several:
    """Watchers as one, the first of them outside."""

    def __init__(self, watchers: tuple[Watcher, ...]) -> None:
        self._watchers = watchers

    @contextmanager
    def around(self, work: Work) -> Generator[Note, None, None]:
        with ExitStack() as stack:
            notes = [stack.enter_context(watcher.around(work)) for watcher in self._watchers]

            def note(fact: Fact) -> None:
                for each in notes:
                    each(fact)

            yield note


def watched(model: Model, agent: str, watcher: Watcher | None) -> Model:
    """The model, its requests watched if somebody does."""
    return model if watcher is None else _Watched(model, agent, watcher)


class _Watched:
    """A model with somebody around its requests."""

    def __init__(self, model: Model, agent: str, watcher: Watcher) -> None:
        self._model = model
        self._agent = agent
        self._watcher = watcher

    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of the model's answer."""
        with self._watcher.around(Asking(self._agent, self._model, request)) as note:
            answer = self._model.ask(request)
            try:
                async for part in answer:
                    note(part)
                    yield part
            finally:
                await closed(answer)
