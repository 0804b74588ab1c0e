"""gpt-oss: harmony messages, each with a channel and perhaps a recipient.

    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>commentary
    to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>

Source: openai/harmony, docs/format.md; chat_template.jinja of openai/gpt-oss-20b. The recipient
stands in the role or in the channel. `analysis` is thinking; `commentary` without a recipient and
`final` are text, in which nothing is a call. A recipient that is neither `functions.` nor offered
(the built-in `python`, `browser.search`) has no arguments to run: Broken.
"""

from __future__ import annotations

import re

from agentcall.dialects.calls import CUT
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps

_MESSAGE = "<|message|>"
_START = "<|start|>assistant"
_CHANNEL = "<|channel|>"
_ENDS = ("<|call|>", "<|end|>", "<|return|>")
_HEADER = Needles(_MESSAGE, "<|end|>", "<|return|>", "<|call|>", "<|start|>")
_THOUGHT = Needles("<|end|>", "<|return|>", _START)
_SAID = Needles("<|end|>", "<|return|>", _START)
_BODY = Needles(*_ENDS, _START)
_RECIPIENT = re.compile(r"\bto=([\w.\-]+)")
_NOT_TOOLS = frozenset({"assistant", "user", "system", "developer", "all"})


def _message(page: Page) -> Steps[bool]:
    """A message from its header on."""
    header, needle = yield from page.source.upto(_HEADER)
    recipient = _RECIPIENT.search(page.source.raw())
    to = recipient.group(1) if recipient and recipient.group(1) not in _NOT_TOOLS else ""
    channel = header.rpartition(_CHANNEL)[2].strip()
    if needle != _MESSAGE:
        _headless(page, channel, to, cut=not needle)
    elif to:
        yield from _call(page, to)
    elif channel.startswith("analysis"):
        page.out.begin_thought()
        end = yield from page.source.flow(_THOUGHT, page.out.think)
        page.out.end_thought(cut=not end)
        yield from _next(page, end)
    else:
        page.out.drop()
        yield from _next(page, (yield from page.source.flow(_SAID, page.out.say)))
        page.out.drop()
    return True


def _next(page: Page, needle: str) -> Steps[None]:
    if needle == _START:
        page.source.unread(_START)
    yield from ()


def _headless(page: Page, channel: str, to: str, *, cut: bool) -> None:
    """A header without a message: what it says is kept, unless it would have been a call."""
    if to:
        page.out.broken(page.source.raw(), CUT if cut else "the call has no message")
    elif channel.startswith("final"):
        page.out.drop()
        page.out.say(channel.removeprefix("final").lstrip())
    else:
        page.out.begin_thought()
        page.out.think(channel)
        page.out.end_thought()


def _call(page: Page, to: str) -> Steps[None]:
    source = page.source
    yield from source.skip(BLANK)
    is_function = to.startswith("functions.") or to in page.tools
    begun = (yield from source.peek()) == "{"
    text = (yield from source.value()) if begun else ""
    rest, end = yield from source.upto(_BODY)
    yield from _next(page, end)
    name = to.removeprefix("functions.")
    if not is_function:
        page.out.broken(source.raw(), f"there is no tool {to!r}")
    elif not end and not (text and source.finished):
        page.out.broken(source.raw(), CUT)
    elif text and not rest.strip():
        page.out.call(name, text)
    elif not begun and not rest.strip():
        page.out.call(name, "{}")
    else:
        page.out.broken(source.raw(), "its JSON is not well formed")


def _recipient_first(page: Page) -> Steps[bool]:
    """A header that begins with the recipient, as an answer does whose role was in the prompt."""
    source = page.source
    if page.out.marked or page.out.last.strip():
        return False
    if not (yield from source.eats("to=functions.")):
        return False
    yield from source.skip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.- ")
    if not (yield from source.sees(_CHANNEL, _MESSAGE, "<|constrain|>")):
        return False
    return (yield from _message(page))


HARMONY = Family(
    "harmony",
    markers={_CHANNEL: _message, _START: _message},
    lines={"t": _recipient_first},
    dropped=_ENDS,
)
