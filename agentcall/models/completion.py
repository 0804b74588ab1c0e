"""Reads chat completions, whole or in chunks, as servers really send them.

Format: the chat completion object and the chat completion chunk object of the OpenAI API
reference. Taken besides: flat error bodies and errors under HTTP 200 (LMDeploy), content as a list
of parts, arguments as an object, the legacy `function_call`, `reasoning_content` or `reasoning`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from agentcall.dialects.parts import MessageDelta, ToolCallDelta
from agentcall.errors import BadAnswer, ModelError, ModelRefused, RateLimited
from agentcall.messages import JSON, Usage
from agentcall.models.refusal import parse_error_response, shorten_body

CompletionBody = Mapping[str, JSON]

_OTHER_ROLES = ("system", "developer", "user", "tool", "function")
"""Roles that a model does not speak in; a role that nobody knows is taken for its own."""


class CompletionChunk(NamedTuple):
    """What one body or chunk says: a delta, perhaps the end, perhaps the usage.

    is_message: the delta stood in `message`, and may say again what came before it.
    """

    delta: MessageDelta
    finish_reason: str | None = None
    usage: Usage | None = None
    is_message: bool = False


def decode_json(data: bytes) -> JSON:
    """The JSON of a body or an event. Raises ValueError.

    Lone surrogates, which servers send where a token ends inside a character, become U+FFFD.
    """
    try:
        value: JSON = orjson.loads(data)
    except ValueError:
        return _decode_leniently(data)
    return value


def _decode_leniently(data: bytes) -> JSON:
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deep") from error
    sound = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    value: JSON = json.loads(sound)
    return value


def parse_completion(body: JSON) -> CompletionChunk:
    """A whole completion. Raises ModelRefused or BadAnswer if it is none."""
    checked = _require_body(body)
    choice = _find_choice(checked, 0) or _find_choice(checked, find_first_choice(body))
    if choice is None:
        raise BadAnswer(f"the server's answer has no choices: {shorten_body(body)}")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer(f"the server's answer has no message: {shorten_body(body)}")
    text, thinking, calls, _ = _parse_delta(message)
    delta = MessageDelta(text, thinking, renumber_calls(calls) if calls else ())
    return CompletionChunk(delta, _get_finish_reason(choice), parse_usage(checked))


def renumber_calls(calls: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
    """The calls of a whole message are whole: each has a place of its own, whatever its id."""
    return tuple([ToolCallDelta(place, *call[1:]) for place, call in enumerate(calls)])


def parse_chunk(body: JSON, index: int = 0) -> CompletionChunk:
    """One chunk of a stream, of its choice with this index; one without it has the usage alone."""
    checked = _require_body(body)
    choice = _find_choice(checked, index)
    if choice is None:
        return CompletionChunk(MessageDelta(), None, parse_usage(checked))
    delta = choice.get("delta")
    spoken = delta or choice.get("message")
    said = _parse_delta(spoken) if isinstance(spoken, dict) else MessageDelta()
    return CompletionChunk(
        said, _get_finish_reason(choice), parse_usage(checked), is_message=not delta
    )


def _require_body(body: JSON) -> CompletionBody:
    if not isinstance(body, dict):
        raise BadAnswer(f"the server's answer is not a JSON object: {shorten_body(body)}")
    if body.get("object") == "error" or body.get("error"):
        raise _convert_embedded_error(parse_error_response(_get_error_status(body), body))
    return body


def _convert_embedded_error(error: ModelRefused) -> ModelError:
    """An error that stands inside an answer: what passes is asked again as a bad answer is."""
    return BadAnswer(str(error)) if isinstance(error, RateLimited) else error


def _get_error_status(body: CompletionBody) -> int:
    """The status that an error under HTTP 200 claims."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else body.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def find_first_choice(body: JSON) -> int | None:
    """The index of the choice to read: 0 if it is there, else that of the first; None for none."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return None
    indexes = [
        _parse_index(choice.get("index")) or 0 for choice in choices if isinstance(choice, dict)
    ]
    return 0 if 0 in indexes or not indexes else indexes[0]


def _find_choice(body: CompletionBody, index: int | None) -> CompletionBody | None:
    """The choice of this index: we never ask for more than one."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if not isinstance(choice, dict):
            raise BadAnswer(f"a choice is not a JSON object: {shorten_body(body)}")
        given = choice.get("index")
        if given == index or (_parse_index(given) or 0) == index:
            return choice
    return None


def _parse_index(index: JSON) -> int | None:
    """The index, which servers write as a number or as text; None if there is none."""
    if isinstance(index, str) and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _get_finish_reason(choice: CompletionBody) -> str | None:
    finish = choice.get("finish_reason")
    return finish if isinstance(finish, str) and finish else None


def _parse_delta(message: CompletionBody) -> MessageDelta:
    if message.get("role") in _OTHER_ROLES:
        raise BadAnswer(
            f"the server answered in the role {message['role']!r}: {shorten_body(message)}"
        )
    content = message.get("content") or message.get("refusal")
    thinking = message.get("reasoning_content") or message.get("reasoning")
    return MessageDelta(
        content if isinstance(content, str) else _join_text(content),
        thinking if isinstance(thinking, str) else "",
        _parse_tool_calls(message),
    )


def _parse_tool_calls(message: CompletionBody) -> tuple[ToolCallDelta, ...]:
    calls = message.get("tool_calls")
    if not calls:
        legacy = message.get("function_call")
        return (
            (_parse_tool_call({"index": 0, "function": legacy}),)
            if isinstance(legacy, dict)
            else ()
        )
    if not isinstance(calls, list):
        raise BadAnswer(f"tool_calls is not a list: {shorten_body(message)}")
    return tuple([_parse_tool_call(call) for call in calls if isinstance(call, dict)])


def _join_text(content: JSON) -> str:
    if not isinstance(content, Sequence):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _parse_tool_call(call: CompletionBody) -> ToolCallDelta:
    function = call.get("function")
    said = function if isinstance(function, dict) else call
    name, arguments = said.get("name"), said.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    index, identity = call.get("index"), call.get("id")
    return ToolCallDelta(
        index if type(index) is int else _parse_index(index),
        str(identity) if identity else "",
        name if isinstance(name, str) else "",
        arguments or "",
    )


def parse_usage(body: CompletionBody) -> Usage | None:
    """The usage that a body reports, as that of one request; None where it reports none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = _get_count(details, "cached_tokens") if isinstance(details, dict) else 0
    return Usage(
        1, _get_count(usage, "prompt_tokens"), _get_count(usage, "completion_tokens"), cached
    )


def _get_count(usage: CompletionBody, key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) else 0
