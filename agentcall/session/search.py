"""Texts as words that can be searched, and the part of a text around what was found.

Rules: a Chinese, Japanese or Korean character is a word of its own, as these are written without
blanks, so that a part of a sentence is found; a word that is searched may be the beginning of one;
all words of a search have to be there.
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
    """What of a message can be found: what was said, called and given."""
    match message:
        case Assistant():
            called = (f"{call.name} {call.arguments}" for call in message.calls)
            return "\n".join([message.text, *called]).strip()
        case ToolResult():
            return f"{message.name}\n{message.text}"
        case _:
            return message.text


def separate_cjk(text: str) -> str:
    """The text as it goes into the index."""
    return _CJK_CHARACTER.sub(r" \1 ", text)


def build_query(words: str) -> str:
    """What is asked of the index for these words; empty where there is no word in them."""
    phrases = (_WORD.findall(separate_cjk(word)) for word in words.split())
    return " ".join(f'"{" ".join(phrase)}" *' for phrase in phrases if phrase)


def extract_excerpt(text: str, words: str) -> str:
    """The text around the first of the words that stands in it as it was written."""
    low = text.casefold()
    places = [low.find(word.casefold()) for word in words.split()]
    place = min((place for place in places if place >= 0), default=0)
    start, end = max(place - _EXCERPT_CHARS, 0), place + 2 * _EXCERPT_CHARS
    cut = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}"
