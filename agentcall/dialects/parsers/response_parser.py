"""Reads the text of an answer: the user's text, the thinking, and the tool calls.

    read_text('<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>', ["add"])

Rules:
1. The text itself shows the family unless one is given: the parsers of all families are tried.
2. Bare JSON, fences, pythonic lists and ReAct are calls only of offered tools, in any spelling of
   their names. Marked calls (`<tool_call>`, `<|action_start|>`, ...) may have any name, so that
   the model can be informed that the tool does not exist.
3. Cutting the text elsewhere changes only where `TextPart` and `ThinkingPart` are cut. Text is
   held back only while it could still become markup.
4. A call that was cut is malformed. A whole call without its closing marker counts if the server
   reports that the model had finished: the marker may be its stop word.
5. Calls inside thinking are not calls: see thinking.py. Thinking that a chat template opened is
   recognized by its end alone: all parts before it are then void (`RetractedPart`).
6. Text without markup is returned unchanged. Blanks beside markup are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from agentcall.dialects.answer_parts import (
    MalformedCallPart,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from agentcall.dialects.dialect import ToolSet, ToolSpecs
from agentcall.dialects.parsers.families import TOOL_PARSERS, UNREADABLE, get_parsers, list_families
from agentcall.dialects.parsers.scanner import Delimiters, Scan, TextScanner
from agentcall.dialects.parsers.tool_parser import (
    MarkupReader,
    ParseState,
    RetractedPart,
    ToolParser,
)


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """The contents of an answer; `broken` are calls that could not be read."""

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCallPart, ...] = ()
    broken: tuple[MalformedCallPart, ...] = ()


class ParserTable:
    """The readers of some families by marker and by first character of a line; immutable."""

    def __init__(self, parsers: Iterable[ToolParser]) -> None:
        self.markers: dict[str, list[MarkupReader]] = {}
        self.line_starts: dict[str, list[MarkupReader]] = {}
        self.call_markers: dict[str, list[MarkupReader]] = {}
        ignored: set[str] = set()
        for parser in parsers:
            ignored.update(parser.ignored_tokens)
            for first, read in (
                (char, reader) for key, reader in parser.line_starts.items() for char in key
            ):
                readers = self.line_starts.setdefault(first, [])
                readers += () if read in readers else (read,)
            for marker, read in (*parser.markers.items(), *parser.thinking.items()):
                self.markers.setdefault(marker, []).append(read)
            for marker, read in () if parser is UNREADABLE else parser.markers.items():
                self.call_markers.setdefault(marker, []).append(read)
        self.delimiters = Delimiters("\n", *self.markers, *ignored)


@cache
def _get_parser_table(family: str | None) -> ParserTable:
    return ParserTable(TOOL_PARSERS if family is None else get_parsers(family))


class ResponseParser:
    """Parses one answer."""

    def __init__(self, state: ParseState, table: ParserTable) -> None:
        self._state = state
        self._markers = table.markers
        self._line_starts = table.line_starts
        self._delimiters = table.delimiters
        state.call_markers = table.call_markers

    def parse(self) -> Scan[None]:
        """Read to the end of the text."""
        scanner, out = self._state.scanner, self._state.writer
        while (yield from scanner.fill(1)):
            # Indentation is text; what follows it still begins the line.
            if out.is_at_line_start and scanner.text[scanner.position] in " \t":
                out.write_text(scanner.take(1))
                continue
            if out.is_at_line_start and (yield from self._parse_line()):
                continue
            delimiter = yield from scanner.stream_until(self._delimiters, out.write_text)
            if delimiter in self._markers:
                yield from self._parse_marker(delimiter)
            elif delimiter == "\n" or (delimiter and (yield from self._is_between_backticks())):
                out.write_text(delimiter)
            elif delimiter:
                out.drop_markup()
        out.close()

    def _is_between_backticks(self) -> Scan[bool]:
        """Whether the marker that was just read is quoted in backticks, that is, only mentioned."""
        return (
            self._state.writer.last_character == "`"
            and (yield from self._state.scanner.peek()) == "`"
        )

    def _parse_line(self) -> Scan[bool]:
        """Parse the beginning of a line; return whether a reader recognized it."""
        state, scanner = self._state, self._state.scanner
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
        """Parse what follows a marker; if no reader recognizes it, the marker is text."""
        state, scanner = self._state, self._state.scanner
        is_quoted = yield from self._is_between_backticks()
        for read in () if is_quoted else self._markers[marker]:
            scanner.set_mark(marker)
            if (yield from read(state)):
                return
            if not scanner.backtrack(len(marker)):  # too often: give up on this marker
                state.writer.write_text(scanner.get_marked_text())
                return
        state.writer.write_text(marker)


class TextReader:
    """Reads the text of one answer, piece by piece."""

    def __init__(self, state: ParseState, table: ParserTable) -> None:
        self._state = state
        self._writer = state.writer  # trial reads replace the state's writer
        self._parsing = ResponseParser(state, table).parse()

    def feed(self, text: str) -> list[MessagePart]:
        """Return the parts that are certain after this piece of text."""
        if not text:
            return []
        self._state.scanner.push(text)
        return self._advance()

    def close(self, finish_reason: str | None) -> list[MessagePart]:
        """Return the rest; `finish_reason` is the server's, None if it gave none."""
        self._state.scanner.is_ended = True
        self._state.scanner.finish_reason = finish_reason
        parts = self._advance()
        return _keep_final_calls(parts) if self._state.is_reread else parts

    def _advance(self) -> list[MessagePart]:
        next(self._parsing, None)
        return self._writer.drain()


