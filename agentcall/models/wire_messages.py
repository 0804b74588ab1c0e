"""Changes of the messages of a request, for servers that do not accept OpenAI's form.

Each function is pure: it returns the changed messages, and messages that it has changed already no
further. The messages that it returns share values with those that it is given. A key that begins
with an underscore is for these functions only, and is not sent: `_thinking` is the model's thinking
of a message, `_extra_content` what the server added to a call.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from agentcall.messages import JSON, NO_RESULT

WireMessage: TypeAlias = dict[str, JSON]
WireMessages: TypeAlias = list[WireMessage]

_BRIDGE = "Understood."
"""What the model is shown as its own words between a result and the user's next message."""

_FIRST_MESSAGE = "Begin."
_LAST_MESSAGE = "Continue."
_IMAGE_NOTICE = "(An image is not shown here, as this model reads only text.)"
_FILLERS = {
    "assistant": "(no text)",
    "tool": "(no output)",
    "user": "(an empty message)",
    "system": "(no instructions)",
}
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
_SKIPPED_SIGNATURE: JSON = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""Accepted by Gemini for a call whose signature is lost (ai.google.dev, thought signatures)."""

_REASONING_KEYS = ("reasoning_content", "reasoning")


def strip_private_keys(messages: Iterable[WireMessage]) -> WireMessages:
    """Return the messages as they are sent."""
    return [_strip_private_keys(message) for message in messages]


def _strip_private_keys(message: WireMessage) -> WireMessage:
    sent = {key: value for key, value in message.items() if not key.startswith("_")}
    if calls := _get_calls(message):
        sent["tool_calls"] = [_strip_private_keys(call) for call in calls]
    return sent


def has_tool_messages(messages: object) -> bool:
    """Whether the result of a tool is among the messages, so that the server accepted tools."""
    return isinstance(messages, list) and any(
        message.get("role") == "tool" for message in cast("WireMessages", messages)
    )


# The order of roles.


def join_system(messages: WireMessages) -> WireMessages:
    """Join all system messages into one at the beginning."""
    system = [message for message in messages if message.get("role") == "system"]
    if not system or (len(system) == 1 and messages[0] is system[0]):
        return messages
    content = _join_contents([message.get("content") for message in system])
    others = [message for message in messages if message.get("role") != "system"]
    return [{"role": "system", "content": content}, *others]


def move_system_to_user(messages: WireMessages) -> WireMessages:
    """Put the system messages in front of the first message of the user."""
    joined = join_system(messages)
    if not joined or joined[0].get("role") != "system":
        return messages
    system, *others = joined
    index = next((i for i, each in enumerate(others) if each.get("role") == "user"), None)
    if index is None or any(each.get("role") != "user" for each in others[:index]):
        return [{"role": "user", "content": system.get("content")}, *others]
    first = others[index]
    content = _join_contents([system.get("content"), first.get("content")])
    return [*others[:index], {**first, "content": content}, *others[index + 1 :]]


def alternate_roles(messages: WireMessages) -> WireMessages:
    """Make the messages alternate between user and model, beginning with the user.

    Neighbours of one role are joined by a blank line. Between the result of a tool and a message of
    the user stands a short message of the model.
    """
    system, others = split_system(join_system(messages))
    changed: WireMessages = []
    for message in others:
        role = message.get("role")
        last: WireMessage = changed[-1] if changed else {"role": "system"}
        if role == "assistant" and not (message.get("content") or message.get("tool_calls")):
            continue
        if (role == "user" and last["role"] == "user") or (
            role == "assistant" and last["role"] == "assistant" and not last.get("tool_calls")
        ):
            changed[-1] = _join_messages(last, message)
            continue
        if role == "user" and last["role"] == "tool":
            changed.append({"role": "assistant", "content": _BRIDGE})
        elif role != "user" and last["role"] == "system":
            changed.append({"role": "user", "content": _FIRST_MESSAGE})
        changed.append(message)
    return [*system, *(changed or [{"role": "user", "content": _FIRST_MESSAGE}])]


def end_with_user(messages: WireMessages) -> WireMessages:
    """Append a short message of the user if the last message is the model's."""
    if messages and messages[-1].get("role") == "assistant":
        return [*messages, {"role": "user", "content": _LAST_MESSAGE}]
    return messages


def split_system(messages: WireMessages) -> tuple[WireMessages, WireMessages]:
    """Return the system messages at the beginning, and the messages after them."""
    count = next(
        (i for i, each in enumerate(messages) if each.get("role") != "system"), len(messages)
    )
    return messages[:count], messages[count:]


