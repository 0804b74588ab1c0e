"""More scenarios: native calls with other faults, in their arguments, names and deltas."""

from __future__ import annotations

import json
from dataclasses import replace

from agentcall.testing import Completion, ScriptedCall, call, calls, say, sse
from benchmarks.robustness.base import ADDED, RIGHT, make_adding_scenario
from benchmarks.robustness.scenario import Scenario, always, execution, once

_CITY = {"city": "北京市朝阳区"}
_CITY_TEXT = json.dumps({"name": "weather", "parameters": _CITY}, ensure_ascii=False)
_CHINESE = Scenario(
    "Chinese arguments",
    "cut in the middle of characters when streamed",
    ("weather",),
    "北京朝阳区今天几度？",
    always(sse(call("weather", **_CITY), "split")),
    "今天 23.7 度。",
    (execution("weather", **_CITY),),
    ("23.7",),
    2,
)
_STAY = {"stay": {"city": "Oslo", "nights": 2}}
_STRANGE = {"city": "Oslo", "nights": 2, "room": {"beds": [{"size": "king"}], "view": None}}
_BOOKING = Scenario(
    "unknown extra nested keys",
    "an object in an object, with keys that nobody asked for",
    ("book",),
    "Book two nights in Oslo.",
    always(call("book", stay=_STRANGE, options={"breakfast": {"vegan": True}})),
    "It is booked.",
    (execution("book", **_STAY),),
    ("4747",),
    2,
)
_PAIR = calls(RIGHT, call("total", numbers=[1907, 2840, 11]))
_PAIRED = Scenario(
    "two calls without index",
    "their deltas are not mixed (plain: nothing is wrong)",
    ("add", "total"),
    "Add 1907 and 2840, and add up 1907, 2840 and 11.",
    always(
        calls(RIGHT, call("total", numbers=[1907, 2840, 11])).replace(
            quirks=("no_index", "whole_calls")
        )
    ),
    "4747 and 4758.",
    (ADDED, execution("total", numbers=[1907, 2840, 11])),
    ("4747", "4758"),
    2,
)

CALLS = (
    _CHINESE,
    replace(
        _CHINESE,
        name="text: Chinese arguments, InternLM2.5",
        fault=always(
            sse(say(f"好的。<|action_start|><|plugin|>{_CITY_TEXT}<|action_end|>"), "split")
        ),
    ),
    _BOOKING,
    replace(
        _BOOKING,
        name="a nested object as a string",
        about="JSON in JSON",
        fault=always(call("book", stay=json.dumps(_STAY["stay"]))),
    ),
    Scenario(
        '"true" for bool',
        "a boolean as a string",
        ("switch",),
        "Switch the hall lamp off.",
        always(call("switch", lamp="hall", on="false")),
        "It is off.",
        (execution("switch", lamp="hall", on=False),),
        ("4747",),
        2,
    ),
    Scenario(
        "arguments null for a tool without parameters",
        "null is no object",
        ("clock",),
        "What time is it?",
        always(Completion(calls=(ScriptedCall("clock", None),))),
        "It is a quarter to ten.",
        (execution("clock"),),
        ("09:47",),
        2,
    ),
    make_adding_scenario(
        "name and arguments inside the arguments",
        "a whole call where its arguments should be",
        call("add", name="add", arguments={"a": 1907, "b": 2840}),
    ),
    make_adding_scenario(
        "a missing argument, then right",
        "the model is told which one",
        once(call("add", a=1907), RIGHT),
        3,
    ),
    make_adding_scenario(
        "the name in every delta",
        "the name is not doubled (plain: nothing is wrong)",
        RIGHT.replace(quirks=("names_repeated",)),
    ),
    make_adding_scenario(
        "a new id in every delta",
        "one call stays one call (plain: nothing is wrong)",
        RIGHT.replace(quirks=("ids_renewed",)),
    ),
    _PAIRED,
    Scenario(
        "a name between two tools",
        "near to both: neither runs, the model is told",
        ("find_user", "find_users"),
        "Which users begin with Ada?",
        once(call("find_userz", name="Ada"), call("find_users", name="Ada")),
        "4747 and 4748.",
        (execution("find_users", name="Ada"),),
        ("4747",),
        3,
    ),
)
