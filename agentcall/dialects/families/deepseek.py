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

from agentcall.dialects.calls import arguments_text, break_off
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps

_CALL = "<｜tool▁call▁begin｜>"
_END_CALL = "<｜tool▁call▁end｜>"
_END = "<｜tool▁calls▁end｜>"
_NEXT = Needles(_CALL, _END)
_NAME_ENDS = Needles("<｜tool▁sep｜>", "\n", "```", _END_CALL, _END)
_REST = Needles(_END_CALL, _END)


def _section(page: Page) -> Steps[bool]:
    """All calls up to the end of the section; what stands between them is noise."""
    source = page.source
    while True:
        noise, needle = yield from source.upto(_NEXT)
        if needle != _CALL:
            if noise.strip() or not needle:
                break_off(page, "there is no call in it")
            page.out.drop()
            return True
        source.mark(needle)
        if not (yield from _one(page)):
            return True
        source.mark()


def _one(page: Page) -> Steps[bool]:
    """One call; whether it was whole."""
    source = page.source
    name, needle = yield from source.upto(_NAME_ENDS)
    if name.strip() == "function" and needle == "<｜tool▁sep｜>":
        name, needle = yield from source.upto(_NAME_ENDS)
    yield from source.skip(BLANK)
    yield from source.eats("```json", "```")
    yield from source.skip(BLANK)
    text = (yield from source.value()) if (yield from source.peek()) == "{" else ""
    yield from source.skip(BLANK)
    yield from source.eats("```")
    yield from source.skip(BLANK)
    done = yield from source.eats(_END_CALL)
    if not done and (yield from source.peek()):
        done = (yield from source.sees(_CALL, _END)) if text else ""
        if not done:
            _, done = yield from source.upto(_REST)
            text = ""
    if text and (done or source.finished):
        page.out.call(name.strip(), arguments_text(text))
        return True
    break_off(page, "its JSON is not well formed")
    return bool(done) and done != _END


DEEPSEEK = Family(
    "deepseek",
    markers={"<｜tool▁calls▁begin｜>": _section, _CALL: _one},
    dropped=(_END_CALL, _END, "<｜end▁of▁sentence｜>", "<｜Assistant｜>"),
)
