"""Full-text search: a message as indexed text, a query for the index, an excerpt of a hit.

A Chinese, Japanese or Korean character is indexed as a word, since these languages have no blanks
between words. A hit contains all words of the search, each at least as the beginning of a word.
"""

from __future__ import annotations

import re

from agentcall.messages import Assistant, Message, ToolResult

_CJK_CHARACTER = re.compile(
    r"([\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003fffd])"
)
_WORD = re.compile(r"\w+")
_EXCERPT_CHARS = 60


def extract_text(message: Message) -> str:
    """Return the text of a message that can be searched, tool calls included."""
    match message:
        case Assistant():
            calls = (f"{call.name} {call.arguments}" for call in message.calls)
            return "\n".join([message.text, *calls]).strip()
        case ToolResult():
            return f"{message.name}\n{message.text}"
        case _:
            return message.text


def separate_cjk(text: str) -> str:
    """Return the text as it is indexed, with blanks around each CJK character."""
    return _CJK_CHARACTER.sub(r" \1 ", text)


def build_query(words: str) -> str:
    """Return the FTS5 query for these words; empty if there is no word in them."""
    phrases = (_WORD.findall(separate_cjk(word)) for word in words.split())
    return " ".join(f'"{" ".join(phrase)}" *' for phrase in phrases if phrase)


def extract_excerpt(text: str, words: str) -> str:
    """Return the text around the first literal occurrence of any of the words."""
    folded = text.casefold()
    places = [folded.find(word.casefold()) for word in words.split()]
    place = min((place for place in places if place >= 0), default=0)
    start, end = max(place - _EXCERPT_CHARS, 0), place + 2 * _EXCERPT_CHARS
    excerpt = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{excerpt}{'…' if end < len(text) else ''}"
