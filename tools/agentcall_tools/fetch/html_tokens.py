"""HTML as tags and text, in one pass.

Rules: this follows the tokenization of the HTML standard (WHATWG) without building a tree. An
unclosed token extends to the end of the page, so that no part is read twice: the time is linear for
hostile pages, too, which the standard library's parser does not guarantee.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from typing import TypeAlias

_TAG_START = re.compile(r"<(?=[a-zA-Z/!?])")
_NAME = re.compile(r"[a-zA-Z][^\s/>]*")
_GAP = re.compile(r"[\s/]*")
_ATTRIBUTE = re.compile(r"[^\s/>][^\s/>=]*")
_VALUE = re.compile(r"\s*=\s*(?:\"([^\"]*)(\"?)|'([^']*)('?)|([^\s>\"'][^\s>]*)?)")
_RAW_TEXT_ENDS = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
}


@dataclass(frozen=True, slots=True)
class StartTag:
    """A start tag; attribute names are in lower case."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class EndTag:
    """An end tag."""

    name: str


HTMLToken: TypeAlias = str | StartTag | EndTag


def tokenize_html(html: str) -> Iterator[HTMLToken]:
    """Yield the tags and texts of a page, in order, without comments and declarations."""
    at = 0
    while at < len(html):
        found = _TAG_START.search(html, at)
        if not found:
            yield unescape(html[at:])
            return
        if found.start() > at:
            yield unescape(html[at : found.start()])
        piece, at = _read_tag(html, found.start())
        if piece is not None:
            yield piece
        if isinstance(piece, StartTag) and piece.name in _RAW_TEXT_ENDS:
            end = _RAW_TEXT_ENDS[piece.name].search(html, at)
            stop = end.start() if end else len(html)
            yield unescape(html[at:stop]) if piece.name in ("title", "textarea") else html[at:stop]
            at = stop


def _read_tag(html: str, at: int) -> tuple[HTMLToken | None, int]:
    """Return the tag at a position and its end; None for a comment or an unclosed tag."""
    if html.startswith("<!--", at):
        return None, _find_after(html, "-->", at + 2)
    closing = html[at + 1] == "/"
    name = _NAME.match(html, at + 2 if closing else at + 1)
    if not name:
        return None, _find_after(html, ">", at)
    attributes, end = _read_attributes(html, name.end())
    if attributes is None:
        return None, len(html)
    lower = name.group().lower()
    return (EndTag(lower) if closing else StartTag(lower, attributes)), end


def _find_after(html: str, closing: str, at: int) -> int:
    index = html.find(closing, at)
    return len(html) if index < 0 else index + len(closing)


def _read_attributes(html: str, at: int) -> tuple[dict[str, str] | None, int]:
    """Return the attributes of a tag and its end; None if the tag is not closed."""
    attributes: dict[str, str] = {}
    while True:
        gap = _GAP.match(html, at)
        at = gap.end() if gap else at
        if html.startswith(">", at):
            return attributes, at + 1
        name = _ATTRIBUTE.match(html, at)
        if not name:
            return None, at
        at = name.end()
        value = _VALUE.match(html, at)
        if value:
            at = value.end()
            if "" in value.group(2, 4):  # a quotation mark that is not closed
                return None, at
        words = (value.group(1) or value.group(3) or value.group(5) or "") if value else ""
        attributes.setdefault(name.group().lower(), unescape(words))
