"""Text of people, models and tools as Markdown that shows it and does nothing.

The page takes Markdown with HTML in it. A model's answer keeps its Markdown, but no tag in it
counts and no image is fetched: an address in a picture's place tells a stranger what was said.
Everything else (names, arguments, what people typed) is shown to the letter. Behind this stand the
page's own filter (DOMPurify) and its Content-Security-Policy (`door`).
"""

from __future__ import annotations

import re
from html import escape

from agentcall.plaintext import harmless

_MARKS = re.compile(r"[!-/:-@\[-`{-~]")  # ASCII's punctuation
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)
_TAG = re.compile(r"\\?<(?=[A-Za-z/!?])")
_CPP = re.compile(r"^([^`~\n]{0,20}[`~]{3,}[ \t]*)cpp(?=\s|$)", re.MULTILINE | re.IGNORECASE)
"""A fence at which Gradio 6.31 fails: it loads Prism's C++ without the C that it builds on."""
_PICTURE = re.compile(r"!(?=\[)")
_CODE = re.compile(
    r"^ {0,3}(?P<ticks>`{3,})[^`\n]*\n.*?(?:^ {0,3}(?P=ticks)`*[ \t]*$|\Z)"
    r"|^ {0,3}(?P<waves>~{3,})[^\n]*\n.*?(?:^ {0,3}(?P=waves)~*[ \t]*$|\Z)"
    r"|(?<![`\\])(?P<span>`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)(?P=span)(?!`)",
    re.MULTILINE | re.DOTALL,
)


def literal(text: str) -> str:
    """The text to the letter, line by line."""
    return _INDENT.sub(_kept_blank, _escaped(harmless(text)))


def inert(text: str) -> str:
    """The text with its Markdown, but without HTML and images; code in it stays as it is."""
    text, parts, end = _CPP.sub(r"\1c", harmless(text)), list[str](), 0
    for code in _CODE.finditer(text):
        parts += [_without_tags(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _without_tags(text[end:])])


def _escaped(text: str) -> str:
    return _MARKS.sub(lambda mark: escape(mark[0]) if mark[0] in "&<" else f"\\{mark[0]}", text)


def _kept_blank(blank: re.Match[str]) -> str:
    return "&nbsp;" * len(blank[0].expandtabs(4))


def _without_tags(text: str) -> str:
    return _PICTURE.sub(r"\\!", _TAG.sub("&lt;", text))
