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
   is known by its end alone: all that was given before it is then void (`RetractedPart`).
6. Text without markup comes out whole, byte for byte. Blanks beside markup are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from agentcall.dialects.base import (
    MalformedCallPart,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolSet,
    ToolSpecs,
)
from agentcall.dialects.parsers.base import MarkupReader, ParseState, RetractedPart, ToolParser
from agentcall.dialects.parsers.registry import (
    TOOL_PARSERS,
    UNREADABLE,
    get_parsers,
    list_parser_names,
)
from agentcall.dialects.parsers.scanner import Delimiters, Scan, TextScanner


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """What an answer holds: text for the user, thinking, calls, and calls that are broken."""

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCallPart, ...] = ()
    broken: tuple[MalformedCallPart, ...] = ()


class ParserTable:
    """What the markers and first characters of lines of some families begin; never changes."""

    def __init__(self, parsers: Iterable[ToolParser]) -> None:
        self.markers: dict[str, list[MarkupReader]] = {}
        self.line_starts: dict[str, list[MarkupReader]] = {}
        self.call_markers: dict[str, list[MarkupReader]] = {}
        dropped: set[str] = set()
        for family in parsers:
            dropped.update(family.ignored_tokens)
            for first, read in (
                (char, one) for key, one in family.line_starts.items() for char in key
            ):
                known = self.line_starts.setdefault(first, [])
                known += () if read in known else (read,)
            for marker, read in (*family.markers.items(), *family.thinking.items()):
                self.markers.setdefault(marker, []).append(read)
            for marker, read in () if family is UNREADABLE else family.markers.items():
                self.call_markers.setdefault(marker, []).append(read)
        self.delimiters = Delimiters("\n", *self.markers, *dropped)


@cache
def _get_parser_table(family: str | None) -> ParserTable:
    return ParserTable(TOOL_PARSERS if family is None else get_parsers(family))


class ResponseParser:
    """The reader of one answer: a run of steps over a page."""

    def __init__(self, state: ParseState, table: ParserTable) -> None:
        self._page = state
        self._markers = table.markers
        self._line_starts = table.line_starts
        self._delimiters = table.delimiters
        state.call_markers = table.call_markers

    def parse(self) -> Scan[None]:
        """Reads to the end."""
        scanner, out = self._page.scanner, self._page.writer
        while (yield from scanner.fill(1)):
            if out.is_at_line_start and scanner.text[scanner.position] in " \t":
                out.write_text(scanner.take(1))
                continue
            if out.is_at_line_start and (yield from self._parse_line()):
                continue
            needle = yield from scanner.stream_until(self._delimiters, out.write_text)
            if needle in self._markers:
                yield from self._parse_marker(needle)
            elif needle == "\n" or (needle and (yield from self._is_between_backticks())):
                out.write_text(needle)
            elif needle:
                out.drop_markup()
        out.close()

    def _is_between_backticks(self) -> Scan[bool]:
        """Whether the marker that was just read is written about, between backticks."""
        return (
            self._page.writer.last_character == "`"
            and (yield from self._page.scanner.peek()) == "`"
        )

    def _parse_line(self) -> Scan[bool]:
        """What begins a line; whether anything did."""
        state, scanner = self._page, self._page.scanner
        if state.fence:
            end = yield from scanner.accept("```")
            if end:
                state.close_fence(end)
            return bool(end)
        for read in self._line_starts.get((yield from scanner.peek()), ()):
            scanner.set_mark()
            if (yield from read(state)):
                return True
            if scanner.get_marked_text() and not scanner.backtrack():
                state.writer.write_text(scanner.get_marked_text())
                return True
        return False

    def _parse_marker(self, marker: str) -> Scan[None]:
        """What a marker begins; without a reader it is text."""
        state, scanner = self._page, self._page.scanner
        quoted = yield from self._is_between_backticks()
        for read in () if quoted else self._markers[marker]:
            scanner.set_mark(marker)
            if (yield from read(state)):
                return
            if not scanner.backtrack(len(marker)):
                state.writer.write_text(scanner.get_marked_text())
                return
        state.writer.write_text(marker)


class TextReader:
    """Reads the text of one answer, piece by piece."""

    def __init__(self, state: ParseState, table: ParserTable) -> None:
        self._page = state
        self._writer = state.writer  # what is read for a trial goes into another one
        self._parsing = ResponseParser(state, table).parse()

    def feed(self, text: str) -> list[MessagePart]:
        """The parts that are certain once this piece of text is known."""
        if not text:
            return []
        self._page.scanner.push(text)
        return self._advance()

    def close(self, finish_reason: str | None) -> list[MessagePart]:
        """The rest at the end; `finish` is the server's finish_reason, None if it gave none."""
        self._page.scanner.is_ended = True
        self._page.scanner.finish_reason = finish_reason
        parts = self._advance()
        return _keep_final_calls(parts) if self._page.is_reread else parts

    def _advance(self) -> list[MessagePart]:
        next(self._parsing, None)
        return self._writer.drain()


def _keep_final_calls(parts: list[MessagePart]) -> list[MessagePart]:
    """The parts, of whose calls only those count with which the answer ends."""
    said = [place for place, part in enumerate(parts) if isinstance(part, TextPart)]
    last = said[-1] if said else 0
    return [
        MalformedCallPart(f"{part.name} {part.arguments}", UNENDED_THINKING)
        if isinstance(part, ToolCallPart) and place < last
        else part
        for place, part in enumerate(parts)
    ]


UNENDED_THINKING = "it stands in thinking that was never ended; end it and call again"


def create_text_reader(
    tools: ToolSpecs, family: str | None = None, *, opener: str = "", is_assumed: bool = False
) -> TextReader:
    """A fresh reader of one answer's text.

    tools: the offered tools, or their names; with their schemas, values of formats without types
    become what the schema says. opening: what the server's template has written of the answer
    already, as `<think>`; where that is only `supposed`, an answer that never ends the thinking
    has none. Raises UsageError for an unknown family.
    """
    state = ParseState(TextScanner(), ToolSet(tools), is_thinking_assumed=is_assumed)
    reader = TextReader(state, _get_parser_table(family))
    reader.feed(opener)
    return reader


def read_text(
    text: str | Iterable[str], tools: ToolSpecs, family: str | None = None
) -> ParsedResponse:
    """What a whole answer, or all pieces of one, holds; the model is taken to have been done."""
    reader = create_text_reader(tools, family)
    parts: list[MessagePart] = []
    for piece in (text,) if isinstance(text, str) else text:
        parts += reader.feed(piece)
    return collect_parts(parts + reader.close("stop"))


def collect_parts(parts: Iterable[MessagePart]) -> ParsedResponse:
    """Parts gathered; text that turned out to be thinking is thinking."""
    said: list[str] = []
    thought: list[str] = []
    calls: list[ToolCallPart] = []
    broken: list[MalformedCallPart] = []
    for part in parts:
        match part:
            case TextPart(text):
                said.append(text)
            case RetractedPart(text, kept, opener):
                said, calls, broken = [kept], [], []
                thought = [] if opener == "" else thought
                thought.append(text)
            case ThinkingPart(text):
                thought.append(text)
            case ToolCallPart():
                calls.append(part)
            case MalformedCallPart():
                broken.append(part)
    return ParsedResponse("".join(said), "".join(thought), tuple(calls), tuple(broken))


def list_families() -> tuple[str, ...]:
    """The names of the families that can be asked for."""
    return list_parser_names()


__all__ = [
    "ParsedResponse",
    "RetractedPart",
    "TextReader",
    "create_text_reader",
    "list_families",
    "read_text",
]
