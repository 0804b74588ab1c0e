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

from agentcall.dialects.parts import CallDelta, Delta
from agentcall.errors import BadAnswer, ModelError, ModelRefused, RateLimited
from agentcall.messages import JSON, Usage
from agentcall.models.refusal import excerpt, refusal

Body = Mapping[str, JSON]

_OTHERS = ("system", "developer", "user", "tool", "function")
"""Roles that a model does not speak in; a role that nobody knows is taken for its own."""


class Piece(NamedTuple):
    """What one body or chunk says: a delta, perhaps the end, perhaps the usage.

    is_message: the delta stood in `message`, and may say again what came before it.
    """

    delta: Delta
    finish: str | None = None
    usage: Usage | None = None
    is_message: bool = False


def parsed(data: bytes) -> JSON:
    """The JSON of a body or an event. Raises ValueError.

    Lone surrogates, which servers send where a token ends inside a character, become U+FFFD.
    """
    try:
        value: JSON = orjson.loads(data)
    except ValueError:
        return _leniently(data)
    return value


def _leniently(data: bytes) -> JSON:
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deep") from error
    sound = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    value: JSON = json.loads(sound)
    return value


def whole(body: JSON) -> Piece:
    """A whole completion. Raises ModelRefused or BadAnswer if it is none."""
    checked = _checked(body)
    choice = _choice(checked, 0) or _choice(checked, first_choice(body))
    if choice is None:
        raise BadAnswer(f"the server's answer has no choices: {excerpt(body)}")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer(f"the server's answer has no message: {excerpt(body)}")
    text, thinking, calls, _ = _delta(message)
    delta = Delta(text, thinking, each_apart(calls) if calls else ())
    return Piece(delta, _finish(choice), usage_of(checked))


def each_apart(calls: Iterable[CallDelta]) -> tuple[CallDelta, ...]:
    """The calls of a whole message are whole: each has a place of its own, whatever its id."""
    return tuple([CallDelta(place, *call[1:]) for place, call in enumerate(calls)])


def chunk(body: JSON, index: int = 0) -> Piece:
    """One chunk of a stream, of its choice with this index; one without it has the usage alone."""
    checked = _checked(body)
    choice = _choice(checked, index)
    if choice is None:
        return Piece(Delta(), None, usage_of(checked))
    delta = choice.get("delta")
    spoken = delta or choice.get("message")
    said = _delta(spoken) if isinstance(spoken, dict) else Delta()
    return Piece(said, _finish(choice), usage_of(checked), is_message=not delta)


def _checked(body: JSON) -> Body:
    if not isinstance(body, dict):
        raise BadAnswer(f"the server's answer is not a JSON object: {excerpt(body)}")
    if body.get("object") == "error" or body.get("error"):
        raise _within(refusal(_status(body), body))
    return body


def _within(error: ModelRefused) -> ModelError:
    """An error that stands inside an answer: what passes is asked again as a bad answer is."""
    return BadAnswer(str(error)) if isinstance(error, RateLimited) else error


def _status(body: Body) -> int:
    """The status that an error under HTTP 200 claims."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else body.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def first_choice(body: JSON) -> int | None:
    """The index of the choice to read: 0 if it is there, else that of the first; None for none."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return None
    indexes = [_index(choice.get("index")) or 0 for choice in choices if isinstance(choice, dict)]
    return 0 if 0 in indexes or not indexes else indexes[0]


def _choice(body: Body, index: int | None) -> Body | None:
    """The choice of this index: we never ask for more than one."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if not isinstance(choice, dict):
            raise BadAnswer(f"a choice is not a JSON object: {excerpt(body)}")
        given = choice.get("index")
        if given == index or (_index(given) or 0) == index:
            return choice
    return None


def _index(index: JSON) -> int | None:
    """The index, which servers write as a number or as text; None if there is none."""
    if isinstance(index, str) and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _finish(choice: Body) -> str | None:
    finish = choice.get("finish_reason")
    return finish if isinstance(finish, str) and finish else None


def _delta(message: Body) -> Delta:
    if message.get("role") in _OTHERS:
        raise BadAnswer(f"the server answered in the role {message['role']!r}: {excerpt(message)}")
    content = message.get("content") or message.get("refusal")
    thinking = message.get("reasoning_content") or message.get("reasoning")
    return Delta(
        content if isinstance(content, str) else _text(content),
        thinking if isinstance(thinking, str) else "",
        _calls(message),
    )


def _calls(message: Body) -> tuple[CallDelta, ...]:
    calls = message.get("tool_calls")
    if not calls:
        legacy = message.get("function_call")
        return (_call({"index": 0, "function": legacy}),) if isinstance(legacy, dict) else ()
    if not isinstance(calls, list):
        raise BadAnswer(f"tool_calls is not a list: {excerpt(message)}")
    return tuple([_call(call) for call in calls if isinstance(call, dict)])


def _text(content: JSON) -> str:
    if not isinstance(content, Sequence):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _call(call: Body) -> CallDelta:
    function = call.get("function")
    said = function if isinstance(function, dict) else call
    name, arguments = said.get("name"), said.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    index, identity = call.get("index"), call.get("id")
    return CallDelta(
        index if type(index) is int else _index(index),
        str(identity) if identity else "",
        name if isinstance(name, str) else "",
        arguments or "",
    )


def usage_of(body: Body) -> Usage | None:
    """The usage that a body reports, as that of one request; None where it reports none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else 0
    return Usage(1, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), cached)


def _count(usage: Body, key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) else 0
