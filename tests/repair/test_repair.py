import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.repair import Fix, RefusedCall, RepairedCall, repair_call
from agentcall.repair.tool_name import edit_distance, find_tool_name, fold_name, is_near
from agentcall.tools.tool import Tool, tool


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Node:
    value: int
    children: "list[Node]"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def get_weather(
    city: str,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
    max_results: int = 3,
    when: float | None = None,
) -> str:
    """Weather now."""
    return f"{city} {unit} {max_results} {when}"


@tool
def total(numbers: list[int]) -> int:
    """Sum numbers."""
    return sum(numbers)


@tool
def label(names: list[str], urgent: bool = False) -> str:
    """Set labels."""
    return f"{names} {urgent}"


@tool
def now() -> str:
    """Tell the time."""
    return "noon"


@tool
def draw(
    points: list[Point], colour: Colour = Colour.RED, options: dict[str, int] | None = None
) -> None:
    """Draw."""


@tool
def plant(root: Node) -> None:
    """Plant a tree."""


@tool
def create_user(name: str = "nobody", age: int = 0) -> None:
    """Create a user."""


@tool
def save(path: str, **fields: int) -> None:
    """Save."""


@tool
def write_file(path: str, content: str) -> None:
    """Write."""


@tool
def pick(what: int | list[int] | None = None, grid: list[list[int]] | None = None) -> None:
    """Pick."""


ALL: tuple[Tool, ...] = (
    add,
    get_weather,
    total,
    label,
    now,
    draw,
    plant,
    create_user,
    save,
    pick,
    write_file,
)
TOOLS: dict[str, Tool] = {each.name: each for each in ALL}
Given: TypeAlias = tuple[str, str]


def mended(name: str, arguments: str, tools: Mapping[str, Tool] = TOOLS) -> RepairedCall:
    outcome = repair_call(ToolCallPart(name, arguments), tools)
    assert isinstance(outcome, RepairedCall), outcome
    assert json.loads(outcome.arguments) is not None
    again = repair_call(ToolCallPart(outcome.tool.name, outcome.arguments), tools)
    assert again == RepairedCall(outcome.tool, outcome.arguments, outcome.values, ())
    return outcome


def refused(name: str, arguments: str, tools: Mapping[str, Tool] = TOOLS) -> str:
    outcome = repair_call(ToolCallPart(name, arguments), tools)
    assert isinstance(outcome, RefusedCall), outcome
    return outcome.message


def rules(outcome: RepairedCall) -> list[str]:
    return [each.rule for each in outcome.fixes]


# What is valid stays


@each_row(
    ("name", "arguments"),
    [
        ("add", '{"a": 2, "b": 3}'),
        ("add", '{"b":3,\n "a":2}'),
        ("add", '{"a": "2", "b": "3"}'),
        ("get_weather", '{"city": "上海"}'),
        ("get_weather", '{"city": "\\u4e0a\\u6d77"}'),
        ("get_weather", '{"city": "{\\"a\\": 1}"}'),
        ("label", '{"names": ["[1, 2]", "null"]}'),
        ("now", "{}"),
        ("save", '{"path": "x", "parameters": 3}'),
    ],
)
def test_what_is_valid_as_written_stays_to_the_letter(name: str, arguments: str) -> None:
    outcome = mended(name, arguments)
    assert (outcome.arguments, outcome.fixes) == (arguments, ())
    assert outcome.tool is TOOLS[name]


def test_a_valid_call_costs_one_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str | bytes] = []
    real = Tool.parse

    def counted(self: Tool, arguments: str | bytes) -> dict[str, object]:
        parsed.append(arguments)
        return real(self, arguments)

    monkeypatch.setattr(Tool, "parse", counted)
    repair_call(ToolCallPart("add", '{"a": 2, "b": 3}'), TOOLS)
    assert parsed == ['{"a": 2, "b": 3}']


# The text


@each_row(
    ("arguments", "rule"),
    [
        ('```json\n{"a": 2, "b": 3}\n```', "fenced"),
        ('```\n{"a": 2, "b": 3}```', "fenced"),
        ('```json\n{"a": 2, "b": 3}', "fenced"),
        (json.dumps('{"a": 2, "b": 3}'), "double-encoded"),
        ("{'a': 2, 'b': 3}", "json-syntax"),
        ('{"a": 2, "b": 3,}', "json-syntax"),
        ('{"a": 2, /* two */ "b": 3} ', "json-syntax"),
        ("{a: 2, b: 3}", "json-syntax"),
        ('{"a": 2, "b": 3', "closed-brackets"),
        ('{"a": 2, "b": 3}}', "surplus"),
        ('{"a": 2, "b": 3}<|im_end|>', "surplus"),
        ('{"a": 2, "b": 3}\n</tool_call>', "surplus"),
        ('{\\"a\\": 2, \\"b\\": 3}', "double-encoded"),
        ('{"a": 2 "b": 3}', "missing-comma"),
        ('{}{"a": 2, "b": 3}', "surplus"),
        ('{"a": 2, "b": 3}{"a": 2, "b": 3}', "surplus"),
    ],
)
def test_text_that_is_nearly_json_is_read(arguments: str, rule: str) -> None:
    outcome = mended("add", arguments)
    assert outcome.values == {"a": 2, "b": 3}
    assert outcome.arguments == '{"a": 2, "b": 3}'
    assert rules(outcome) == [rule]
    assert outcome.fixes[0].before == arguments


