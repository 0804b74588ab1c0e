"""Llama 3.1, 3.2, 3.3: JSON, often behind <|python_tag|>.

    <|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}<|eom_id|>

Source: meta-llama/llama-models, prompt format of Llama 3.1; chat_template of
meta-llama/Llama-3.3-70B-Instruct. Several calls are separated by `;`. Without the tag it is bare
JSON. Behind the tag there may also be a call of a built-in tool, `brave_search.call(query="...")`,
or Python for the code interpreter.
"""

from __future__ import annotations

from agentcall.dialects.calls import CUT, code_call, give, is_whole_code, json_block
from agentcall.dialects.families.bare_json import BARE_JSON
from agentcall.dialects.families.pythonic import pythonic_lines, pythonic_list
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps

_ENDS = ("<|eom_id|>", "<|eot_id|>")
_END = Needles(*_ENDS)


def _python_tag(page: Page) -> Steps[bool]:
    source = page.source
    yield from source.skip(BLANK)
    if (yield from source.peek()) == "{":
        return (yield from json_block(page, *_ENDS, closed_by_itself=True))
    code, end = yield from source.upto(_END)
    if not end and not (source.finished and is_whole_code(code)):
        page.out.broken(source.raw(), CUT)
        return True
    calls = pythonic_list(code.strip(), page.tools) or pythonic_lines(code, page.tools)
    if not calls and not code.strip():
        page.out.broken(source.raw(), "there is no call in it")
    elif not calls:
        give(page, [code_call(page.tools, "python", code.strip("\n"))])
    give(page, calls)
    return True


LLAMA3 = Family(
    "llama3",
    markers={"<|python_tag|>": _python_tag},
    lines=BARE_JSON.lines,
    dropped=(*_ENDS, "<|start_header_id|>assistant<|end_header_id|>"),
)
