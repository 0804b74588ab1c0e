"""Bare JSON that names an offered tool: Llama 3.1 to 3.3, and any model told to answer in JSON.

    {"name": "get_weather", "parameters": {"city": "Paris"}}

Source: chat_template of meta-llama/Llama-3.1-8B-Instruct and Llama-3.3-70B-Instruct; OpenAI's form
of tool calls (`{"tool_calls": [...]}`, `{"function": {...}}`), LangChain's `action`/`action_input`.

It counts where it begins a line and nothing but blanks, `;`, `,` or another call follows on that
line, if every call in it names an offered tool and has arguments. An object whose first key or
whose name says that it is no call is given back at once, so that JSON answers stream.
"""

from __future__ import annotations

from agentcall.dialects.calls import (
    ARGUMENTS,
    CUT,
    ENVELOPES,
    NAMES,
    OTHERS,
    calls_in,
    give,
    offered,
)
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Steps
from agentcall.jsontext import Balance

_WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/"
_KEYS = frozenset((*NAMES, *ARGUMENTS, *ENVELOPES, *OTHERS))
_MAY_FOLLOW = ("", "\n", "\r", ";", ",", "{", "[", "<", "`")


def call_value(page: Page) -> Steps[tuple[str, bool]]:
    """A list or object that may hold calls, and whether it surely names an offered tool.

    Empty if it cannot hold one, or does not end well.
    """
    source = page.source
    pieces: list[str] = []
    sure = yield from _head(page, pieces)
    if sure is None:
        return "", False
    balance = Balance()
    balance.run("".join(pieces), 0)
    rest = yield from source.value(balance)
    return ("".join(pieces) + rest, sure) if rest else ("", sure)


def _head(page: Page, pieces: list[str]) -> Steps[bool | None]:
    """Reads up to the first value: None if this is no call, True if it names an offered tool."""
    source = page.source
    pieces.append((yield from source.eats("[")))
    pieces.append((yield from source.skip(BLANK)))
    if not (yield from source.eats("{")):
        return None
    pieces.append("{")
    key = yield from _word(page, pieces)
    if key not in _KEYS:
        return None
    pieces.append((yield from source.skip(BLANK)))
    if not (yield from source.eats(":")):
        return None
    pieces.append(":")
    pieces.append((yield from source.skip(BLANK)))
    if key not in NAMES or (yield from source.peek()) not in ('"', "'"):
        return False
    name = yield from _word(page, pieces)
    return True if name is not None and name in page.tools else None


def _word(page: Page, pieces: list[str]) -> Steps[str | None]:
    """A word in quotes; None if something else stands here."""
    source = page.source
    pieces.append((yield from source.skip(BLANK)))
    quote = yield from source.eats('"', "'")
    if not quote:
        return None
    word = yield from source.skip(_WORD)
    if not (yield from source.eats(quote)):
        return None
    pieces.append(quote + word + quote)
    return word


def _bare(page: Page) -> Steps[bool]:
    source = page.source
    if (yield from source.peek()) not in ("{", "["):
        return False
    text, sure = yield from call_value(page)
    if not text:
        cut = sure and source.ended and source.left == 0
        if cut:
            page.out.broken(source.raw(), CUT)
        return cut
    calls = calls_in(text, flat=False)
    if not offered(calls, page.tools):
        page.out.say(text)
        return True
    yield from source.skip(" \t")
    follows = yield from source.peek()
    if follows not in _MAY_FOLLOW:
        return False
    yield from source.eats(";", ",")
    give(page, calls)
    return True


BARE_JSON = Family("bare_json", lines={"{[": _bare})
