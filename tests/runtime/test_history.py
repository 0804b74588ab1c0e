"""Conversations from elsewhere: read in many forms, mended or refused with the index."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from rows import each_row

from agentcall import Agent, Image, tool
from agentcall.errors import UsageError
from agentcall.messages import (
    NO_RESULT,
    Assistant,
    System,
    Text,
    ToolCall,
    ToolResult,
    User,
    dump_messages,
    is_tainted,
    load_messages,
    to_json,
)
from agentcall.runtime.history import read_history
from agentcall.testing import ScriptedModel, call, say

ADD = ToolCall("call_1", "add", '{"a":1}')
GIVEN = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "3"}
ASK = {"role": "user", "content": "1+2?"}
PAIRED = (User("1+2?"), Assistant("", (ADD,)), ToolResult("call_1", "add", "3"))
MATCHED = (*PAIRED[:2], ToolResult("call_1", "add", "3", untrusted=True))


def called(*calls: object, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def given(call_id: str | None, name: str | None = "add", arguments: object = "{}") -> Any:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def result(call_id: str | None, content: object = "3", **fields: object) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **fields}


class Dumped:
    """An object of another library: its fields are those of `model_dump`."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def model_dump(self, mode: str = "python") -> dict[str, object]:
        assert mode == "json"
        return self.fields


# Recorded with openai 3.57, langchain-core 1.8.3 and litellm 1.110.2.
OPENAI = Dumped(
    content=None,
    refusal=None,
    role="assistant",
    annotations=None,
    audio=None,
    function_call=None,
    tool_calls=[GIVEN],
)
LITELLM = Dumped(
    content=None,
    role="assistant",
    tool_calls=[GIVEN],
    function_call=None,
    provider_specific_fields=None,
)
LANGCHAIN_FIELDS = {"additional_kwargs": {}, "response_metadata": {}, "name": None, "id": None}
LANGCHAIN_CALL = {"name": "add", "args": {"a": 1}, "id": "call_1", "type": "tool_call"}
LANGCHAIN = Dumped(
    **LANGCHAIN_FIELDS,
    content="",
    type="ai",
    tool_calls=[LANGCHAIN_CALL],
    invalid_tool_calls=[],
    usage_metadata=None,
)
LANGCHAIN_RESULT = Dumped(
    **{**LANGCHAIN_FIELDS, "name": "add"},
    content="3",
    type="tool",
    tool_call_id="call_1",
    artifact=None,
    status="success",
)
HUMAN = Dumped(**LANGCHAIN_FIELDS, content="1+2?", type="human")
LEGACY_CALL = {
    "role": "assistant",
    "content": None,
    "function_call": {"name": "add", "arguments": '{"a":1}'},
}


@each_row(
    "history",
    [
        [ASK, called(GIVEN), RESULT],
        json.dumps([ASK, called(GIVEN), RESULT]),
        {"model": "m", "messages": [ASK, called(GIVEN), RESULT]},
        [ASK, OPENAI, RESULT],
        [ASK, LITELLM, RESULT],
        [HUMAN, LANGCHAIN, LANGCHAIN_RESULT],
        [("human", "1+2?"), LANGCHAIN, RESULT],
        [
            {"type": "human", "data": {"content": "1+2?", "type": "human"}},
            {"type": "ai", "data": LANGCHAIN.fields},
            {"type": "tool", "data": LANGCHAIN_RESULT.fields},
        ],
        [ASK, {"lc": 1, "id": ["AIMessage"], "kwargs": LANGCHAIN.fields}, RESULT],
        [ASK, called({"id": "call_1", "function": {"name": "add", "arguments": {"a": 1}}}), RESULT],
        [
            ASK,
            {
                "type": "function_call",
                "id": "fc",
                "call_id": "call_1",
                "name": "add",
                "arguments": '{"a":1}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "3"},
        ],
        [
            ASK,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "3"}],
            },
        ],
        [ASK, called(GIVEN, content=[]), result("call_1", [{"type": "text", "text": "3"}])],
        [ASK, called(GIVEN), RESULT, {"role": "assistant", "content": None}],
    ],
)
def test_one_conversation_in_the_forms_that_users_have(history: Any) -> None:
    assert read_history(history) == PAIRED