def test_python_literals_have_their_own_rule() -> None:
    outcome = mended("label", "{'names': ['a'], 'urgent': True}")
    assert outcome.arguments == '{"names": ["a"], "urgent": true}'
    assert rules(outcome) == ["python-literal"]


def test_several_layers_are_taken_off_and_each_is_reported() -> None:
    inner = json.dumps({"parameters": json.dumps({"a": 2, "b": 3})})
    assert rules(mended("add", inner)) == ["unwrapped", "double-encoded"]
    assert rules(mended("add", "```json\n{'a': 2, 'b': 3,}\n```")) == ["fenced", "json-syntax"]


@each_row("arguments", ["", "  \n", "null", "None", '""'])
def test_empty_text_means_no_arguments(arguments: str) -> None:
    outcome = mended("now", arguments)
    assert (outcome.arguments, outcome.values) == ("{}", {})
    assert "a: missing" in refused("add", arguments)


@each_row(
    "arguments",
    [
        '{"a": 2, "b": ',
        '{"a": 2, "b": 3,',
        '{"a": 2, "b"',
        '{"a": 2, "b": -',
        '{"a": 2, "b": "3',
        '{"a": 2',
        "{",
        "{'a': 2, 'b': 3, 'c'",
        '"{\\"a\\": 2, \\"b\\": 3"',
    ],
)
def test_what_was_cut_is_not_finished(arguments: str) -> None:
    assert "add" in refused("add", arguments)


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ('{"city": "Paris"', {"city": "Paris"}),
        ("{'city': 'Paris'", {"city": "Paris"}),
        ('{"city": "a } b"', {"city": "a } b"}),
        ('```json\n{"city": "Paris"\n```', {"city": "Paris"}),
    ],
)
def test_only_closing_brackets_are_added(arguments: str, values: dict[str, object]) -> None:
    outcome = mended("get_weather", arguments)
    assert outcome.values == values
    assert "closed-brackets" in rules(outcome)


def test_a_text_without_its_closing_quote_is_never_closed() -> None:
    assert "cut short" in refused("get_weather", '{"city": "Par')
    refused("get_weather", "{'city': 'Par")
    refused("total", '{"numbers": "[1, 2"}')
    refused("label", json.dumps({"names": '["a", "b'}))
    refused("label", json.dumps({"names": '{"a"'}))
    refused("get_weather", json.dumps('{"city": "Par'))
    refused("get_weather", json.dumps('city: "Par'))


def test_a_text_torn_by_its_quotes_loses_nothing() -> None:
    for code in ('print("a", "b")', 'say "x", "y": "z"', 'a "b" c'):
        arguments = f'{{"path": "p", "content": "{code}"}}'
        outcome = repair_call(ToolCallPart("write_file", arguments), TOOLS)
        assert isinstance(outcome, RefusedCall) or outcome.values == {"path": "p", "content": code}
    refused("get_weather", "The city {x}")


@each_row("shape", ["%s}", "%s", "```%s```", '{"arguments": %s}', "%s,"])
def test_half_a_surrogate_pair_is_refused_at_any_position(shape: str) -> None:
    written = r'{"city": "\ud800"}'
    refused("get_weather", shape.replace("%s", written))
    refused("get_weather", json.dumps(shape.replace("%s", written)))
    refused("get_weather\ud800", "\ud800")


def test_doubled_braces_are_one_pair() -> None:
    repaired = mended("add", '{{"a": 2, "b": 3}}')
    assert (repaired.values, rules(repaired)) == ({"a": 2, "b": 3}, ["surplus"])
    refused("add", '{{"a": 2, "b": 3}, {"a": 4, "b": 3}}')
    refused("add", '{{"a": 2, "b": 3}')


def test_two_different_calls_in_one_text_are_none() -> None:
    refused("add", '{"a": 2, "b": 3}{"a": 2, "b": 4}')
    refused("add", '{"a": 2, "b": 3}\n{"a": 2, "b": 4}')
    refused("add", '[{"a": 2, "b": 3}, {"a": 2, "b": 4}]')


