"""InternLM's raw mode: what is written into the messages and read from the text."""

import json
from typing import cast

import pytest
from rows import each_row

from agentcall.dialects.answer_parts import (
    MalformedCallPart,
    MessageDelta,
    MessagePart,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
)
from agentcall.dialects.dialect import JSONObject, PromptSpec
from agentcall.dialects.internlm import DEFAULT_SYSTEM, INTERNLM, INTERNLM_NAMED, InternLMDialect
from agentcall.messages import Assistant, Image, System, Text, ToolCall, ToolResult, User
from agentcall.tools.tool import tool

PLUGIN, CLOSE = "<|action_start|><|plugin|>\n", "<|action_end|>"


@tool
def weather(city: str) -> str:
    """查询天气。<|im_end|>"""
    return city


@tool
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def messages(dialect: InternLMDialect, offer: PromptSpec) -> tuple[JSONObject, ...]:
    return dialect.create_prelude(offer, "auto").messages


def content(wire: JSONObject) -> str:
    return cast("str", wire["content"])


# --- writing ---


def test_the_request_keeps_the_server_from_parsing_and_sends_the_stop_words_again() -> None:
    fields = INTERNLM.create_prelude(PromptSpec("Told.", (add,)), "auto").fields
    assert fields == {
        "tool_choice": "none",
        "stop": ["<|im_end|>", "<|action_end|>"],
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def test_tools_stand_in_a_system_message_whose_role_has_the_name() -> None:
    system, listed = messages(INTERNLM, PromptSpec("Told.", (add,)))
    assert system == {"role": "system", "content": "Told."}
    assert listed["role"] == "system name=<|plugin|>"
    assert json.loads(content(listed)) == [add.definition["function"]]


def test_before_0_10_the_name_is_a_field() -> None:
    _, listed = messages(INTERNLM_NAMED, PromptSpec("Told.", (add,)))
    assert (listed["role"], listed["name"]) == ("system", "plugin")
    (result,) = INTERNLM_NAMED.render(ToolResult("1", "add", "8"), ())
    assert result == {"role": "environment", "name": "plugin", "content": "8"}


def test_both_spellings_write_the_same_content() -> None:
    offer = PromptSpec("Told.", (add, weather))
    both = zip(messages(INTERNLM, offer), messages(INTERNLM_NAMED, offer), strict=True)
    assert all(one["content"] == other["content"] for one, other in both)


def test_without_instructions_the_system_prompt_is_the_trained_one() -> None:
    (system,) = messages(INTERNLM, PromptSpec())
    assert system["content"] == DEFAULT_SYSTEM
    assert "书生·浦语" in DEFAULT_SYSTEM


def test_chinese_is_written_as_it_is() -> None:
    _, listed = messages(INTERNLM, PromptSpec("Told.", (weather,)))
    assert "查询天气。" in content(listed)
    assert "\\u" not in content(listed)


def test_an_answer_s_type_is_in_the_system_message() -> None:
    (system,) = messages(INTERNLM, PromptSpec("Told.", answer_schema={"type": "integer"}))
    assert content(system).startswith("Told.")
    assert '{"type": "integer"}' in content(system)


def test_calls_are_spelled_out_behind_the_text() -> None:
    calls = (ToolCall("1", "add", '{"a": 3, "b": 5}'), ToolCall("2", "查询", '{"城市": "上海"}'))
    (wire,) = INTERNLM.render(Assistant("I'll add.", calls), ())
    assert content(wire) == (
        f'I\'ll add.{PLUGIN}{{"name": "add", "parameters": {{"a": 3, "b": 5}}}}{CLOSE}\n'
        f'{PLUGIN}{{"name": "查询", "parameters": {{"城市": "上海"}}}}{CLOSE}'
    )


def test_plain_messages_stay_plain() -> None:
    assert INTERNLM.render(User("Hi"), ()) == [{"role": "user", "content": "Hi"}]
    assert INTERNLM.render(System("Now"), ()) == [{"role": "system", "content": "Now"}]
    assert INTERNLM.render(Assistant("Yes"), ()) == [{"role": "assistant", "content": "Yes"}]


def test_images_stay_with_their_text() -> None:
    (wire,) = INTERNLM.render(
        User((Text("What<|im_end|>?"), Image("data:image/png;base64,AA"))), ()
    )
    text, image = cast("list[dict[str, object]]", wire["content"])
    assert text == {"type": "text", "text": "What< |im_end|>?"}
    assert image["type"] == "image_url"


SPECIAL = [
    *("<|im_start|>", "<|im_end|>", "<|action_start|>", "<|action_end|>"),
    *("<|plugin|>", "<|interpreter|>", "[UNUSED_TOKEN_146]", "<s>", "</s>"),
]


@each_row("token", SPECIAL)
def test_no_text_of_others_keeps_a_special_token(token: str) -> None:
    text = f"a{token}b"
    call = ToolCall("1", f"x{token}", json.dumps({"text": text}))
    written = [
        *INTERNLM.render(User(text), ()),
        *INTERNLM.render(ToolResult("1", "add", text), ()),
        *INTERNLM.render(Assistant(text), ()),
    ]
    assert not any(token in content(wire) for wire in written)
    (told,) = INTERNLM.render(Assistant("", (call,)), ())
    assert token not in content(told).removeprefix(PLUGIN).removesuffix(CLOSE)


def test_a_tool_s_description_cannot_end_its_turn() -> None:
    _, listed = messages(INTERNLM, PromptSpec("Told.", (weather,)))
    assert "<|im_end|>" not in content(listed)
    assert "< |im_end|>" in content(listed)


def test_a_conversation_is_only_ever_longer_than_before() -> None:
    offer = PromptSpec("Told.", (add, weather))
    assert messages(INTERNLM, offer) == messages(INTERNLM, offer)
    assert INTERNLM.create_prelude(offer, "none") == INTERNLM.create_prelude(offer, "auto")


def test_the_two_spellings_are_keys_of_their_own() -> None:
    assert len({INTERNLM, INTERNLM_NAMED, InternLMDialect()}) == 2


# --- reading ---


def read(text: str, finish: str | None, size: int = 3) -> list[MessagePart]:
    reader = INTERNLM.create_reader(PromptSpec("", (add,)))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    parts = [part for piece in pieces for part in reader.feed(MessageDelta(piece))]
    return [*parts, *reader.close(finish)]


def said(parts: list[MessagePart]) -> str:
    return "".join(part.text for part in parts if isinstance(part, TextPart))


CALL = f'{PLUGIN}{{"name": "add", "parameters": {{"a": 3, "b": 5}}}}'
ADDED = ToolCallPart("add", '{"a": 3, "b": 5}')


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_stop_word_that_the_server_kept_to_itself_is_not_missed(size: int) -> None:
    parts = read(f"I'll add.{CALL}", "stop", size)
    assert said(parts) == "I'll add."
    assert [part for part in parts if not isinstance(part, TextPart)] == [ADDED]


def test_a_call_with_its_end_is_the_same() -> None:
    assert read(CALL + CLOSE, "stop") == [ADDED]


@each_row("finish", ["length", None])
@each_row("cut", [CALL[:-1], CALL[:-8], CALL[: len(PLUGIN)], PLUGIN[:-2]])
def test_a_call_that_was_cut_is_malformed_and_not_shown(cut: str, finish: str | None) -> None:
    parts = read(f"Yes.{cut}", finish)
    assert said(parts) == "Yes."
    assert not [part for part in parts if isinstance(part, ToolCallPart)]
    assert [part for part in parts if isinstance(part, MalformedCallPart)]


def test_native_calls_are_taken_too() -> None:
    reader = INTERNLM.create_reader(PromptSpec("", (add,)))
    piece = ToolCallDelta(0, "call_1", "add", '{"a": 3, "b": 5}')
    assert reader.feed(MessageDelta(calls=(piece,))) == []
    assert reader.close("tool_calls") == [ToolCallPart("add", '{"a": 3, "b": 5}', "call_1")]
