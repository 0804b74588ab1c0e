"""The words of a conversation: frozen messages, and their JSON form.

The JSON form is that of OpenAI's chat completions, so that a history can come from anywhere and
go anywhere; what that format has no word for (`is_error`, `untrusted`, `reasoning_content`) travels
as an extra key. Source: the `messages` array of POST /v1/chat/completions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, Union, cast

import orjson

from agentcall.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

JSON: TypeAlias = Union[bool, int, float, str, "Sequence[JSON]", "Mapping[str, JSON]", None]
"""Any value that JSON can hold."""


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
        from agentcall.picture import data_url  # here, as few conversations have images

        return cls(data_url(path))


Content: TypeAlias = str | tuple[Text | Image, ...]


@dataclass(frozen=True, slots=True)
class System:
    """What the agent is told before everything else."""

    text: str


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
    def own_text(self) -> str:
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
    """What the model says: text, thinking, tool calls."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call gave; `untrusted` if strangers may have written of it."""

    call_id: str
    name: str
    text: str
    is_error: bool = False
    untrusted: bool = False


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
            return _user_json(message)
        case Assistant():
            wire = assistant_json(message.text, message.calls)
            return {**wire, "reasoning_content": message.thinking} if message.thinking else wire
        case ToolResult():
            marks = {"is_error": message.is_error, "untrusted": message.untrusted}
            wire = result_json(message.call_id, message.name, message.text)
            return {**wire, **{mark: True for mark, has in marks.items() if has}}
        case System():
            return {"role": "system", "content": message.text}
        case _:
            raise UsageError(
                f"{message!r} is not a message; use System, User, Assistant or ToolResult"
            )


def _user_json(message: User) -> dict[str, JSON]:
    content = message.content
    said = content if isinstance(content, str) else [_part_json(part) for part in content]
    wire: dict[str, JSON] = {"role": "user", "content": said}
    if message.tainted:
        wire["tainted"] = True
    return wire


def assistant_json(text: str, calls: Iterable[ToolCall]) -> dict[str, JSON]:
    """The JSON form of what the model says."""
    listed = [call_json(call) for call in calls]
    wire: dict[str, JSON] = {"role": "assistant", "content": text}
    return {**wire, "tool_calls": listed} if listed else wire


def result_json(call_id: str, name: str, text: str) -> dict[str, JSON]:
    """The JSON form of what a tool call gave."""
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": text}


def call_json(call: ToolCall) -> dict[str, JSON]:
    """The JSON form of a tool call."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _part_json(part: Text | Image) -> dict[str, JSON]:
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
    match role:
        case "system" | "developer":
            return System(_plain(value))
        case "user":
            return User(_content(value), value.get("tainted") is True)
        case "assistant":
            return Assistant(
                _plain(value), tuple(_calls(value)), _string(value, "reasoning_content")
            )
        case "tool" | "function":
            return ToolResult(
                _string(value, "tool_call_id"),
                _string(value, "name"),
                _plain(value),
                value.get("is_error") is True,
                value.get("untrusted") is True,
            )
        case _:
            raise UsageError(
                f"a message has the role {role!r}; use system, user, assistant or tool"
            )


def encoded(value: JSON) -> bytes:
    """JSON text in UTF-8, characters beyond ASCII as they are; a lone surrogate becomes `?`."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or a whole number of more than 64 bits
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def json_text(value: object) -> str:
    """JSON text as models write it: blanks after commas, characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False)


def dump(messages: Iterable[Message]) -> str:
    """The messages as JSON text, a list; `load` reads it."""
    return encoded([to_json(message) for message in messages]).decode()


def load(history: str | bytes | Iterable[Message | Mapping[str, JSON]]) -> tuple[Message, ...]:
    """Messages out of JSON text, or out of messages and their JSON forms, mixed as you like.

    Raises UsageError for anything else.
    """
    items = _listed(history) if isinstance(history, (str, bytes)) else history
    return tuple(from_json(item) if isinstance(item, Mapping) else _checked(item) for item in items)


def _listed(text: str | bytes) -> Iterable[Mapping[str, JSON]]:
    try:
        value: object = orjson.loads(text)
    except ValueError as error:
        raise UsageError(f"a history is not JSON: {error}") from None
    if not isinstance(value, list):
        raise UsageError(f"a history is {value!r:.100}; use a list of messages")
    return cast("list[Mapping[str, JSON]]", value)


def _checked(item: object) -> Message:
    if isinstance(item, (System, User, Assistant, ToolResult)):
        return item
    raise UsageError(f"{item!r:.100} is not a message; use User(...), or {{'role': 'user', ...}}")


def _string(value: Mapping[str, JSON], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _plain(value: Mapping[str, JSON]) -> str:
    content = _content(value)
    return content if isinstance(content, str) else User(content).text


def _content(value: Mapping[str, JSON]) -> Content:
    content = value.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise UsageError(f"a message's content is {content!r}; use a text or a list of parts")
    return tuple(_part(part) for part in content)


def _part(value: JSON) -> Text | Image:
    untrusted = _member(value, "untrusted") is True
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


def _calls(value: Mapping[str, JSON]) -> Iterable[ToolCall]:
    calls = value.get("tool_calls") or ()
    if isinstance(calls, str) or not isinstance(calls, Sequence):
        raise UsageError(f"a message's tool_calls is {calls!r}; use a list of calls")
    return map(_call, calls)


def _call(value: JSON) -> ToolCall:
    function = _member(value, "function")
    name, arguments = _member(function, "name"), _member(function, "arguments")
    if not isinstance(name, str):
        raise UsageError(f"a tool call is {value!r}; it needs function.name and .arguments")
    text = arguments if isinstance(arguments, str) else encoded(arguments or {}).decode()
    identity = _member(value, "id")
    return ToolCall(identity if isinstance(identity, str) else "", name, text)


def _member(value: JSON, key: str) -> JSON:
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
    "Usage",
    "User",
    "assistant_json",
    "call_json",
    "dump",
    "encoded",
    "from_json",
    "json_text",
    "load",
    "result_json",
    "to_json",
]