@each_row(
    "written",
    [
        "3+5", "3 + 5", "2*50", "2^10", "2**3", "10/4", "7//2", "7 // 2", "(1)+1", "5 million",
        "5kg", "1 234", "12.50 USD", "$5", "5%", "5 or 6", "about 5", '5 "five"', '"5" "6"',
        "2026-11-30", "14:30", "007", "010", "1,234", "+5", "1_", "0b11", "1e", "five", "5;6",
        "5|6", "<5>", "[5] [6]", "{5}", "5 // 2\n", "5//x\n", "0.1234567890123456789",
    ],
)  # fmt: skip
@each_row(
    "shape",
    [
        '{"a": %s, "b": 3}',
        '{"b": 3, "a": %s}',
        "{'a': %s, 'b': 3,}",
        "[%s, 3]",
        '{"a": "%s", "b": 3}',
    ],
)
def test_a_value_of_which_a_part_would_be_lost_is_refused(written: str, shape: str) -> None:
    if shape == '{"a": "%s", "b": 3}' and written.strip('"') in ("007", "010", "+5"):
        return  # a text that Python reads as a number, without any repair
    if (shape, written) in (("[%s, 3]", "1,234"),):
        return  # three values
    outcome = repair_call(ToolCallPart("add", shape % written), TOOLS)
    assert isinstance(outcome, RefusedCall), outcome


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"a": 3+5, "b": 3}', "give the result as one number, or call a tool that computes it"),
        ('{"a": "3+5", "b": 3}', "give the result as one number, or call a tool that computes it"),
        ('{"a": 5 million, "b": 3}', "Give a number alone"),
        ('{"a": 2026-11-30, "b": 3}', "Put a date or a time into double quotes"),
    ],
)
def test_the_model_learns_what_to_write_instead(arguments: str, words: str) -> None:
    told = refused("add", arguments)
    assert words in told
    assert "Nothing was carried out" in told


def test_a_key_with_two_values_is_refused_and_one_that_is_repeated_is_not() -> None:
    assert "a key is given twice" in refused("add", '{"a": 2, "a": 4, "b": 3}')
    refused("add", "{'a': 2, 'a': 4, 'b': 3}")
    refused("draw", '{"points": [{"x": 1, "x": 2, "y": 3}]}')
    assert mended("add", '{"a": 2, "a": 2, "b": 3}').values == {"a": 2, "b": 3}
    assert mended("get_weather", '{"city": "a: \\"b\\": c"}').values == {"city": 'a: "b": c'}


@each_row("digits", ["5", "-5", "1.5", "1.0", "1.10", "1e3", "-0", "0x10", "1_000"])
@each_row("shape", ['{"city": %s}', '{"city": %s,}', '{"parameters": {"city": %s}}'])
def test_a_number_becomes_a_text_digit_by_digit(digits: str, shape: str) -> None:
    outcome = repair_call(ToolCallPart("get_weather", shape % digits), TOOLS)
    assert isinstance(outcome, RefusedCall) or outcome.values == {"city": digits}
    assert mended("label", '{"names": [1.10],}').values == {"names": ["1.10"]}


@pytest.mark.parametrize("arguments", ['{"a": true, "b": 3}', '{"a": 2, "b": false}'])
def test_true_is_not_a_number(arguments: str) -> None:
    assert "expected an integer" in refused("add", arguments)
    refused("total", '{"numbers": [1, true]}')
    refused("draw", '{"points": [{"x": true, "y": 1}]}')
    refused("pick", '{"what": true}')


def test_an_unknown_argument_is_not_dropped_where_it_may_be_meant_for_another() -> None:
    assert "unit_system" in refused("get_weather", '{"city": "x", "unit_system": "fahrenheit"}')
    assert mended("get_weather", '{"city": "x", "note": ""}').values == {"city": "x"}


@each_row("text", ["...", "city", "--city Paris", "?", "-"])
def test_bare_text_that_is_not_a_value_is_refused(text: str) -> None:
    refused("get_weather", text)


def test_a_list_is_never_closed() -> None:
    refused("total", '{"numbers": [1, 2')
    refused("total", '{"numbers": [1, 2}')


def test_full_width_punctuation_is_read_outside_of_strings_alone() -> None:
    outcome = mended("get_weather", "｛“city”：“上海，浦东”，'max_results'：3｝")
    assert outcome.values == {"city": "上海，浦东", "max_results": 3}


@each_row(
    ("arguments", "path"),
    [
        (r'{"path": "C:\new\temp", "content": ""}', r"C:\new\temp"),
        (r'{"path": "C:\temp", "content": ""}', r"C:\temp"),
        (
            r'{"path": "D:\reports\final budget\new.txt", "content": ""}',
            r"D:\reports\final budget\new.txt",
        ),
        (r'{"path": "\\server\new\temp", "content": ""}', r"\\server\new\temp"),
        (r"{'path': 'C:\new\temp', 'content': ''}", r"C:\new\temp"),
        (r'{"path": "C:\new\temp", "content": "",}', r"C:\new\temp"),
        (r'{"arguments": {"path": "C:\new\temp", "content": ""}}', r"C:\new\temp"),
        (r'{"path": "C:\Users\new\temp", "content": ""}', r"C:\Users\new\temp"),
    ],
)
def test_the_backslashes_of_a_path_are_no_line_breaks(arguments: str, path: str) -> None:
    repaired = mended("write_file", arguments)
    assert repaired.values["path"] == path
    assert repaired.fixes


def test_a_path_within_badly_escaped_text_keeps_its_backslashes_and_lines_stay_lines() -> None:
    text = r'{"path": "a", "content": "cd C:\Users\new\temp\ndir \d+\b"}'
    content = mended("write_file", text).values["content"]
    assert content == "cd C:\\Users\\new\\temp\\ndir \\d+\\b"


