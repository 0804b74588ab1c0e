"""More scenarios: what users of local models reported, and what no framework was measured on.

In several of them the first answer is cut or broken and its call differs from the one that comes
after it, so that it shows whether something ran that was never finished.
"""

from __future__ import annotations

import json
from dataclasses import replace

from agentcall.testing import (
    MISSING,
    Call,
    Completion,
    call,
    calls,
    choices,
    cut,
    empty_body,
    error_in_stream,
    error_under_200,
    html,
    no_done,
    null_choices,
    reset,
    say,
    sse,
    status,
    unstreamed,
)
from agentcall.testing.refusals import Flavour, flat_error
from benchmarks.robustness.base import ADD, ADDED, RIGHT, RIGHT_JSON, SUM, adding, written
from benchmarks.robustness.scenario import UNKNOWING, Scenario, always, in_turns, once, ran

AS_TEXT = f'<tool_call>\n{{"name": "add", "arguments": {RIGHT_JSON}}}\n</tool_call>'
UNFINISHED = call("add", a=1, b=1)

FAMILIES = (
    adding(
        "text: Llama <|python_tag|>",
        "the server parses no calls",
        say(f'<|python_tag|>{{"name": "add", "parameters": {RIGHT_JSON}}}<|eom_id|>'),
    ),
    adding(
        "text: Mistral [TOOL_CALLS]",
        "the server parses no calls",
        say(f'[TOOL_CALLS] [{{"name": "add", "arguments": {RIGHT_JSON}}}]'),
    ),
    adding(
        "text: DeepSeek V3.1",
        "the server parses no calls",
        say(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>"
            f"{RIGHT_JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
    ),
    adding(
        "text: GLM 4.5",
        "the server parses no calls",
        say(
            "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1907</arg_value>\n"
            "<arg_key>b</arg_key>\n<arg_value>2840</arg_value>\n</tool_call>"
        ),
    ),
    adding(
        "text: Kimi K2",
        "the server parses no calls",
        say(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0"
            f"<|tool_call_argument_begin|>{RIGHT_JSON}<|tool_call_end|><|tool_calls_section_end|>"
        ),
    ),
    adding(
        "text: gpt-oss harmony",
        "the server parses no calls",
        say(
            "<|channel|>analysis<|message|>I have to add.<|end|><|start|>assistant<|channel|>"
            f"commentary to=functions.add <|constrain|>json<|message|>{RIGHT_JSON}<|call|>"
        ),
    ),
    Scenario(
        "text: two calls in one answer",
        "both run",
        ("add", "total"),
        "Add 1907 and 2840, and add up 1907, 2840 and 11.",
        always(
            say(
                f"{AS_TEXT}\n"
                '<tool_call>\n{"name": "total", "arguments": {"numbers": [1907, 2840, 11]}}\n'
                "</tool_call>"
            )
        ),
        "4747 and 4758.",
        (ADDED, ran("total", numbers=[1907, 2840, 11])),
        ("4747", "4758"),
        2,
    ),
    Scenario(
        "text: markers inside an argument",
        "they do not end the call",
        ("save_note",),
        "Note how a tool call ends.",
        always(
            say(
                '<tool_call>\n{"name": "save_note", "arguments": {"text": '
                '"It ends with </tool_call> or <|action_end|>."}}\n</tool_call>'
            )
        ),
        "It is noted.",
        (ran("save_note", text="It ends with </tool_call> or <|action_end|>."),),
        ("4747",),
        2,
    ),
    Scenario(
        "prose about a tool",
        "stays prose, to the letter",
        ("add",),
        "How would you add two numbers?",
        always(say("I would call add(a, b), for instance add(1, 2), with my tool `add`.")),
        "I would call add(a, b), for instance add(1, 2), with my tool `add`.",
        (),
        ("nothing is waited for",),
        1,
    ),
    adding(
        "a call rehearsed in thinking",
        "what is only thought of does not run",
        say(
            '<think>\nPerhaps <tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 1}}\n'
            "</tool_call>? No, with the right numbers.\n</think>\n"
            f"{AS_TEXT}"
        ),
    ),
    adding(
        "a call swallowed by the server's thinking parser",
        "it stands in reasoning_content, and there is no answer",
        say("", thinking=f"I have to add them.\n{AS_TEXT}"),
    ),
    adding(
        "native call and the same call as text",
        "runs once",
        calls(
            RIGHT, text=f'<tool_call>\n{{"name": "add", "arguments": {RIGHT_JSON}}}\n</tool_call>'
        ),
    ),
)

_CITY = {"city": "北京市朝阳区"}
_CITY_TEXT = json.dumps({"name": "weather", "parameters": _CITY}, ensure_ascii=False)
_CHINESE = Scenario(
    "Chinese arguments",
    "cut in the middle of characters when streamed",
    ("weather",),
    "北京朝阳区今天几度？",
    always(sse(call("weather", **_CITY), "split")),
    "今天 23.7 度。",
    (ran("weather", **_CITY),),
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
    (ran("book", **_STAY),),
    ("4747",),
    2,
)
_PAIR = calls(RIGHT, call("total", numbers=[1907, 2840, 11]))
_PAIRED = Scenario(
    "two deltas without index",
    "two calls stay two calls (plain: nothing is wrong)",
    ("add", "total"),
    "Add 1907 and 2840, and add up 1907, 2840 and 11.",
    always(
        calls(RIGHT, call("total", numbers=[1907, 2840, 11])).but(
            quirks=("no_index", "whole_calls")
        )
    ),
    "4747 and 4758.",
    (ADDED, ran("total", numbers=[1907, 2840, 11])),
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
        (ran("switch", lamp="hall", on=False),),
        ("4747",),
        2,
    ),
    Scenario(
        "arguments null for a tool without parameters",
        "null is no object",
        ("clock",),
        "What time is it?",
        always(Completion(calls=(Call("clock", None),))),
        "It is a quarter to ten.",
        (ran("clock"),),
        ("09:47",),
        2,
    ),
    adding(
        "name and arguments inside the arguments",
        "a whole call where its arguments should be",
        call("add", name="add", arguments={"a": 1907, "b": 2840}),
    ),
    adding(
        "a missing argument, then right",
        "the model is told which one",
        once(call("add", a=1907), RIGHT),
        3,
    ),
    adding(
        "the name in every delta",
        "the name is not doubled (plain: nothing is wrong)",
        RIGHT.but(quirks=("names_repeated",)),
    ),
    adding(
        "a new id in every delta",
        "one call stays one call (plain: nothing is wrong)",
        RIGHT.but(quirks=("ids_renewed",)),
    ),
    _PAIRED,
    Scenario(
        "a name between two tools",
        "near to both: neither runs, the model is told",
        ("find_user", "find_users"),
        "Which users begin with Ada?",
        once(call("find_userz", name="Ada"), call("find_users", name="Ada")),
        "4747 and 4748.",
        (ran("find_users", name="Ada"),),
        ("4747",),
        3,
    ),
)

