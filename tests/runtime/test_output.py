from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from rows import each_row

from agentcall.errors import SchemaError
from agentcall.runtime.output import InvalidOutput, OutputParser


class City(BaseModel):
    name: str
    people: int


@dataclass
class Point:
    x: int
    y: int = 0


class Colour(enum.Enum):
    RED = "red"


SHANGHAI = City(name="上海", people=24)
TEXT = '{"name": "上海", "people": 24}'


@each_row(
    ("kind", "text", "value"),
    [
        (str, "  any text ", "  any text "),
        (City, TEXT, SHANGHAI),
        (City, f"```json\n{TEXT}\n```", SHANGHAI),
        (City, f"Here it is:\n```\n{TEXT}\n```\nThat is all [1].", SHANGHAI),
        (City, f"Sure! [see below] {TEXT} I hope {{that}} helps.", SHANGHAI),
        (City, f'First I thought {{"name": "x"}}, but it is {TEXT}', SHANGHAI),
        (City, "{'name': '上海', 'people': 24,}", SHANGHAI),
        (City, "```json\n{name: '上海', 'people': 24,}\n```", SHANGHAI),
        (Point, '{"x": "3"}', Point(3)),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "The numbers are [1, 2].", [1, 2]),
        (list[City], f"[{TEXT}]", [SHANGHAI]),
        (int, "42", 42),
        (int, " 42.\n", 42),
        (int, "**42**", 42),
        (float, "3.5", 3.5),
        (bool, "true", True),
        (bool, "True", True),
        (bool, "No.", False),
        (Literal["red", "blue"], "red", "red"),
        (Literal["red", "blue"], '"blue"', "blue"),
        (Literal["red", "blue"], "`red`", "red"),
        (Colour, "red", Colour.RED),
        (Optional[int], "null", None),  # noqa: UP045
        (Optional[int], "7", 7),  # noqa: UP045
        (Union[City, Point], '{"x": 1, "y": 2}', Point(1, 2)),  # noqa: UP007
        (Union[City, Point], TEXT, SHANGHAI),  # noqa: UP007
        (Union[int, list[int]], "[3]", [3]),  # noqa: UP007
        (dict[str, int], '{"a": 1}', {"a": 1}),
    ],
)
def test_an_answer_is_read_as_its_type(kind: Any, text: str, value: object) -> None:
    assert OutputParser(kind).parse(text) == value


@each_row(
    ("kind", "text", "words"),
    [
        (City, '{"name": "x"}', "people"),
        (City, 'Sure: {"name": "x", "people": "many"}', "many"),
        (City, "I do not know.", "I do not know"),
        (City, '{"name": "x", "people": ', ""),
        (int, "about forty", "about forty"),
        (Literal["red", "blue"], "green", "green"),
        (list[int], '["a"]', "[0]"),
    ],
)
def test_an_answer_that_does_not_fit_says_what_is_wrong(kind: Any, text: str, words: str) -> None:
    unfit = OutputParser(kind).parse(text)
    assert isinstance(unfit, InvalidOutput)
    assert words in unfit.message
    assert "Answer again with one JSON value" in unfit.message


CITY = '{"name": "x", "people": 3}'


@each_row(
    ("kind", "good", "value"),
    [
        (City, CITY, City(name="x", people=3)),
        (list[int], "[1, 2]", [1, 2]),
        (int, "3", 3),
        (bool, "false", False),
        (float, "1.5", 1.5),
        (Literal["red", "blue"], '"red"', "red"),
        (dict[str, int], '{"k": 1}', {"k": 1}),
    ],
)
@each_row(
    "wrapped",
    [
        '{"answer": GOOD}',
        '{"output": GOOD}',
        '{"result": GOOD}',
        '{"final_answer": GOOD}',
        '{"items": GOOD}',
        "[GOOD]",
        '{"answer": [GOOD]}',
        '{"type": "object", "properties": GOOD}',
        '{"name": "final_answer", "arguments": GOOD}',
        '```json\n{"answer": GOOD}\n```',
        'Here it is: {"answer": GOOD}',
        "{'response': GOOD,}",
        "TEXT",
        '{"answer": TEXT}',
    ],
)
def test_an_answer_in_layers_is_taken_out_of_them(
    kind: Any, good: str, value: Any, wrapped: str
) -> None:
    text = wrapped.replace("GOOD", good).replace("TEXT", json.dumps(good))
    assert OutputParser(kind).parse(text) == value


def test_an_answer_as_a_call_of_its_type_is_taken_out_of_it() -> None:
    text = f'{{"name": "City", "arguments": {CITY}}}'
    assert OutputParser(City).parse(text) == City(name="x", people=3)


@each_row(
    ("kind", "text"),
    [
        (City, f'{{"answer": {CITY}, "but": "perhaps"}}'),
        (City, f"[{CITY}, {CITY}]"),
        (City, f'Either {{"answer": {CITY}}} or {{"answer": {CITY}}}'),
        (int, "The sources are [1]. I do not know."),
        (int, "[3, 4]"),
        (int, "true"),
        (int, '{"answer": true}'),
        (float, "[false]"),
        (int, '{"price": 3}'),
        (int, '{"answer": {"answer": null}}'),
    ],
)
def test_what_is_beside_an_answer_is_not_dropped(kind: Any, text: str) -> None:
    assert isinstance(OutputParser(kind).parse(text), InvalidOutput)


def test_an_own_field_of_a_wrappers_name_is_no_wrapper() -> None:
    class Reply(BaseModel):
        answer: str

    assert OutputParser(Reply).parse('{"answer": "hi"}') == Reply(answer="hi")
    assert OutputParser(Reply).parse('{"answer": {"answer": "hi"}}') == Reply(answer="hi")


def test_plain_text_has_no_schema_and_a_type_has_one() -> None:
    assert OutputParser(str).schema is None
    assert OutputParser(City).schema == {
        "type": "object",
        "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["name", "people"],
    }


def test_a_type_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(SchemaError):
        OutputParser(type(lambda: 0))


@given(st.text(alphabet='{}[]"\\,:1a `\n'))
def test_no_text_at_all_raises(text: str) -> None:
    for kind in (City, list[int], int):
        OutputParser(kind).parse(text)
