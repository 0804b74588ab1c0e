from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall.errors import UsageError
from agentcall.messages import (
    Assistant,
    Image,
    Message,
    System,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    User,
    dump_messages,
    encode_json,
    from_json,
    load_messages,
    to_json,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CALLS = st.builds(ToolCall, id=TEXTS, name=TEXTS, arguments=TEXTS)
PARTS = st.one_of(
    st.builds(Text, TEXTS, st.booleans()),
    st.builds(Image, TEXTS, st.sampled_from([None, "low", "high"]), st.booleans()),
)
MESSAGES = st.one_of(
    st.builds(System, TEXTS),
    st.builds(User, st.one_of(TEXTS, st.lists(PARTS).map(tuple)), st.booleans()),
    st.builds(Assistant, TEXTS, st.lists(CALLS).map(tuple), TEXTS),
    st.builds(ToolResult, TEXTS, TEXTS, TEXTS, st.booleans(), st.booleans()),
)


@given(st.lists(MESSAGES))
def test_messages_come_back_from_their_json_text(messages: list[Message]) -> None:
    assert load_messages(dump_messages(messages)) == tuple(messages)


@given(MESSAGES)
def test_a_message_comes_back_from_its_json_form(message: Message) -> None:
    assert from_json(to_json(message)) == message


def test_chinese_is_written_as_it_is() -> None:
    text = dump_messages([User("上海天气怎么样？"), Assistant("晴，21°C 🌞")])
    assert "上海天气怎么样？" in text
    assert "🌞" in text
    assert "\\u" not in text


def test_a_lone_surrogate_does_not_stop_the_encoding() -> None:
    assert json.loads(encode_json({"a": "x\ud800y", "b": 2**70})) == {"a": "x?y", "b": 2**70}


def test_image_parts_have_the_form_of_openai() -> None:
    message = User((Text("What is this?"), Image("https://x/y.png", "low")))
    assert to_json(message) == {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        ],
    }
    assert message.text == "What is this?"


def test_a_history_in_the_form_of_openai_is_taken() -> None:
    history: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "2+3?"}, "please"]},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a":2}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "x", "content": [{"type": "text", "text": "5"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "5"}]},
    ]
    assert load_messages(history) == (
        System("Be brief."),
        User((Text("2+3?"), Text("please"))),
        Assistant("", (ToolCall("x", "add", '{"a":2}'),)),
        ToolResult("x", "", "5"),
        Assistant("5"),
    )


@pytest.mark.parametrize(("given_", "text"), [({"a": "é"}, '{"a":"é"}'), (None, "{}")])
def test_arguments_that_are_no_text_become_one(given_: Any, text: str) -> None:
    call = {"function": {"name": "add", "arguments": given_}}
    (message,) = load_messages([{"role": "assistant", "tool_calls": [call]}])
    assert message == Assistant("", (ToolCall("", "add", text),))


@pytest.mark.parametrize(
    "url",
    ["https://x/y.png", {"url": "https://x/y.png"}, {"url": "https://x/y.png", "detail": None}],
)
def test_an_image_url_is_taken_in_every_form(url: Any) -> None:
    part = {"type": "image_url", "image_url": url}
    assert load_messages([{"role": "user", "content": [part]}]) == (
        User((Image("https://x/y.png"),)),
    )


def test_messages_and_their_json_forms_may_be_mixed() -> None:
    assert load_messages([User("a"), {"role": "user", "content": "b"}]) == (User("a"), User("b"))


@each_row(
    ("history", "words"),
    [
        ([{"role": "robot", "content": "x"}], "role 'robot'"),
        ([{"content": "x"}], "role None"),
        ([{"role": "user", "content": 3}], "content is 3"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "a content part is"),
        ([{"role": "assistant", "tool_calls": "x"}], "tool_calls is 'x'"),
        ([{"role": "assistant", "tool_calls": [{"id": "x"}]}], r"function\.name"),
        (["hello"], "'hello' is not a message"),
        ("{", "not JSON"),
        ("{}", "use a list of messages"),
    ],
)
def test_what_is_no_history_is_refused_with_the_reason(history: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_messages(history)  # type: ignore[arg-type]


def test_what_is_no_message_has_no_json_form() -> None:
    with pytest.raises(UsageError, match="is not a message"):
        to_json("hello")


def test_usage_adds_up_field_by_field() -> None:
    one, two = Usage(1, 10, 5, 3, 2), Usage(2, 1, 1)
    assert one + two == Usage(3, 11, 6, 3, 2)
    assert (one + two) - two == one
    assert one.total_tokens == 15