ANSWERS = (
    adding(
        "a stream that is cut once",
        "no end, no [DONE]: its call does not run (plain: half of the JSON)",
        once(cut(UNFINISHED), RIGHT),
        4,
    ),
    adding(
        "finish_reason length with a call",
        "the call may be cut: it does not run",
        once(UNFINISHED.but(finish_reason="length"), RIGHT),
        4,
    ),
    adding(
        "an error inside a stream once",
        "asked again (plain: HTTP 500)",
        once(error_in_stream(UNFINISHED), RIGHT),
        4,
    ),
    adding(
        "an error under HTTP 200 once",
        "LMDeploy 0.5: no completion, asked again",
        once(error_under_200("Internal server error", code=500), RIGHT),
        4,
    ),
    adding(
        "a flat error with HTTP 500 once",
        "LMDeploy 0.18: no `error` around it, asked again",
        once(status(500, body=flat_error("Internal server error", status=500)), RIGHT),
        4,
    ),
    adding("a proxy's HTML page once", "HTTP 502, asked again", once(html(502), RIGHT), 4),
    adding(
        "the connection is reset once", "asked again", once(reset(UNFINISHED, after=0.6), RIGHT), 4
    ),
    adding(
        "429 with Retry-After once",
        "asked again after that time",
        once(status(429, headers={"Retry-After": "0.1"}), RIGHT),
        4,
    ),
    adding("an empty body once", "HTTP 200 and nothing, asked again", once(empty_body(), RIGHT), 4),
    adding(
        "an empty stream once",
        "it ends before it began (plain: an empty body)",
        once(cut(RIGHT, after=0.0), RIGHT),
        4,
    ),
    adding("no choices once", "`choices` is null, asked again", once(null_choices(), RIGHT), 4),
    adding(
        'finish_reason "tool_calls" without a call once',
        "SGLang; asked again",
        once(say("").but(message={"tool_calls": []}, finish_reason="tool_calls"), RIGHT),
        4,
    ),
    adding(
        "thinking and no answer once",
        "reasoning_content alone is no answer",
        once(say("", thinking="I should add them."), RIGHT),
        4,
    ),
    adding(
        "JSON although a stream was asked for",
        "LMDeploy before 0.7.2 (plain: nothing is wrong)",
        unstreamed(RIGHT),
    ),
    adding(
        "a stream written otherwise",
        "comments, CR LF, no space, data over several lines (plain: nothing is wrong)",
        sse(RIGHT, "comments", "multiline", "no_space", "crlf"),
    ),
    adding("no [DONE] and no usage", "an answer all the same", no_done(RIGHT.but(usage=None))),
    adding(
        "several choices",
        "the first one counts",
        choices(RIGHT, UNFINISHED),
    ),
    adding(
        "a wrong role once",
        'role "user": taken as it is, or asked again',
        once(RIGHT.but(role="user"), RIGHT),
        3,
    ),
    adding(
        "no role, no object, no id",
        "fields that servers forget",
        RIGHT.but(message={"role": MISSING}, body={"object": MISSING, "id": MISSING}),
    ),
    adding(
        'finish_reason "stop" with a call',
        "it runs (LMDeploy, vLLM with a forced tool)",
        RIGHT.but(finish_reason="stop"),
    ),
)

