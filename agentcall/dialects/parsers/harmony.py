"""gpt-oss: harmony messages, each with a channel and perhaps a recipient.

    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>commentary
    to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>

Source: openai/harmony, docs/format.md; chat_template.jinja of openai/gpt-oss-20b. The recipient is
part of the role or of the channel. `analysis` is thinking. `commentary` without a recipient and
`final` are text, in which nothing is a call. A recipient that is neither in `functions.` nor an
offered tool (the built-in `python`, `browser.search`) is a malformed call.
"""

from __future__ import annotations

import re

from agentcall.dialects.parsers._common import CUT_OFF
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser

_MESSAGE = "<|message|>"
_START = "<|start|>assistant"
_CHANNEL = "<|channel|>"
_END_TOKENS = ("<|call|>", "<|end|>", "<|return|>")
_HEADER_ENDS = Delimiters(_MESSAGE, "<|end|>", "<|return|>", "<|call|>", "<|start|>")
_TEXT_ENDS = Delimiters("<|end|>", "<|return|>", _START)
_BODY_ENDS = Delimiters(*_END_TOKENS, _START)
_RECIPIENT = re.compile(r"\bto=([\w.\-]+)")
_NOT_TOOLS = frozenset({"assistant", "user", "system", "developer", "all"})


def _read_message(state: ParseState) -> Scan[bool]:
    """Read a message, beginning with its header."""
    header, delimiter = yield from state.scanner.read_until(_HEADER_ENDS)
    match = _RECIPIENT.search(state.scanner.get_marked_text())
    recipient = match.group(1) if match and match.group(1) not in _NOT_TOOLS else ""
    channel = header.rpartition(_CHANNEL)[2].strip()
    if delimiter != _MESSAGE:
        _write_headless(state, channel, recipient, is_cut=not delimiter)
    elif recipient:
        yield from _read_call(state, recipient)
    elif channel.startswith("analysis"):
        state.writer.begin_thinking()
        end = yield from state.scanner.stream_until(_TEXT_ENDS, state.writer.write_thinking)
        state.writer.end_thinking(is_cut=not end)
        yield from _unread_start(state, end)
    else:
        state.writer.drop_markup()
        yield from _unread_start(
            state, (yield from state.scanner.stream_until(_TEXT_ENDS, state.writer.write_text))
        )
        state.writer.drop_markup()
    return True


def _unread_start(state: ParseState, delimiter: str) -> Scan[None]:
    if delimiter == _START:
        state.scanner.unread(_START)
    yield from ()


def _write_headless(state: ParseState, channel: str, recipient: str, *, is_cut: bool) -> None:
    """Write a header without a message: as a malformed call if it has a recipient, else as text."""
    if recipient:
        state.writer.write_malformed_call(
            state.scanner.get_marked_text(), CUT_OFF if is_cut else "the call has no message"
        )
    elif channel.startswith("final"):
        state.writer.drop_markup()
        state.writer.write_text(channel.removeprefix("final").lstrip())
    else:
        state.writer.begin_thinking()
        state.writer.write_thinking(channel)
        state.writer.end_thinking()


def _read_call(state: ParseState, recipient: str) -> Scan[None]:
    scanner = state.scanner
    yield from scanner.skip(BLANK)
    is_function = recipient.startswith("functions.") or recipient in state.tools
    has_json = (yield from scanner.peek()) == "{"
    text = (yield from scanner.read_value()) if has_json else ""
    rest, end = yield from scanner.read_until(_BODY_ENDS)
    yield from _unread_start(state, end)
    name = recipient.removeprefix("functions.")
    if not is_function:
        state.writer.write_malformed_call(
            scanner.get_marked_text(), f"there is no tool {recipient!r}"
        )
    elif not end and not (text and scanner.is_complete):
        state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
    elif text and not rest.strip():
        state.writer.write_call(name, text)
    elif not has_json and not rest.strip():
        state.writer.write_call(name, "{}")
    else:
        state.writer.write_malformed_call(scanner.get_marked_text(), "its JSON is not well formed")


_CHANNELS = ("commentary ", "assistantcommentary ", "assistant<|channel|>commentary ")
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def _read_recipient_first(state: ParseState) -> Scan[bool]:
    """Read a header that begins with the recipient: the role was part of the prompt.

    A server that removes special tokens leaves `commentary to=functions.NAME json{...}`, which is a
    call if nothing else follows.
    """
    scanner = state.scanner
    if state.writer.has_text or state.writer.has_call:
        return False
    yield from scanner.accept(*_CHANNELS)
    if not (yield from scanner.accept("to=functions.")):
        return False
    name = yield from scanner.skip(_NAME_CHARACTERS)
    yield from scanner.skip(" ")
    yield from scanner.accept("json", "code")
    yield from scanner.skip(" ")
    if name in state.tools and (yield from scanner.peek()) == "{":
        text = yield from scanner.read_value()
        yield from scanner.skip(BLANK)
        is_all = text and scanner.is_complete and scanner.remaining == 0
        if is_all:
            state.writer.write_call(name, text)
        return bool(is_all)
    if not (yield from scanner.look_ahead(_CHANNEL, _MESSAGE, "<|constrain|>")):
        return False
    return (yield from _read_message(state))


HARMONY = ToolParser(
    "harmony",
    markers={_CHANNEL: _read_message, _START: _read_message},
    line_starts={"tca": _read_recipient_first},
    ignored_tokens=_END_TOKENS,
)