def test_our_own_messages_come_back_as_they_were() -> None:
    shown = ToolResult("call_2", "shot", "[image 1: x]", images=(Image("https://x/y.png"),))
    messages = (
        System("Be brief."),
        User((Text("See", untrusted=True), Image("https://x/y.png"))),
        Assistant("I look.", (ADD, ToolCall("call_2", "shot", "{}")), "hm", True, assessed=True),
        ToolResult("call_1", "add", "3", is_error=True, untrusted=True, assessed=True),
        shown,
        Assistant("Done."),
    )
    for form in (messages, map(to_json, messages), dump_messages(messages)):
        assert read_history(form) == messages
    assert read_history(messages)[2].assessed  # type: ignore[union-attr]  # an Assistant
    assert read_history(()) == read_history(None) == ()


@each_row(
    ("history", "mended"),
    [
        ([ASK, RESULT, called(GIVEN)], PAIRED),
        ([called(GIVEN), ASK, RESULT], (PAIRED[1], PAIRED[2], PAIRED[0])),
        ([ASK, called(GIVEN), result(None)], MATCHED),
        ([ASK, called(GIVEN), {"role": "tool", "content": "3"}], MATCHED),
        ([ASK, called(GIVEN), RESULT, RESULT], PAIRED),
        (
            [ASK, LEGACY_CALL, {"role": "function", "name": "add", "content": "3"}],
            (
                User("1+2?"),
                Assistant("", (ToolCall("call00100", "add", '{"a":1}'),)),
                ToolResult("call00100", "add", "3"),
            ),
        ),
        (
            [ASK, called(given(None, arguments='{"a":1}')), result("x", "3")],
            (
                User("1+2?"),
                Assistant("", (ToolCall("call00100", "add", '{"a":1}'),)),
                ToolResult("call00100", "add", "3", untrusted=True),
            ),
        ),
        (
            [called(GIVEN), result("call_1", "one"), result("call_1", "two")],
            (Assistant("", (ADD,)), ToolResult("call_1", "add", "one\ntwo")),
        ),
        (
            [called(GIVEN), ASK],
            (
                Assistant("", (ADD,)),
                ToolResult("call_1", "add", NO_RESULT, is_error=True),
                User("1+2?"),
            ),
        ),
        (
            [called(GIVEN)],
            (Assistant("", (ADD,)), ToolResult("call_1", "add", NO_RESULT, is_error=True)),
        ),
        (
            [called(given("a"), given("b", "mul")), result("b", "2"), result("a", "1")],
            (
                Assistant("", (ToolCall("a", "add", "{}"), ToolCall("b", "mul", "{}"))),
                ToolResult("a", "add", "1"),
                ToolResult("b", "mul", "2"),
            ),
        ),
        (
            [called(given("a")), called(given("b", "mul")), result("a", "1"), result("b", "2")],
            (
                Assistant("", (ToolCall("a", "add", "{}"),)),
                ToolResult("a", "add", "1"),
                Assistant("", (ToolCall("b", "mul", "{}"),)),
                ToolResult("b", "mul", "2"),
            ),
        ),
        (
            [
                called(given("", "add"), given("", "mul")),
                result("", "2", name="mul"),
                result("", "1", name="add"),
            ],
            (
                Assistant(
                    "", (ToolCall("call00000", "add", "{}"), ToolCall("call00001", "mul", "{}"))
                ),
                ToolResult("call00000", "add", "1"),
                ToolResult("call00001", "mul", "2"),
            ),
        ),
        (
            [called(given("x")), result("x", "1"), called(given("x")), result("x", "2")],
            (
                Assistant("", (ToolCall("x", "add", "{}"),)),
                ToolResult("x", "add", "1"),
                Assistant("", (ToolCall("call00200", "add", "{}"),)),
                ToolResult("call00200", "add", "2"),
            ),
        ),
        (
            [called(given("x"), given("x")), result("x", "1"), result("x", "2")],
            (
                Assistant("", (ToolCall("x", "add", "{}"), ToolCall("call00000", "add", "{}"))),
                ToolResult("x", "add", "1"),
                ToolResult("call00000", "add", "2"),
            ),
        ),
        (
            [called(given("x", None)), result("x", "1", name="add")],
            (Assistant("", (ToolCall("x", "add", "{}"),)), ToolResult("x", "add", "1")),
        ),
        (
            [{"role": "assistant", "content": None, "refusal": "I will not."}],
            (Assistant("I will not."),),
        ),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
            (Assistant("No."),),
        ),
        (
            [{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}],
            (System("Be brief."),),
        ),
        ([{"role": "user", "content": []}], (User(""),)),
        ([{"role": "user", "content": None}], (User(""),)),
        (
            [{"role": "user", "content": ["a", {"type": "input_text", "text": "b"}]}],
            (User((Text("a"), Text("b"))),),
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
            (User("a"), User("b")),
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm"},
                        {"type": "text", "text": "Hi"},
                    ],
                }
            ],
            (Assistant("Hi", thinking="hm"),),
        ),
        (
            [called(GIVEN), result("call_1", {"sum": 3})],
            (Assistant("", (ADD,)), ToolResult("call_1", "add", '{"sum":3}')),
        ),
        (
            [
                called(
                    {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
                ),
                result("c"),
            ],
            (
                Assistant("", (ToolCall("c", "sql", '{"input":"select 1"}'),)),
                ToolResult("c", "sql", "3"),
            ),
        ),
        (
            [ASK, {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}],
            (User("1+2?"), Assistant(thinking="hm")),
        ),
    ],
)
def test_a_fault_is_mended(history: Any, mended: Any) -> None:
    assert read_history(history) == mended