LOOPS = (
    Scenario(
        "A-B-A-B for ever",
        "two calls in turns: each at most twice, at most 8 requests, and an answer",
        ("add", "total"),
        "Add 1907 and 2840, and add up 1907, 2840 and 11.",
        in_turns(RIGHT, call("total", numbers=[1907, 2840, 11])),
        "4747 and 4758.",
        (ADDED, ran("total", numbers=[1907, 2840, 11])),
        ("4747", "4758"),
        8,
        repeats=2,
        stubborn=True,
    ),
    Scenario(
        "the same call in other words for ever",
        "keys in another order, blanks: still the same call",
        ("add",),
        ADD,
        in_turns(RIGHT, written('{"b":2840,"a":1907}'), written('{ "a" : 1907 , "b" : 2840 }')),
        SUM,
        (ADDED,),
        ("4747",),
        5,
        stubborn=True,
    ),
    Scenario(
        "the same error for ever",
        "the tool fails at most 3 times, then the model has to answer",
        ("stock",),
        "How many screws are in stock?",
        always(call("stock", item="screws")),
        UNKNOWING,
        (ran("stock", item="screws"),),
        ("nothing is waited for",),
        6,
        repeats=3,
        stubborn=True,
    ),
    Scenario(
        "an error that passes",
        "the same call again after an error is no loop",
        ("pay",),
        "Pay invoice 12.",
        always(call("pay", invoice="12")),
        "It is paid.",
        (ran("pay", invoice="12"),),
        ("4747",),
        4,
        repeats=2,
    ),
)


def _overflowing(name: str, like: Flavour) -> Scenario:
    return Scenario(
        f"context overflow in the words of {name}",
        "a window of 4096 tokens; the result has to be cut",
        ("read_report",),
        "What is the total of the report on sales?",
        always(call("read_report", topic="sales")),
        "The total is 4747.",
        (ran("read_report", topic="sales"),),
        ("4747",),
        6,
        traits={"context": 4096, "like": like},
    )


OVERFLOWS = (
    _overflowing("LMDeploy 0.18", "lmdeploy"),
    _overflowing("LMDeploy 0.5 (HTTP 200)", "lmdeploy-0.5"),
    _overflowing("vLLM", "vllm"),
    _overflowing("llama.cpp", "llama.cpp"),
)

MORE = tuple(
    replace(scenario, group="more")
    for scenario in (*FAMILIES, *CALLS, *ANSWERS, *LOOPS, *OVERFLOWS)
)
