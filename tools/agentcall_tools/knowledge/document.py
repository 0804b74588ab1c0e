"""A file as numbered text: by its name's ending, with the line or the page that each part is on.

Rules: text and Markdown keep their lines. Of HTML the readable text is taken, and a line of it has
the number of the source's line that its first long word is on, or that of the line before. Of PDF
each line has the number of its page. Text is UTF-8, or what its byte order mark says; what is
neither is GB18030 if its bytes come in pairs, as those of Chinese do, else Windows-1252.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from agentcall_tools.fetch.page import read_page
from agentcall_tools.knowledge.pdf import pages_of

MOST_BYTES = 20_000_000
_TEXT = frozenset({".txt", ".text", ".rst"})
_MARKDOWN = frozenset({".md", ".markdown"})
_HTML = frozenset({".html", ".htm", ".xhtml"})
_PDF = frozenset({".pdf"})
KINDS = _TEXT | _MARKDOWN | _HTML | _PDF

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
          (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([\w.:-]{2,40})", re.I)
_PAIRS = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")
_WORD = re.compile(r"[^\W_]{4,}|[\u3040-\u30ff\u3400-\u9fff]{2,}")
_NEAR = 200_000


class DocumentError(ValueError):
    """A file that has no text to be read; the text says why."""


class Line(NamedTuple):
    """A line of a document, and the number of the line or the page that it is on."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file; `unit` says what its lines are numbered by."""

    lines: tuple[Line, ...]
    unit: str = "line"
    has_headings: bool = False


def is_document(path: str) -> bool:
    """Whether files of this name are read."""
    return PurePosixPath(path).suffix.lower() in KINDS


def read_document(path: str, data: bytes) -> Document:
    """The document in a file's bytes. Raises DocumentError; ImportError without its package."""
    kind = PurePosixPath(path).suffix.lower()
    if kind in _PDF:
        return Document(tuple(_paged(data)), unit="page")
    if b"\0" in data[:10_000] and not data.startswith(tuple(mark for mark, _ in _MARKS)):
        raise DocumentError("it is not text")
    if kind in _HTML:
        return Document(tuple(_lines_of_page(_decoded(data, _named(data)))), has_headings=True)
    lines = _decoded(data).splitlines()
    return Document(tuple(map(Line, range(1, len(lines) + 1), lines)), "line", kind in _MARKDOWN)


def _paged(data: bytes) -> Iterator[Line]:
    try:
        pages = pages_of(data)
    except ValueError as error:
        raise DocumentError(str(error)) from None
    for number, page in enumerate(pages, 1):
        yield from (Line(number, line) for line in page.splitlines())


def _lines_of_page(source: str) -> Iterator[Line]:
    page, at, number = read_page(source), 0, 1
    if page.title:
        yield Line(1, f"# {page.title}")
    for line in page.text.splitlines():
        word = _WORD.search(line)
        found = source.find(word.group(), at, at + _NEAR) if word else -1
        if word and found >= 0:
            number += source.count("\n", at, found)
            at = found
            yield Line(number, line)
            end = found + len(line) - word.start()  # of the line: tags make the source no shorter
            number += source.count("\n", at, end)
            at = end
        else:
            yield Line(number, line)


def _named(data: bytes) -> str:
    """The charset that a page names itself, if Python and the web know it."""
    found = _CHARSET.search(data[:4096])
    name = found.group(1).decode().lower() if found else ""
    return name if name in ("gbk", "gb2312", "gb18030", "big5", "shift_jis", "euc-kr") else ""


def _decoded(data: bytes, named: str = "") -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    if named:
        return data.decode(named, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _in_old_charset(data)


def _in_old_charset(data: bytes) -> str:
    beyond = sum(1 for byte in data if byte > 0x7F)
    paired = 2 * len(_PAIRS.findall(data))
    return data.decode("gb18030" if paired > 0.7 * beyond else "cp1252", "replace")