@each_row(
    "content",
    ["Q:\nWhat?\nA:\nThis.", "A:\tyes", "a:\nb", "C:\n", "x = 1\ty = 2", "C:/new/temp\n"],
)
def test_lines_and_columns_of_valid_arguments_stay(content: str) -> None:
    arguments = json.dumps({"path": "notes.txt", "content": content})
    assert mended("write_file", arguments) == RepairedCall(
        TOOLS["write_file"], arguments, {"path": "notes.txt", "content": content}
    )


@each_row(
    "beside",
    [
        "{} // the sum",
        "{} # the sum",
        "{} /* the sum */",
        "{},",
        "{} ;",
        "{}.",
        "{} I will now add the two.",
        "{}\n\nThis adds them.",
        "{} -- the sum",
        "{} (both numbers)",
        "{} 我将计算总和。",
        "Here are the arguments: {}",
        "Sure!\n{}\nDone.",
        "```json\n{}\n```\nThis adds them.",
    ],
)
def test_a_remark_beside_whole_arguments_is_left_out_and_reported(beside: str) -> None:
    written = beside.replace("{}", '{"a": 2, "b": 3}')
    repaired = mended("add", written)
    assert repaired.values == {"a": 2, "b": 3}
    assert repaired.fixes[0].before == written


@each_row(
    "beside",
    [
        "{} kg",
        "{} or so",
        "{} and 7 of the others",
        '{} but with "b" as it was',
        "{} and then {}",
        "{} = the two of them",
        "{} + the other two of them",
        "5 times the following: {}",
    ],
)
def test_what_may_belong_to_the_arguments_is_not_left_out(beside: str) -> None:
    refused("add", beside.replace("{}", '{"a": 2, "b": 3}', 1).replace("{}", '{"a": 4, "b": 3}'))


@each_row(
    "arguments",
    [
        "｛“a”：2，“b”：3｝",
        '｛"a"：2，"b"：3｝',
        '{"a"： 2、 "b"： 3}',
        "{＂a＂：2，＂b＂：３}",
        "{「a」：2，「b」：3}",
        "｛‘a’：2，‘b’：3，｝",
        '［｛"a"：2，"b"：3｝］',
        '{"arguments"：｛“a”：“2”，“b”：3｝}',
    ],
)
def test_the_punctuation_of_any_keyboard_is_read(arguments: str) -> None:
    assert mended("add", arguments).values == {"a": 2, "b": 3}


def test_a_path_of_windows_keeps_its_backslashes() -> None:
    outcome = mended("write_file", r'{"path": "C:\new\data\temp", "content": "x"}')
    assert outcome.values["path"] == r"C:\new\data\temp"


def test_a_backslash_before_a_line_break_is_kept() -> None:
    outcome = mended("write_file", '{"path": "p", "content": "a \\\n b"}')
    assert outcome.values["content"] == "a \\\n b"


def test_a_comment_is_left_out_and_a_division_is_not_a_comment() -> None:
    assert mended("add", '{"a": 2, // 3 of them\n "b": 3}').values == {"a": 2, "b": 3}
    assert mended("add", '{"a": 2 /* two */, "b": 3} // done').values == {"a": 2, "b": 3}
    refused("add", '{"a": 4 // 2\n, "b": 3}')


@pytest.mark.parametrize("key", ["+5unit", "unit kg", "u7nit", "max_res7ults"])
def test_a_garbled_key_is_not_dropped(key: str) -> None:
    assert key in refused("get_weather", json.dumps({"city": "x", key: "celsius"}))


@each_row("wrote", ["c#", "c+", "-5", "5%", "1-2", "1 2", "5²", "!java", "java?"])
def test_a_choice_that_differs_by_more_than_its_spelling_is_none(wrote: str) -> None:
    @tool
    def choose(what: Literal["c", "java", "5", "12", "52"]) -> None:
        """Choose."""

    assert wrote in refused(
        "choose", json.dumps({"what": wrote}, ensure_ascii=False), {"choose": choose}
    )


# What is around the arguments


@each_row(
    "arguments",
    [
        {"parameters": {"a": 2, "b": 3}},
        {"arguments": {"a": 2, "b": 3}},
        {"args": {"a": 2, "b": 3}},
        {"input": {"a": 2, "b": 3}},
        {"kwargs": {"a": 2, "b": 3}},
        {"args": [], "kwargs": {"a": 2, "b": 3}},
        {"type": "object", "properties": {"a": 2, "b": 3}, "required": ["a", "b"]},
        {"add": {"a": 2, "b": 3}},
        {"name": "add", "arguments": {"a": 2, "b": 3}},
        {"name": "functions.add", "parameters": {"a": 2, "b": 3}},
        {"action": "add", "action_input": {"a": 2, "b": 3}},
        {"thought": "easy", "arguments": {"a": 2, "b": 3}},
        [{"a": 2, "b": 3}],
    ],
)
def test_a_wrapper_is_taken_off(arguments: object) -> None:
    outcome = mended("add", json.dumps(arguments))
    assert outcome.values == {"a": 2, "b": 3}
    assert rules(outcome) == ["unwrapped"]
    whole = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
    assert rules(mended("add", json.dumps(whole))) == ["unwrapped", "unwrapped", "double-encoded"]


