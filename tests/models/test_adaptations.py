"""The refusals of real servers, in their own words, and what a request becomes."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from rows import each_row

from agentcall.errors import ModelRefused, ServerFailed
from agentcall.messages import JSON
from agentcall.models.adaptations import (
    ADAPTATIONS,
    REMEMBER_SECONDS,
    LearnedAdaptations,
    RequestBody,
    apply_adaptations,
)
from agentcall.models.errors import parse_error_response

TOOL: JSON = {"type": "function", "function": {"name": "add", "parameters": {}}}
SYSTEM: JSON = {"role": "system", "content": "Be kind."}
USER: JSON = {"role": "user", "content": "What is 2 + 3?"}
CALL: JSON = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call_1_0",
            "type": "function",
            "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'},
        }
    ],
    "_thinking": "I add them.",
}
RESULT: JSON = {"role": "tool", "tool_call_id": "call_1_0", "name": "add", "content": "5"}
ANSWER: JSON = {"role": "assistant", "content": "It is 5."}
NEXT: JSON = {"role": "user", "content": "And 3 + 4?"}
PHOTO: JSON = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ],
}


def body(*messages: JSON, **fields: JSON) -> RequestBody:
    return {"model": "m", **fields, "messages": list(messages)}


def error_body(words: object) -> Any:
    """Return the body of an error: words in OpenAI's form, or the body itself."""
    return {"error": {"message": words}} if isinstance(words, str) else words


def change(refusal: object, sent: RequestBody, status: int = 400) -> tuple[str, RequestBody]:
    """Return the name of what a refusal teaches, and the request that is sent next."""
    learned = LearnedAdaptations()
    lesson = learned.learn(parse_error_response(status, error_body(refusal)), sent, ())
    if lesson is None:
        return "", sent
    return lesson.name, apply_adaptations(sent, learned.active)


def messages_of(sent: RequestBody) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", sent["messages"])


def roles(sent: RequestBody) -> str:
    return " ".join(message["role"] for message in messages_of(sent))


LLAMA_CPP_MINJA = (
    "Conversation roles must alternate user/assistant/user/assistant/... at row 19, column 27:\n"
    "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n"
    '        {{ raise_exception("Conversation roles must alternate") }}\n'
    "{{ raise_exception('System role not supported') }}"
)
LLAMA_CPP_JINJA = (
    "\n------------\nWhile executing CallExpression at line 189, column 32 in source:\n"
    "...== 0) %}↵            {{- raise_exception('After the optional system message, con...\n"
    "                                           ^\n"
    "Error: Jinja Exception: After the optional system message, conversation roles must alternate "
    "user and assistant roles except for tool calls and results."
)
ORDER_WORDS = [
    (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    (500, LLAMA_CPP_MINJA),
    (500, LLAMA_CPP_JINJA),
    (
        400,
        (
            "After the optional system message, conversation roles must alternate user/assistant/"
            "user/assistant/..."
        ),
    ),
    (
        400,
        {
            "object": "error",
            "message": "Unexpected role 'user' after role 'tool'",
            "type": "invalid_request_message_order",
            "param": None,
            "code": "3230",
        },
    ),
    (
        400,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {
                    "raw": json.dumps(
                        {"object": "error", "message": "Unexpected role 'user' after role 'tool'"}
                    ),
                    "provider_name": "Mistral",
                },
            }
        },
    ),
    (
        422,
        {
            "error": "Template error: invalid operation: Conversation roles must alternate "
            "user/assistant/user/assistant/... (in <string>:1)",
            "error_type": "template_error",
        },
    ),
    (
        400,
        (
            'Error rendering prompt with jinja template: "Conversation roles must alternate '
            'user/assistant/user/assistant/...".'
        ),
    ),
    (
        400,
        "Please ensure that multiturn requests alternate between user and model.",
    ),
    (
        500,
        "unable to render chat template: exception: Expected assistant message after tool message",
    ),
    (500, "Jinja Exception: this template wants the user role after a reply"),
    (
        400,
        (
            'litellm.BadRequestError: MistralException - {"object":"error","message":"Unexpected '
            'role \'user\' after role \'tool\'","type":"invalid_request_message_order"}'
        ),
    ),
]


