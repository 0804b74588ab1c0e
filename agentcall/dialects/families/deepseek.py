"""DeepSeek V3, R1, V3.1: calls between special tokens.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Paris"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>                                   V3, R1
    <｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>  V3.1

Source: tokenizer_config.json of deepseek-ai/DeepSeek-V3-0324, deepseek-ai/DeepSeek-R1-0528 and
deepseek-ai/DeepSeek-V3.1. V3.2 and V4 write DSML: families/dsml.py.
"""

from __future__ import annotations

from agentcall.dialects.calls import reject_markup, unwrap_arguments
from agentcall.dialects.page import ParseState, ToolParser
from agentcall.dialects.scan import BLANK, Delimiters, Scan

_BEGIN_CALL = "<｜tool▁call▁begin｜>"
_END_CALL = "<｜tool▁call▁end｜>"
_END_CALLS = "<｜tool▁calls▁end｜>"
_NEXT_CALL = Delimiters(_BEGIN_CALL, _END_CALLS)
_AFTER_NAME = Delimiters("<｜tool▁sep｜>", "\n", "```", _END_CALL, _END_CALLS)
_CALL_ENDS = Delimiters(_END_CALL, _END_CALLS)


def _read_section(state: ParseState) -> Scan[bool]:
    """All calls up to the end of the section; what stands between them is noise."""
    scanner = state.scanner
    while True:
        noise, needle = yield from scanner.read_until(_NEXT_CALL)
        if needle != _BEGIN_CALL:
            if noise.strip() or not needle:
                reject_markup(state, "there is no call in it")
            state.writer.drop_markup()
            return True
        scanner.set_mark(needle)
        if not (yield from _read_call(state)):
            return True
        scanner.set_mark()


def _read_call(state: ParseState) -> Scan[bool]:
    """One call; whether it was whole."""
    scanner = state.scanner
    name, needle = yield from scanner.read_until(_AFTER_NAME)
    if name.strip() == "function" and needle == "<｜tool▁sep｜>":
        name, needle = yield from scanner.read_until(_AFTER_NAME)
    yield from scanner.skip(BLANK)
    yield from scanner.accept("```json", "```")
    yield from scanner.skip(BLANK)
    text = (yield from scanner.read_value()) if (yield from scanner.peek()) == "{" else ""
    yield from scanner.skip(BLANK)
    yield from scanner.accept("```")
    yield from scanner.skip(BLANK)
    done = yield from scanner.accept(_END_CALL)
    if not done and (yield from scanner.peek()):
        done = (yield from scanner.look_ahead(_BEGIN_CALL, _END_CALLS)) if text else ""
        if not done:
            _, done = yield from scanner.read_until(_CALL_ENDS)
            text = ""
    if text and (done or scanner.is_complete):
        state.writer.write_call(name.strip(), unwrap_arguments(text))
        return True
    reject_markup(state, "its JSON is not well formed")
    return bool(done) and done != _END_CALLS


DEEPSEEK = ToolParser(
    "deepseek",
    markers={"<｜tool▁calls▁begin｜>": _read_section, _BEGIN_CALL: _read_call},
    ignored_tokens=(_END_CALL, _END_CALLS, "<｜end▁of▁sentence｜>", "<｜Assistant｜>"),
)