def _join_messages(first: WireMessage, second: WireMessage) -> WireMessage:
    joined = {**first, **second}
    joined["content"] = _join_contents([first.get("content"), second.get("content")])
    return joined


def _join_contents(contents: Sequence[JSON]) -> JSON:
    """Join contents by a blank line; contents with parts become one list of parts."""
    if all(content is None or isinstance(content, str) for content in contents):
        return "\n\n".join(content for content in contents if isinstance(content, str) and content)
    return [part for content in contents for part in _list_parts(content)]


def list_texts(message: WireMessage) -> list[str]:
    """Return the texts of a message's content."""
    parts = _list_parts(message.get("content"))
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)]


def _list_parts(content: JSON) -> Sequence[JSON]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, Sequence) else []


# Calls and results.


def split_calls(messages: WireMessages) -> WireMessages:
    """Send each call of a message in a message of its own, followed by its result."""
    changed: WireMessages = []
    index = 0
    while index < len(messages):
        message, calls = messages[index], _get_calls(messages[index])
        index += 1
        if len(calls) < 2:
            changed.append(message)
            continue
        results, index = _take_results(messages, index)
        for number, call in enumerate(calls):
            head = message if number == 0 else {"role": "assistant", "content": ""}
            changed.append({**head, "tool_calls": [call]})
            changed += [each for each in results if each.get("tool_call_id") == call.get("id")]
        ids = [call.get("id") for call in calls]
        changed += [each for each in results if each.get("tool_call_id") not in ids]
    return changed


def pair_results(messages: WireMessages) -> WireMessages:
    """Give each call one result, in the order of the calls; send other results as text."""
    changed: WireMessages = []
    index = 0
    while index < len(messages):
        message, calls = messages[index], _get_calls(messages[index])
        index += 1
        if message.get("role") == "tool":
            changed.append(_write_result_as_text(message))
            continue
        changed.append(message)
        if not calls:
            continue
        results, index = _take_results(messages, index)
        for call in calls:
            found = next((r for r in results if r.get("tool_call_id") == call.get("id")), None)
            if found is not None:
                results.remove(found)
            changed.append(found or _create_missing_result(call))
        changed += map(_write_result_as_text, results)
    return changed


def write_calls_as_text(messages: WireMessages) -> WireMessages:
    """Send calls as text of the model and results as text of the user, in the Hermes form."""
    changed: WireMessages = []
    for message in messages:
        calls = _get_calls(message)
        if calls:
            others = {key: value for key, value in message.items() if key != "tool_calls"}
            content = _join_contents([message.get("content"), "\n".join(map(_write_call, calls))])
            changed.append({**others, "content": content})
        elif message.get("role") == "tool":
            changed.append(_write_result_as_text(message))
        else:
            changed.append(message)
    return changed


def drop_names(messages: WireMessages) -> WireMessages:
    """Leave `name` out of the results of tools."""
    return [
        {key: value for key, value in message.items() if key != "name"}
        if message.get("role") == "tool"
        else message
        for message in messages
    ]


def shorten_call_ids(messages: WireMessages) -> WireMessages:
    """Write each id of a call as nine letters and digits, which every server accepts."""
    changed: WireMessages = []
    for message in messages:
        calls = _get_calls(message)
        if calls:
            message = {
                **message,
                "tool_calls": [{**call, "id": _shorten_id(call.get("id"))} for call in calls],
            }
        elif message.get("role") == "tool":
            message = {**message, "tool_call_id": _shorten_id(message.get("tool_call_id"))}
        changed.append(message)
    return changed


def _shorten_id(call_id: JSON) -> str:
    text = call_id if isinstance(call_id, str) else ""
    if _SHORT_ID.fullmatch(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:9]


def _get_calls(message: WireMessage) -> list[WireMessage]:
    calls = message.get("tool_calls")
    return cast("list[WireMessage]", calls) if isinstance(calls, list) else []


def _take_results(messages: WireMessages, index: int) -> tuple[WireMessages, int]:
    """Return the results from an index on, and the index behind them."""
    end = index
    while end < len(messages) and messages[end].get("role") == "tool":
        end += 1
    return messages[index:end], end


def _create_missing_result(call: WireMessage) -> WireMessage:
    result: WireMessage = {"role": "tool", "tool_call_id": call.get("id"), "content": NO_RESULT}
    function = call.get("function")
    return {**result, "name": function.get("name")} if isinstance(function, dict) else result


def _write_call(call: WireMessage) -> str:
    function = call.get("function")
    if not isinstance(function, dict):
        return ""
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    name = json.dumps(function.get("name"), ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {text or "{}"}}}\n</tool_call>'


