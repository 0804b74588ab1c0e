"""The words of a conversation: frozen messages, and their JSON form.

The JSON form is that of OpenAI's chat completions, so that a history can come from anywhere and
go anywhere; what that format has no word for (`is_error`, `untrusted`, `reasoning_content`) travels
as an extra key. Source: the `messages` array of POST /v1/chat/completions.

Provenance: a message says whether untrusted content is in it, or was read before it was written.
A run sets these marks, and sets `assessed` on what it has marked: the JSON form then has
`"untrusted": false` where there is nothing untrusted. A message without that is from elsewhere, and
the agent that reads it decides what it counts as (`taint`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, Union, cast

import orjson

from agentcall.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

JSON: TypeAlias = Union[bool, int, float, str, "Sequence[JSON]", "Mapping[str, JSON]", None]
"""Any value that JSON can hold."""


class Untrusted:
    """What a tool returns in place of `value`, or of a part of its result, that is untrusted.

    For a tool whose results are untrusted at times only; one whose results always may be is marked
    `untrusted=True`. It may stand anywhere in a result (in a list, a dict, a dataclass, a pydantic
    model) and among the arguments of an exception. It has no text of its own, as a text would not
    keep the mark: return `Untrusted(f"...")` rather than `f"{Untrusted(...)}"`.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Untrusted) and self.value == other.value

    def __hash__(self) -> int:
        return hash((Untrusted, self.value))

    def __repr__(self) -> str:
        return f"Untrusted({self.value!r})"

    def __str__(self) -> str:
        raise TypeError(
            "a text made of an Untrusted value would lose its mark; "
            "return Untrusted(text), and make the text of its .value"
        )


@dataclass(frozen=True, slots=True)
class Text:
    """A text part of a user's message; `untrusted` if strangers wrote it, a mail for example."""

    text: str
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """An image part of a user's message: an `https:` or `data:` URL; `untrusted` as of a text."""

    url: str
    detail: str | None = None
    untrusted: bool = False

    @classmethod
    def file(cls, path: str | Path) -> Image:
        """The image in a local file (PNG, JPEG, WebP, GIF), as a `data:` URL. Raises UsageError."""
        from agentcall.picture import read_data_url  # here, as few conversations have images

        return cls(read_data_url(path))


Content: TypeAlias = str | tuple[Text | Image, ...]


@dataclass(frozen=True, slots=True)
class System:
    """What the agent is told before everything else; `untrusted` if others may have written it."""

    text: str
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """What the user says: a text, or parts of text and images.

    `tainted`: whoever wrote it had read text of strangers, as an agent that asks another one has.
    """

    content: Content
    tainted: bool = False

    @property
    def text(self) -> str:
        """The text without the images."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def trusted_text(self) -> str:
        """The text without what strangers wrote."""
        if isinstance(self.content, str):
            return self.content
        own = (part for part in self.content if isinstance(part, Text) and not part.untrusted)
        return "\n".join(part.text for part in own)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Assistant:
    """What the model says: text, thinking, tool calls.

    untrusted: whether untrusted content had been read when it was written.
    assessed: whether a run has set that mark; False for a message from elsewhere.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    thinking: str = ""
    untrusted: bool = False
    assessed: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call gave; `untrusted` if others may have written a part of it.

    assessed: whether a run has set that mark; False for a result from elsewhere.
    """

    call_id: str
    name: str
    text: str
    is_error: bool = False
    untrusted: bool = False
    assessed: bool = field(default=False, compare=False, repr=False)


Message: TypeAlias = System | User | Assistant | ToolResult


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run has used so far: counts of requests, tokens and tool calls."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    tool_calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.tool_calls + other.tool_calls,
        )

    def __sub__(self, other: Usage) -> Usage:
        return self + Usage(*(-getattr(other, name) for name in Usage.__slots__))

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


def to_json(message: object) -> dict[str, JSON]:
    """The JSON form of a message. Raises UsageError for anything that is not one."""
    match message:
        case User():
            return _user_to_json(message)
        case Assistant():
            wire = assistant_to_json(message.text, message.calls)
            if message.thinking:
                wire["reasoning_content"] = message.thinking
            return _add_provenance(wire, message)
        case ToolResult():
            wire = tool_result_to_json(message.call_id, message.name, message.text)
            if message.is_error:
                wire["is_error"] = True
            return _add_provenance(wire, message)
        case System():
            wire = system_to_json(message.text)
            return {**wire, "untrusted": True} if message.untrusted else wire
        case _:
            raise UsageError(
                f"{message!r} is not a message; use System, User, Assistant or ToolResult"
            )


def _user_to_json(message: User) -> dict[str, JSON]:
    content = message.content
    said = content if isinstance(content, str) else [_part_to_json(part) for part in content]
    wire: dict[str, JSON] = {"role": "user", "content": said}
    if message.tainted:
        wire["tainted"] = True
    return wire


def _add_provenance(wire: dict[str, JSON], message: Assistant | ToolResult) -> dict[str, JSON]:
    """The JSON form with what is known of the message's provenance."""
    if message.untrusted or message.assessed:
        wire["untrusted"] = message.untrusted
    return wire


