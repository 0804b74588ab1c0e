"""Splits a document into passages that can be found and read on their own.

Rules: a passage ends before a heading if it has text, at the end of a page, at a blank line once it
has `GOOD_LENGTH` characters, and before it exceeds `MAX_LENGTH`. A longer line is cut at the end of
a sentence, or else anywhere. Headings are those of Markdown, outside of code blocks. A passage has
the headings above it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentcall_tools.knowledge.document import DocumentLine, TextDocument

GOOD_LENGTH, MAX_LENGTH = 500, 1_200
_HEADING = re.compile(r"(#{1,6})\s+(.+?)[\s#]*$")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_SENTENCE = re.compile(r"[。！？；]|[.!?;](?=\s)")
_MAX_HEADING_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: its first and last line or page, the headings above it, its text."""

    first: int
    last: int
    heading: str
    text: str


def cut_passages(document: TextDocument) -> Iterator[Passage]:
    """Yield the passages of a document, in order; together they have all of its words."""
    cutter = _PassageCutter(document)
    for line in document.lines:
        yield from cutter.feed(line)
    yield from cutter.close()


class _PassageCutter:
    def __init__(self, document: TextDocument) -> None:
        self._by_page = document.unit == "page"
        self._has_headings = document.has_headings
        self._headings: list[str] = []
        self._in_code = False
        self._open_lines: list[DocumentLine] = []
        self._size = 0
        self._has_text = False

    def feed(self, line: DocumentLine) -> Iterator[Passage]:
        """Add a line; yield the passages that end before it or with it."""
        heading = self._match_heading(line.text)
        new_page = self._by_page and self._open_lines and self._open_lines[-1].number != line.number
        if (heading and self._has_text) or new_page or self._size + len(line.text) > MAX_LENGTH:
            yield from self.close()
        if heading:
            level, words = len(heading.group(1)), heading.group(2)[:_MAX_HEADING_LENGTH]
            self._headings[level - 1 :] = [""] * (level - 1 - len(self._headings)) + [words]
        self._has_text = self._has_text or bool(line.text.strip() and not heading)
        for part in _split_line(line):
            if self._size + len(part.text) > MAX_LENGTH:
                yield from self.close()
            self._open_lines.append(part)
            self._size += len(part.text) + 1
        if not line.text.strip() and self._size >= GOOD_LENGTH:
            yield from self.close()

    def close(self) -> Iterator[Passage]:
        """Yield the open passage, if it has text."""
        numbers = [line.number for line in self._open_lines if line.text.strip()]
        if numbers:
            text = "\n".join(line.text.rstrip() for line in self._open_lines).strip("\n")
            heading = " > ".join(filter(None, self._headings))
            yield Passage(numbers[0], numbers[-1], heading, text)
        self._open_lines, self._size, self._has_text = [], 0, False

    def _match_heading(self, text: str) -> "re.Match[str] | None":
        if not self._has_headings:
            return None
        if _FENCE.match(text):
            self._in_code = not self._in_code
        return None if self._in_code else _HEADING.match(text)


def _split_line(line: DocumentLine) -> Iterator[DocumentLine]:
    """Yield the line, in parts if it is too long for a passage."""
    rest = line.text
    while len(rest) > MAX_LENGTH:
        ends = [found.end() for found in _SENTENCE.finditer(rest, GOOD_LENGTH, MAX_LENGTH)]
        at = ends[-1] if ends else MAX_LENGTH
        yield DocumentLine(line.number, rest[:at])
        rest = rest[at:]
    yield DocumentLine(line.number, rest)
