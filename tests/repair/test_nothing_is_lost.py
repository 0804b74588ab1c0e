"""The first rule of repair: exactly the intended call runs, or none.

Valid arguments are written in every supported text format. A fragment (an operator and a number,
a unit, a word, a second string, a date) is inserted after, before or inside a value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tool_call_formats import FORMATS, TAGGED_FORMATS, WHOLE_FORMATS, widen

from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.dialects.parsers.response_parser import read_text
from agentcall.repair import RepairedCall, repair_call
from agentcall.tools.tool import Tool, tool

Render = Callable[[str, dict[str, Any]], str]


@dataclass
class Size:
    width: int
    unit: str


@tool
def order(
    amount: float,
    item: str,
    count: int = 1,
    prices: list[float] | None = None,
    size: Size | None = None,
    gift: bool = False,
) -> str:
    """Orders an item."""
    return f"{amount} {item} {count} {prices} {size} {gift}"


@tool
def look(item: str) -> str:
    """Looks an item up."""
    return item


@tool
def wait(seconds: float = 5) -> float:
    """Waits."""
    return seconds


TOOLS: dict[str, Tool] = {each.name: each for each in (order, look, wait)}


def native(name: str, arguments: dict[str, Any]) -> str:
    """Return the arguments of a native call."""
    return json.dumps(arguments)


def native_python(name: str, arguments: dict[str, Any]) -> str:
    """Return the arguments of a native call in Python's notation."""
    return repr(arguments)


def native_indented(name: str, arguments: dict[str, Any]) -> str:
    """Return the arguments of a native call over several lines."""
    return json.dumps(arguments, indent=2)


def native_unclosed(name: str, arguments: dict[str, Any]) -> str:
    """Return the arguments of a native call without a closing bracket that a server removed."""
    return json.dumps(arguments)[:-1]


def native_full_width(name: str, arguments: dict[str, Any]) -> str:
    """Return the arguments of a native call with the punctuation of a Chinese keyboard."""
    return widen(arguments)


def native_announced(name: str, arguments: dict[str, Any]) -> str:
    """Return the arguments of a native call between sentences."""
    return f"Here are the arguments:\n{json.dumps(arguments)}\nThat is all that it needs."


NATIVE: dict[str, Render] = {
    each.__name__: each
    for each in (
        *(native, native_python, native_indented, native_unclosed),
        *(native_full_width, native_announced),
    )
}
WRITTEN: dict[str, Render] = {**NATIVE, **FORMATS, **WHOLE_FORMATS}

WORDS = st.text("bdghjkqvwxyz", min_size=3, max_size=6)
NUMBERS = st.integers(1001, 9999) | st.integers(100, 999).map(lambda n: n + 0.25)
ORDERS = st.fixed_dictionaries(
    {"amount": NUMBERS, "item": WORDS},
    optional={
        "count": st.integers(10_000, 99_999),
        "prices": st.lists(NUMBERS, min_size=1, max_size=3),
        "size": st.fixed_dictionaries({"width": st.integers(100_000, 999_999), "unit": WORDS}),
        "gift": st.booleans(),
    },
)
CALLS = st.one_of(
    st.tuples(st.just("order"), ORDERS),
    st.tuples(st.just("look"), st.fixed_dictionaries({"item": WORDS})),
    st.tuples(st.just("wait"), st.fixed_dictionaries({"seconds": NUMBERS})),
)
OPERATORS = st.sampled_from(["+", "-", "*", "/", "//", "**", "^", "%", "x", "×", " + ", " - ", "e"])
FRAGMENTS = st.one_of(
    st.tuples(OPERATORS, st.sampled_from(["5", "2.5", "(1+1)", "count", "03"])).map("".join),
    st.sampled_from([" kg", "kg", "%", " USD", "$", "€", " million", "k", " °C", "km/h"]),
    st.sampled_from([" or so", " about", "maybe ", " each", " null", " True", " and 7", "!", " ~"]),
    st.sampled_from([' "second"', ' "x" ', "'y'", ' + "z"', '"w"', " 'v'", ' : "u"', "“t”"]),
    st.sampled_from([" 2026-11-30", "2026-11-30 ", " 14:30", "T10:00Z", " Nov 30", " 1 234"]),
    st.sampled_from(
        [" [7]", "{8}", "(9)", " = 10", " -> 11", "; 12", " | 13", "<b>14</b>", "\\u15."]
    ),
)