@each_row(("status", "words"), ORDER_WORDS)
def test_roles_that_must_alternate_are_joined_and_bridged(status: int, words: object) -> None:
    sent = body(SYSTEM, SYSTEM, USER, CALL, RESULT, NEXT, NEXT, tools=[TOOL])
    name, adapted = change(words, sent, status)
    assert name == "alternating roles"
    assert roles(adapted) == "system user assistant tool assistant user"
    assert messages_of(adapted)[-1]["content"] == "And 3 + 4?\n\nAnd 3 + 4?"
    assert messages_of(adapted)[0]["content"] == "Be kind.\n\nBe kind."
    assert adapted["tools"] == [TOOL]


@each_row(
    "words",
    [
        "After a tool message an assistant message is expected",
        "role 'user' not allowed after 'tool'",
        "Messages should strictly alternate user/assistant",
        "unexpected `user` message following `tool`",
        "The last two messages have the role user",
    ],
)
def test_words_about_roles_that_are_not_known_are_tried_as_an_order(words: str) -> None:
    name, adapted = change(words, body(SYSTEM, USER, CALL, RESULT, NEXT, NEXT, tools=[TOOL]))
    assert name == "alternating roles"
    assert roles(adapted) == "system user assistant tool assistant user"


@each_row(
    ("status", "words"),
    [
        (400, "System role not supported"),
        (500, f"System role not supported at row 1, column 70:\n{LLAMA_CPP_MINJA}"),
        (500, "...\nError: Jinja Exception: System role not supported"),
        (400, "Only user and assistant roles are supported!"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
        (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        (422, "system messages are not supported by this model"),
        (400, "This model does not support system prompts."),
        (400, "Please use a valid role: user, model."),
        (400, "This model does not accept a system message"),
        (400, "Role must be user or assistant"),
    ],
)
def test_instructions_stand_before_the_first_question(status: int, words: str) -> None:
    name, adapted = change(words, body(SYSTEM, USER), status)
    assert name == "no system role"
    assert messages_of(adapted) == [{"role": "user", "content": "Be kind.\n\nWhat is 2 + 3?"}]


@each_row(
    "words",
    [
        "System message must be at the beginning.",
        (
            "Only user and assistant roles are supported, with the exception of an initial "
            "optional system message!"
        ),
        "Only user, assistant and tool roles are supported, got system.",
        "Unexpected role 'system' after role 'user'",
        "Multiple system messages are not supported",
        "System messages can only be placed at the start",
        "Invalid: system message found after first message",
        "Message at index 3 has role 'system', but system must come first",
    ],
)
def test_system_messages_are_joined_at_the_beginning(words: str) -> None:
    _, adapted = change(words, body(SYSTEM, USER, ANSWER, SYSTEM, NEXT))
    assert roles(adapted) == "system user assistant user"
    assert messages_of(adapted)[0]["content"] == "Be kind.\n\nBe kind."


@each_row(
    "words",
    [
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user, system and assistant roles are supported!",
        "Only user and assistant roles are supported!",
        "messages[2].role: unknown variant `tool`, expected one of `system`, `user`, `assistant`",
        "Unexpected message role.",
        "'tool' is not one of ['system', 'user', 'assistant'] - 'messages.3.role'",
        "bad role in messages[2]",
        "the template knows no such turn: tool",
    ],
)
def test_results_are_sent_as_text_where_the_template_has_no_tool_role(words: str) -> None:
    name, adapted = change(words, body(USER, CALL, RESULT, tools=[TOOL]))
    assert name == "no tool role"
    assert roles(adapted) == "user assistant user"
    assert '"name": "add", "arguments": {"a": 2, "b": 3}' in messages_of(adapted)[1]["content"]
    assert "5" in messages_of(adapted)[2]["content"]
    assert adapted["tools"] == [TOOL]


@each_row(
    ("status", "words"),
    [
        (400, 'messages[2]: "name" is not supported'),
        (
            400,
            (
                "'messages.2' : for 'role:tool' the following must be satisfied[('messages.2' : "
                "property 'name' is unsupported, did you mean 'role'?)]"
            ),
        ),
        (400, "Extra inputs are not permitted, field: 'messages[2].ToolMessage.name'"),
        (400, "messages[2]: property name should not exist"),
        (
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "messages", 2, "tool", "name"],
                        "msg": "Extra inputs are not permitted",
                        "input": "add",
                    }
                ]
            },
        ),
        (
            422,
            {
                "object": "error",
                "message": {
                    "detail": [
                        {
                            "type": "extra_forbidden",
                            "loc": ["body", "messages", 2, "tool", "name"],
                            "msg": "Extra inputs are not permitted",
                        }
                    ]
                },
            },
        ),
    ],
)
def test_results_are_sent_without_a_name_where_it_is_refused(status: int, words: object) -> None:
    name, adapted = change(words, body(USER, CALL, RESULT, tools=[TOOL]), status)
    assert name == "no name on tool messages"
    assert "name" not in messages_of(adapted)[2]


