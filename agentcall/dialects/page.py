"""What a family's reader works on: the text that is left, the tools, and the parts it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentcall.dialects.offers import Tools
from agentcall.dialects.parts import Broken, Called, Part, Said, Thought
from agentcall.dialects.scan import Source, Steps


@dataclass(frozen=True, slots=True)
class Reconsidered(Thought):
    """All text and calls so far are void: they were this thinking, but for what was `said`.

    A server's template may open the thinking itself, so that only its end is in the text; `opener`
    is then the tag that it wrote, empty where it wrote none and all thinking is void, too. Whoever
    has shown that text may take it back; whoever has not knows that it is no part of the answer.
    """

    said: str = ""
    opener: str | None = field(default=None, compare=False)


class Output:
    """The parts that were read. Blanks beside markup are dropped, all other text is kept."""

    def __init__(self) -> None:
        self.marked = False
        self.called = False
        self.thought = False
        self._thinking = False
        self.line_start = True
        self.last = ""
        self._parts: list[Part] = []
        self._said: list[str] = []
        self._blank: list[str] = []
        self._near = True
        self._trim = False

    def say(self, text: str) -> None:
        """Text for the user."""
        if not text:
            return
        self.last = text[-1]
        self.line_start = self.last == "\n" or (self.line_start and text.isspace())
        if self._near:
            if text.isspace():
                self._blank.append(text)
                return
            text = text.lstrip() if self._trim else self._held() + text
            self._near = self._trim = False
            self._blank = []
        self._said.append(text)
        self._parts.append(Said(text))

    def think(self, text: str) -> None:
        """Thinking; blanks around it are dropped."""
        if not text:
            return
        if text.isspace():
            self._blank.append(text)
            return
        text = self._held() + text if self._thinking else text.lstrip()
        body = text.rstrip()
        self._blank = [text[len(body) :]]
        self._parts.append(Thought(body))
        self.thought = self._thinking = True

    def begin_thought(self) -> None:
        """What follows is a new piece of thinking."""
        self._mark()
        self._thinking = False

    def end_thought(self, *, cut: bool = False) -> None:
        """The thinking is over; where it was cut, its last blanks are kept."""
        blank = self._held()
        if cut and blank and self._thinking:
            self._parts.append(Thought(blank))
        self._mark()
        self._trim = True

    def call(self, name: str, arguments: str, call_id: str = "") -> None:
        """A whole call."""
        self._mark()
        self.called = True
        self._parts.append(Called(name, arguments, call_id))

    def broken(self, text: str, reason: str) -> None:
        """Markup that could not be read."""
        self._mark()
        self._parts.append(Broken(text, reason))

    def drop(self) -> None:
        """Markup without a meaning of its own was read."""
        self._mark()

    def reconsider(self, thinking: str, opener: str | None) -> None:
        """Everything so far was thinking, calls too, and a template had written the opener."""
        self._said = []
        self._mark()
        self._trim = True
        if thinking.strip():
            self._parts.append(Reconsidered(thinking.strip(), opener=opener))
        self.called = False

    def recall(self) -> None:
        """The calls so far are none."""
        if self.called:
            self._parts.append(Reconsidered("", "".join(self._said)))
        self.called = False
        self._mark()

    def disown(self) -> None:
        """What was taken for thinking is none, and is read once more."""
        self._parts.append(Reconsidered("", opener=""))

    def _mark(self) -> None:
        self.marked = self.line_start = self._near = True
        self._blank = []
        self.last = ""

    def _held(self) -> str:
        return "".join(self._blank)

    def close(self) -> None:
        """The end: blanks that stand beside no markup are text."""
        blank = self._held()
        if blank and not self.marked:
            self._parts.append(Said(blank))

    def drain(self) -> list[Part]:
        """The parts since the last time, adjacent texts joined."""
        found, self._parts = self._parts, []
        if len(found) < 2:
            return found
        joined: list[Part] = []
        run: list[str] = []
        for part in found:
            if type(part) is Said:
                run.append(part.text)
                continue
            if run:
                joined.append(Said("".join(run)))
                run = []
            joined.append(part)
        if run:
            joined.append(Said("".join(run)))
        return joined


@dataclass(slots=True)
class Page:
    """One answer while it is read.

    markers: what begins a call, and what reads it.
    supposed: the thinking that begins the answer was supposed, not written; is_late: all was read
        once more, as it was none.
    opened: the answer began with thinking; nested: how often thinking was begun once more inside of
        it; thought_until: the place where it ended.
    fence: inside a code fence, whose last line is text or, around marked calls, markup.
    react: whether ReAct's labels were read.
    """

    source: Source
    tools: Tools
    out: Output = field(default_factory=Output)
    markers: Mapping[str, Sequence[Read]] = field(default_factory=dict[str, "Sequence[Read]"])
    supposed: bool = False
    is_late: bool = False
    opened: bool = False
    nested: int = 0
    thought_until: int = 0
    fence: Literal["", "text", "call"] = ""
    react: bool = False

    def close_fence(self, end: str) -> None:
        """The fence is over."""
        if self.fence == "text":
            self.out.say(end)
        else:
            self.out.drop()
        self.fence = ""


Read: TypeAlias = "Callable[[Page], Steps[bool]]"


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of models writes its calls.

    markers: texts that begin a call wherever they stand, and what reads on behind them; it gives
        False where this is not its markup after all.
    thinking: the same for thinking.
    lines: what may begin at the start of a line, by its first characters; a reader of these has
        gone past nothing when it begins.
    dropped: tokens without a meaning of their own.
    """

    name: str
    markers: Mapping[str, Read] = field(default_factory=dict[str, Read])
    thinking: Mapping[str, Read] = field(default_factory=dict[str, Read])
    lines: Mapping[str, Read] = field(default_factory=dict[str, Read])
    dropped: tuple[str, ...] = ()