def test_a_wrapped_call_of_another_name_is_refused() -> None:
    words = refused("add", '{"name": "mul", "arguments": {"a": 2, "b": 3}}')
    assert '"mul"' in words
    refused("create_user", '{"name": "now", "arguments": {"age": 3}}')
    refused("create_user", '{"age": 3, "arguments": {"name": "x"}}')


def test_a_call_within_a_call_does_not_lose_its_arguments() -> None:
    outcome = mended("create_user", '{"name": "create_user", "arguments": {"name": "Bo"}}')
    assert outcome.values == {"name": "Bo"}


def test_a_parameter_of_a_wrappers_name_is_a_parameter() -> None:
    @tool
    def call(arguments: dict[str, int], mode: int) -> None:
        """Call."""

    tools: dict[str, Tool] = {"call": call}
    words = refused("call", '{"arguments": {"mode": 2}}', tools)
    assert "mode: missing" in words


@each_row(
    ("name", "arguments", "values", "rule"),
    [
        ("add", "[2, 3]", {"a": 2, "b": 3}, "positional"),
        ("add", '{"args": [2, 3]}', {"a": 2, "b": 3}, "positional"),
        ("total", "[2, 3]", {"numbers": [2, 3]}, "lone-value"),
        ("total", "[[2, 3]]", {"numbers": [2, 3]}, "positional"),
        ("total", "7", {"numbers": [7]}, "list-from-one"),
        ("get_weather", '"Paris"', {"city": "Paris"}, "lone-value"),
        ("get_weather", "Paris", {"city": "Paris"}, "lone-value"),
        ("get_weather", "New York, NY", {"city": "New York, NY"}, "lone-value"),
    ],
)
def test_values_without_names_are_placed(
    name: str, arguments: str, values: dict[str, object], rule: str
) -> None:
    outcome = mended(name, arguments)
    assert outcome.values == values
    assert rules(outcome)[-1] == rule


@each_row(
    ("name", "arguments"),
    [
        ("add", "[2]"),
        ("add", "[2, 3, 4]"),
        ("add", '[2, "x"]'),
        ("add", "5"),
        ("add", "Paris"),
        ("get_weather", "city: Paris"),
        ("get_weather", "city=Paris"),
        ("get_weather", "None"),
        ("get_weather", "{city}"),
        ("create_user", '["Bo", 3]'),
    ],
)
def test_values_whose_place_is_not_plain_are_not_placed(name: str, arguments: str) -> None:
    refused(name, arguments)


# The values


@each_row(
    ("name", "arguments", "values", "rule"),
    [
        ("total", {"numbers": "[2, 3]"}, {"numbers": [2, 3]}, "stringified"),
        ("total", {"numbers": "```json\n[2, 3]\n```"}, {"numbers": [2, 3]}, "stringified"),
        ("total", {"numbers": "(2, 3)"}, {"numbers": [2, 3]}, "stringified"),
        ("total", {"numbers": "2, 3"}, {"numbers": [2, 3]}, "list-from-text"),
        ("total", {"numbers": 5}, {"numbers": [5]}, "list-from-one"),
        ("total", {"numbers": {"0": 4, "1": 5}}, {"numbers": [4, 5]}, "list-from-object"),
        ("label", {"names": "red"}, {"names": ["red"]}, "list-from-one"),
        ("label", {"names": "['a, b', 'c']"}, {"names": ["a, b", "c"]}, "stringified"),
        ("draw", {"points": {"x": 1, "y": 2}}, {"points": [Point(1, 2)]}, "list-from-one"),
        ("draw", {"points": ["{'x': 1, 'y': 2}"]}, {"points": [Point(1, 2)]}, "stringified"),
        ("draw", {"points": [], "options": "{}"}, {"points": [], "options": {}}, "stringified"),
        ("add", {"a": [2], "b": 3}, {"a": 2, "b": 3}, "one-from-list"),
        ("add", {"a": {"type": "integer", "value": 2}, "b": 3}, {"a": 2, "b": 3}, "schema-echo"),
        ("add", {"A": 2, "b": 3}, {"a": 2, "b": 3}, "key-name"),
        ("add", {"a": 2, "b": 3, "c": 4}, {"a": 2, "b": 3}, "dropped-unknown"),
        ("add", {"a": 2, "b": 3, "note": None}, {"a": 2, "b": 3}, "dropped-unknown"),
        ("now", {"dummy": "x"}, {}, "dropped-unknown"),
        ("get_weather", {"city": "x", "unit": None}, {"city": "x"}, "null-dropped"),
        ("get_weather", {"city": "x", "max_results": "None"}, {"city": "x"}, "null-dropped"),
        ("get_weather", {"city": "x", "max_results": ""}, {"city": "x"}, "null-dropped"),
        (
            "get_weather",
            {"city": "x", "when": "None"},
            {"city": "x", "when": None},
            "null-from-text",
        ),
        (
            "get_weather",
            {"city": "x", "unit": " Celsius"},
            {"city": "x", "unit": "celsius"},
            "enum-spelling",
        ),
        (
            "draw",
            {"points": [], "colour": "DARK_BLUE"},
            {"points": [], "colour": Colour.DARK_BLUE},
            "enum-spelling",
        ),
        (
            "get_weather",
            {"city": "x", "maxResults": 5},
            {"city": "x", "max_results": 5},
            "key-name",
        ),
        (
            "get_weather",
            {"city": "x", "max_result": 5},
            {"city": "x", "max_results": 5},
            "key-near",
        ),
        ("pick", {"what": "[1, 2]"}, {"what": [1, 2]}, "stringified"),
        ("pick", {"what": "none"}, {"what": None}, "null-from-text"),
        ("pick", {"grid": "[[1], [2]]"}, {"grid": [[1], [2]]}, "stringified"),
    ],
)
def test_a_value_is_repaired_by_the_schema(
    name: str, arguments: object, values: dict[str, object], rule: str
) -> None:
    outcome = mended(name, json.dumps(arguments))
    assert outcome.values == values
    assert rules(outcome) == [rule]