def _write_result_as_text(message: WireMessage) -> WireMessage:
    content = message.get("content")
    if isinstance(content, str) or content is None:
        text = f"<tool_response>\n{content or ''}\n</tool_response>"
        return {"role": "user", "content": text}
    opening: JSON = {"type": "text", "text": "<tool_response>"}
    closing: JSON = {"type": "text", "text": "</tool_response>"}
    return {"role": "user", "content": [opening, *_list_parts(content), closing]}


# Content.


def null_empty_content(messages: WireMessages) -> WireMessages:
    """Write the empty content of a message with calls as null."""
    return [
        {**message, "content": None}
        if message.get("tool_calls") and message.get("content") == ""
        else message
        for message in messages
    ]


def drop_empty_content(messages: WireMessages) -> WireMessages:
    """Leave out the content of a message with calls if it is null."""
    return [
        {key: value for key, value in message.items() if key != "content"}
        if message.get("tool_calls") and message.get("content", "") is None
        else message
        for message in messages
    ]


def fill_empty_content(messages: WireMessages) -> WireMessages:
    """Write a few words for content that is empty, null or absent."""
    return [
        message if _has_text(message) else {**message, "content": _get_filler(message)}
        for message in messages
    ]


def drop_text_beside_calls(messages: WireMessages) -> WireMessages:
    """Leave the content of messages with calls out."""
    return [
        {key: value for key, value in message.items() if key != "content"}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def write_content_as_parts(messages: WireMessages) -> WireMessages:
    """Write content as a list of parts."""
    return [
        {**message, "content": _list_parts(message["content"])}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def replace_images(messages: WireMessages) -> WireMessages:
    """Write a line in place of each image."""
    return [
        {**message, "content": _replace_parts(message["content"])}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _replace_parts(content: JSON) -> JSON:
    parts = [_replace_image(part) for part in _list_parts(content)]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    if len(texts) == len(parts) and all(isinstance(text, str) for text in texts):
        return "\n".join(cast("list[str]", texts))
    return parts


def _replace_image(part: JSON) -> JSON:
    if isinstance(part, dict) and str(part.get("type")).startswith(("image", "input_image")):
        return {"type": "text", "text": _IMAGE_NOTICE}
    return part


def _has_text(message: WireMessage) -> bool:
    content = message.get("content")
    return bool(content.strip() if isinstance(content, str) else content)


def _get_filler(message: WireMessage) -> str:
    return "(tool call)" if message.get("tool_calls") else _FILLERS.get(str(message["role"]), "-")


# Thinking.


def add_reasoning(messages: WireMessages) -> WireMessages:
    """Send the model's thinking with each of its messages, as `reasoning_content`."""
    return [
        {**message, "reasoning_content": message.get("_thinking") or ""}
        if message.get("role") == "assistant" and "reasoning_content" not in message
        else message
        for message in messages
    ]


def attach_extra_contents(message: WireMessage, contents: Mapping[str, JSON]) -> None:
    """Add the private key `_extra_content` to the calls of a message that the server added to."""
    for call in _get_calls(message):
        if extra := contents.get(str(call.get("id"))):
            call["_extra_content"] = extra


def add_extra_content(messages: WireMessages) -> WireMessages:
    """Send what the server added to its calls back; its placeholder for the first, if unknown."""
    return [
        {
            **message,
            "tool_calls": [
                _add_extra_content(call, is_first=index == 0) for index, call in enumerate(calls)
            ],
        }
        if (calls := _get_calls(message))
        else message
        for message in messages
    ]


def _add_extra_content(call: WireMessage, *, is_first: bool) -> WireMessage:
    extra = call.get("_extra_content") or (_SKIPPED_SIGNATURE if is_first else None)
    return {**call, "extra_content": extra} if extra and "extra_content" not in call else call


def drop_reasoning_content(messages: WireMessages) -> WireMessages:
    """Leave `reasoning_content` out where the thinking is sent as `reasoning` too."""
    return [
        {key: value for key, value in message.items() if key != "reasoning_content"}
        if "reasoning" in message
        else message
        for message in messages
    ]


def drop_text_beside_thinking(messages: WireMessages) -> WireMessages:
    """Leave the content of messages with calls and thinking out."""
    return [
        {**message, "content": ""}
        if message.get("tool_calls") and any(message.get(key) for key in _REASONING_KEYS)
        else message
        for message in messages
    ]


def drop_reasoning(messages: WireMessages) -> WireMessages:
    """Leave the model's thinking out."""
    return [
        {key: value for key, value in message.items() if key not in _REASONING_KEYS}
        for message in messages
    ]
