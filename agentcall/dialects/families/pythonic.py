"""Calls written as Python: Llama 3.2, Llama 4, Gemma 3, OLMo 3, LFM2.

    [get_weather(city="Paris"), add(a=2, b=3)]

Source: meta-llama/llama-models, prompt formats of Llama 3.2 and Llama 4 (also between
<|python_start|> and <|python_end|>); Google's guide to function calling with Gemma 3 (`print(...)`
around the call, `default_api.` before it). LFM2 writes them between <|tool_call_start|> and
<|tool_call_end|> (LiquidAI/LFM2-1.2B), OLMo 3 between <function_calls> tags, one a line
(allenai/Olmo-3-7B-Instruct). Values are Python literals; nothing is evaluated.

It counts where the list begins a line and all names in it are offered tools.
"""

from __future__ import annotations

import json
import re

from agentcall.dialects.calls import CUT, break_off, give, json_block
from agentcall.dialects.offers import Tools
from agentcall.dialects.page import Family, Page
from agentcall.dialects.parts import Broken, Called
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.jsontext import Balance, Lenient, Malformed
from agentcall.messages import JSON

_NAME = re.compile(r"[A-Za-z_][\w.\-]*")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_MAY_FOLLOW = ("", "\n", "\r", "<", "`")


def parse_call(scan: Lenient, tools: Tools) -> Called:
    """The call that stands here, `name(key=value, ...)`. Raises Malformed."""
    scan.peek()
    found = _NAME.match(scan.text, scan.at)
    if found is None:
        raise scan.fail("the name of a tool")
    name = found.group()
    scan.at = found.end()
    if not scan.eat("("):
        raise scan.fail("'('")
    values: dict[str, JSON] = {}
    order = _order(tools, name)
    named = False
    while not scan.eat(")"):
        key = _keyword(scan)
        named = named or bool(key)
        key = key or ("" if named else next((one for one in order if one not in values), ""))
        if not key:
            raise scan.fail("an argument with its name")
        if key in values:
            raise scan.fail(f"one value for {key!r}, not a second one,")
        values[key] = scan.value()
        if not scan.eat(",") and scan.peek() != ")":
            raise scan.fail("',' or ')'")
    return Called(name.removesuffix(".call"), json.dumps(values, ensure_ascii=False))


def _keyword(scan: Lenient) -> str:
    scan.peek()
    found = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)").match(scan.text, scan.at)
    if found is None:
        return ""
    scan.at = found.end()
    return found.group(1)


def _order(tools: Tools, name: str) -> list[str]:
    properties = tools.schema(name).get("properties")
    return list(properties) if isinstance(properties, dict) else []


def pythonic_list(text: str, tools: Tools) -> list[Called | Broken]:
    """The calls of `[name(...), ...]`; empty if it is anything else."""
    scan = Lenient(text)
    calls: list[Called | Broken] = []
    try:
        if not scan.eat("["):
            return []
        while not scan.eat("]"):
            calls.append(parse_call(scan, tools))
            if not scan.eat(",") and scan.peek() != "]":
                return []
        scan.eat(";")
        if scan.peek():
            return []
    except Malformed:
        return []
    return calls


def pythonic_lines(code: str, tools: Tools) -> list[Called | Broken]:
    """The calls of code that is nothing but calls of offered tools, perhaps printed."""
    if code.strip().startswith("["):
        listed = pythonic_list(code.strip(), tools)
        return listed if _all_offered(listed, tools) else []
    scan = Lenient(code)
    calls: list[Called | Broken] = []
    try:
        while scan.peek():
            printed = code.startswith("print(", scan.at)
            scan.at += len("print(") if printed else 0
            calls.append(parse_call(scan, tools))
            if printed and not scan.eat(")"):
                return []
            scan.eat(";")
    except Malformed:
        return []
    return calls if _all_offered(calls, tools) else []


def _all_offered(calls: list[Called | Broken], tools: Tools) -> bool:
    return bool(calls) and all(isinstance(one, Called) and one.name in tools for one in calls)


def _list(page: Page) -> Steps[bool]:
    source = page.source
    pieces = [(yield from source.eats("["))]
    if not pieces[0]:
        return False
    pieces.append((yield from source.skip(BLANK)))
    name = yield from source.skip(_LETTERS)
    if name not in page.tools or not (yield from source.eats("(")):
        return False
    balance = Balance()
    balance.run("".join(pieces) + name + "(", 0)
    rest = yield from source.value(balance)
    if not rest:
        cut = source.ended and source.left == 0
        if cut:
            page.out.broken(source.raw(), CUT)
        return cut
    calls = pythonic_list("".join(pieces) + name + "(" + rest, page.tools)
    if not _all_offered(calls, page.tools):
        return False
    yield from source.skip(" \t")
    if (yield from source.peek()) not in _MAY_FOLLOW:
        return False
    give(page, calls)
    return True


_TAGS = ("<|python_start|>", "<|tool_call_start|>", "<function_calls>")
_END_TAGS = ("<|python_end|>", "<|tool_call_end|>", "</function_calls>")
_END = Needles(*_END_TAGS, "<|eom|>", "<|eot|>", "<|eom_id|>", "<|eot_id|>")


def _marked(page: Page) -> Steps[bool]:
    """What stands between <|python_start|> and <|python_end|>, or other families' tags."""
    source = page.source
    yield from source.skip(BLANK)
    if (yield from source.sees("[{")):
        return (yield from json_block(page, *_END_TAGS))
    listed = (yield from source.value()) if (yield from source.peek()) == "[" else ""
    code, end = yield from source.upto(_END)
    code = listed + code
    if not end and not source.finished:
        page.out.broken(source.raw(), CUT)
        return True
    calls = pythonic_list(code.strip(), page.tools) or pythonic_lines(code, page.tools)
    if not calls:
        break_off(page, "there is no call in it")
    give(page, calls)
    return True


PYTHONIC = Family(
    "pythonic",
    markers=dict.fromkeys(_TAGS, _marked),
    lines={"[": _list},
    dropped=(*_END_TAGS, "<|eom|>", "<|eot|>"),
)
