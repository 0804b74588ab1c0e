from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import pathlib
import time
import uuid
from collections import deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from rows import each_row

from agentcall.tools.serialize import MAX_ITEMS, serialize, to_json_value, truncate_text


class Model(BaseModel):
    city: str
    when: datetime.date


@dataclass
class Node:
    name: str
    children: list[Any] = field(default_factory=list)


class Colour(enum.Enum):
    RED = "red"


class Word(str, enum.Enum):
    HI = "hi"


class Plain:
    def __init__(self) -> None:
        self.x, self._y = 1, 2


class Empty:
    pass


class Spoken:
    def __str__(self) -> str:
        return "3 metres"


class Angry:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class AngryModel(BaseModel):
    x: int = 1

    def model_dump(self, **_: Any) -> Any:
        raise RuntimeError("no")


Pair = namedtuple("Pair", "a b")


def numbers() -> Iterator[int]:
    yield from (1, 2, 3)


@each_row(
    ("value", "text"),
    [
        ("plain 上海", "plain 上海"),
        (Word.HI, "hi"),
        ("a\ud800b", "a?b"),
        ({"k": "a\ud800b"}, '{"k":"a?b"}'),
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (2**64, str(2**64)),
        (0.5, "0.5"),
        (math.nan, "null"),
        ([math.inf, 1], "[null,1]"),
        ([2**64, math.nan], f"[{2**64},null]"),
        (b"caf\xc3\xa9", '"café"'),
        (bytearray(b"x"), '"x"'),
        (memoryview(b"x"), '"x"'),
        (b"\xff\x00", '{"bytes":2,"base64":"/wA="}'),
        ({3, 1, 2}, "[1,2,3]"),
        (frozenset({"b", "a"}), '["a","b"]'),
        ({1, "a"}, """["a",1]"""),
        ((1, (2,)), "[1,[2]]"),
        (Pair(1, 2), '{"a":1,"b":2}'),
        ([Pair(1, 2**70)], f'[{{"a":1,"b":{2**70}}}]'),
        (numbers(), "[1,2,3]"),
        (map(str, [1]), '["1"]'),
        (range(3), "[0,1,2]"),
        (deque([1]), "[1]"),
        ({"a": 1}.values(), "[1]"),
        ({"a": 1}.keys(), '["a"]'),
        ({1: "a", (1, 2): "b"}, '{"1":"a","(1, 2)":"b"}'),
        ({b"k": 2**70}, f'{{"k":{2**70}}}'),
        (datetime.date(2024, 1, 2), '"2024-01-02"'),
        (datetime.timedelta(hours=1), '"1:00:00"'),
        (decimal.Decimal("1.50"), '"1.50"'),
        (Fraction(1, 3), '"1/3"'),
        (1 + 2j, '"(1+2j)"'),
        (pathlib.PurePosixPath("/a/b"), '"/a/b"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, '"red"'),
        (Model(city="上海", when=datetime.date(2024, 1, 2)), '{"city":"上海","when":"2024-01-02"}'),
        (Node("a", [Node("b")]), '{"name":"a","children":[{"name":"b","children":[]}]}'),
        (np.arange(3), "[0,1,2]"),
        (np.arange(6).reshape(2, 3).T, "[[0,3],[1,4],[2,5]]"),
        (np.float64(1.5), "1.5"),
        (np.int32(3), "3"),
        (np.bool_(True), "true"),
        (Plain(), '{"x":1}'),
        (Empty(), '"<Empty>"'),
        (Spoken(), '"3 metres"'),
        (Angry(), '"<Angry>"'),
        ([Angry(), 1], '["<Angry>",1]'),
        (ValueError("bad"), "\"ValueError('bad')\""),
        (AngryModel(), '"AngryModel(x=1)"'),
        (int, "\"<class 'int'>\""),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_a_value_has_a_text(value: object, text: str) -> None:
    assert serialize(value) == text


def test_what_contains_itself_says_so() -> None:
    items: list[Any] = [1]
    items.append(items)
    node = Node("a")
    node.children.append(node)
    table: dict[str, Any] = {}
    table["me"] = table
    assert serialize(items) == '[1,"<cycle>"]'
    assert "<cycle>" in serialize(node)
    assert serialize(table) == '{"me":"<cycle>"}'


def test_deep_nesting_ends_somewhere() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert "<deeper>" in serialize(value)
    while value:  # taken apart by hand: its own destructor would recurse
        value = value[0]


def test_an_endless_iterator_is_cut_with_a_word_about_it() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    value = json.loads(serialize(endless()))
    assert len(value) == MAX_ITEMS + 1
    assert value[-1] == f"<cut after {MAX_ITEMS} items>"


def test_what_an_iterator_gave_is_not_lost_where_the_rest_is_difficult() -> None:
    assert serialize([numbers(), 2**70]) == f"[[1,2,3],{2**70}]"


def test_an_iterator_that_fails_within_a_value_says_so() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    assert serialize({"a": failing()}) == '{"a":["<ValueError>"]}'


def test_a_huge_number_does_not_raise() -> None:
    assert serialize(10**5000).startswith('"0x')


def test_a_long_text_is_fast() -> None:
    started = time.process_time()
    assert len(truncate_text(serialize("x" * 20_000_000), 50_000)) < 50_200
    assert time.process_time() - started < 1.0


def test_what_is_cut_out_is_counted() -> None:
    text = truncate_text("a" * 80 + "b" * 20, 50)
    assert text == "a" * 40 + "\n[... 50 of 100 characters cut out here ...]\n" + "b" * 10
    assert truncate_text("short", 5) == "short"
    assert truncate_text("x" * 100, None) == "x" * 100


def test_as_json_gives_values() -> None:
    assert to_json_value("text") == "text"
    assert to_json_value(Model(city="x", when=datetime.date(2024, 1, 2))) == {
        "city": "x",
        "when": "2024-01-02",
    }


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
              st.decimals(), st.dates(), st.complex_numbers()),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.tuples(st.integers())), inner),
        st.tuples(inner),
    ),
    max_leaves=8,
)  # fmt: skip


@given(VALUES)
def test_any_value_at_all_gives_a_text_that_can_be_sent(value: object) -> None:
    text = serialize(value)
    text.encode()
    if not isinstance(value, str):
        json.loads(text)
