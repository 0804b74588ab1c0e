"""A run that goes on, as bubbles: what its events have told so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from agentcall.events import (
    AnswerDiscarded,
    ApprovalRequested,
    ContextTrimmed,
    Event,
    HandedOver,
    LoopDetected,
    ModelAnswered,
    Nested,
    RunFinished,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallRepaired,
    ToolCallStarted,
)
from agentcall.result import RunResult
from agentcall.web.bubbles import Bubble, Step, answer, asking, note, step, thought

_SHORT = 0.1
"""Seconds in which too little is written to say how fast."""


@dataclass(slots=True)
class _Words:
    """Text that arrives piece by piece."""

    text: str
    is_thinking: bool = False


class Live:
    """Follows a run by its events; `run_id` is that of one that goes on."""

    def __init__(self, run_id: str = "") -> None:
        self._parts: list[_Words | Step | str] = []
        self._repairs: dict[tuple[str, ...], str] = {}
        self._written, self._writing = 0, 0.0
        self.run_id = run_id
        self.result: RunResult[Any] | None = None  # Any: of whatever agent

    @property
    def steps(self) -> Iterator[Step]:
        """The tool calls so far."""
        return (part for part in self._parts if isinstance(part, Step))

    @property
    def shown(self) -> frozenset[tuple[str, str]]:
        """The calls that are shown here, each by the id of the run and its own."""
        return frozenset((self.run_id, one.path[0]) for one in self.steps)

    @property
    def unfinished(self) -> str:
        """What was said of an answer that has not ended."""
        last = self._parts[-1] if self._parts else None
        return last.text if isinstance(last, _Words) and not last.is_thinking else ""

    @property
    def speed(self) -> float | None:
        """Tokens a second, while the model wrote; None where that cannot be said."""
        return self._written / self._writing if self._writing > _SHORT else None

    def see(self, event: Event) -> None:
        """Takes in what happened."""
        match event:
            case TextDelta(text):
                self._hear(text, is_thinking=False)
            case ThinkingDelta(text):
                self._hear(text, is_thinking=True)
            case AnswerDiscarded():
                while self._parts and isinstance(self._parts[-1], _Words):
                    self._parts.pop()
            case LoopDetected(reason=reason):
                self._parts.append(f"the model repeats itself: {reason}")
            case HandedOver(before, after):
                self._parts.append(f"{before} hands over to {after}")
            case ContextTrimmed():
                self._parts.append("a tool's result was shortened to fit the model's window")
            case RunStarted() | ModelAnswered() | RunFinished():
                self._see_run(event)
            case _:
                self._see_call(event, ())

    def bubbles(self) -> Iterator[Bubble]:
        """What there is to show; it may be read in a thread while more comes."""
        parts = tuple(self._parts)
        for place, part in enumerate(parts):
            match part:
                case Step():
                    yield step(part)
                case _Words(text, is_thinking=True) if text.strip():
                    is_last = place == len(parts) - 1
                    yield thought(text, status="pending" if is_last else "done")
                case _Words(text) if text.strip():
                    yield answer(text)
                case str():
                    yield note(part)
                case _:
                    pass
        if all(isinstance(part, Step) and part.result for part in parts[-1:]):
            yield asking()

    def _see_run(self, event: RunStarted | ModelAnswered | RunFinished) -> None:
        match event:
            case RunStarted(run_id):
                self.run_id = run_id
            case ModelAnswered(usage, _, writing):
                self._written += usage.output_tokens
                self._writing += writing
            case RunFinished(result):
                self.result = result

    def _hear(self, text: str, *, is_thinking: bool) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Words) and last.is_thinking == is_thinking:
            last.text += text
        else:
            self._parts.append(_Words(text, is_thinking))

    def _see_call(self, event: Event, inside: tuple[str, ...]) -> None:
        match event:
            case Nested(call_id=call_id, event=below):
                self._see_call(below, (*inside, call_id))
            case ToolCallRepaired(call, rule):
                path = (*inside, call.id)
                self._repairs[path] = ", ".join(filter(None, [self._repairs.get(path), rule]))
            case ToolCallStarted(call):
                self._put(Step(call, path=(*inside, call.id)))
            case ApprovalRequested(call):
                self._put(Step(call, waits=True, path=(*inside, call.id)))
            case ToolCallRefused(call, result):
                self._put(Step(call, result, path=(*inside, call.id)))
            case ToolCallFinished(call, result, seconds):
                self._put(Step(call, result, seconds, path=(*inside, call.id)))
            case _:
                pass

    def _put(self, made: Step) -> None:
        made = replace(made, repaired=self._repairs.get(made.path, ""))
        for place, part in enumerate(self._parts):
            if isinstance(part, Step) and part.path == made.path:
                self._parts[place] = made
                return
        self._parts.append(made)
