"""Documents as lines of text, each with its line or page number. The suffix decides the format.

Rules: text and Markdown keep their lines. HTML becomes readable text, whose lines have the number
of the source line with their first long word, or the number of the line before. The lines of a PDF
have the number of their page. Text is UTF-8, or has a byte order mark. Other text is GB18030 if its
bytes come in pairs, as in Chinese, or else Windows-1252.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from agentcall_tools.fetch.html_text import extract_page_text
from agentcall_tools.knowledge.pdf import read_pdf_pages

MAX_BYTES = 20_000_000
_TEXT = frozenset({".txt", ".text", ".rst"})
_MARKDOWN = frozenset({".md", ".markdown"})
_HTML = frozenset({".html", ".htm", ".xhtml"})
_PDF = frozenset({".pdf"})
SUFFIXES = _TEXT | _MARKDOWN | _HTML | _PDF

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
          (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([\w.:-]{2,40})", re.I)
_PAIRS = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")
_WORD = re.compile(r"[^\W_]{4,}|[\u3040-\u30ff\u3400-\u9fff]{2,}")
_SEARCH_DISTANCE = 200_000


class DocumentError(ValueError):
    """A file without readable text; the message says why."""


class DocumentLine(NamedTuple):
    """A line of a document, with the number of its line or page."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class TextDocument:
    """The text of a file; `unit` is the unit of its line numbers, "line" or "page"."""

    lines: tuple[DocumentLine, ...]
    unit: str = "line"
    has_headings: bool = False


def is_document(path: str) -> bool:
    """Return whether files of this name are supported."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def read_document(path: str, data: bytes) -> TextDocument:
    """Parse a file. Raise DocumentError if it has no text, ImportError without pypdf."""
    kind = PurePosixPath(path).suffix.lower()
    if kind in _PDF:
        return TextDocument(tuple(_read_pdf_lines(data)), unit="page")
    if b"\0" in data[:10_000] and not data.startswith(tuple(bom for bom, _ in _BYTE_ORDER_MARKS)):
        raise DocumentError("it is not text")
    if kind in _HTML:
        return TextDocument(
            tuple(_read_html_lines(_decode(data, _find_charset(data)))), has_headings=True
        )
    lines = _decode(data).splitlines()
    return TextDocument(
        tuple(map(DocumentLine, range(1, len(lines) + 1), lines)), "line", kind in _MARKDOWN
    )


def _read_pdf_lines(data: bytes) -> Iterator[DocumentLine]:
    try:
        pages = read_pdf_pages(data)
    except ValueError as error:
        raise DocumentError(str(error)) from None
    for number, page in enumerate(pages, 1):
        yield from (DocumentLine(number, line) for line in page.splitlines())


def _read_html_lines(source: str) -> Iterator[DocumentLine]:
    page, at, number = extract_page_text(source), 0, 1
    if page.title:
        yield DocumentLine(1, f"# {page.title}")
    for line in page.text.splitlines():
        word = _WORD.search(line)
        found = source.find(word.group(), at, at + _SEARCH_DISTANCE) if word else -1
        if word and found >= 0:
            number += source.count("\n", at, found)
            at = found
            yield DocumentLine(number, line)
            end = found + len(line) - word.start()  # the line is at least as long in the source
            number += source.count("\n", at, end)
            at = end
        else:
            yield DocumentLine(number, line)


def _find_charset(data: bytes) -> str:
    """Return the charset in a page's `<meta>` if it is a known East Asian one, or ""."""
    found = _CHARSET.search(data[:4096])
    name = found.group(1).decode().lower() if found else ""
    return name if name in ("gbk", "gb2312", "gb18030", "big5", "shift_jis", "euc-kr") else ""


def _decode(data: bytes, charset: str = "") -> str:
    for bom, name in _BYTE_ORDER_MARKS:
        if data.startswith(bom):
            return data[len(bom) :].decode(name, "replace")
    if charset:
        return data.decode(charset, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode_legacy(data)


def _decode_legacy(data: bytes) -> str:
    beyond = sum(1 for byte in data if byte > 0x7F)
    paired = 2 * len(_PAIRS.findall(data))
    return data.decode("gb18030" if paired > 0.7 * beyond else "cp1252", "replace")
