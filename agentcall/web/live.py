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
from agentcall.web.bubbles import Bubble, Step, answer, note, step, thought


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
        self.run_id = run_id
        self.result: RunResult[Any] | None = None  # Any: of whatever agent

    @property
    def steps(self) -> Iterator[Step]:
        """The tool calls so far."""
        return (part for part in self._parts if isinstance(part, Step))

    def see(self, event: Event) -> None:
        """Takes in what happened."""
        match event:
            case RunStarted(run_id):
                self.run_id = run_id
            case TextDelta(text):
                self._hear(text, is_thinking=False)
            case ThinkingDelta(text):
                self._hear(text, is_thinking=True)
            case AnswerDiscarded():
                while self._parts and isinstance(self._parts[-1], _Words):
                    self._parts.pop()
            case RunFinished(result):
                self.result = result
            case LoopDetected(reason=reason):
                self._parts.append(f"the model repeats itself: {reason}")
            case HandedOver(before, after):
                self._parts.append(f"{before} hands over to {after}")
            case ContextTrimmed():
                self._parts.append("a tool's result was shortened to fit the model's window")
            case _:
                self._see_call(event, ())

    def bubbles(self) -> Iterator[Bubble]:
        """What there is to show."""
        for place, part in enumerate(self._parts):
            match part:
                case Step():
                    yield step(part)
                case _Words(text, is_thinking=True) if text.strip():
                    is_last = place == len(self._parts) - 1
                    yield thought(text, status="pending" if is_last else "done")
                case _Words(text) if text.strip():
                    yield answer(text)
                case str():
                    yield note(part)
                case _:
                    pass

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
