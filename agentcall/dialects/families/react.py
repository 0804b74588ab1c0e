"""ReAct: a thought, an action and its input as lines of text.

    Thought: I need the weather.
    Action: get_weather
    Action Input: {"city": "Paris"}
    Observation: ...
    Final Answer: It rains.

Source: Yao et al. 2022 (arXiv 2210.03629); the prompt of LangChain's ReAct agent and of Qwen-Agent.

Rules: an action counts if it names an offered tool. Input that is no JSON is the value of the only
argument that the tool needs. What a model writes behind `Observation:` it has made up: nothing of
it counts. `Thought:` is thinking only if an action or a final answer follows, and `Final Answer:`
is dropped only behind one of these labels.
"""

from __future__ import annotations

import json

from agentcall.dialects.calls import CUT, arguments_text, calls_in, give, object_text, offered
from agentcall.dialects.families.pythonic import pythonic_lines
from agentcall.dialects.offers import Tools
from agentcall.dialects.page import Family, Page
from agentcall.dialects.parts import Called
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.dialects.tagged import json_of, property_schema

_THOUGHT = "Thought:"
_ACTIONS = ("Action:", "**Action:**")
_INPUTS = ("Action Input:", "**Action Input:**", "ActionInput:", "Action input:", "Input:")
_FINALS = ("Final Answer:", "**Final Answer:**")
_LINE = Needles("\n")
_ENDS = ("", "\n", "\r", "<")
_NOTHING = Needles("\0react\0")


def _thought(page: Page) -> Steps[bool]:
    source = page.source
    if not (yield from source.eats(_THOUGHT)):
        return False
    lines: list[str] = []
    while True:
        line, end = yield from source.upto(_LINE)
        lines.append(line + end)
        if not end:
            return False
        if (yield from source.sees(*_ACTIONS, *_FINALS)):
            break
    page.out.begin_thought()
    page.out.think("".join(lines))
    page.out.end_thought()
    page.react = True
    return True


def _action(page: Page) -> Steps[bool]:
    source = page.source
    if not (yield from source.eats(*_ACTIONS)):
        return False
    yield from source.skip(" \t")
    yield from source.eats("```json\n", "```\n")
    if (yield from source.peek()) in ("{", "["):
        return (yield from _json_action(page))
    line, end = yield from source.upto(_LINE)
    name = line.strip().strip("`*\"'[]")
    if name not in page.tools:
        calls = pythonic_lines(line.strip().strip("`"), page.tools)
        give(page, calls)
        return bool(calls) and (yield from _after(page))
    yield from source.skip(BLANK)
    if end and (yield from source.eats(*_INPUTS)):
        return (yield from _input(page, name))
    if not (yield from source.sees("Observation")):
        if not (page.react and source.finished and source.left == 0):
            return False
        if page.tools.may_take_more(name, ()):
            page.out.broken(source.raw(), CUT)
            return True
    page.out.call(name, "{}")
    return (yield from _after(page))


def _input(page: Page, name: str) -> Steps[bool]:
    source = page.source
    yield from source.skip(" \t")
    yield from source.eats("```json\n", "```\n")
    yield from source.skip(BLANK)
    if (yield from source.peek()) == "{":
        text = yield from source.value()
        if not text:
            page.out.broken(source.raw(), "its input is not well formed")
            return True
        yield from source.eats("\n```", "```")
        yield from source.skip(" \t")
        if not (yield from source.sees("Observation")) and (yield from source.peek()) not in _ENDS:
            yield from source.upto(_LINE)
            page.out.broken(source.raw(), "text stands behind its input")
            return True
        page.out.call(name, arguments_text(text))
        return (yield from _after(page))
    line, end = yield from source.upto(_LINE)
    is_cut = line[:1] == "`" or (not line.strip() and page.tools.may_take_more(name, ()))
    if not end and (is_cut or not source.finished):
        page.out.broken(source.raw(), CUT)
        return True
    if line.lstrip().startswith(("//", "/*", "#")):
        page.out.broken(source.raw(), "a comment stands before its input")
        return True
    call = _plain(name, line.strip(), page.tools)
    page.out.call(call.name, call.arguments)
    return (yield from _after(page))


def _plain(name: str, text: str, tools: Tools) -> Called:
    """A call whose input is no JSON object."""
    for call in pythonic_lines(f"{name}({text})", tools):
        if isinstance(call, Called) and "=" in text:
            return call
    schema = tools.schema(name)
    properties = schema.get("properties")
    needed = schema.get("required") or properties or ()
    keys = (
        [key for key in needed if isinstance(key, str)] if isinstance(needed, (list, dict)) else []
    )
    if len(keys) == 1 and text:
        value = json_of(text.strip("\"'"), property_schema(schema, keys[0]), schema)
        return Called(name, object_text([(keys[0], value)]))
    return Called(name, json.dumps(text, ensure_ascii=False) if text else "{}")


def _json_action(page: Page) -> Steps[bool]:
    """LangChain's form, one JSON object, and Cohere's (Command R), a list of them."""
    source = page.source
    text = yield from source.value()
    calls = calls_in(text, flat=False) if text else []
    if not offered(calls, page.tools):
        return False
    yield from source.eats("\n```", "```")
    give(page, calls)
    return (yield from _after(page))


def _after(page: Page) -> Steps[bool]:
    """Behind a call: an observation and all behind it is made up."""
    page.react = True
    yield from page.source.skip(BLANK)
    if (yield from page.source.eats("Observation:", "Observation")):
        yield from page.source.flow(_NOTHING, lambda _: None)
    return True


def _final(page: Page) -> Steps[bool]:
    if not page.react or not (yield from page.source.eats(*_FINALS)):
        return False
    yield from page.source.skip(BLANK)
    page.out.drop()
    return True


REACT = Family("react", lines={"T": _thought, "A*": _action, "*F": _final})
