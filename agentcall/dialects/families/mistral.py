"""Mistral, all versions: calls behind [TOOL_CALLS].

    [TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]        v3, v7
    [TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}                                 v11, v13
    [TOOL_CALLS]get_weather[CALL_ID]123456789[ARGS]{"city": "Paris"}               v11

Source: mistral-common, tokens/tokenizers/instruct.py (versions 3 to 13); chat_template of
mistralai/Mistral-Small-3.2-24B-Instruct-2506. The last bracket ends the call. Thinking of
Magistral: families/thinking.py.
"""

from __future__ import annotations

from agentcall.dialects.calls import break_off, json_block
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Steps

_MARKER = "[TOOL_CALLS]"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def _tool_calls(page: Page) -> Steps[bool]:
    source = page.source
    yield from source.skip(BLANK)
    if (yield from source.peek()) in ("[", "{"):
        return (yield from json_block(page, closed_by_itself=True))
    name = yield from source.skip(_LETTERS)
    call_id = ""
    if name and (yield from source.eats("[CALL_ID]")):
        call_id = yield from source.skip(_LETTERS)
    marked = yield from source.eats("[ARGS]")
    yield from source.skip(BLANK)
    if name and (yield from source.peek()) == "{":
        text = yield from source.value()
        if text:
            page.out.call(name, text, call_id)
        else:
            break_off(page, "its JSON is not well formed")
        return True
    over = source.left == 0 or source.cut_short("[CALL_ID]", "[ARGS]")
    if not over and not marked:
        source.give_back(len(_MARKER))
    break_off(page, "there is no call in it")
    return True


MISTRAL = Family("mistral", markers={_MARKER: _tool_calls}, dropped=("[/TOOL_CALLS]",))
