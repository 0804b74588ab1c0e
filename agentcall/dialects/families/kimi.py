"""Kimi K2, K2.5, K2.6: calls between special tokens.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0
    <|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>

Source: chat_template.jinja and docs/tool_call_guidance.md of moonshotai/Kimi-K2-Instruct-0905. The
call's id holds its name. K3 writes another format: families/kimi_k3.py.
"""

from __future__ import annotations

import re

from agentcall.dialects.calls import CUT, arguments_text, break_off
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps

_CALL = "<|tool_call_begin|>"
_END_CALL = "<|tool_call_end|>"
_END = "<|tool_calls_section_end|>"
_NEXT = Needles(_CALL, _END)
_ARGUMENTS = "<|tool_call_argument_begin|>"
_ID_ENDS = Needles(_ARGUMENTS, _END_CALL, _END)
_REST = Needles(_END_CALL, _END)
_ID = re.compile(r"(?:functions\.)?(.*?)(?::\d+)?", re.DOTALL)


def _section(page: Page) -> Steps[bool]:
    source = page.source
    while True:
        _, needle = yield from source.upto(_NEXT)
        if needle != _CALL:
            if not needle and not source.finished:
                page.out.broken(source.raw(), CUT)
            page.out.drop()
            return True
        source.mark(needle)
        if not (yield from _one(page)):
            return True
        source.mark()


def _one(page: Page) -> Steps[bool]:
    """One call; whether more may follow in its section."""
    source = page.source
    call_id, needle = yield from source.upto(_ID_ENDS)
    yield from source.skip(BLANK)
    begun = needle == _ARGUMENTS and (yield from source.peek()) == "{"
    text = (yield from source.value()) if begun else ""
    yield from source.skip(BLANK)
    done = yield from source.eats(_END_CALL)
    if not done and needle == _ARGUMENTS and (yield from source.peek()):
        _, done = yield from source.upto(_REST)
        text = ""
    found = _ID.fullmatch(call_id.strip())
    if text and found and (done or source.finished):
        page.out.call(found.group(1), arguments_text(text), call_id.strip())
        return True
    break_off(page, "its JSON is not well formed")
    return bool(done) and done != _END


KIMI = Family(
    "kimi",
    markers={"<|tool_calls_section_begin|>": _section, _CALL: _one},
    dropped=(_END_CALL, _END, "<|im_end|>"),
)