def test_a_fix_says_where_what_was_and_what_became() -> None:
    outcome = mended("total", '{"numbers": "[2, 3]", "x": 1}')
    assert outcome.fixes == (
        Fix("stringified", 'numbers = "[2, 3]"', "numbers = [2, 3]"),
        Fix("dropped-unknown", "x = 1", ""),
    )


def test_repair_goes_to_any_depth() -> None:
    leaf = {"value": 3, "children": "[]"}
    root = {"value": 1, "children": [{"value": 2, "children": json.dumps([leaf])}]}
    outcome = mended("plant", json.dumps({"root": json.dumps(root)}))
    assert outcome.values == {"root": Node(1, [Node(2, [Node(3, [])])])}
    assert rules(outcome) == ["stringified"] * 3


def test_texts_of_numbers_and_truths_are_repaired_where_the_validator_does_not() -> None:
    text = json.dumps({"points": "[{'x': '1', 'y': 2.0}]", "colour": "RED"})
    outcome = mended("draw", text)
    assert outcome.values == {"points": [Point(1, 2)], "colour": Colour.RED}
    assert rules(outcome) == ["stringified", "number-from-text", "enum-spelling"]
    assert rules(mended("label", '{"names": "a", "urgent": "True"}'))[1] == "bool-from-text"


def test_a_long_run_by_one_rule_is_reported_once() -> None:
    outcome = mended("total", json.dumps({"numbers": [str(n) for n in range(50)], "z": 0}))
    assert rules(outcome) == ["number-from-text", "dropped-unknown"]
    assert outcome.fixes[0].before == 'numbers[0] = "0" (and 49 more)'


@each_row(
    ("name", "arguments"),
    [
        ("add", {"a": 2}),
        ("add", {"a": 2, "c": 3}),
        ("add", {"a": "two", "b": 3}),
        ("add", {"a": "1,000", "b": 3}),
        ("add", {"a": 2.5, "b": 3}),
        ("add", {"a": None, "b": 3}),
        ("add", {"a": [1, 2], "b": 3}),
        ("add", {"A": 1, "a ": 2, "b": 3}),
        ("label", {"names": "red, green"}),
        ("label", {"names": "null"}),
        ("label", {"names": ["a"], "urgent": "perhaps"}),
        ("get_weather", {"city": "x", "unit": "kelvin"}),
        ("get_weather", {"city": None}),
        ("total", {"numbers": {"1": 4, "2": 5}}),
        ("total", {"numbers": "1 and 2"}),
        ("create_user", {"email": "x"}),
        ("create_user", {"age": 3, "params": {"name": "Bo"}}),
        ("draw", {"points": [{"x": 1}]}),
    ],
)
def test_no_value_is_made_up(name: str, arguments: object) -> None:
    refused(name, json.dumps(arguments))


def test_open_ended_tools_keep_their_extra_arguments() -> None:
    outcome = mended("save", '{"Path": "x", "limt": "5", "count": 1}')
    assert outcome.values == {"path": "x", "limt": 5, "count": 1}


# Names


@each_row(
    ("wrote", "name", "rule"),
    [
        ("Add", "add", "name-case"),
        ("functions.add", "add", "name-prefix"),
        ("default_api.add", "add", "name-prefix"),
        ("tools.add", "add", "name-prefix"),
        ("namespace:add", "add", "name-prefix"),
        ("mcp__math__add", "add", "name-prefix"),
        ("functions.Get-Weather", "get_weather", "name-prefix"),
        ("functions.get_wether", "get_weather", "name-near"),
        ("get-weather", "get_weather", "name-separator"),
        ("getWeather", "get_weather", "name-separator"),
        ("Get Weather", "get_weather", "name-separator"),
        ("get_wether", "get_weather", "name-near"),
        ("get_weathers", "get_weather", "name-near"),
        ("get_waether", "get_weather", "name-near"),
        ("getwether", "get_weather", "name-near"),
        ("craete_user", "create_user", "name-near"),
        ("add()", "add", "name-noise"),
        ('"add"', "add", "name-noise"),
        ("add\n", "add", "name-noise"),
        ("add<|channel|>commentary", "add", "name-noise"),
    ],
)
def test_a_name_that_is_nearly_right_is_found(wrote: str, name: str, rule: str) -> None:
    found = find_tool_name(wrote, TOOLS)
    assert found is not None
    assert found.name == name
    assert [each.rule for each in found.fixes] == [rule]


