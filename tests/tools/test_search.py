from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall import ToolRegistry, tool
from agentcall.tools.search import SearchField, SearchIndex, tokenize
from agentcall.tools.tool import tool_from_schema


@each_row(
    ("text", "found"),
    [
        ("get_userName2", ["get", "user", "name", "2"]),
        ("HTTPServer.parseURL", ["http", "server", "parse", "url"]),
        ("math__add-numbers", ["math", "add", "number"]),
        ("Cities, flights and glass", ["city", "flight", "and", "glass"]),
        ("Ｃａｆé", ["café"]),
        ("上海天气", ["上", "海", "天", "气", "上海", "海天", "天气"]),
        ("查weather", ["查", "weather"]),
        ("", []),
        ("<|>!?", []),
    ],
)  # fmt: skip
def test_a_text_is_cut_into_words(text: str, found: list[str]) -> None:
    assert tokenize(text) == found


def test_scores_are_those_of_the_formula() -> None:
    documents = [["red", "tea"], ["red", "red", "cup", "cup"], ["blue"]]
    index = SearchIndex([SearchField(" ".join(document))] for document in documents)

    def score(document: list[str], word: str) -> float:
        count, holders = document.count(word), sum(word in other for other in documents)
        rarity = math.log(1 + (3 - holders + 0.5) / (holders + 0.5))
        return rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / (7 / 3)))

    best = sorted(range(3), key=lambda n: -sum(score(documents[n], w) for w in ("red", "cup")))
    assert index.search("red cup", 3) == [n for n in best if n != 2]
    assert dict(index._term_scores["red"])[1] == pytest.approx(score(documents[1], "red"))


def test_a_word_counts_as_much_as_its_field() -> None:
    index = SearchIndex(
        [
            [SearchField("a"), SearchField("tea cup")],
            [SearchField("tea", 3.0), SearchField("a cup")],
        ]
    )
    assert index.search("tea", 2) == [1, 0]


def test_what_has_no_word_of_the_query_is_not_found_and_equals_keep_their_order() -> None:
    index = SearchIndex([[SearchField("tea")], [SearchField("coffee")], [SearchField("tea")]])
    assert index.search("tea", 5) == [0, 2]
    assert index.search("tea", 1) == [0]
    assert index.search("", 5) == index.search("milk", 5) == []
    assert SearchIndex([]).search("tea", 5) == []


@given(st.lists(st.text(max_size=30), max_size=6), st.text(max_size=30), st.integers(0, 8))
def test_any_text_can_be_indexed_and_asked_for(texts: list[str], query: str, count: int) -> None:
    found = SearchIndex([SearchField(text)] for text in texts).search(query, count)
    assert len(found) <= count
    assert len(set(found)) == len(found)


@tool
def get_weather(city: str, days: int = 1) -> str:
    """Say the weather.

    Args:
        city: The place, for example Riga.
        days: How far the forecast goes.
    """
    return ""


@tool
def send_mail(to: str, body: str) -> str:
    """Send a message to somebody."""
    return ""


def names(registry: ToolRegistry, query: str, count: int = 10) -> list[str]:
    return [found.name for found in registry.search(query, count)]


def test_a_registry_is_searched_by_names_descriptions_and_parameters() -> None:
    registry = ToolRegistry(send_mail, get_weather)
    assert names(registry, "weather") == ["get_weather"]
    assert names(registry, "write a message") == ["send_mail"]
    assert names(registry, "how far") == ["get_weather"]
    assert names(registry, "mail body") == ["send_mail"]
    assert names(registry, "riga") == ["get_weather"]
    assert names(registry, "nothing of it") == []


def test_what_is_inside_of_a_parameter_counts_too() -> None:
    schema = {"type": "object", "properties": {"order": {"anyOf": [{"$ref": "#/$defs/O"}]}},
              "$defs": {"O": {"type": "object", "properties": {
                  "kind": {"type": "string", "description": "Oolong or green"}}}}}  # fmt: skip
    brew = tool_from_schema(str, name="brew", description="", parameters=schema)  # type: ignore[arg-type]
    assert names(ToolRegistry(send_mail, brew), "oolong") == ["brew"]


def test_chinese_is_found_by_words_of_one_and_two_characters() -> None:
    balance = tool_from_schema(str, name="balance", description="查询银行账户余额。", parameters={})
    weather = tool_from_schema(str, name="weather", description="查询城市的天气。", parameters={})
    registry = ToolRegistry(weather, balance)
    assert names(registry, "我的账户里还有多少余额？", 1) == ["balance"]
    assert names(registry, "上海天气怎么样", 1) == ["weather"]
    assert set(names(registry, "查")) == {"weather", "balance"}


def test_what_is_added_later_is_found() -> None:
    registry = ToolRegistry(get_weather)
    assert names(registry, "mail") == []
    registry.add(send_mail)
    assert names(registry, "mail") == ["send_mail"]
