"""Each family's own format, as its template writes it, and the mistakes of its models."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rows import each_row
from tool_call_formats import (
    FORMATS,
    JSON_FORMATS,
    K3_TYPES,
    TAGGED_FORMATS,
    WHOLE_FORMATS,
    bare,
    dumps,
)

from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.dialects.parsers.families import TOOL_PARSERS
from agentcall.dialects.parsers.response_parser import (
    ParsedResponse,
    collect_parts,
    create_text_reader,
    read_text,
)
from agentcall.lenient_json import ParsedJSON, parse_lenient_json
from agentcall.messages import JSON

TOOLS = ["get_weather", "search", "add", "python", "test_function", "refresh"]


@dataclass(frozen=True)
class Offer:
    """A tool with a schema."""

    name: str
    parameters: Mapping[str, JSON] = field(default_factory=dict[str, JSON])


def calls(reading: ParsedResponse) -> list[tuple[str, object]]:
    return [(call.name, value(call.arguments)) for call in reading.calls]


def value(arguments: str) -> object:
    read = parse_lenient_json(arguments)
    assert isinstance(read, ParsedJSON), read
    return read.value


MARKERS = sorted(
    {marker for family in TOOL_PARSERS for marker in (*family.markers, *family.ignored_tokens)}
)
CLOSERS = re.compile(
    r"</parameter>|</function>|</arg_value>|</tool_call>|<parameter=|</｜DSML｜ ?parameter>"
    r'|<\|close\|>argument|<\|"\|>'
)
WORDS = st.sampled_from(
    [*MARKERS, "</think>", "```", '"', "\\", "\n", "'", "{", "}", "]", "é", "東京", "🌸", " ", "//"]
)
STRINGS = st.text(max_size=8) | st.lists(WORDS, max_size=5).map("".join)
KEYS = st.from_regex(r"[a-z][a-z_0-9]{0,7}", fullmatch=True)
SCALARS = st.booleans() | st.integers(-(10**9), 10**9) | STRINGS
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)


def schema_of(item: Any) -> dict[str, JSON]:
    kinds = {**K3_TYPES, "int": "integer", "NoneType": "null"}
    return {"type": kinds.get(type(item).__name__, "object")}


def tool(arguments: dict[str, Any]) -> Offer:
    properties: dict[str, JSON] = {key: schema_of(item) for key, item in arguments.items()}
    return Offer("get_weather", {"type": "object", "properties": properties})


def cut(data: st.DataObject, text: str) -> list[str]:
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def keyword_like(arguments: dict[str, Any]) -> bool:
    """Whether a key has a name that Python reserves."""
    return any(map(keyword.iskeyword, arguments))


@pytest.mark.parametrize("name", sorted(JSON_FORMATS))
@given(data=st.data(), arguments=ARGUMENTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_call_is_read_back_in_any_pieces(
    name: str, data: st.DataObject, arguments: dict[str, Any]
) -> None:
    text = JSON_FORMATS[name]("get_weather", arguments)
    assert calls(read_text(cut(data, text), [tool(arguments)])) == [("get_weather", arguments)]


@pytest.mark.parametrize("name", sorted(TAGGED_FORMATS))
@given(data=st.data(), arguments=ARGUMENTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_call_between_tags_is_read_back_in_any_pieces(
    name: str, data: st.DataObject, arguments: dict[str, Any]
) -> None:
    assume(not CLOSERS.search(dumps(arguments).replace('\\"', '"')))
    text = TAGGED_FORMATS[name]("get_weather", arguments)
    assert calls(read_text(cut(data, text), [tool(arguments)])) == [("get_weather", arguments)]


@pytest.mark.parametrize("name", sorted(WHOLE_FORMATS))
@given(data=st.data(), arguments=ARGUMENTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_whole_answer_that_is_a_call_is_read_back_in_any_pieces(
    name: str, data: st.DataObject, arguments: dict[str, Any]
) -> None:
    assume(not name.startswith("program") or not {"True", "None"} & arguments.keys())
    text = WHOLE_FORMATS[name]("get_weather", arguments)
    assume(not keyword_like(arguments))
    assert calls(read_text(cut(data, text), [tool(arguments)])) == [("get_weather", arguments)]


@each_row("beside", ["I call {}", "{} gives the weather.", "{}\nDone.", "{} -> 4"])
@each_row("name", sorted(WHOLE_FORMATS))
def test_what_is_only_a_part_of_an_answer_is_text(name: str, beside: str) -> None:
    text = beside.format(WHOLE_FORMATS[name]("search", {"q": "x"}))
    for pieces in (text, list(text)):
        assert read_text(pieces, TOOLS) == ParsedResponse(text)


@each_row("finish", ["length", None])
@each_row("name", sorted(WHOLE_FORMATS))
def test_a_whole_answer_that_was_cut_is_no_call(name: str, finish: str | None) -> None:
    text = WHOLE_FORMATS[name]("search", {"q": "a {b} c", "n": 12})
    for end in range(len(text.rstrip("\n` )"))):
        reader = create_text_reader(TOOLS)
        parts = [*reader.feed(text[:end]), *reader.close(finish)]
        assert not any(isinstance(part, ToolCallPart) for part in parts)


@each_row(
    "text",
    [
        "result = search(q='x')",
        "search(q=x)",
        "search(q='a' + 'b')",
        "search(q=add(a=1, b=2))",
        "import tools\nsearch(q='x')",
        "await search(q='x')",
        "open_file(q='x')",
        "search",
        "search(q='x', q='y')",
        "search(q='x') if True else add(a=1)",
        "```python\nsearch(q='x')\n```\nThis is how to search.",
        "Use this:\n```python\nsearch(q='x')\n```",
    ],
)
def test_code_that_is_more_than_calls_is_text(text: str) -> None:
    assert read_text(text, TOOLS) == ParsedResponse(text)


@each_row(
    "text",
    [
        'search(q="x")\nadd(a=2, b=3)',
        'search(q="x"); add(a=2, b=3)',
        'search(q="x"), add(a=2, b=3)',
        'search(\n    q="x",  # the words\n)\n\nadd(a=2, b=3)\n',
        "```\nsearch(q='x')\nadd(a=2, b=3)\n```",
        "```py\nprint(search(q='x'))\nprint(add(a=2, b=3))\n```",
        "<think>Both.</think>\nsearch(q='x')\nfunctions.add(a=2, b=3)",
        "`search(q='x')\nadd(a=2, b=3)`",
    ],
)
def test_an_answer_of_several_calls_as_code(text: str) -> None:
    for pieces in (text, list(text)):
        found = [
            (name.removeprefix("functions."), given)
            for name, given in calls(read_text(pieces, TOOLS))
        ]
        assert found == [("search", {"q": "x"}), ("add", {"a": 2, "b": 3})]


SEARCH = '{"name": "search", "arguments": {"q": "x"}}'


@each_row(
    ("text", "rest"),
    [
        (f"{SEARCH} // to find it", "// to find it"),
        (f"{SEARCH} # to find it", "# to find it"),
        (f"{SEARCH} I will look it up.", "I will look it up."),
        (f"{SEARCH}.", "."),
        (f"{SEARCH} 我来查一下。", "我来查一下。"),
        (f"{SEARCH},", ""),
        (f"{SEARCH}；", ""),
        (f"```json\n// a call\n{SEARCH} // done\n```", ""),
        (f"<tool_call>{SEARCH} # done\n</tool_call>", ""),
        (f"<tool_call>{SEARCH} I look it up.</tool_call>", "I look it up."),
        ("<tool_call>search\n{'q': 'x'}\n</tool_call>", ""),
        ('<function=search{"q": "x"}</function>', ""),
        ('{"content": "I look.", "tool_calls": [' + SEARCH + "]}", "I look."),
        ('{"choices": [{"message": {"content": "So.", "tool_calls": [' + SEARCH + "]}}]}", "So."),
        ('{"tool_uses": [{"recipient_name": "search", "parameters": {"q": "x"}}]}', ""),
        ('{"type": "tool_use", "id": "1", "name": "search", "input": {"q": "x"}}', ""),
        ('{"reasoning": "so", "tool": "search", "tool_arguments": {"q": "x"}}', ""),
        ("｛“name”：“search”，“arguments”：｛“q”：“x”｝｝", ""),
        ("<tool_code>search(q='x')</tool_code>", ""),
        ('commentary to=functions.search json{"q": "x"}', ""),
        ('search\n{"q": "x"}<|observation|>', ""),
        (f"<tool_calls>\n<tool_call>{SEARCH}</tool_call>\n</tool_calls>", ""),
        (f"<tool_call>{{{SEARCH}}}</tool_call>", ""),
        ('{"calls": [' + SEARCH + "]}", ""),
        ('{"tool": ' + SEARCH + "}", ""),
        ("<seed:tool_call><function=search><parameter=q>x</parameter></function>", ""),
        ("""<functioncall>{"name": "search", "arguments": '{"q": "x"}'}""", ""),
    ],
)
def test_further_ways_to_write_a_call(text: str, rest: str) -> None:
    for pieces in (text, list(text)):
        reading = read_text(pieces, TOOLS)
        assert calls(reading) == [("search", {"q": "x"})]
        assert (reading.text, reading.broken) == (rest, ())


@each_row(
    "text",
    [
        f"{SEARCH} is how a search looks.",
        f"{SEARCH} searches for x.",
        f"Like this: {SEARCH}",
        f"Example:\n{SEARCH} I would write that.",
        '{"tool_calls": [' + SEARCH + '], "answer": "42"}',
        '{"answer": "42", "tool_calls": [' + SEARCH + "]}",
        "<tools>Hammer and nails</tools>",
        f"<tool>{SEARCH} or not</tool>",
        '<tool>{"name": "unknown", "arguments": {}}</tool>',
        '[TOOL_REQUEST]{"name": "unknown", "arguments": {}}[END_TOOL_REQUEST]',
    ],
)
def test_what_only_mentions_a_call_is_text(text: str) -> None:
    for pieces in (text, list(text)):
        assert read_text(pieces, TOOLS) == ParsedResponse(text)


@each_row("name", sorted(FORMATS))
def test_text_before_and_behind_is_kept_in_order(name: str) -> None:
    text = FORMATS[name]("search", {"q": "x"})
    reader = create_text_reader(TOOLS)
    parts = [*reader.feed(f"Let me see.\n{text}\nDone."), *reader.close("stop")]
    kinds = [type(part).__name__ for part in parts]
    assert kinds == ["TextPart", "ToolCallPart", "TextPart"]
    assert collect_parts(parts).text.split() == ["Let", "me", "see.", "Done."]


@each_row("name", sorted(FORMATS))
def test_several_calls_come_out_in_order(name: str) -> None:
    one, other = FORMATS[name]("search", {"q": "x"}), FORMATS[name]("add", {"a": 2, "b": 3})
    wanted = [("search", {"q": "x"}), ("add", {"a": 2, "b": 3})]
    assert calls(read_text(f"{one}\n{other}", TOOLS)) == wanted
    assert read_text(f"{one}\n{other}", TOOLS) == read_text(list(f"{one}\n{other}"), TOOLS)


@each_row("finish", ["length", None])
@each_row("name", sorted(FORMATS))
def test_no_true_prefix_of_a_call_gives_a_call(name: str, finish: str | None) -> None:
    text = FORMATS[name]("search", {"q": "a {b} c", "n": 12})
    whole = len(text.rstrip("\n` "))
    for end in range(whole):
        reader = create_text_reader(TOOLS)
        parts = [*reader.feed(text[:end]), *reader.close(finish)]
        early = [part for part in parts if isinstance(part, ToolCallPart)]
        assert not early or value(early[0].arguments) == {"q": "a {b} c", "n": 12}
        assert not early or text[end:].strip() == "" or name in CLOSED_EARLY


CLOSED_EARLY = {
    "dsml", "dsml_v41", "minimax", "kimi", "kimi_k3", "deepseek_v3", "deepseek_v31", "mistral_v3",
    "granite", "granite31", "phi", "qwen_coder", "glaive", "tool_tag",
}  # fmt: skip
"""Formats in which something follows the end of a call: the end of its section."""


SOFT_FORMATS = {
    *("pythonic", "react", "bare", "openai", "fenced", "openai_message", "thought_first"),
    *("full_width", "tool_tag", "lm_studio", "nemotron", "commented"),
}
"""Formats whose markup may be text as well."""


@each_row("name", sorted(set(FORMATS) - SOFT_FORMATS))
def test_markup_never_reaches_the_user(name: str) -> None:
    text = FORMATS[name]("search", {"q": "x"})
    for end in range(len(text) + 1):
        for finish in ("stop", "length", None):
            reader = create_text_reader(TOOLS)
            parts = [*reader.feed(f"Hi.\n{text[:end]}"), *reader.close(finish)]
            said = collect_parts(parts).text.removeprefix("Hi.\n")
            assert said == "" or any(text.startswith(said) for text in OPENERS), said


OPENERS = [*MARKERS, "```json\n{", "[{", "functools["]


# --------------------------------------------------------------------------- InternLM

BLOCK = '{"name": "get_weather", "parameters": {"city": "Tokyo"}}'
TOKYO = [("get_weather", {"city": "Tokyo"})]
START, SPACED, END = "<|action_start|><|plugin|>", "<|action_start|> <|plugin|>\n", "<|action_end|>"
TYPES = {"s": "hello", "i": 42, "f": 3.14, "b": True, "n": None, "l": ["a"], "o": {"k": "v"}}
ESCAPES = {"quoted": 'He said "hello"', "path": "C:\\Users\\file.txt", "newline": "line1\nline2"}


def written(name: str, key: str, arguments: dict[str, Any]) -> str:
    return json.dumps({"name": name, key: arguments}, indent=2)


ENGINES: list[tuple[str, list[tuple[str, dict[str, Any]]], str]] = [
    (f"{SPACED}{BLOCK}{END}", TOKYO, ""),
    ("The weather in Beijing is sunny today.", [], "The weather in Beijing is sunny today."),
    (
        f"{SPACED}{written('search', 'arguments', {'query': 'python'})}{END}",
        [("search", {"query": "python"})],
        "",
    ),
    (
        f"{SPACED}{BLOCK}{END}{SPACED}{written('search', 'parameters', {'q': 'food'})}{END}",
        [*TOKYO, ("search", {"q": "food"})],
        "",
    ),
    (f"Let me check.{SPACED}{BLOCK}{END}", TOKYO, "Let me check."),
    (f"{SPACED}{{not valid json}}{END}", [], ""),
    (f"{START}{BLOCK}{END}", TOKYO, ""),
    (
        f"{START}{written('test_function', 'parameters', TYPES)}{END}",
        [("test_function", TYPES)],
        "",
    ),
    (f"{START}{written('refresh', 'parameters', {})}{END}", [("refresh", {})], ""),
    (f"Let me check the weather. {START}{BLOCK}{END}", TOKYO, "Let me check the weather. "),
    (
        f"{START}{written('test_function', 'parameters', ESCAPES)}{END}",
        [("test_function", ESCAPES)],
        "",
    ),
    (f'{START}{{"name": "func", "parameters": {{', [], ""),
    (f"{START}not json{END}", [], ""),
    (START, [], ""),
    (
        f"{START}{BLOCK}{END}\n{START}{written('refresh', 'parameters', {'z': 'A'})}{END}\nHi.",
        [*TOKYO, ("refresh", {"z": "A"})],
        "\nHi.",
    ),
    (f'{START}{{"name": "get_weather", "parameters": {{{END}', [], ""),
]


@each_row(("text", "wanted", "said"), ENGINES)
@each_row("family", [None, "internlm"])
def test_internlm_as_the_engines_test_it(
    text: str, wanted: list[tuple[str, object]], said: str, family: str | None
) -> None:
    for pieces in ([text], list(text)):
        reading = read_text(pieces, TOOLS, family)
        assert (calls(reading), reading.text) == (wanted, said)


@pytest.mark.parametrize("end", ["", END])
def test_internlm_may_call_at_the_end_of_its_thinking_and_nowhere_else_in_it(end: str) -> None:
    called = f"<think>Need tool.\n{SPACED}{BLOCK}{end}"
    reading = read_text(called, TOOLS)
    assert (calls(reading), reading.thinking) == (TOKYO, "Need tool.")
    reading = read_text(f"{called}\nGo on.</think>Ok." if end else f"{called}</think>Ok.", TOOLS)
    assert (calls(reading), reading.text) == ([], "Ok.")


def test_the_interpreters_code_goes_to_the_tool_that_takes_code() -> None:
    text = "<|action_start|><|interpreter|>\n```python\nprint(1)\n```\n<|action_end|>"
    assert calls(read_text(text, TOOLS)) == [("python", {"code": "print(1)"})]
    assert calls(read_text(text, ["add"])) == [("interpreter", {"code": "print(1)"})]
    takes = Offer("python", {"properties": {"script": {"type": "string"}}})
    assert calls(read_text(text, [takes])) == [("python", {"script": "print(1)"})]


@pytest.mark.parametrize(
    ("finish", "found"), [("stop", 1), ("tool_calls", 1), ("length", 0), (None, 0)]
)
def test_a_stop_word_that_the_server_swallowed_is_not_missed(
    finish: str | None, found: int
) -> None:
    reader = create_text_reader(TOOLS, "internlm")
    reading = collect_parts([*reader.feed(f"{START}\n{BLOCK}"), *reader.close(finish)])
    assert (len(reading.calls), len(reading.broken)) == (found, 1 - found)


def test_internlm_without_its_special_tokens_is_bare_json() -> None:
    assert calls(read_text(f"I will look.\n{BLOCK}", TOOLS, "internlm")) == TOKYO


# --------------------------------------------------------------------------- the others

SCHEMA = Offer(
    "set",
    {
        "properties": {
            "n": {"type": "integer"},
            "label": {"type": "string"},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "flag": {"type": "boolean"},
            "deep": {"$ref": "#/$defs/Deep"},
            "unit": {"enum": ["1", "2"]},
        },
        "$defs": {"Deep": {"type": "object"}},
    },
)


@each_row(
    ("key", "written", "wanted"),
    [
        ("n", "3", 3),
        ("label", "3", "3"),
        ("label", '{"a": 1}', '{"a": 1}'),
        ("label", "true", "true"),
        ("maybe", "null", None),
        ("maybe", "3", "3"),
        ("flag", "True", True),
        ("flag", "false", False),
        ("deep", '{"a": [1]}', {"a": [1]}),
        ("deep", "{'a': True}", {"a": True}),
        ("unit", "1", "1"),
        ("n", "three", "three"),
        ("unknown", "3", 3),
        ("unknown", "x y", "x y"),
    ],
)
def test_a_value_without_quotes_is_what_the_schema_says(
    key: str, written: str, wanted: object
) -> None:
    for text in (
        f"<tool_call><function=set><parameter={key}>{written}</parameter></function></tool_call>",
        f"<tool_call>set<arg_key>{key}</arg_key><arg_value>{written}</arg_value></tool_call>",
    ):
        assert calls(read_text(text, [SCHEMA])) == [("set", {key: wanted})]


def test_llama_31_custom_functions_are_read() -> None:
    assert calls(read_text('<function=add>{"a": 2, "b": 3}</function>', TOOLS)) == [
        ("add", {"a": 2, "b": 3})
    ]


@each_row(
    "text",
    [
        '<function name="add"><parameter name="a">2</parameter></function>',
        '<function name="add"><param name="a">2</param></function>',
        '<tool_call><function name="add"><parameter name="a">2</parameter></function></tool_call>',
        '<minimax:tool_call><invoke name="add"><parameter name="a">2</parameter></invoke>',
        '<tool_call>{"add": {"a": 2}}</tool_call>',
        "<tool_call>add(a=2)</tool_call>",
        '<tool_call>{"name": "add", "a": 2}</tool_call>',
        '```xml\n<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>\n```',
        'Action: ```json\n[{"tool_name": "add", "parameters": {"a": 2}}]\n```',
        "Action: add\nAction Input: a=2",
        "Action: add(a=2)",
        '{"action": "add", "action_input": {"a": 2}}',
        '{"tool_calls": [{"function": {"name": "add", "arguments": {"a": 2}}}]}',
        '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n<tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 2}}}</tool_call>',
        '<function_call>{"name": "add", "arguments": {"a": 2}}',
    ],
)
def test_other_ways_to_write_the_same_call(text: str) -> None:
    for pieces in ([text], list(text)):
        reading = read_text(pieces, TOOLS)
        assert (calls(reading), reading.text, reading.broken) == ([("add", {"a": 2})], "", ())


def test_the_definition_of_a_tool_is_not_a_call() -> None:
    text = (
        '{"type": "function", "function": {"name": "add", "description": "Adds.", '
        '"parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}'
    )
    assert read_text(text, TOOLS) == ParsedResponse(text)


def test_llama_built_in_tools_and_code_behind_the_python_tag() -> None:
    text = '<|python_tag|>brave_search.call(query="x")<|eom_id|>'
    assert calls(read_text(text, ["brave_search"])) == [("brave_search", {"query": "x"})]
    assert calls(read_text("<|python_tag|>print(2)<|eom_id|>", TOOLS)) == [
        ("python", {"code": "print(2)"})
    ]


def test_llama_calls_separated_by_semicolons() -> None:
    text = f"{bare('add', {'a': 1})}; {bare('search', {'q': 'x'})}"
    wanted = [("add", {"a": 1}), ("search", {"q": "x"})]
    assert calls(read_text(text, TOOLS)) == wanted
    assert calls(read_text(f"<|python_tag|>{text}", TOOLS)) == wanted


def test_gemma_3_tool_code_may_print_and_name_its_module() -> None:
    text = "```tool_code\nprint(default_api.add(a=2, b=3))\n```"
    assert calls(read_text(text, TOOLS)) == [("default_api.add", {"a": 2, "b": 3})]


def test_function_gemma() -> None:
    text = "<start_function_call>call:search{q:<escape>a, b<escape>}<end_function_call>"
    assert calls(read_text(text, TOOLS)) == [("search", {"q": "a, b"})]


def test_positional_arguments_take_the_order_of_the_schema() -> None:
    add = Offer("add", {"properties": {"a": {}, "b": {}}})
    assert calls(read_text("[add(2, b=3)]", [add])) == [("add", {"a": 2, "b": 3})]


@pytest.mark.parametrize(
    "text", ["[add(a=2*3)]", "[add(a=f(1))]", "[add(a=x)]", "[add(a=__import__('os'))]"]
)
def test_pythonic_arguments_that_are_not_literals_are_text(text: str) -> None:
    reading = read_text(text, TOOLS)
    assert (reading.calls, reading.text) == ((), text)


def test_harmony_text_is_not_a_call_and_thinking_is_thinking() -> None:
    text = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"
        '{"name": "add", "arguments": {}}<|return|>'
    )
    reading = read_text(text, TOOLS)
    assert (reading.text, reading.thinking) == ('{"name": "add", "arguments": {}}', "Hm.")
    assert reading.calls == ()


REACT = 'Thought: I need to add.\nAction: add\nAction Input: {"a": 2, "b": 3}\n'


def test_react_thought_action_and_input() -> None:
    reading = read_text(REACT, TOOLS)
    assert calls(reading) == [("add", {"a": 2, "b": 3})]
    assert (reading.text, reading.thinking) == ("", "I need to add.")


def test_react_drops_what_the_model_made_up_behind_its_own_observation() -> None:
    reading = read_text(REACT + "Observation: 7\nThought: Done.\nFinal Answer: 7", TOOLS)
    assert calls(reading) == [("add", {"a": 2, "b": 3})]
    assert reading.text == ""


def test_react_final_answer_is_the_text() -> None:
    reading = read_text("Thought: I know it.\nFinal Answer: It is 5.\nReally.", TOOLS)
    assert (reading.text, reading.calls) == ("It is 5.\nReally.", ())
    assert reading.thinking == "I know it."


def test_react_input_that_is_not_json_is_the_only_argument() -> None:
    search = Offer("search", {"properties": {"q": {"type": "string"}}, "required": ["q"]})
    text = "Action: search\nAction Input: the weather in Paris\nObservation: rain"
    assert calls(read_text(text, [search])) == [("search", {"q": "the weather in Paris"})]


def test_react_for_a_tool_that_is_not_offered_is_text() -> None:
    text = "Action: dance\nAction Input: {}\n"
    assert read_text(text, TOOLS) == ParsedResponse(text)


def test_langchain_json_action() -> None:
    text = 'Action:\n```json\n{"action": "add", "action_input": {"a": 2}}\n```'
    assert calls(read_text(text, TOOLS)) == [("add", {"a": 2})]


def test_no_marker_is_the_beginning_of_another() -> None:
    every = {
        text for one in TOOL_PARSERS for text in (*one.markers, *one.thinking, *one.ignored_tokens)
    }
    assert not [(a, b) for a in every for b in every if a != b and b.startswith(a)]