def test_a_repaired_name_leaves_valid_arguments_as_written() -> None:
    outcome = mended("functions.add:0", '{"a":2,"b":3}')
    assert outcome.arguments == '{"a":2,"b":3}'
    assert outcome.fixes == (
        Fix("name-noise", "functions.add:0", "functions.add"),
        Fix("name-prefix", "functions.add", "add"),
    )


@each_row(
    ("wrote", "names"),
    [
        ("ad", ["add"]),
        ("addd", ["add"]),
        ("sub", ["add", "sum"]),
        ("multiply", ["add"]),
        ("get_user", ["set_user"]),
        ("lock_door", ["unlock_door"]),
        ("clone_repo", ["close_repo"]),
        ("run_async", ["run_sync"]),
        ("upload_file", ["unload_file"]),
        ("increase", ["decrease"]),
        ("encrypt", ["decrypt"]),
        ("ADD", ["Add", "aDD"]),
        ("get-weather", ["get_weather", "getWeather"]),
        ("math.add", ["math", "add"]),
        ("add", ["math__add", "text__add"]),
        ("get_usr_name", ["get_user_name", "get_us_name"]),
        ("find_filles", ["find_files", "find_fillers"]),
        ("functions.", ["add"]),
        ("", ["add"]),
        ("...", ["add"]),
        ("x" * 100_000, ["add"]),
    ],
)
def test_a_name_that_may_mean_another_tool_finds_none(wrote: str, names: list[str]) -> None:
    assert find_tool_name(wrote, names) is None


def test_the_namespace_of_one_tool_may_be_left_out() -> None:
    found = find_tool_name("create_issue", ["github__create_issue", "github__close_issue"])
    assert found is not None
    assert found.name == "github__create_issue"


def test_the_longer_of_two_names_within_a_name_is_meant() -> None:
    found = find_tool_name("mcp__web__search", ["search", "web__search"])
    assert found is not None
    assert found.name == "web__search"


# Words


def test_an_unknown_tool_is_reported_with_the_known_names() -> None:
    words = refused("weather", "{}")
    assert "'weather'" in words
    assert "Did you mean 'get_weather'" in words
    assert ", ".join(TOOLS) in words


def test_without_tools_the_model_is_asked_to_answer() -> None:
    assert "There are no tools" in refused("add", "{}", {})


def test_of_many_tools_the_nearest_are_listed_and_the_message_stays_short() -> None:
    many: dict[str, Tool] = {f"tool_{n}": add.with_name(f"tool_{n}") for n in range(500)}
    many["get_weather"] = get_weather
    words = refused("fetch_weather", "{}", many)
    assert "get_weather" in words
    assert "501 tools" in words
    assert len(words) < 1_000


def test_wrong_arguments_are_reported_field_by_field() -> None:
    words = refused("get_weather", '{"unit": "kelvin", "max_results": "many"}')
    for told in ("city: missing", 'unit: got "kelvin"', "celsius", 'max_results: got "many"'):
        assert told in words
    assert "Call get_weather again" in words


def test_an_unknown_argument_is_reported_though_it_would_have_been_dropped() -> None:
    assert "location" in refused("get_weather", '{"location": "Paris"}')


def test_a_tool_without_parameters_is_reported() -> None:
    assert "now again with {}" in refused("now", "[1, 2]")


def test_the_message_stays_short_whatever_was_sent() -> None:
    many = json.dumps({"numbers": ["x"] * 5_000})
    for arguments in (many, "[" * 50_000, "\ud800" * 9):
        words = refused("total", arguments)
        assert len(words) < 3_000
        assert words.encode()


# Bounds


@each_row(
    "arguments",
    [
        "x" * 1_000_000,
        '{"a": ' * 160_000,
        "[" * 1_000_000,
        '"' + '\\"' * 500_000,
        "'" * 1_000_000,
        '{"a" "b" ' * 110_000,
        "{'a': 'x', " * 90_000,
        '{"a": 1, "b": ' + "9" * 1_000_000 + "}",
        '{"a": "' + "\n" * 1_000_000,
        "```json" + "`" * 1_000_000,
        "<|" * 500_000,
        '{"a": "[' + "[" * 1_000_000 + '"}',
        "{}" * 500_000,
        " " * 1_000_000 + "{",
    ],
    ids=lambda text: text[:12].strip() or "space",
)
def test_a_megabyte_of_garbage_is_refused_in_under_a_second(arguments: str) -> None:
    began = time.process_time()  # of ours: a busy machine takes none of it
    for name in ("add", "get_weather"):
        refused(name, arguments)
    assert time.process_time() - began < 2 * 0.9