@each_row(
    "words",
    [
        "Tool call IDs should be alphanumeric strings with length 9!",
        "Tool call id was call_1_0 but must be a-z, A-Z, 0-9, with a length of 9.",
        "tool_calls[0].id: string too short",
        "Invalid function call id format",
        (
            "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with "
            "maximum length 40, but got a string with length 53 instead."
        ),
        "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
    ],
)
def test_call_ids_become_nine_letters_and_digits(words: str) -> None:
    name, adapted = change(words, body(USER, CALL, RESULT, tools=[TOOL]))
    assert name == "call ids of nine letters and digits"
    (call,), result = messages_of(adapted)[1]["tool_calls"], messages_of(adapted)[2]
    assert call["id"] == result["tool_call_id"]
    assert len(call["id"]) == 9
    assert call["id"].isalnum()


FIELD_WORDS: list[tuple[int, object, str, JSON, str]] = [
    (400, "Unrecognized request argument supplied: stream_options", "stream_options", {}, ""),
    (
        422,
        {"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "extra fields"}]},
        "stream_options",
        {},
        "",
    ),
    (422, "include_usage: unknown field", "stream_options", {}, ""),
    (400, "Unknown parameter: 'parallel_tool_calls'", "parallel_tool_calls", False, ""),
    (422, "tool_choice: extra fields not permitted", "tool_choice", "required", ""),
    (
        400,
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead."
        ),
        "max_tokens",
        5,
        "max_completion_tokens",
    ),
    (
        422,
        "max_completion_tokens: Extra inputs are not permitted",
        "max_completion_tokens",
        5,
        "max_tokens",
    ),
    (
        400,
        (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default "
            "(1) value is supported."
        ),
        "temperature",
        0,
        "",
    ),
    (400, "`temperature` may only be set to 1 when thinking is enabled.", "temperature", 0, ""),
    (400, "invalid temperature: only 1 is allowed for this model", "temperature", 0, ""),
    (400, "Stream options are not known", "stream_options", {}, ""),
    (400, "Argument not supported on this model: seed", "seed", 1, ""),
    (400, '"phi3" does not support thinking', "reasoning_effort", "low", ""),
    (400, 'think value "low" is not supported for this model', "reasoning_effort", "low", ""),
    (400, "Reasoning effort is not supported", "reasoning_effort", "low", ""),
    (422, "unknown field `seed`, expected one of `model`, `stream`, `tools`", "seed", 1, ""),
    (400, "top_k: unknown field", "top_k", 1, ""),
    (
        400,
        (
            "litellm.UnsupportedParamsError: groq does not support parameters: ['top_p'], for "
            "model=x. To drop these, set `litellm.drop_params=True`"
        ),
        "top_p",
        0.5,
        "",
    ),
    (
        400,
        "This response_format type is unavailable now",
        "response_format",
        {"type": "json_object"},
        "",
    ),
]


