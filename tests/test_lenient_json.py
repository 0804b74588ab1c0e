"""JSON as models write it."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall.lenient_json import (
    BracketMatcher,
    ParsedJSON,
    UnreadableJSON,
    parse_lenient_json,
    split_items,
    split_members,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_strict_json_is_taken_as_it_is() -> None:
    assert parse_lenient_json('{"a": [1, 2.5, null, "x"]}') == ParsedJSON(
        {"a": [1, 2.5, None, "x"]}
    )


@each_row(
    ("text", "value", "rule"),
    [
        ("{'a': 'b'}", {"a": "b"}, "single quotes"),
        ('{"a": True, "b": None}', {"a": True, "b": None}, "python literal"),
        ('{"a": 1,}', {"a": 1}, "trailing comma"),
        ("[1, 2, ]", [1, 2], "trailing comma"),
        ('{"a": 1 // one\n}', {"a": 1}, "comment"),
        ('{/* x */ "a": 1}', {"a": 1}, "comment"),
        ("{a: 1}", {"a": 1}, "unquoted key"),
        ('{"a": "x\ny"}', {"a": "x\ny"}, "line break in a string"),
        ('{"a": "\\d+"}', {"a": "\\d+"}, "bad escape"),
        ('{"a": 1}}', {"a": 1}, "brackets too many"),
        ('```json\n{"a": 1}\n```', {"a": 1}, "code fence"),
        ('```\n{"a": 1}\n```', {"a": 1}, "code fence"),
        ('{"a": .5}', {"a": 0.5}, "number"),
        ('{"a": 1_000}', {"a": 1000}, "number"),
        ("{'a': 'it\\'s'}", {"a": "it's"}, "single quotes"),
        ("{'a': (1, 2)}", {"a": [1, 2]}, "python literal, single quotes"),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}, "missing comma"),
    ],
)
def test_each_repair_is_named(text: str, value: object, rule: str) -> None:
    assert parse_lenient_json(text) == ParsedJSON(value, rule)  # type: ignore[arg-type]


@each_row(
    "text",
    ['{"a": 1', '{"a": "x', '{"a": [1, 2}'[:-1], "[1, 2", '{"a":', '{"a": {"b": 1}', '"abc', ""],
)
def test_a_value_that_was_cut_is_never_completed(text: str) -> None:
    read = parse_lenient_json(text)
    assert isinstance(read, UnreadableJSON)
    assert read.is_truncated


@each_row("text", ["{not valid json}", "not json", "add(a=2)", '{"a":}', "NaN", '{"a": }', "<a>"])
def test_what_is_not_json_stays_unread(text: str) -> None:
    read = parse_lenient_json(text)
    assert isinstance(read, UnreadableJSON)
    assert not read.is_truncated


def test_a_missing_value_is_not_made_up() -> None:
    assert isinstance(parse_lenient_json('{"a": 1, "b": , "c": 2}'), UnreadableJSON)


@given(VALUES)
def test_a_value_as_python_writes_it_is_the_same_value(value: object) -> None:
    read = parse_lenient_json(repr(value))
    assert isinstance(read, ParsedJSON)
    assert read.value == value


@given(VALUES)
def test_any_true_prefix_of_an_object_is_cut(value: object) -> None:
    text = json.dumps({"key": value})
    for end in range(1, len(text), max(1, len(text) // 20)):
        read = parse_lenient_json(text[:end])
        assert isinstance(read, UnreadableJSON)
        assert read.is_truncated


@given(st.text() | st.text(alphabet="{}[]()\"'\\:,a1 \n/*#`"))
@settings(max_examples=300)
def test_no_text_raises(text: str) -> None:
    assert isinstance(parse_lenient_json(text), (ParsedJSON, UnreadableJSON))
    split_members(text)
    split_items(text)


def test_deep_nesting_is_refused_and_does_not_raise() -> None:
    assert isinstance(parse_lenient_json("[" * 100_000 + "]" * 100_000), UnreadableJSON)


@given(VALUES.filter(lambda value: isinstance(value, (dict, list))), st.data())
def test_balance_finds_the_end_in_any_pieces(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    balance, at = BracketMatcher(), 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text) - at))
        end = balance.scan(text[at : at + size] + (" tail" if at + size == len(text) else ""), 0)
        if at + size < len(text):
            assert end == -1
        else:
            assert end == size
        at += size


def test_members_keep_the_texts_as_written() -> None:
    text = "{'name': 'add', \"arguments\": {'a': True, 'b': \"}\"}, }"
    assert split_members(text) == [("name", "'add'"), ("arguments", "{'a': True, 'b': \"}\"}")]


def test_members_of_anything_else_are_none() -> None:
    assert split_members("[1]") is None
    assert split_members('{"a": 1') is None
    assert split_items('{"a": 1}') is None
    assert split_items('[{"a": 1}, 2]') == ['{"a": 1}', "2"]
