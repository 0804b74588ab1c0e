"""The text of a run as it arrives, without its other events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Generic

from typing_extensions import Self, TypeVar

from agentcall.errors import UsageError
from agentcall.events import AnswerDiscarded, ProgressEvent, RunFinished, TextDelta, ToolCallStarted
from agentcall.result import RunResult
from agentcall.runtime.runner import iterate_sync
from agentcall.tools.serialize import serialize

Output = TypeVar("Output")

PARAGRAPH = "\n\n"
"""Separates two texts of the model, between which it called tools or was asked again."""


class _TextReader(Generic[Output]):
    """Takes the text out of the events of a run, and keeps its result."""

    def __init__(self) -> None:
        self._result: RunResult[Output] | None = None
        self._has_text = False
        self._is_new_text = False

    @property
    def result(self) -> RunResult[Output]:
        """The result of the run. Raises UsageError before its end."""
        if self._result is None:
            raise UsageError("the run has no result yet; read its text to the end first")
        return self._result

    def read(self, event: ProgressEvent | RunFinished[Output]) -> str:
        """Return the text of an event; empty if it has none."""
        if isinstance(event, RunFinished):
            self._result = event.result
            if event.result.ended_by_call:
                separator = PARAGRAPH if self._has_text else ""
                return separator + serialize(event.result.output)
        elif isinstance(event, (AnswerDiscarded, ToolCallStarted)):
            self._is_new_text = self._has_text
        elif isinstance(event, TextDelta) and event.text:
            separator = PARAGRAPH if self._is_new_text else ""
            self._has_text, self._is_new_text = True, False
            return separator + event.text
        return ""


class TextStream(_TextReader[Output]):
    """The text of a run: `async for text in stream`. Leaving the loop early cancels the run.

    result: the result, once the text has been read to its end.

    An output that a call gave ends it. A text before a tool call is part of it, followed by an
    empty line. So is a text that turns out to be invalid and is written again: where that matters,
    read the events of `run_stream`.
    """

    def __init__(self, events: AsyncGenerator[ProgressEvent | RunFinished[Output], None]) -> None:
        super().__init__()
        self._events = events
        self._texts = self._iterate()

    async def _iterate(self) -> AsyncGenerator[str, None]:
        try:
            async for event in self._events:
                if text := self.read(event):
                    yield text
        finally:
            await self._events.aclose()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts

    async def aclose(self) -> None:
        """Cancel the run, if it has not ended."""
        await self._texts.aclose()
        await self._events.aclose()  # if the iteration has not begun

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()


class SyncTextStream(_TextReader[Output]):
    """As `TextStream`, for sync code: `for text in stream`."""

    def __init__(self, events: AsyncGenerator[ProgressEvent | RunFinished[Output], None]) -> None:
        super().__init__()
        self._events = iterate_sync(events)
        self._texts = self._iterate()

    def _iterate(self) -> Generator[str, None, None]:
        try:
            for event in self._events:
                if text := self.read(event):
                    yield text
        finally:
            self._events.close()

    def __iter__(self) -> Iterator[str]:
        return self._texts

    def close(self) -> None:
        """Cancel the run, if it has not ended."""
        self._texts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