@each_row(("status", "words", "field", "value", "renamed"), FIELD_WORDS)
def test_a_field_that_is_refused_is_left_out_or_renamed(
    status: int, words: object, field: str, value: JSON, renamed: str
) -> None:
    name, adapted = change(words, body(USER, stream=True, **{field: value}), status)
    assert name
    assert field not in adapted
    assert not renamed or adapted[renamed] == value
    assert adapted["stream"] is True


@pytest.mark.parametrize(
    "words",
    [
        "temperature must be between 0 and 2",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
        "Input should be less than or equal to 1: top_p",
    ],
)
def test_a_value_out_of_range_is_the_callers_to_know(words: str) -> None:
    name, _ = change(words, body(USER, temperature=3, max_tokens=100000, top_p=5))
    assert name == ""


def test_a_response_format_is_given_up_step_by_step() -> None:
    learned = LearnedAdaptations()
    sent = body(USER, response_format={"type": "json_schema", "json_schema": {}})
    refused = ModelRefused("", status=400, body="response_format json_schema is not supported")
    formats: list[JSON] = []
    while learned.learn(refused, apply_adaptations(sent, learned.active), learned.active):
        formats.append(apply_adaptations(sent, learned.active).get("response_format"))
    assert formats == [{"type": "json_object"}, None]


@each_row(
    ("words", "streams", "expected"),
    [
        ("This model only support stream mode, please enable the stream parameter", False, True),
        ("parameter.enable_thinking only support stream", False, True),
        ("Non-streaming requests are not supported", False, True),
        ("enable_thinking must be set to false for non-streaming calls", False, True),
        ("non-streaming mode is unsupported", False, True),
        ("This model does not support non-streaming output.", False, True),
        ("该模型仅支持流式输出", False, True),
        ("Server-sent events are disabled; set stream to false", True, None),
        ("stream: input should be False", True, None),
        ("Your organization must be verified to stream this model.", True, None),
        ("该模型不支持流式输出", True, None),
        ("stream must be set to true", False, True),
        ("Streaming is not supported", True, None),
        ("Only non-streaming requests are supported", True, None),
        ("stream=true is not supported for this model", True, None),
        ("Cannot use tools with stream", True, None),
        ("Unsupported value: 'stream' does not support true with this model.", True, None),
    ],
)
def test_streams_are_used_only_as_the_server_has_them(
    words: str, streams: bool, expected: bool | None
) -> None:
    fields: dict[str, JSON] = {"stream": True, "stream_options": {}} if streams else {}
    _, adapted = change(words, body(USER, tools=[TOOL], **fields))
    assert adapted.get("stream") is expected
    assert adapted["tools"] == [TOOL]


