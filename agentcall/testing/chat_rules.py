"""The rules that chat templates and APIs have for a conversation, for `FakeServer(rules=...)`.

Each check is that of the official template or API, with its words:

- `MISTRAL`: the template of Mistral-7B-Instruct-v0.3 (tokenizer_config.json)
- `MISTRAL_SMALL`: the template of Devstral-Small-2 and Ministral-3 (chat_template.jinja)
- `MISTRAL_API`: the request validator of mistral_common, which vLLM and Mistral's API use
- `GEMMA`, `GEMMA_3`: the templates of gemma-2 and gemma-3; the first has no system role either
- `LLAMA`: the template of Llama-3.1
- `LLAMA_2`: the template of Mistral-7B-Instruct-v0.1, which many models took over
- `QWEN`: the template of Qwen3.5
- `OPENAI`: the checks of POST /v1/chat/completions

>>> from dataclasses import replace
>>> replace(GEMMA, status=500).status
500
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentcall.testing.raw_http import (
    FakeResponse,
    RecordedRequest,
    encode_json,
    make_json_response,
)

WireMessages = Sequence[Mapping[str, Any]]  # Any: JSON of a client, which the checks index freely

_ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."
_MISTRAL_ALTERNATE = (
    "After the optional system message, conversation roles must alternate user/assistant/"
    "user/assistant/..."
)
_NINE = re.compile(r"[a-zA-Z0-9]{9}")


@dataclass(frozen=True, slots=True)
class ChatRules:
    """What a server checks before the model reads a conversation.

    check: returns the words of the first violation, or None.
    status: the HTTP status of a refusal; 200 is an error body under HTTP 200.
    form: of the body: OpenAI's, a flat one as of LMDeploy and Mistral, `{"error": text}` as of
        Ollama and TGI, or an event of the stream if the request asks for one, as of LM Studio.
    """

    check: Callable[[WireMessages], str | None]
    status: int = 400
    form: Literal["openai", "flat", "text", "event"] = "openai"

    def refuse(self, request: RecordedRequest) -> FakeResponse | None:
        """Return the refusal of a request, or None."""
        words = self.check(request.messages)
        if words is None:
            return None
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": words, "type": kind, "param": None, "code": self.status}
        if self.form == "event" and request.stream:
            event = b"event: error\ndata: %b\n\n" % encode_json({"error": error})
            return FakeResponse(pieces=(event,), events=True)
        match self.form:
            case "flat":
                body: object = {"object": "error", **error}
            case "text":
                body = {"error": words}
            case "openai" | "event":
                body = {"error": error}
        return make_json_response(body, status=self.status)


def _check_mistral(messages: WireMessages) -> str | None:
    _, others = _split_system(messages)
    index = 0
    for message in others:
        if message["role"] != "tool" and message.get("tool_calls") is None:
            if (message["role"] == "user") != (index % 2 == 0):
                return _MISTRAL_ALTERNATE
            index += 1
    for message in others:
        if any(len(call_id) != 9 for call_id in _list_ids(message)):
            return "Tool call IDs should be alphanumeric strings with length 9!"
        if message["role"] not in ("user", "assistant", "tool"):
            return (
                "Only user and assistant roles are supported, with the exception of an initial "
                "optional system message!"
            )
    return None


def _check_mistral_small(messages: WireMessages) -> str | None:
    _, others = _split_system(messages)
    index = 0
    for message in others:
        has_calls = bool(message.get("tool_calls"))
        if message["role"] == "user" or (message["role"] == "assistant" and not has_calls):
            if (message["role"] == "user") != (index % 2 == 0):
                return (
                    "After the optional system message, conversation roles must alternate user and "
                    "assistant roles except for tool calls and results."
                )
            index += 1
        if message["role"] == "assistant" and not has_calls and not message.get("content"):
            return (
                "Assistant message must have a string or a list of chunks in content or a list of "
                "tool calls."
            )
        if message["role"] not in ("user", "assistant", "tool"):
            role = message["role"]
            return f"Only user, assistant and tool roles are supported, got {role}."
    return None


_NEXT_ROLES = {
    "system": ("system", "user", "assistant"),
    "user": ("assistant", "system", "user"),
    "assistant": ("assistant", "user", "tool"),
    "tool": ("assistant", "tool"),
}


def _check_mistral_api(messages: WireMessages) -> str | None:
    previous: str | None = None
    open_calls = 0
    for message in messages:
        role = message["role"]
        if previous is not None and role not in _NEXT_ROLES[previous]:
            return f"Unexpected role '{role}' after role '{previous}'"
        if role == "tool":
            open_calls -= 1
        elif open_calls:
            return "Not the same number of function calls and responses"
        calls = message.get("tool_calls") or ()
        open_calls = len(calls) or open_calls
        if role == "assistant" and not (message.get("content") or calls):
            return "Assistant message must have either content or tool_calls, but not none."
        for call_id in _list_ids(message):
            if not _NINE.fullmatch(call_id):
                return f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9."
        previous = role
    if previous not in ("user", "tool"):
        return (
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
            f"{previous}"
        )
    return "Not the same number of function calls and responses" if open_calls else None


def _list_ids(message: Mapping[str, Any]) -> list[str]:  # Any: JSON of a client
    if message["role"] == "tool":
        return [message.get("tool_call_id") or ""]
    return [call.get("id") or "" for call in message.get("tool_calls") or ()]


def _check_alternation(messages: WireMessages) -> str | None:
    for index, message in enumerate(messages):
        if (message["role"] == "user") != (index % 2 == 0):
            return _ALTERNATE
    return None


def _check_gemma(messages: WireMessages) -> str | None:
    if messages and messages[0]["role"] == "system":
        return "System role not supported"
    return _check_alternation(messages)


def _check_gemma_3(messages: WireMessages) -> str | None:
    system, others = _split_system(messages)
    del system
    return _check_alternation(others)


def _check_llama_2(messages: WireMessages) -> str | None:
    return _check_alternation(messages) or next(
        (
            "Only user and assistant roles are supported!"
            for message in messages
            if message["role"] not in ("user", "assistant")
        ),
        None,
    )


def _check_llama(messages: WireMessages) -> str | None:
    _, others = _split_system(messages)
    if not others:
        return "Cannot put tools in the first user message when there's no first user message!"
    for message in others:
        if "tool_calls" in message and len(message["tool_calls"]) != 1:
            return "This model only supports single tool-calls at once!"
    return None


def _check_qwen(messages: WireMessages) -> str | None:
    if any(message["role"] == "system" for message in messages[1:]):
        return "System message must be at the beginning."
    if not any(message["role"] == "user" for message in messages):
        return "No user query found in messages."
    roles = ("system", "user", "assistant", "tool")
    return next(
        ("Unexpected message role." for each in messages if each["role"] not in roles), None
    )


def _check_openai(messages: WireMessages) -> str | None:
    open_ids: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_ids:
                return (
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'."
                )
            open_ids.remove(message["tool_call_id"])
            continue
        if open_ids:
            break
        if problem := _check_openai_message(message):
            return f"Invalid 'messages[{index}]': {problem}"
        open_ids = _list_ids(message)
    if open_ids:
        return (
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            f"{', '.join(open_ids)}"
        )
    return None


def _check_openai_message(message: Mapping[str, Any]) -> str | None:  # Any: JSON of a client
    calls = message.get("tool_calls")
    if calls is not None and not calls:
        return "'tool_calls': empty array. Expected an array with minimum length 1."
    if message.get("content") is None and not calls:
        return "Invalid value for 'content': expected a string, got null."
    if any(not 0 < len(call_id) <= 40 for call_id in _list_ids(message)):
        return "'tool_calls[0].id': string too long or too short."
    if not all(_is_json(call["function"]["arguments"]) for call in calls or ()):
        return "'tool_calls[0].function.arguments': not JSON."
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _split_system(messages: WireMessages) -> tuple[WireMessages, WireMessages]:
    """Return the first message if it is a system message, and the others."""
    count = 1 if messages and messages[0]["role"] == "system" else 0
    return messages[:count], messages[count:]


MISTRAL = ChatRules(_check_mistral)
MISTRAL_SMALL = ChatRules(_check_mistral_small, 500)
MISTRAL_API = ChatRules(_check_mistral_api, form="flat")
GEMMA = ChatRules(_check_gemma)
GEMMA_3 = ChatRules(_check_gemma_3, 500)
LLAMA = ChatRules(_check_llama, 500)
LLAMA_2 = ChatRules(_check_llama_2, 422, "text")
QWEN = ChatRules(_check_qwen)
OPENAI = ChatRules(_check_openai)
