"""Notices a model that goes round in circles.

Rules, over the calls that were carried out, in order:
1. A call like the one before it (same tool, same arguments), or the third A of A-B-A-B with the
   same results, is not carried out: the model is told what it got the last time.
2. A second such call in a row, or the same error three times from near-identical calls, closes the
   tools: the model is asked for its answer.
3. Tools that declare `polling` may repeat.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentcall.messages import ToolCall, ToolResult
from agentcall.tool import Tool

Verdict: TypeAlias = Literal["go", "repeat", "close"]
_SAME_ERRORS = 3


@dataclass(slots=True)
class LoopGuard:
    """Remembers calls and judges the next one."""

    _done: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _texts: dict[str, str] = field(default_factory=dict[str, str])
    _repeats: int = 0
    _errors: list[str] = field(default_factory=list[str])

    @property
    def is_stuck(self) -> bool:
        """Whether the model has met the same error again and again."""
        return len(self._errors) >= _SAME_ERRORS and len(set(self._errors[-_SAME_ERRORS:])) == 1

    def judge(self, tool: Tool, call: ToolCall) -> Verdict:
        """Whether to carry the call out, to refuse it as a repetition, or to close the tools."""
        if tool.marks.polling:
            return "go"
        if self.is_stuck:
            return "close"
        if not self._is_repetition(_sign(call)):
            self._repeats = 0
            return "go"
        self._repeats += 1
        return "repeat" if self._repeats == 1 else "close"

    def record(self, tool: Tool, call: ToolCall, result: ToolResult) -> None:
        """Remembers what a call gave."""
        if tool.marks.polling:
            return
        sign = _sign(call)
        self._done.append((sign, _digest(result.text)))
        self._texts[sign] = result.text
        self.record_error(f"{call.name}: {result.text}" if result.is_error else "")

    def record_error(self, words: str) -> None:
        """Remembers what the model was told was wrong; an empty text is a success."""
        if words:
            self._errors.append(words)
        else:
            self._errors.clear()

    def last(self, call: ToolCall) -> str:
        """What the call gave the last time."""
        return self._texts.get(_sign(call), "")

    def _is_repetition(self, sign: str) -> bool:
        if self._done and self._done[-1][0] == sign:
            return True
        four = self._done[-4:]
        return len(four) == 4 and four[0] == four[2] and four[1] == four[3] and four[0][0] == sign


def repeated_words(call: ToolCall, last: str) -> str:
    """What the model is told of a call that it repeats."""
    return (
        f"You have already called {call.name} with these arguments, and it was not called again. "
        f"It gave:\n{last}\nUse that result, call another tool, or give your final answer."
    )


def _sign(call: ToolCall) -> str:
    return f"{call.name} {' '.join(call.arguments.split())}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
