"""Calls inside of a code fence: ```json of many small models, ```tool_code of Gemma 3.

    ```json
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    ```

Source: no template; what models write that are asked for JSON. ```tool_code: Google's guide to
function calling with Gemma 3. A fence counts if all that is in it are calls of offered tools;
otherwise it stays text, and nothing in it is read as bare JSON or pythonic calls.
"""

from __future__ import annotations

from agentcall.dialects.calls import CUT, calls_in, give, offered
from agentcall.dialects.families.bare_json import call_value
from agentcall.dialects.families.pythonic import pythonic_lines
from agentcall.dialects.page import Family, Page
from agentcall.dialects.parts import Broken, Called
from agentcall.dialects.scan import BLANK, Needles, Steps

_JSON = frozenset({"", "json", "jsonc", "json5", "tool_call", "tool_calls", "tool", "function"})
_CODE = frozenset({"tool_code", "tool_call", "tool_calls", "tool"})
_WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+#. \t"
_END = Needles("```")


def _fence(page: Page) -> Steps[bool]:
    source = page.source
    if not (yield from source.eats("```")):
        return False
    word = (yield from source.skip(_WORD)).strip().lower()
    yield from source.skip(BLANK)
    first = yield from source.peek()
    if (yield from _marked(page)):
        return True
    if word in _JSON and first in ("{", "["):
        done = yield from _json(page)
    elif word in _CODE and first:
        done = yield from _code(page)
    else:
        done = False
    if not done:
        yield from _text(page)
    return True


def _marked(page: Page) -> Steps[bool]:
    """A fence around marked calls: it is markup as they are, and they are read as ever."""
    if not page.markers or not (yield from page.source.sees(*page.markers)):
        return False
    page.out.drop()
    page.fence = "call"
    return True


def _text(page: Page) -> Steps[None]:
    """The fence holds no call: its first line is text, and what follows is read as code."""
    raw = page.source.raw()
    if not page.source.give_back(3):
        page.out.say(raw)
        return
    page.out.say("```")
    page.fence = "text"
    yield from ()


def _json(page: Page) -> Steps[bool]:
    source = page.source
    calls: list[Called | Broken] = []
    while True:
        text, sure = yield from call_value(page)
        if not text:
            return sure and _cut(page)
        calls += calls_in(text, flat=False)
        if not offered(calls, page.tools):
            return False
        yield from source.skip(BLANK + ",;")
        if (yield from source.eats("```")):
            break
        if (yield from source.peek()) not in ("{", "["):
            if source.left or not source.finished:
                return _cut(page)
            break
    give(page, calls)
    return True


def _cut(page: Page) -> bool:
    """Whether the answer ended inside of the fence."""
    if page.source.left or not page.source.ended:
        return False
    page.out.broken(page.source.raw(), CUT)
    return True


def _code(page: Page) -> Steps[bool]:
    source = page.source
    code, end = yield from source.upto(_END)
    calls = pythonic_lines(code, page.tools)
    if not calls:
        return False
    if not end and not source.finished:
        return _cut(page)
    give(page, calls)
    return True


FENCED = Family("fenced", lines={"`": _fence})