def places(arguments: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all texts and numbers."""
    if isinstance(arguments, dict):
        return [p for key, item in arguments.items() for p in places(item, (*path, key))]
    if isinstance(arguments, list):
        return [p for i, item in enumerate(arguments) for p in places(item, (*path, i))]
    return [] if isinstance(arguments, bool) else [path]


def at(arguments: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        arguments = arguments[step]
    return arguments


def changed(arguments: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy with another value at a path."""
    copy = json.loads(json.dumps(arguments))
    at(copy, path[:-1])[path[-1]] = value
    return copy


def intended(
    arguments: dict[str, Any], path: tuple[str | int, ...], where: int, fragment: str
) -> list[Any]:
    """Return what the text may mean: the fragment is part of the value around it."""
    written = str(at(arguments, path))
    text = written[:where] + fragment + written[where:]
    meant = [changed(arguments, path, text)]
    try:
        return [*meant, changed(arguments, path, json.loads(text.strip().removeprefix("+")))]
    except ValueError:
        return meant


def carried_out(name: str, text: str, how: str) -> list[RepairedCall]:
    """Return the calls that run for what a model wrote."""
    if how in NATIVE:
        calls: tuple[ToolCallPart, ...] = (ToolCallPart(name, text),)
    else:
        calls = read_text(text, list(TOOLS.values())).calls
    outcomes = [repair_call(call, TOOLS) for call in calls]
    return [outcome for outcome in outcomes if isinstance(outcome, RepairedCall)]


def check_that_nothing_is_lost(data: st.DataObject, how: str) -> None:
    name, arguments = data.draw(CALLS)
    path = data.draw(st.sampled_from(places(arguments)))
    written = str(at(arguments, path))
    where = data.draw(st.integers(0, len(written)))
    quoted = isinstance(at(arguments, path), str) and how not in TAGGED_FORMATS
    fragment = data.draw(FRAGMENTS)
    text = WRITTEN[how](name, arguments)
    assume(text.count(written) == 1)
    start = text.index(written)
    if quoted and data.draw(st.booleans()):  # outside of the quotes
        where = -1 if where * 2 < len(written) else len(written) + 1
    spoilt = text[: start + where] + fragment + text[start + where :]
    meant = intended(arguments, path, min(max(where, 0), len(written)), fragment)
    for call in carried_out(name, spoilt, how):
        ran = json.loads(call.arguments)
        assert call.tool.name == name
        assert any(same(ran, one) for one in meant), (spoilt, call.arguments)


def same(ran: Any, meant: Any) -> bool:
    """Whether the arguments are equal; blanks around a text do not count between tags."""
    if isinstance(ran, dict) and isinstance(meant, dict):
        return ran.keys() == meant.keys() and all(same(ran[key], meant[key]) for key in ran)
    if isinstance(ran, list) and isinstance(meant, list):
        return len(ran) == len(meant) and all(map(same, ran, meant))
    if isinstance(ran, str) or isinstance(meant, str):
        return str(ran).strip() == str(meant).strip()
    return bool(ran == meant)


@pytest.mark.parametrize("how", sorted(WRITTEN))
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_runs_is_what_was_meant_or_nothing(how: str, data: st.DataObject) -> None:
    check_that_nothing_is_lost(data, how)


@pytest.mark.processes
@given(data=st.data())
@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_runs_is_what_was_meant_or_nothing_at_length(data: st.DataObject) -> None:
    check_that_nothing_is_lost(data, data.draw(st.sampled_from(sorted(WRITTEN))))