def system_to_json(text: str) -> dict[str, JSON]:
    """The JSON form of instructions."""
    return {"role": "system", "content": text}


def assistant_to_json(text: str, calls: Iterable[ToolCall]) -> dict[str, JSON]:
    """The JSON form of what the model says."""
    listed = [tool_call_to_json(call) for call in calls]
    wire: dict[str, JSON] = {"role": "assistant", "content": text}
    return {**wire, "tool_calls": listed} if listed else wire


def tool_result_to_json(call_id: str, name: str, text: str) -> dict[str, JSON]:
    """The JSON form of what a tool call gave."""
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": text}


def tool_call_to_json(call: ToolCall) -> dict[str, JSON]:
    """The JSON form of a tool call."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _part_to_json(part: Text | Image) -> dict[str, JSON]:
    mark: dict[str, JSON] = {"untrusted": True} if part.untrusted else {}
    if isinstance(part, Text):
        return {"type": "text", "text": part.text, **mark}
    image: dict[str, JSON] = {"url": part.url}
    if part.detail is not None:
        image["detail"] = part.detail
    return {"type": "image_url", "image_url": image, **mark}


def from_json(value: Mapping[str, JSON]) -> Message:
    """The message that a JSON form says. Raises UsageError naming what is wrong with it."""
    role = value.get("role")
    untrusted, assessed = _has_untrusted_flag(value), value.get("untrusted") is False
    match role:
        case "system" | "developer":
            return System(_get_text(value), untrusted)
        case "user":
            return User(
                _get_content(value),
                tainted=_has_flag(value, "tainted") or _has_flag(value, "untrusted"),
            )
        case "assistant":
            thinking = _get_string(value, "reasoning_content")
            return Assistant(
                _get_text(value), tuple(_tool_calls_from_json(value)), thinking, untrusted, assessed
            )
        case "tool" | "function":
            return ToolResult(
                _get_string(value, "tool_call_id"),
                _get_string(value, "name"),
                _get_text(value),
                value.get("is_error") is True,
                untrusted,
                assessed,
            )
        case _:
            raise UsageError(
                f"a message has the role {role!r}; use system, user, assistant or tool"
            )


def encode_json(value: JSON) -> bytes:
    """JSON text in UTF-8, characters beyond ASCII as they are; a lone surrogate becomes `?`."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or a whole number of more than 64 bits
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def format_json(value: object) -> str:
    """JSON text as models write it: blanks after commas, characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False)


def dump_messages(messages: Iterable[Message]) -> str:
    """The messages as JSON text, a list; `load` reads it."""
    return encode_json([to_json(message) for message in messages]).decode()


def load_messages(
    history: str | bytes | Iterable[Message | Mapping[str, JSON]],
) -> tuple[Message, ...]:
    """Messages out of JSON text, or out of messages and their JSON forms, mixed as you like.

    Raises UsageError for anything else.
    """
    items = _parse_list(history) if isinstance(history, (str, bytes)) else history
    return tuple(
        from_json(item) if isinstance(item, Mapping) else _check_message(item) for item in items
    )


def _parse_list(text: str | bytes) -> Iterable[Mapping[str, JSON]]:
    try:
        value: object = orjson.loads(text)
    except ValueError as error:
        raise UsageError(f"a history is not JSON: {error}") from None
    if not isinstance(value, list):
        raise UsageError(f"a history is {value!r:.100}; use a list of messages")
    return cast("list[Mapping[str, JSON]]", value)


def _check_message(item: object) -> Message:
    if isinstance(item, (System, User, Assistant, ToolResult)):
        return item
    raise UsageError(f"{item!r:.100} is not a message; use User(...), or {{'role': 'user', ...}}")


def _get_string(value: Mapping[str, JSON], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _get_text(value: Mapping[str, JSON]) -> str:
    content = _get_content(value)
    return content if isinstance(content, str) else User(content).text


def _get_content(value: Mapping[str, JSON]) -> Content:
    content = value.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise UsageError(f"a message's content is {content!r}; use a text or a list of parts")
    return tuple(_part_from_json(part) for part in content)


def _has_untrusted_flag(value: Mapping[str, JSON]) -> bool:
    """Whether a message or a part of its content is marked as untrusted, by either word."""
    if _has_flag(value, "untrusted") or _has_flag(value, "tainted"):
        return True
    content = value.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        return False
    return any(map(_has_untrusted_part_flag, content))


def _has_untrusted_part_flag(part: JSON) -> bool:
    """Whether a part of a message's content is marked, or the image in it."""
    places = (part, _get_member(part, "image_url"))
    return any(_has_flag(place, mark) for place in places for mark in ("untrusted", "tainted"))


