"""HTML as readable text, with headings, lists, tables, code and links as in Markdown.

Rules: what a reader does not see is left out, as instructions to a model can hide there: scripts,
styles, and elements that are `hidden` or made invisible by their style. A link keeps its address if
it is http or https.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urljoin

from agentcall_tools.fetch.html_tokens import EndTag, HTMLToken, StartTag, tokenize_html

MAX_CHARACTERS = 1_000_000
MAX_TOKENS = 200_000
_MAX_LINK_LENGTH = 1_000
_LINK_BREAKERS = re.compile(r"[\x00-\x20()<>]")

_SKIPPED_ELEMENTS = frozenset(
    str.split(
        "script style template svg math iframe noembed noframes object canvas audio video datalist "
        "select"
    )
)
_VOID = frozenset(
    str.split("area base br col embed hr img input link meta source track wbr param frame")
)
_OPTIONAL_END = frozenset(str.split("p li dt dd tr td th thead tbody tfoot option optgroup"))
_SPACED_BLOCKS = frozenset(
    str.split("p h1 h2 h3 h4 h5 h6 pre table blockquote ul ol dl hr figure article section main")
)
_PLAIN_BLOCKS = frozenset(
    str.split(
        "div li tr dt dd br header footer nav aside form fieldset address details summary "
        "figcaption caption thead tbody tfoot legend title"
    )
)
_HEADINGS = frozenset(str.split("h1 h2 h3 h4 h5 h6"))
_BLOCKS = _SPACED_BLOCKS | _PLAIN_BLOCKS
_HIDDEN_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|(?:opacity|font-size)\s*:\s*0(?![.0-9])", re.I
)


@dataclass(frozen=True, slots=True)
class PageText:
    """The title and the text of a page."""

    title: str
    text: str


def extract_page_text(html: str, address: str = "") -> PageText:
    """Return the page as text; relative links are joined with its address."""
    reader = _PageTextReader(address)
    for piece in islice(tokenize_html(html), MAX_TOKENS):
        reader.feed(piece)
        if reader.size > MAX_CHARACTERS:
            break
    return reader.finish()


class _PageTextReader:
    def __init__(self, address: str) -> None:
        self.size = 0
        self._address = address
        self._title = ""
        self._in_title = False
        self._parts: list[str] = []
        self._newlines = 0
        self._space = False
        self._prefix = ""
        self._verbatim_depth = 0
        self._lists: list[int | None] = []
        self._href = ""
        self._link_at: int | None = None
        self._hidden: list[str] = []
        self._hidden_counts: Counter[str] = Counter()

    def finish(self) -> PageText:
        """Return the text that has been read."""
        self._close_link()
        lines = (line.rstrip() for line in "".join(self._parts).split("\n"))
        return PageText(" ".join(self._title.split())[:300], "\n".join(lines).strip())

    def feed(self, piece: HTMLToken) -> None:
        """Read the next tag or text of the page."""
        if self._hidden and not self._is_visible_again(piece):
            return
        match piece:
            case str():
                self._add_text(piece)
            case StartTag(name, attributes):
                self._start_element(name, attributes)
            case EndTag(name):
                self._end_element(name)

    def _is_visible_again(self, piece: HTMLToken) -> bool:
        """Return whether the invisible element has ended, so that this piece is visible."""
        if isinstance(piece, str):
            return False
        name = piece.name
        if isinstance(piece, StartTag):
            if self._hidden == [name] and name in _OPTIONAL_END:
                self._pop()
                return True
            if name not in _VOID and name not in _OPTIONAL_END:
                self._push(name)
            return False
        if not self._hidden_counts[name]:
            if name in _OPTIONAL_END:
                return False
            self._hidden.clear()  # the end of an element around it
            self._hidden_counts.clear()
            return True
        while self._pop() != name:
            pass
        return False

    def _push(self, name: str) -> None:
        self._hidden.append(name)
        self._hidden_counts[name] += 1

    def _pop(self) -> str:
        name = self._hidden.pop()
        self._hidden_counts[name] -= 1
        return name

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        if name in _SKIPPED_ELEMENTS or (name not in _VOID and _is_hidden(attributes)):
            self._push(name)
            return
        self._break_line(name, len(self._lists))
        match name:
            case "title":
                self._in_title = True
            case "a":
                self._close_link()
                self._href = self._resolve_link(attributes.get("href", ""))
            case "img" if attributes.get("alt", "").strip():
                self._add_text(f" (image: {attributes['alt'][:300]}) ")
            case "ul" | "ol":
                self._lists.append(0 if name == "ol" else None)
            case "pre":
                self._verbatim_depth += 1
            case _:
                self._prefix = self._make_prefix(name) or self._prefix

    def _end_element(self, name: str) -> None:
        self._break_line(name, len(self._lists) - 1)
        match name:
            case "title":
                self._in_title = False
            case "a":
                self._close_link()
            case "ul" | "ol" if self._lists:
                self._lists.pop()
            case "pre":
                self._verbatim_depth = max(self._verbatim_depth - 1, 0)
            case _:
                pass

    def _make_prefix(self, name: str) -> str:
        """Return the prefix of an element's text: # for a heading, - for an item, | for a cell."""
        if name in _HEADINGS:
            return "#" * int(name[1]) + " "
        if name in ("td", "th"):
            return "| "
        if name != "li":
            return ""
        indent = "  " * min(max(len(self._lists) - 1, 0), 8)
        number = self._lists[-1] if self._lists else None
        if number is None:
            return f"{indent}- "
        self._lists[-1] = number + 1
        return f"{indent}{number + 1}. "

    def _break_line(self, name: str, lists_around: int) -> None:
        """End the line; add an empty one if the element is separated from the next."""
        inner = name in ("ul", "ol") and lists_around > 0
        if name in _BLOCKS:
            self._newlines = max(self._newlines, 1 if inner or name in _PLAIN_BLOCKS else 2)
            self._prefix = ""

    def _add_text(self, text: str) -> None:
        if self._in_title:
            self._title = self._title or text[:1000]
        elif self._verbatim_depth:
            self._write(text)
        else:
            words = " ".join(text.split())
            if words:
                space = " " if self._space or text[:1].isspace() else ""
                self._space = text[-1:].isspace()
                self._write(words, space)
            else:
                self._space = self._space or bool(text)

    def _write(self, text: str, space: str = "") -> None:
        if self._newlines or self._prefix:
            starts = not self._parts or self._newlines
            gap = "\n" * self._newlines if self._parts else ""
            space = gap + ("" if starts else " ") + self._prefix
        if self._href and self._link_at is None:
            self._link_at = len(self._parts)
            space += "["
        self._parts.append(space + text)
        self.size += len(space) + len(text)
        self._newlines, self._prefix = 0, ""

    def _close_link(self) -> None:
        if self._link_at is not None:
            link = f"]({self._href})"
            self._parts.append(link)
            self.size += len(link)
        self._href, self._link_at = "", None

    def _resolve_link(self, reference: str) -> str:
        """Return the absolute address of a link, or "" if it isn't http or https."""
        words = reference.strip()
        if not words or words.startswith("#"):
            return ""
        try:
            address = urljoin(self._address, words)
        except ValueError:
            return ""
        is_web = address.lower().startswith(("http://", "https://"))
        return (
            _LINK_BREAKERS.sub(_percent_encode, address)
            if is_web and len(address) <= _MAX_LINK_LENGTH
            else ""
        )


def _percent_encode(found: "re.Match[str]") -> str:
    return f"%{ord(found.group()):02X}"


def _is_hidden(attributes: dict[str, str]) -> bool:
    hidden = attributes.get("hidden", "until-found").lower() != "until-found"
    return hidden or bool(_HIDDEN_STYLE.search(attributes.get("style", "")))
