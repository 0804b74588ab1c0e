"""DeepSeek V3.2, V4, V4.1: DSML.

    <｜DSML｜function_calls>
    <｜DSML｜invoke name="get_weather">
    <｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

Source: encoding/encoding_dsv32.py of deepseek-ai/DeepSeek-V3.2; V4 says `tool_calls` for
`function_calls`; V4.1 writes a space behind the bar and `calls`. Parameters with string="true"
stand as they are, with string="false" as JSON. MiniMax M2 writes the same tags without the bar
between <minimax:tool_call> (chat_template.jinja of MiniMaxAI/MiniMax-M2), MiniCPM 5 says
`function` and `param` (vLLM minicpm5); there the tool's schema says what a value is.
"""

from __future__ import annotations

import json
import re

from agentcall.dialects.calls import break_off, object_text
from agentcall.dialects.offers import Schema
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.dialects.tagged import Tags, json_of, property_schema, tagged_value
from agentcall.jsontext import Members

_BARS = ("｜DSML｜", "｜DSML｜ ", "")
_SECTIONS = (
    "｜DSML｜function_calls>",
    "｜DSML｜tool_calls>",
    "｜DSML｜ calls>",
    "minimax:tool_call>",
    "function_calls>",
    "function_call>",
    "tool_call>",
)
_OF_OTHERS = ("<function_calls>", "<function_call>", "<tool_call>")
_INVOKES = (*(f'<{bar}invoke name="' for bar in _BARS), '<function name="')
_END_INVOKES = (*(f"</{bar}invoke>" for bar in _BARS), "</function>")
_PARAMETERS = (*(f'<{bar}parameter name="' for bar in _BARS), '<param name="')
_ENDS = tuple(f"</{section}" for section in _SECTIONS)
_QUOTE = Needles('"')
_HEAD = Needles(">")
_ATTRIBUTES = re.compile(r'(?:\s+string="(?:true|false)"|\s+type="\w+")*\s*')


def _section(page: Page) -> Steps[bool]:
    source = page.source
    while True:
        yield from source.skip(BLANK)
        if (yield from source.eats(*_ENDS)):
            page.out.drop()
            return True
        if not (yield from source.eats(*_INVOKES)):
            over = not (yield from source.peek())
            if source.raw().strip() in _OF_OTHERS:
                return False
            if not over or source.raw().strip().startswith("<"):
                break_off(page, "there is no call in it")
            return True
        if not (yield from _invoke(page)):
            return True
        source.mark()


def _invoke(page: Page) -> Steps[bool]:
    """One call behind the quote before its name; whether it was whole."""
    source = page.source
    name, _ = yield from source.upto(_QUOTE)
    found: Members = []
    if not (yield from source.eats("/>")):
        yield from source.eats(">")
        while True:
            yield from source.skip(BLANK)
            if (yield from source.eats(*_END_INVOKES)):
                break
            tag = yield from source.eats(*_PARAMETERS)
            member = (yield from _parameter(page, name, tag)) if tag else None
            if member is None:
                break_off(page, "its tags are not well formed")
                return False
            found.append(member)
    page.out.call(name, object_text(found))
    return True


def _parameter(page: Page, name: str, tag: str) -> Steps[tuple[str, str] | None]:
    """One parameter behind this tag: its key and the JSON text of its value."""
    source, schema = page.source, page.tools.schema(name)
    key, _ = yield from source.upto(_QUOTE)
    head, end = yield from source.upto(_HEAD)
    end_tag = "</" + tag.removeprefix("<").partition(" name=")[0] + ">"
    value, ended = yield from tagged_value(source, Tags(end_tag, (*_PARAMETERS, *_END_INVOKES)))
    if not end or not ended or not _ATTRIBUTES.fullmatch(head):
        return None
    if 'string="true"' in head:
        return key, json.dumps(value, ensure_ascii=False)
    known: Schema = {} if "string=" in head else property_schema(schema, key)
    return key, json_of(value, known, schema)


DSML = Family(
    "dsml",
    markers={
        **{f"<{section}": _section for section in _SECTIONS},
        **dict.fromkeys(_INVOKES, _invoke),
    },
    dropped=(*_ENDS, "<｜end▁of▁sentence｜>"),
)