@each_row(
    ("arguments", "mended"),
    [
        ("", "{}"),
        ("null", "{}"),
        (None, "{}"),
        ({"a": 1}, '{"a":1}'),
        ("{'a': 1,}", '{"a":1}'),
        ('"{\\"a\\": 1}"', '{"a":1}'),
        ('{"a": 1', '{"INVALID_JSON":"{\\"a\\": 1"}'),
        ("[1, 2]", '{"INVALID_JSON":"[1, 2]"}'),
        ("add it", '{"INVALID_JSON":"add it"}'),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_arguments_become_a_json_object_and_nothing_is_lost(arguments: object, mended: str) -> None:
    answer, _ = read_history([called(given("x", arguments=arguments)), result("x")])
    assert answer == Assistant("", (ToolCall("x", "add", mended),))


def test_a_call_that_langchain_could_not_read_is_kept() -> None:
    invalid = {"type": "invalid_tool_call", "id": "c", "name": "add", "args": '{"a":', "error": "x"}
    message = Dumped(type="ai", content="", tool_calls=[], invalid_tool_calls=[invalid])
    failed = Dumped(type="tool", content="bad", tool_call_id="c", status="error")
    assert read_history([message, failed]) == (
        Assistant("", (ToolCall("c", "add", '{"INVALID_JSON":"{\\"a\\":"}'),)),
        ToolResult("c", "add", "bad", is_error=True),
    )


def test_a_result_without_its_call_is_untrusted_text_of_a_user_message() -> None:
    (orphan, question) = read_history([result("gone", "7", name="mul"), ASK])
    assert question == User("1+2?")
    assert isinstance(orphan, User)
    assert orphan.trusted_text == ""
    assert orphan.tainted
    assert "The result of mul" in orphan.text
    assert orphan.text.endswith("\n7")


@each_row(
    ("history", "message"),
    [
        ([ASK, {"role": "bot", "content": "x"}], r"messages\[1\]: .* the role 'bot'"),
        ([ASK, {"content": "x"}], r"messages\[1\]: .* the role None"),
        ([ASK, 5], r"messages\[1\]: 5 is not a message"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
            r"messages\[0\]: .*'input_audio', which cannot be sent",
        ),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}],
            r"'file', which",
        ),
        (
            [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}],
            "'video_url', which",
        ),
        ([{"role": "user", "content": [5]}], r"messages\[0\]: a content part is 5"),
        ([{"role": "user", "content": 5}], r"messages\[0\]: its content is 5"),
        (
            [ASK, {"role": "assistant", "content": None, "audio": {"id": "a"}}],
            r"messages\[1\]: it has audio",
        ),
        (
            [called(given("a"), given("b")), result(None), result(None)],
            r"messages\[1\]: .* no tool_call_id, and 2 calls wait for one \('a', 'b'\)",
        ),
        ([called(given(""), given("")), result("x")], r"messages\[1\]: .* 2 calls have no id"),
        ([called(given("a", None))], r"messages\[0\]: a tool call has no name"),
        ([called("add")], r"messages\[0\]: a tool call is 'add'"),
        ([{"role": "assistant", "tool_calls": "add"}], r"messages\[0\]: its tool_calls is 'add'"),
        (
            [
                {
                    "role": "assistant",
                    "content": [{"type": "image_url", "image_url": {"url": "https://x"}}],
                }
            ],
            r"messages\[0\]: an image is in a message of another role",
        ),
        ([{"choices": []}], r"messages\[0\]: .*use its choices\[0\]\.message"),
        ([Dumped(type="remove", content="", id="1")], r"messages\[0\]: .*'remove'"),
        (
            [{"role": "user", "parts": [{"text": "q"}]}],
            r"messages\[0\]: it has no content, but parts",
        ),
        ([{**ASK, "images": ["no image"]}], r"messages\[0\]: an image is 'no image', which is not"),
        (ASK, "is one message; use a list"),
        ("nonsense", "not JSON"),
        ("5", "use a list of messages"),
    ],
)
def test_what_cannot_be_mended_is_refused_with_its_index(history: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_history(history)


def test_the_images_of_ollama_are_kept() -> None:
    png = "iVBORw0KGgo="
    (question,) = read_history([{**ASK, "images": [png]}])
    assert question == User((Text("1+2?"), Image(f"data:image/png;base64,{png}")))


def test_what_is_mended_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    read_history(PAIRED)
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "agentcall.history"):
        read_history(
            [called(given("x", arguments="")), {**ASK, "name": "bob"}, result("x"), result("y")]
        )
    assert [record.getMessage() for record in caplog.records] == [
        "the name 'bob' of a message is not sent",
        "messages[2]: a result is moved behind its call",
        "messages[0]: the arguments of 'add' were empty",
        "messages[3]: a result without its call is sent as a user message",
    ]