@each_row(
    ("status", "words"),
    [
        (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        (404, "No endpoints found that support tool use. To learn more about provider routing"),
        (403, "Tool use is not enabled for this model"),
        (500, "this model does not support function calling"),
        (500, "tools param requires --jinja flag"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'),
        (400, "Please launch the api_server with --tool-call-parser if you want to use tools."),
        (501, "tools are not implemented"),
        (422, "tools: extra fields not permitted"),
        (400, "Function calling is not enabled for models/gemma-3-27b-it"),
    ],
)
def test_tools_are_given_up_where_the_words_say_so(status: int, words: str) -> None:
    name, adapted = change(words, body(USER, tools=[TOOL]), status)
    assert name == "no tools field"
    assert "tools" not in adapted


@each_row(("status", "words"), [*ORDER_WORDS, (400, "tool_calls[0].id: too short")])
def test_no_other_refusal_gives_tools_up_once_they_worked(status: int, words: object) -> None:
    learned = LearnedAdaptations()
    sent = body(USER, CALL, RESULT, NEXT, tools=[TOOL])
    refused = parse_error_response(status, error_body(words))
    while learned.learn(refused, apply_adaptations(sent, learned.active), learned.active):
        pass
    assert apply_adaptations(sent, learned.active)["tools"] == [TOOL]


@pytest.mark.parametrize(
    "words",
    [
        (
            "thinking is enabled but reasoning_content is missing in assistant tool call message "
            "at index 2"
        ),
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "messages[51]: assistant message with tool_calls must include reasoning_content.",
        "Missing `reasoning_content` field in the assistant message at message index 1.",
    ],
)
def test_thinking_is_sent_back_where_it_must_be(words: str) -> None:
    name, adapted = change(words, body(USER, CALL, RESULT, ANSWER, NEXT, tools=[TOOL]))
    assert name == "reasoning sent back"
    assert messages_of(adapted)[1]["reasoning_content"] == "I add them."
    assert messages_of(adapted)[3]["reasoning_content"] == ""


@pytest.mark.parametrize(
    "words",
    [
        "property 'reasoning_content' is unsupported",
        "body.messages.1.assistant.reasoning_content: Extra inputs are not permitted",
    ],
)
def test_thinking_is_not_sent_back_where_it_is_refused(words: str) -> None:
    thinking: JSON = {**cast("dict[str, JSON]", ANSWER), "reasoning_content": "hm"}
    name, adapted = change(words, body(USER, thinking, NEXT))
    assert name == "no reasoning sent back"
    assert messages_of(adapted)[1] == ANSWER


@each_row(
    ("status", "words"),
    [
        (400, "multimodal input is not supported for this model"),
        (500, "image input is not supported - hint: if this is unexpected, provide the mmproj"),
        (400, "At most 0 image(s) may be provided in one request."),
        (400, "this model does not support image input"),
        (404, "No endpoints found that support image input"),
        (400, "Invalid content type. image_url is only supported by certain models."),
        (400, 'can only concatenate str (not "list") to str'),
        (422, "messages[0].content[1]: unknown variant `image_url`, expected `text`"),
    ],
)
def test_images_become_a_line_for_a_model_that_reads_text(status: int, words: str) -> None:
    name, adapted = change(words, body(PHOTO), status)
    assert name == "no images"
    assert messages_of(adapted)[0]["content"].startswith("What is this?\n(An image")


def test_content_takes_the_form_that_the_server_accepts() -> None:
    learned = LearnedAdaptations()
    sent = body(USER, CALL, RESULT, tools=[TOOL])
    contents: list[object] = []
    for words in (
        "messages[1].content must not be empty",
        "Invalid value for 'content': expected a string, got null.",
        "messages.1.content: Field required",
    ):
        refused = ModelRefused("", status=400, body=words)
        assert learned.learn(refused, apply_adaptations(sent, learned.active), learned.active)
        message = messages_of(apply_adaptations(sent, learned.active))[1]
        contents.append(message.get("content", "absent"))
    assert contents == [None, "absent", "(tool call)"]


def test_text_beside_calls_is_left_out_where_it_is_refused() -> None:
    call: JSON = {**cast("dict[str, JSON]", CALL), "content": "I add."}
    words = "Assistant message must have either content or tool_calls, but not both."
    _, adapted = change(words, body(USER, call, RESULT))
    assert "content" not in messages_of(adapted)[1]


def test_several_calls_are_sent_one_by_one_where_the_template_takes_one() -> None:
    first = cast("dict[str, Any]", CALL)["tool_calls"][0]
    double: JSON = {"role": "assistant", "content": "", "tool_calls": [first, {**first, "id": "b"}]}
    other: JSON = {**cast("dict[str, JSON]", RESULT), "tool_call_id": "b"}
    words = "This model only supports single tool-calls at once!"
    _, adapted = change(words, body(USER, double, RESULT, other), 500)
    assert roles(adapted) == "user assistant tool assistant tool"


@pytest.mark.parametrize(
    "words",
    [
        "Not the same number of function calls and responses",
        "`tool_use` ids were found without `tool_result` blocks immediately after: call_1_0",
        (
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: x"
        ),
    ],
)
def test_each_call_gets_a_result(words: str) -> None:
    _, adapted = change(words, body(USER, CALL, NEXT))
    assert roles(adapted) == "user assistant tool user"


def test_a_result_without_its_call_is_sent_as_text() -> None:
    words = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'"
    _, adapted = change(words, body(USER, RESULT, NEXT))
    assert roles(adapted) == "user user user"


def test_a_conversation_that_must_end_with_the_user_does() -> None:
    words = "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
    _, adapted = change(f"{words}assistant", body(USER, ANSWER))
    assert roles(adapted) == "user assistant user"


@each_row("row", ADAPTATIONS, ids=lambda row: row.name)
def test_a_row_changes_a_request_only_once(row: Any) -> None:
    sent = body(SYSTEM, PHOTO, CALL, RESULT, NEXT, ANSWER, SYSTEM, tools=[TOOL], stream=True)
    once = row.change(sent)
    assert row.change(once) == once


def test_what_was_learned_is_forgotten_after_an_hour() -> None:
    now = [0.0]
    learned = LearnedAdaptations(lambda: now[0])
    refused = ModelRefused("", status=400, body="System role not supported")
    assert learned.learn(refused, body(SYSTEM, USER), ())
    now[0] = REMEMBER_SECONDS - 1
    assert [item.name for item in learned.active] == ["no system role"]
    now[0] = REMEMBER_SECONDS + 1
    assert learned.active == ()


def test_a_busy_server_is_not_a_refusal() -> None:
    for words in ("the model is overloaded, try again", "CUDA out of memory", "internal error"):
        assert isinstance(parse_error_response(500, {"error": words}), ServerFailed)
    error = parse_error_response(429, {"error": "Conversation roles must alternate"})
    assert LearnedAdaptations().learn(error, body(USER, USER), ()) is None


def test_what_a_refusal_quotes_of_the_conversation_teaches_nothing() -> None:
    question = 'My server says "phi3 does not support tools", and System role not supported. Why?'
    sent = body(SYSTEM, {"role": "user", "content": question}, tools=[TOOL], temperature=9)
    for words in (
        f"temperature must be between 0 and 2. Prompt: {json.dumps(question)}",
        f"temperature must be between 0 and 2. Request: {question[:60]}...",
        f"Input should be less than 2 [type=less, input_value='{question[:50]}', input_type=str]",
    ):
        assert change(words, sent) == ("", sent)


def test_a_question_that_begins_as_the_refusal_does_is_not_an_echo() -> None:
    sent = body(SYSTEM, {"role": "user", "content": "System role not clear to me"})
    assert change("System role not supported", sent)[0] == "no system role"


@each_row(
    ("status", "words"),
    [
        (400, "The response was filtered due to Azure OpenAI's content management policy: user"),
        (400, "Provider blocked the request: user input, tools and the system break a policy"),
        (400, "Your request was rejected as a result of our safety system."),
        (400, "The prompt of the user was flagged. Tools are not allowed for it."),
        (403, "You do not have access to the system with your role."),
        (403, "User not allowed: you are not a member of this system's project"),
        (404, "Unsupported model: system"),
        (400, "Unknown model: tool-llama"),
        (400, "data_inspection_failed: inappropriate content of a user or tool"),
    ],
)
def test_what_is_refused_for_its_content_or_its_sender_teaches_nothing(
    status: int, words: str
) -> None:
    sent = body(SYSTEM, USER, ANSWER, NEXT, tools=[TOOL])
    assert change(words, sent, status) == ("", sent)
