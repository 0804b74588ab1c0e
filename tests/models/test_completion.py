from __future__ import annotations

from typing import Any

import pytest
from rows import each_row

from agentcall.dialects.answer_parts import MessageDelta, ToolCallDelta
from agentcall.errors import BadAnswer, ModelRefused
from agentcall.models.completion_body import (
    TokenCounts,
    decode_json,
    parse_chunk,
    parse_completion,
    parse_usage,
)


def message(**fields: Any) -> Any:
    return {"choices": [{"message": fields, "finish_reason": "stop"}]}


def delta(**fields: Any) -> Any:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def test_a_completion_is_a_delta_an_end_and_a_usage() -> None:
    body = {**message(content="hi"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    piece = parse_completion(body)
    assert (piece.delta, piece.finish_reason) == (MessageDelta("hi"), "stop")
    assert piece.usage == TokenCounts(3, 1)


def test_a_chunk_without_choices_is_the_usage() -> None:
    piece = parse_chunk({"choices": [], "usage": {"prompt_tokens": 3}})
    assert (piece.delta, piece.finish_reason, piece.usage) == (MessageDelta(), None, TokenCounts(3))


@each_row(
    ("call", "expected"),
    [
        (
            {"index": 1, "id": "x", "function": {"name": "f", "arguments": "{}"}},
            ToolCallDelta(1, "x", "f", "{}"),
        ),
        (
            {"function": {"name": "f", "arguments": {"a": "世"}}},
            ToolCallDelta(None, "", "f", '{"a": "世"}'),
        ),
        ({"function": {"name": "f", "arguments": None}}, ToolCallDelta(None, "", "f", "")),
        ({"name": "f", "arguments": "{}"}, ToolCallDelta(None, "", "f", "{}")),
        ({"index": "1", "id": 7, "function": None}, ToolCallDelta(1, "7", "", "")),
        ({"index": 1.0, "id": None, "function": {"name": ""}}, ToolCallDelta(1, "", "", "")),
        ({"index": True, "id": "", "function": {}}, ToolCallDelta(None, "", "", "")),
        ({"index": "x", "id": "", "function": {}}, ToolCallDelta(None, "", "", "")),
        ({"function": {"name": 3}}, ToolCallDelta(None, "", "", "")),
    ],
)
def test_a_call_is_read_whatever_it_lacks(call: Any, expected: ToolCallDelta) -> None:
    assert parse_completion(message(tool_calls=[call])).delta.calls == (expected._replace(slot=0),)
    assert parse_chunk(delta(tool_calls=[call])).delta.calls == (expected,)


@pytest.mark.parametrize("calls", [None, [], ()])
def test_no_calls_are_none(calls: Any) -> None:
    assert parse_completion(message(content="hi", tool_calls=calls)).delta == MessageDelta("hi")


def test_entries_that_are_no_calls_are_passed_over() -> None:
    assert parse_completion(message(tool_calls=[None, 3, "x"])).delta.calls == ()


@pytest.mark.parametrize("calls", ["f()", 3])
def test_calls_that_are_no_list_are_no_answer(calls: Any) -> None:
    with pytest.raises(BadAnswer, match="tool_calls"):
        parse_completion(message(tool_calls=calls))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_thinking(field: str) -> None:
    assert parse_chunk(delta(**{field: "hm"})).delta == MessageDelta("", "hm")
    assert parse_chunk(delta(**{field: {"a": 1}})).delta == MessageDelta()


def test_parts_that_are_no_text_are_passed_over() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}, 3, None]
    assert parse_completion(message(content=parts)).delta.text == "a"


@pytest.mark.parametrize("choice", [{"index": 0}, {"delta": None}, {"delta": "x"}, {"delta": []}])
def test_a_chunk_that_says_nothing_is_nothing(choice: Any) -> None:
    assert parse_chunk({"choices": [choice]}).delta == MessageDelta()


def test_a_whole_message_in_a_chunk_is_its_delta() -> None:
    assert parse_chunk({"choices": [{"message": {"content": "hi"}}]}).delta.text == "hi"


def test_a_later_choice_is_passed_over() -> None:
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}
    assert parse_chunk({"choices": [other]}) == parse_chunk({"choices": []})
    assert (
        parse_chunk({"choices": [other, {"index": 0, "delta": {"content": "yes"}}]}).delta.text
        == "yes"
    )


@pytest.mark.parametrize("finish", [None, "", 3, {}])
def test_a_finish_reason_that_is_no_word_is_none(finish: Any) -> None:
    assert parse_chunk({"choices": [{"delta": {}, "finish_reason": finish}]}).finish_reason is None


@each_row("role", ["user", "system", "tool", "function", "developer"])
def test_the_role_of_another_is_no_answer(role: str) -> None:
    with pytest.raises(BadAnswer, match=role):
        parse_completion(message(role=role, content="hi"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"object": "error", "message": "no", "code": 400}, 400),
        ({"error": {"message": "no", "code": 404}}, 404),
    ],
)
def test_a_refusal_in_place_of_an_answer_is_raised(body: Any, status: int) -> None:
    for read in (parse_completion, parse_chunk):
        with pytest.raises(ModelRefused, match="no") as caught:
            read(body)
        assert caught.value.status == status


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "no"},
        {"error": {"message": "no", "code": "x"}},
        {"error": {"message": "no", "code": 429}},
        {"error": "no"},
    ],
)
def test_an_error_that_may_pass_in_place_of_an_answer_is_a_bad_answer(body: Any) -> None:
    for read in (parse_completion, parse_chunk):
        with pytest.raises(BadAnswer, match="no"):
            read(body)


@each_row("body", [None, [], "x", 3, True])
def test_what_is_no_object_is_no_answer(body: Any) -> None:
    with pytest.raises(BadAnswer, match="JSON object"):
        parse_completion(body)


@pytest.mark.parametrize("message", [None, [], "hi"])
def test_a_choice_without_a_message_is_no_answer(message: Any) -> None:
    with pytest.raises(BadAnswer, match="no message"):
        parse_completion({"choices": [{"message": message}]})


@pytest.mark.parametrize("usage", [None, [], 3, "many"])
def test_usage_that_is_none_is_none(usage: Any) -> None:
    assert parse_usage({"usage": usage}) is None


def test_cached_tokens_are_counted() -> None:
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
    assert parse_usage({"usage": usage}) == TokenCounts(9, None, 8)


@each_row(
    ("data", "value"),
    [
        (b'"a"', "a"),
        (b'"\\ud83e\\udd8a"', "\U0001f98a"),
        (b'"\\ud83e"', "\ufffd"),
        (b'"\\udd8a\\n"', "\ufffd\n"),
        (b'{"a": NaN}', None),
    ],
)
def test_json_is_read_leniently(data: bytes, value: object) -> None:
    found = decode_json(data)
    assert found == value or value is None


@each_row("data", [b"", b"{", b"<p>", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_json(data)