def test_a_mark_in_any_part_of_a_message_is_kept() -> None:
    marked = [{"type": "text", "text": "x", "untrusted": True}]
    for role in ("user", "assistant", "system"):
        assert is_tainted(read_history([{"role": role, "content": marked}]))


async def test_a_conversation_from_elsewhere_is_tainted_if_the_agent_reads_untrusted_content() -> (
    None
):
    @tool(untrusted=True)
    def fetch() -> str:
        """Fetch."""
        return ""

    @tool
    def send() -> str:
        """Send."""
        return ""

    history = [("human", "Hi"), Dumped(type="ai", content="Hello."), ASK]
    waiting = await Agent(ScriptedModel([call("send")]), tools=[fetch, send]).run(messages=history)
    assert waiting.stop_reason == "approval"


async def test_a_mended_history_is_sent_in_order() -> None:
    model = ScriptedModel([say("3")])
    await Agent(model).run("And?", messages=[RESULT, ASK, called(GIVEN), result("call_1", "3")])
    roles = [message["role"] for message in model.requests[0].messages]
    assert roles == ["user", "assistant", "tool", "user"]


def test_objects_of_the_openai_package_are_read() -> None:
    chat = pytest.importorskip("openai.types.chat")
    message = chat.ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": None, "tool_calls": [GIVEN]}
    )
    assert read_history([ASK, message, RESULT]) == PAIRED


def test_objects_of_langchain_are_read() -> None:
    langchain = pytest.importorskip("langchain_core.messages")
    history = [
        langchain.HumanMessage("1+2?"),
        langchain.AIMessage("", tool_calls=[LANGCHAIN_CALL]),
        langchain.ToolMessage("3", tool_call_id="call_1", name="add"),
    ]
    assert read_history(history) == PAIRED
    assert read_history(langchain.messages_to_dict(history)) == PAIRED


def test_the_saved_form_is_read_as_before() -> None:
    assert load_messages(dump_messages(PAIRED)) == PAIRED