def _has_flag(value: JSON, mark: str) -> bool:
    """Whether the mark is there; any value but false and null is read as true."""
    return _get_member(value, mark) not in (None, False)


def _part_from_json(value: JSON) -> Text | Image:
    untrusted = _has_untrusted_part_flag(value)
    match value:
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return Text(text, untrusted)
        case {"type": "image_url" | "input_image", "image_url": str(url)}:
            return Image(url, None, untrusted)
        case {"type": "image_url", "image_url": {"url": str(url), "detail": str(detail)}}:
            return Image(url, detail, untrusted)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return Image(url, None, untrusted)
        case str():
            return Text(value)
        case _:
            raise UsageError(f"a content part is {value!r}; use a text or an image_url part")


def _tool_calls_from_json(value: Mapping[str, JSON]) -> Iterable[ToolCall]:
    calls = value.get("tool_calls") or ()
    if isinstance(calls, str) or not isinstance(calls, Sequence):
        raise UsageError(f"a message's tool_calls is {calls!r}; use a list of calls")
    return map(_tool_call_from_json, calls)


def _tool_call_from_json(value: JSON) -> ToolCall:
    function = _get_member(value, "function")
    name, arguments = _get_member(function, "name"), _get_member(function, "arguments")
    if not isinstance(name, str):
        raise UsageError(f"a tool call is {value!r}; it needs function.name and .arguments")
    text = arguments if isinstance(arguments, str) else encode_json(arguments or {}).decode()
    identity = _get_member(value, "id")
    return ToolCall(identity if isinstance(identity, str) else "", name, text)


def _get_member(value: JSON, key: str) -> JSON:
    return value.get(key) if isinstance(value, Mapping) else None


__all__ = [
    "JSON",
    "Assistant",
    "Content",
    "Image",
    "Message",
    "System",
    "Text",
    "ToolCall",
    "ToolResult",
    "Untrusted",
    "Usage",
    "User",
    "assistant_to_json",
    "dump_messages",
    "encode_json",
    "format_json",
    "from_json",
    "load_messages",
    "system_to_json",
    "to_json",
    "tool_call_to_json",
    "tool_result_to_json",
]