def test_a_value_too_deep_is_refused() -> None:
    deep = '{"value": 1, "children": [' * 90 + "]}" * 90
    refused("plant", f'{{"root": {deep}, "more": 1}}')


# Properties

SIMPLE: dict[str, st.SearchStrategy[object]] = {
    "add": st.fixed_dictionaries({"a": st.integers(), "b": st.integers()}),
    "get_weather": st.fixed_dictionaries(
        {"city": st.text()},
        optional={
            "unit": st.sampled_from(["celsius", "fahrenheit"]),
            "max_results": st.integers(),
            "when": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        },
    ),
    "total": st.fixed_dictionaries({"numbers": st.lists(st.integers())}),
    "label": st.fixed_dictionaries({"names": st.lists(st.text())}),
    "save": st.dictionaries(st.text("abc_é", min_size=1), st.integers()).map(
        lambda d: {**d, "path": "p"}
    ),
}
CALLS = st.sampled_from(sorted(SIMPLE)).flatmap(lambda name: st.tuples(st.just(name), SIMPLE[name]))


@given(CALLS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_valid_arguments_are_never_changed(
    call: tuple[str, object], ascii_only: bool, indent: int | str | None
) -> None:
    name, arguments = call
    text = json.dumps(arguments, ensure_ascii=ascii_only, indent=indent)
    outcome = repair_call(ToolCallPart(name, text), TOOLS)
    assert outcome == RepairedCall(TOOLS[name], text, TOOLS[name].parse(text), ())


@given(CALLS, st.sampled_from(["plain", "fenced", "double", "wrapped", "python", "closed"]))
def test_spoilt_arguments_come_back_as_they_were(call: tuple[str, object], how: str) -> None:
    name, arguments = call
    text = json.dumps(arguments, ensure_ascii=False)
    spoilt = {
        "plain": text,
        "fenced": f"```json\n{text}\n```",
        "double": json.dumps(text),
        "wrapped": json.dumps({"arguments": arguments}),
        "python": repr(arguments),
        "closed": text[:-1],
    }[how]
    outcome = repair_call(ToolCallPart(name, spoilt), TOOLS)
    if how == "wrapped" and name == "save":
        return  # it takes any name, so a wrapper's too
    assert isinstance(outcome, RepairedCall), outcome
    assert json.loads(outcome.arguments) == arguments


@given(st.text(max_size=12), st.sampled_from([repr, json.dumps]), st.data())
def test_a_cut_call_is_refused_or_has_lost_nothing_but_what_may_be_left_out(
    city: str, render: Callable[[object], str], data: st.DataObject
) -> None:
    whole = {"city": city, "unit": "celsius", "when": None}
    text = render(whole)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    outcome = repair_call(ToolCallPart("get_weather", cut), TOOLS)
    if isinstance(outcome, RepairedCall):
        assert outcome.values["city"] == city
        assert outcome.values.items() <= whole.items()


@given(st.text() | st.text(alphabet="{}[]\"':,ab12 \\`n"), st.sampled_from(sorted(TOOLS)))
def test_whatever_was_written_nothing_is_raised_and_repair_is_idempotent(
    arguments: str, name: str
) -> None:
    outcome = repair_call(ToolCallPart(name, arguments), TOOLS)
    if isinstance(outcome, RepairedCall):
        again = repair_call(ToolCallPart(outcome.tool.name, outcome.arguments), TOOLS)
        assert again == RepairedCall(outcome.tool, outcome.arguments, outcome.values, ())


VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b", "x", "points", "names", "arguments", "root", "0", "value"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(VALUES, st.sampled_from(sorted(TOOLS)))
def test_any_json_is_repaired_into_what_the_tool_takes_or_refused(value: object, name: str) -> None:
    outcome = repair_call(ToolCallPart(name, json.dumps(value)), TOOLS)
    if isinstance(outcome, RepairedCall):
        assert TOOLS[name].parse(outcome.arguments) == outcome.values
        assert outcome.fixes or outcome.arguments == json.dumps(value)


NAMES = st.lists(
    st.text(alphabet="abcde_-B.", min_size=1, max_size=8), min_size=1, max_size=5, unique=True
)


@given(NAMES, st.text(alphabet="abcde_-B.", max_size=10))
def test_a_name_is_never_taken_for_a_tool_that_is_further_away(
    names: list[str], wrote: str
) -> None:
    found = find_tool_name(wrote, names)
    if found is None or (found.fixes and found.fixes[-1].rule == "name-prefix"):
        return
    mine = edit_distance(fold_name(wrote), fold_name(found.name))
    others = [
        edit_distance(fold_name(wrote), fold_name(name)) for name in names if name != found.name
    ]
    assert found.name == wrote or mine < min(others, default=mine + 1) or mine == 0


@given(st.text(alphabet="abc", max_size=6), st.text(alphabet="abc", max_size=6))
def test_the_distance_is_symmetric_and_zero_only_between_equals(one: str, other: str) -> None:
    assert edit_distance(one, other) == edit_distance(other, one)
    assert (edit_distance(one, other) == 0) == (one == other)
    assert not is_near(one, one)
