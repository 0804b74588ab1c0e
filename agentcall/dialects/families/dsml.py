"""DeepSeek V3.2, V4, V4.1: DSML.

    <｜DSML｜function_calls>
    <｜DSML｜invoke name="get_weather">
    <｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

Source: encoding/encoding_dsv32.py of deepseek-ai/DeepSeek-V3.2; V4 says `tool_calls` for
`function_calls`; V4.1 writes a space behind the bar and `calls`. Parameters with string="true"
stand as they are, all others as JSON.
"""

from __future__ import annotations

import json

from agentcall.dialects.calls import CUT, object_text
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.dialects.tagged import Tags, json_of, tagged_value
from agentcall.jsontext import Members

_BAR = "｜DSML｜"
_SECTIONS = ("function_calls>", "tool_calls>", " calls>")
_INVOKES = tuple(f'<{_BAR}{space}invoke name="' for space in ("", " "))
_END_INVOKES = tuple(f"</{_BAR}{space}invoke>" for space in ("", " "))
_PARAMETERS = tuple(f'<{_BAR}{space}parameter name="' for space in ("", " "))
_ENDS = tuple(f"</{_BAR}{section}" for section in _SECTIONS)
_QUOTE = Needles('"')
_HEAD = Needles(">")


def _section(page: Page) -> Steps[bool]:
    source = page.source
    while True:
        yield from source.skip(BLANK)
        if (yield from source.eats(*_ENDS)):
            page.out.drop()
            return True
        if not (yield from source.eats(*_INVOKES)):
            over = not (yield from source.peek())
            if not over or source.raw().strip().startswith("<"):
                page.out.broken(source.raw(), CUT if over else "there is no call in it")
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
            member = (yield from source.eats(*_PARAMETERS)) and (yield from _parameter(page))
            if not member:
                over = not (yield from source.peek())
                page.out.broken(source.raw(), CUT if over else "its tags are not well formed")
                return False
            found.append(member)
    page.out.call(name, object_text(found))
    return True


def _parameter(page: Page) -> Steps[tuple[str, str] | None]:
    source = page.source
    key, _ = yield from source.upto(_QUOTE)
    head, end = yield from source.upto(_HEAD)
    space = " " if f"<{_BAR} " in source.raw() else ""
    end_tag = f"</{_BAR}{space}parameter>"
    value, tag = yield from tagged_value(source, Tags(end_tag, (*_PARAMETERS, *_END_INVOKES)))
    if not end or not tag:
        return None
    if 'string="true"' in head:
        return key, json.dumps(value, ensure_ascii=False)
    return key, json_of(value, {}, {})


DSML = Family(
    "dsml",
    markers={
        **{f"<{_BAR}{section}": _section for section in _SECTIONS},
        **dict.fromkeys(_INVOKES, _invoke),
    },
    dropped=(*_ENDS, "<｜end▁of▁sentence｜>"),
)
