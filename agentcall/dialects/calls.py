"""Calls out of JSON objects and lists, whatever the model calls the keys.

The texts of the arguments are kept as written: mending them is for a later stage, which says so.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence

from agentcall.dialects.offers import Tools
from agentcall.dialects.page import Page
from agentcall.dialects.parts import Broken, Called
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.jsontext import Members, Whole, items, members, read_json

NAMES = ("name", "tool_name", "function_name", "tool", "function", "action")
ARGUMENTS = (
    "arguments",
    "parameters",
    "args",
    "params",
    "kwargs",
    "input",
    "tool_input",
    "action_input",
)
ENVELOPES = ("tool_calls", "function_call", "tool_call", "function")
OTHERS = ("type", "id", "index", "tool_call_id", "call_id")
COMMENTS = ("thought", "thoughts", "reason", "reasoning", "explanation", "comment", "description")
"""What a model says about a call beside its arguments."""
_TYPES = ("function", "function_call", "tool_call", "tool_use")
_NOTHING = ("null", "None", "{}", "[]", '""', "''")

CUT = "the answer ended inside a call"
_TAG = 40
"""No tag is longer (characters)."""
_CODE_TOOLS = ("python", "interpreter", "code_interpreter", "python_interpreter", "ipython")


def text_of(written: str) -> str | None:
    """The text that a JSON string says; None if it is no string."""
    read = read_json(written)
    return read.value if isinstance(read, Whole) and isinstance(read.value, str) else None


def calls_in(text: str, *, flat: bool = True) -> list[Called | Broken]:
    """The calls of a JSON object or list, in order; what is no call of them is Broken.

    A `flat` call may have its arguments beside its name.
    """
    listed = items(text) if text.lstrip().startswith("[") else None
    if listed is not None:
        return [call for item in listed for call in calls_in(item, flat=flat)]
    found = members(text)
    if found is None:
        return [Broken(text, "it is not a JSON object")]
    by_key = dict(found)
    if len(by_key) < len(found):
        return [Broken(text, "one of its keys stands in it twice")]
    for key in ENVELOPES:
        if by_key.get(key, "").startswith(("{", "[")):
            return [_with_id(call, by_key) for call in calls_in(by_key[key], flat=flat)]
    if not flat and not any(key in by_key for key in ARGUMENTS):
        return [Broken(text, "it has no arguments")]
    return [_call(text, found, by_key)]


def _with_id(call: Called | Broken, by_key: dict[str, str]) -> Called | Broken:
    if isinstance(call, Broken) or call.id:
        return call
    return Called(call.name, call.arguments, text_of(by_key.get("id", "")) or "")


def _call(text: str, found: Members, by_key: dict[str, str]) -> Called | Broken:
    name_key = next((key for key in NAMES if text_of(by_key.get(key, ""))), None)
    if name_key is None:
        if len(found) == 1 and found[0][1].startswith("{"):
            return Called(*found[0])
        return Broken(text, 'it has no "name"')
    name = text_of(by_key[name_key]) or ""
    if "description" in by_key and '"properties"' in by_key.get("parameters", ""):
        return Broken(text, "it is the definition of a tool, not a call")
    for key in ARGUMENTS:
        if key in by_key and key != name_key:
            known = (name_key, key, *OTHERS, *COMMENTS)
            strays = [k for k, value in found if k not in known and value not in _NOTHING]
            # what stands beside the arguments may be one of them: the schema will tell
            arguments = text if strays else arguments_text(by_key[key])
            return Called(name, arguments, text_of(by_key.get("id", "")) or "")
    return Called(name, object_text([m for m in found if m[0] != name_key and not _is_type(m)]))


def _is_type(member: tuple[str, str]) -> bool:
    return member[0] == "type" and text_of(member[1]) in _TYPES


def arguments_text(written: str) -> str:
    """Arguments as written; those that are JSON inside of a string come out of it."""
    inner = text_of(written)
    if inner is not None and inner.strip().startswith("{"):
        return inner
    return "{}" if written.strip() in ("null", "None", '""', "''") else written


def object_text(found: Members) -> str:
    """The JSON object of keys and the texts of their values."""
    pairs = (f"{json.dumps(key, ensure_ascii=False)}: {value}" for key, value in found)
    return "{" + ", ".join(pairs) + "}"


def give(page: Page, calls: Sequence[Called | Broken]) -> None:
    """Puts calls out in order."""
    for call in calls:
        if isinstance(call, Broken):
            page.out.broken(call.text, call.reason)
        else:
            page.out.call(call.name.strip(), call.arguments, call.id)


def offered(calls: Sequence[Called | Broken], tools: Tools) -> bool:
    """Whether all of these are calls of offered tools."""
    return bool(calls) and all(isinstance(call, Called) and call.name in tools for call in calls)


def break_off(page: Page, reason: str) -> None:
    """The markup since the mark is Broken; a tag that the end has cut in two belongs to it."""
    source = page.source
    rest = source.text[source.at :]
    if source.ended and len(rest) < _TAG and rest.startswith(("<", "[")) and "\n" not in rest:
        source.take(len(rest))
    over = source.ended and source.left == 0
    page.out.broken(source.raw(), CUT if over else reason)


def json_block(page: Page, *closers: str, closed_by_itself: bool = False) -> Steps[bool]:
    """JSON objects or lists up to a closing marker; False if there are none.

    A marker that the server swallowed is not missed if the model was done. A format whose last
    bracket is its end is `closed_by_itself`.
    """
    source = page.source
    texts: list[str] = []
    while True:
        yield from source.skip(BLANK + (",;}])" if texts else ""))
        if closers and (yield from source.eats(*closers)):
            break
        if (yield from source.peek()) not in ("{", "["):
            if not texts:
                return False
            over = source.cut_short(*closers) or source.left == 0
            if over and not (source.finished or closed_by_itself):
                page.out.broken(source.raw(), CUT)
                return True
            if closers and (yield from _is_followed(page, closers)):
                page.out.broken(source.raw(), "text stands behind its JSON")
                return True
            break
        text = yield from source.value()
        if not text:
            yield from _spoilt(page, closers)
            return True
        texts.append(text)
    for text in texts:
        give(page, calls_in(text))
    if not texts:
        page.out.broken(source.raw(), "there is no call in it")
    return True


def _is_followed(page: Page, closers: tuple[str, ...]) -> Steps[bool]:
    """Whether text stands between the JSON and a closing marker on the same line."""
    source = page.source
    before = len(source.raw())
    _, needle = yield from source.upto(Needles("\n", *closers))
    return needle in closers or not source.give_back(before)


def _spoilt(page: Page, closers: tuple[str, ...]) -> Steps[None]:
    """JSON that does not end well: Broken up to its closing marker, or all there is."""
    source = page.source
    if source.left and closers:
        yield from source.upto(Needles(*closers))
    raw = source.raw()
    ends = [raw.find(closer) + len(closer) for closer in closers if closer in raw]
    if ends and min(ends) < len(raw) and source.give_back(min(ends)):
        raw = raw[: min(ends)]
    reason = "its JSON is not well formed" if ends or source.finished else CUT
    page.out.broken(raw, reason)


def code_call(tools: Tools, name: str, code: str) -> Called:
    """A call that carries code: of the offered tool that takes code, else of the name given."""
    found = next((tool for tool in (name, *_CODE_TOOLS) if tool in tools), name)
    offered_name = tools.find(found) or found
    properties = tools.schema(found).get("properties")
    keys = list(properties) if isinstance(properties, dict) else []
    key = keys[0] if len(keys) == 1 else "code"
    return Called(offered_name, json.dumps({key: code}, ensure_ascii=False))


def is_whole_code(code: str) -> bool:
    """Whether the code could be all of a program: nothing in it is left open."""
    try:
        ast.parse(unfenced(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def unfenced(code: str) -> str:
    """Code without the fence around it."""
    body = code.strip()
    if body.startswith("```") and "\n" in body:
        body = body.partition("\n")[2]
        body = body.rstrip().removesuffix("```")
    return body.strip("\n")
