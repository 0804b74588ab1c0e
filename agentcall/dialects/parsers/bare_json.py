"""Bare JSON that names an offered tool: Llama 3.1 to 3.3, and models prompted to answer in JSON.

    {"name": "get_weather", "parameters": {"city": "Paris"}}

Source: chat_template of meta-llama/Llama-3.1-8B-Instruct and Llama-3.3-70B-Instruct; OpenAI's form
of tool calls (`{"tool_calls": [...]}`, `{"function": {...}}`), LangChain's `action`/`action_input`.

An object is a call if it begins a line, only blanks, `;`, `,`, a comment or another call follow on
that line, and every call in it names an offered tool and has arguments. A sentence may follow on
that line if the object begins the answer; it is text, as is the `content` of a message in OpenAI's
form. An object whose first key or name shows that it is not a call is released at once, so that
JSON answers stream.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import (
    ARGUMENT_KEYS,
    COMMENT_KEYS,
    COMMENTS,
    CUT_OFF,
    ENVELOPE_KEYS,
    MESSAGE_KEYS,
    NAME_KEYS,
    OPENERS,
    OTHER_KEYS,
    has_only_offered_calls,
    is_remark,
    parse_calls,
    read_message_text,
    write_calls,
)
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser
from agentcall.lenient_json import QUOTES, BracketMatcher

_WORD_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/"
_CALL_KEYS = frozenset(
    (*NAME_KEYS, *ARGUMENT_KEYS, *ENVELOPE_KEYS, *OTHER_KEYS, *MESSAGE_KEYS, *COMMENT_KEYS)
)
_MAY_FOLLOW = ("", "\n", "\r", ";", ",", "；", "，", "{", "[", "｛", "［", "<", "`")


def read_call_value(state: ParseState) -> Scan[tuple[str, bool]]:
    """Read a list or object that may hold calls; return it and whether it names an offered tool.

    The text is empty if it cannot hold a call or does not end well.
    """
    scanner = state.scanner
    pieces: list[str] = []
    is_certain = yield from _read_head(state, pieces)
    if is_certain is None:
        return "", False
    balance = BracketMatcher()
    balance.scan("".join(pieces), 0)
    rest = yield from scanner.read_value(balance)
    return ("".join(pieces) + rest, is_certain) if rest else ("", is_certain)


def _read_head(state: ParseState, pieces: list[str]) -> Scan[bool | None]:
    """Read up to the first value: None if this is not a call, True if it names an offered tool."""
    scanner = state.scanner
    pieces.append((yield from scanner.accept("[", "［")))
    pieces.append((yield from scanner.skip(BLANK)))
    pieces.append((yield from scanner.accept("{", "｛")))
    if not pieces[-1]:
        return None
    key = yield from _read_word(state, pieces)
    if key not in _CALL_KEYS:
        return None
    pieces.append((yield from scanner.skip(BLANK)))
    pieces.append((yield from scanner.accept(":", "：")))
    if not pieces[-1]:
        return None
    pieces.append((yield from scanner.skip(BLANK)))
    if key not in NAME_KEYS or (yield from scanner.peek()) not in QUOTES:
        return False
    name = yield from _read_word(state, pieces)
    return True if name is not None and name in state.tools else None


def _read_word(state: ParseState, pieces: list[str]) -> Scan[str | None]:
    """Read a word in quotes; return None if something else follows."""
    scanner = state.scanner
    pieces.append((yield from scanner.skip(BLANK)))
    quote = yield from scanner.accept(*QUOTES)
    if not quote:
        return None
    word = yield from scanner.skip(_WORD_CHARACTERS)
    if not (yield from scanner.accept(QUOTES[quote])):
        return None
    pieces.append(quote + word + QUOTES[quote])
    return word


def _read_bare_call(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    is_first = not state.writer.has_text
    text, is_certain = yield from read_call_value(state)
    if not text:
        is_cut = is_certain and scanner.is_ended and scanner.remaining == 0
        if is_cut:
            state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
        return is_cut
    calls = parse_calls(text, allows_flat=False)
    if not has_only_offered_calls(calls, state.tools):
        state.writer.write_text(text)
        return True
    yield from scanner.skip(" \t")
    follows = yield from scanner.peek()
    remark = ""
    if follows not in _MAY_FOLLOW:
        is_comment = yield from scanner.look_ahead(*COMMENTS)
        remark, end = yield from scanner.read_until(_LINE_END)
        if not is_comment and not (is_first and is_remark(remark)):
            return False
        remark += end
    yield from scanner.accept(*";,；，")
    state.writer.write_text(read_message_text(text))
    write_calls(state, calls)
    state.writer.write_text(remark)
    return True


_LINE_END = Delimiters("\n")

BARE_JSON = ToolParser("bare_json", line_starts={"".join(OPENERS): _read_bare_call})