def _keep_final_calls(parts: list[MessagePart]) -> list[MessagePart]:
    """Keep only the calls at the end of an answer; the others are malformed."""
    text_positions = [position for position, part in enumerate(parts) if isinstance(part, TextPart)]
    last = text_positions[-1] if text_positions else 0
    return [
        MalformedCallPart(f"{part.name} {part.arguments}", UNENDED_THINKING)
        if isinstance(part, ToolCallPart) and position < last
        else part
        for position, part in enumerate(parts)
    ]


UNENDED_THINKING = "it is part of thinking that was never ended; end it and call again"


def create_text_reader(
    tools: ToolSpecs, family: str | None = None, *, opener: str = "", is_assumed: bool = False
) -> TextReader:
    """Create a reader for the text of one answer.

    tools: the offered tools, or their names. Their schemas give types to values that a family
        writes without quotes.
    family: a name of `list_families()`; None tries all.
    opener: text of the answer that the chat template has written already, such as `<think>`.
    is_assumed: the opener is only assumed; an answer that never ends the thinking then has none.
    Raises UsageError for an unknown family.
    """
    state = ParseState(TextScanner(), ToolSet(tools), is_thinking_assumed=is_assumed)
    reader = TextReader(state, _get_parser_table(family))
    reader.feed(opener)
    return reader


def read_text(
    text: str | Iterable[str], tools: ToolSpecs, family: str | None = None
) -> ParsedResponse:
    """Read a whole answer, given at once or in pieces, of a model that had finished."""
    reader = create_text_reader(tools, family)
    parts: list[MessagePart] = []
    for piece in (text,) if isinstance(text, str) else text:
        parts += reader.feed(piece)
    return collect_parts(parts + reader.close("stop"))


def collect_parts(parts: Iterable[MessagePart]) -> ParsedResponse:
    """Collect parts into a response; text that turned out to be thinking becomes thinking."""
    texts: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCallPart] = []
    broken: list[MalformedCallPart] = []
    for part in parts:
        match part:
            case TextPart(text):
                texts.append(text)
            case RetractedPart(text, kept, opener):
                texts, calls, broken = [kept], [], []
                thinking = [] if opener == "" else thinking
                thinking.append(text)
            case ThinkingPart(text):
                thinking.append(text)
            case ToolCallPart():
                calls.append(part)
            case MalformedCallPart():
                broken.append(part)
    return ParsedResponse("".join(texts), "".join(thinking), tuple(calls), tuple(broken))


__all__ = [
    "ParsedResponse",
    "RetractedPart",
    "TextReader",
    "create_text_reader",
    "list_families",
    "read_text",
]
