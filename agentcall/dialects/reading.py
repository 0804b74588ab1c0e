"""Reads the text of an answer: what is said, what is thought, which tools are called.

    read_text('<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>', ["add"])

Rules:
1. The family is told by the text itself, unless it is given: all families are tried at once.
2. Bare JSON, fences, pythonic lists and ReAct count only for offered tools, in any spelling of
   their names; marked calls (`<tool_call>`, `<|action_start|>`, ...) count for any name, so that
   the model can be told that there is no such tool.
3. Cutting the text elsewhere changes nothing but the place where the pieces of Said and Thought
   are cut. Text is held back only while it could still become markup.
4. A call that was cut is Broken. Where the closing marker is missing but the call is whole, it
   counts if the server says that the model was done: the marker may be its stop word.
5. Calls inside of thinking are none: see families/thinking.py. Thinking that a template has opened
   is known by its end alone: all that was given before it is then void (`Reconsidered`).
6. Text without markup comes out whole, byte for byte. Blanks beside markup are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from agentcall.dialects.families.registry import FAMILIES, UNREADABLE, names, with_name
from agentcall.dialects.offers import Offers, Tools
from agentcall.dialects.page import Family, Page, Read, Reconsidered
from agentcall.dialects.parts import Broken, Called, Part, Said, Thought
from agentcall.dialects.scan import Needles, Source, Steps


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer holds: text for the user, thinking, calls, and calls that are broken."""

    text: str = ""
    thinking: str = ""
    calls: tuple[Called, ...] = ()
    broken: tuple[Broken, ...] = ()


class Layout:
    """What the markers and first characters of lines of some families begin; never changes."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.markers: dict[str, list[Read]] = {}
        self.lines: dict[str, list[Read]] = {}
        self.calls: dict[str, list[Read]] = {}
        dropped: set[str] = set()
        for family in families:
            dropped.update(family.dropped)
            for first, read in ((char, one) for key, one in family.lines.items() for char in key):
                known = self.lines.setdefault(first, [])
                known += () if read in known else (read,)
            for marker, read in (*family.markers.items(), *family.thinking.items()):
                self.markers.setdefault(marker, []).append(read)
            for marker, read in () if family is UNREADABLE else family.markers.items():
                self.calls.setdefault(marker, []).append(read)
        self.needles = Needles("\n", *self.markers, *dropped)


@cache
def _layout(family: str | None) -> Layout:
    return Layout(FAMILIES if family is None else with_name(family))


class Answer:
    """The reader of one answer: a run of steps over a page."""

    def __init__(self, page: Page, layout: Layout) -> None:
        self._page = page
        self._markers = layout.markers
        self._lines = layout.lines
        self._needles = layout.needles
        page.markers = layout.calls

    def steps(self) -> Steps[None]:
        """Reads to the end."""
        source, out = self._page.source, self._page.out
        while (yield from source.fill(1)):
            if out.line_start and source.text[source.at] in " \t":
                out.say(source.take(1))
                continue
            if out.line_start and (yield from self._line()):
                continue
            needle = yield from source.flow(self._needles, out.say)
            if needle in self._markers:
                yield from self._marker(needle)
            elif needle == "\n" or (needle and (yield from self._quoted())):
                out.say(needle)
            elif needle:
                out.drop()
        out.close()

    def _quoted(self) -> Steps[bool]:
        """Whether the marker that was just read is written about, between backticks."""
        return self._page.out.last == "`" and (yield from self._page.source.peek()) == "`"

    def _line(self) -> Steps[bool]:
        """What begins a line; whether anything did."""
        page, source = self._page, self._page.source
        if page.fence:
            end = yield from source.eats("```")
            if end:
                page.close_fence(end)
            return bool(end)
        for read in self._lines.get((yield from source.peek()), ()):
            source.mark()
            if (yield from read(page)):
                return True
            if source.raw() and not source.give_back():
                page.out.say(source.raw())
                return True
        return False

    def _marker(self, marker: str) -> Steps[None]:
        """What a marker begins; without a reader it is text."""
        page, source = self._page, self._page.source
        quoted = yield from self._quoted()
        for read in () if quoted else self._markers[marker]:
            source.mark(marker)
            if (yield from read(page)):
                return
            if not source.give_back(len(marker)):
                page.out.say(source.raw())
                return
        page.out.say(marker)


class TextReader:
    """Reads the text of one answer, piece by piece."""

    def __init__(self, page: Page, layout: Layout) -> None:
        self._page = page
        self._out = page.out  # what is read for a trial goes into another one
        self._steps = Answer(page, layout).steps()

    def feed(self, text: str) -> list[Part]:
        """The parts that are certain once this piece of text is known."""
        if not text:
            return []
        self._page.source.push(text)
        return self._run()

    def close(self, finish: str | None) -> list[Part]:
        """The rest at the end; `finish` is the server's finish_reason, None if it gave none."""
        self._page.source.ended = True
        self._page.source.finish = finish
        parts = self._run()
        return _ending(parts) if self._page.is_late else parts

    def _run(self) -> list[Part]:
        next(self._steps, None)
        return self._out.drain()


def _ending(parts: list[Part]) -> list[Part]:
    """The parts, of whose calls only those count with which the answer ends."""
    said = [place for place, part in enumerate(parts) if isinstance(part, Said)]
    last = said[-1] if said else 0
    return [
        Broken(f"{part.name} {part.arguments}", THOUGHT_OF)
        if isinstance(part, Called) and place < last
        else part
        for place, part in enumerate(parts)
    ]


THOUGHT_OF = "it stands in thinking that was never ended; end it and call again"


def text_reader(
    tools: Offers, family: str | None = None, *, opening: str = "", supposed: bool = False
) -> TextReader:
    """A fresh reader of one answer's text.

    tools: the offered tools, or their names; with their schemas, values of formats without types
    become what the schema says. opening: what the server's template has written of the answer
    already, as `<think>`; where that is only `supposed`, an answer that never ends the thinking
    has none. Raises UsageError for an unknown family.
    """
    page = Page(Source(), Tools(tools), supposed=supposed)
    reader = TextReader(page, _layout(family))
    reader.feed(opening)
    return reader


def read_text(text: str | Iterable[str], tools: Offers, family: str | None = None) -> Reading:
    """What a whole answer, or all pieces of one, holds; the model is taken to have been done."""
    reader = text_reader(tools, family)
    parts: list[Part] = []
    for piece in (text,) if isinstance(text, str) else text:
        parts += reader.feed(piece)
    return reading_of(parts + reader.close("stop"))


def reading_of(parts: Iterable[Part]) -> Reading:
    """Parts gathered; text that turned out to be thinking is thinking."""
    said: list[str] = []
    thought: list[str] = []
    calls: list[Called] = []
    broken: list[Broken] = []
    for part in parts:
        match part:
            case Said(text):
                said.append(text)
            case Reconsidered(text, kept, opener):
                said, calls, broken = [kept], [], []
                thought = [] if opener == "" else thought
                thought.append(text)
            case Thought(text):
                thought.append(text)
            case Called():
                calls.append(part)
            case Broken():
                broken.append(part)
    return Reading("".join(said), "".join(thought), tuple(calls), tuple(broken))


def families() -> tuple[str, ...]:
    """The names of the families that can be asked for."""
    return names()


__all__ = ["Reading", "Reconsidered", "TextReader", "families", "read_text", "text_reader"]
