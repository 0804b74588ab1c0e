"""InternLM2, InternLM2.5, InternLM3, Intern-S1: action blocks.

    thought<|action_start|><|plugin|>
    {"name": "get_weather", "parameters": {"city": "Tokyo"}}<|action_end|>

Source: InternLM repository, chat/chat_format.md (InternLM2, InternLM2.5); LMDeploy
internlm2_tool_parser; SGLang InternlmDetector (a space between the markers, `arguments`). The
first InternLM2 checkpoints write the same tokens as [UNUSED_TOKEN_141..144]. The code
interpreter's block holds code, usually in a fence. A server that skips special tokens leaves bare
JSON. Intern-S1 may call without leaving its thinking; its answer ends with the call then, which is
its stop word: families/thinking.py, rule 2.
"""

from __future__ import annotations

from agentcall.dialects.calls import CUT, code_call, give, is_whole_code, json_block, unfenced
from agentcall.dialects.families.bare_json import BARE_JSON
from agentcall.dialects.families.fenced import FENCED
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps

_ENDS = ("<|action_end|>", "[UNUSED_TOKEN_143]")
_PLUGIN = ("<|plugin|>", "[UNUSED_TOKEN_141]")
_INTERPRETER = ("<|interpreter|>", "[UNUSED_TOKEN_142]")
_STOPS = Needles(*_ENDS, "<|im_end|>", "[UNUSED_TOKEN_145]")


def _action(page: Page) -> Steps[bool]:
    source = page.source
    yield from source.skip(BLANK)
    if (yield from source.eats(*_INTERPRETER)):
        yield from _code(page)
        return True
    yield from source.eats(*_PLUGIN)
    if (yield from json_block(page, *_ENDS)):
        return True
    _, needle = yield from source.upto(_STOPS)
    cut = not needle and not source.finished
    page.out.broken(source.raw(), CUT if cut else "there is no JSON in the action block")
    return True


def _code(page: Page) -> Steps[None]:
    code, needle = yield from page.source.upto(_STOPS)
    if not needle and not (page.source.finished and is_whole_code(code)):
        page.out.broken(page.source.raw(), CUT)
        return
    give(page, [code_call(page.tools, "interpreter", unfenced(code))])


INTERNLM = Family(
    "internlm",
    markers={"<|action_start|>": _action, "[UNUSED_TOKEN_144]": _action},
    lines={**BARE_JSON.lines, **FENCED.lines},
    dropped=("<|action_end|>", "<|im_end|>", "[UNUSED_TOKEN_143]", "[UNUSED_TOKEN_145]"),
)
