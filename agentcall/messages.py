"""The messages of a conversation: frozen values, their JSON form, their provenance.

In this file, from top to bottom:

- messages and their parts;
- the JSON form, which is that of OpenAI's chat completions, so that a history can come from and go
  to anything that speaks it. What that format has no field for (`is_error`, `untrusted`,
  `tainted`, `reasoning_content`) is an extra key. Source: the `messages` array of
  POST /v1/chat/completions;
- pairing: in a conversation that may be sent, every tool call is followed by a result;
- provenance: whether untrusted content is in a conversation;
- the transcript of a run, which encodes each message once;
- image files as `data:` URLs.

Rules of provenance:
1. Untrusted is the result of a tool marked `untrusted`, what a tool returns as `Untrusted(...)`,
   and what the application marks: messages, and the parts of their content.
2. From then on the conversation is tainted: the model has read the content, and anything that it
   asks for may be what the content wants. So its own messages are marked from then on as well, and
   a history from which the content itself was cut is still tainted.
3. The marks are in the messages, so that they are kept wherever messages are: in a result that
   waits for approval, in a session, in a journal, in another process.
4. What is not known counts as untrusted. A run sets `assessed` on the messages that it has marked,
   and their JSON form has `"untrusted": false` if there is nothing untrusted. A message from
   elsewhere is not assessed: the result of a tool is trusted if the agent has the tool and trusts
   it, an answer of the model if the agent has no tool that may return untrusted content.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias, Union, cast

import orjson

from agentcall.errors import UsageError

JSON: TypeAlias = Union[bool, int, float, str, "Sequence[JSON]", "Mapping[str, JSON]", None]
"""Any JSON value."""


# Messages and their parts.


@dataclass(frozen=True, slots=True)
class Text:
    """A text part of a user's message; `untrusted` if others wrote it, such as an email."""

    text: str
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """An image part of a user's message: an `https:` or `data:` URL; `untrusted` as in `Text`."""

    url: str
    detail: str | None = None
    untrusted: bool = False

    @classmethod
    def file(cls, path: str | Path) -> Image:
        """Read a local image file (PNG, JPEG, WebP, GIF). Raises UsageError."""
        return cls(read_data_url(path))


Content: TypeAlias = str | tuple[Text | Image, ...]


@dataclass(frozen=True, slots=True)
class System:
    """Instructions before the conversation; `untrusted` if others may have written them."""

    text: str
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """A message of the user: a text, or parts of text and images.

    tainted: its author had read untrusted content, such as an agent that asks another agent.
    """

    content: Content
    tainted: bool = False

    @property
    def text(self) -> str:
        """The text parts, without the images."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def trusted_text(self) -> str:
        """The text parts that are not untrusted."""
        if isinstance(self.content, str):
            return self.content
        texts = (part for part in self.content if isinstance(part, Text) and not part.untrusted)
        return "\n".join(part.text for part in texts)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Assistant:
    """A message of the model: text, thinking, tool calls.

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
    """The result of a tool call; `untrusted` if others may have written a part of it.

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
    """The usage of a run: counts of requests, tokens and tool calls."""

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


# The JSON form.


def to_json(message: object) -> dict[str, JSON]:
    """Return the JSON form of a message. Raises UsageError for anything else."""
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
    parts = content if isinstance(content, str) else [_part_to_json(part) for part in content]
    wire: dict[str, JSON] = {"role": "user", "content": parts}
    if message.tainted:
        wire["tainted"] = True
    return wire


def _add_provenance(wire: dict[str, JSON], message: Assistant | ToolResult) -> dict[str, JSON]:
    """Add the key `untrusted`, unless the message is not assessed and not marked."""
    if message.untrusted or message.assessed:
        wire["untrusted"] = message.untrusted
    return wire


def system_to_json(text: str) -> dict[str, JSON]:
    """Return the JSON form of instructions."""
    return {"role": "system", "content": text}


def assistant_to_json(text: str, calls: Iterable[ToolCall]) -> dict[str, JSON]:
    """Return the JSON form of a message of the model."""
    tool_calls = [tool_call_to_json(call) for call in calls]
    wire: dict[str, JSON] = {"role": "assistant", "content": text}
    return {**wire, "tool_calls": tool_calls} if tool_calls else wire


def tool_result_to_json(call_id: str, name: str, text: str) -> dict[str, JSON]:
    """Return the JSON form of the result of a tool call."""
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": text}


def tool_call_to_json(call: ToolCall) -> dict[str, JSON]:
    """Return the JSON form of a tool call."""
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
    """Return the message of a JSON form. Raises UsageError that names the problem."""
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
    """Return JSON text in UTF-8, without escapes of non-ASCII; a lone surrogate becomes `?`."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def format_json(value: object) -> str:
    """Return JSON text as models write it: spaces after commas, no escapes of non-ASCII."""
    return json.dumps(value, ensure_ascii=False)


def dump_messages(messages: Iterable[Message]) -> str:
    """Return the messages as a JSON list; `load_messages` reads it."""
    return encode_json([to_json(message) for message in messages]).decode()


def load_messages(
    history: str | bytes | Iterable[Message | Mapping[str, JSON]],
) -> tuple[Message, ...]:
    """Return the messages of a JSON text, or of a mix of messages and their JSON forms.

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
    text = value.get(key)
    return text if isinstance(text, str) else ""


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
    """Whether a message or a part of its content is marked, as `untrusted` or `tainted`."""
    if _has_flag(value, "untrusted") or _has_flag(value, "tainted"):
        return True
    content = value.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        return False
    return any(map(_has_untrusted_part_flag, content))


def _has_untrusted_part_flag(part: JSON) -> bool:
    """Whether a part of a message's content, or the image in it, is marked."""
    objects = (part, _get_member(part, "image_url"))
    return any(_has_flag(each, flag) for each in objects for flag in ("untrusted", "tainted"))


def _has_flag(value: JSON, flag: str) -> bool:
    """Whether a flag is set; any value but false and null counts as true."""
    return _get_member(value, flag) not in (None, False)


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
    return map(tool_call_from_json, calls)


def tool_call_from_json(value: JSON) -> ToolCall:
    """Read a tool call. Raises UsageError naming what is wrong with it."""
    function = _get_member(value, "function")
    name, arguments = _get_member(function, "name"), _get_member(function, "arguments")
    if not isinstance(name, str):
        raise UsageError(f"a tool call is {value!r}; it needs function.name and .arguments")
    text = arguments if isinstance(arguments, str) else encode_json(arguments or {}).decode()
    call_id = _get_member(value, "id")
    return ToolCall(call_id if isinstance(call_id, str) else "", name, text)


def _get_member(value: JSON, key: str) -> JSON:
    return value.get(key) if isinstance(value, Mapping) else None


# Pairing of calls and results.


NO_RESULT = "The run ended before this call did; its outcome is unknown."
"""What the model reads as the result of a call that has none."""


def fill_missing_results(
    messages: Iterable[Message],
    results: Mapping[str, ToolResult] | None = None,
    *,
    pending: Collection[ToolCall] = (),
) -> tuple[Message, ...]:
    """Return the messages, with a result for each call that has none.

    results: known results by call id; for any other call the model reads `NO_RESULT`.
    pending: calls that stay without a result.
    """
    return tuple(
        _iter_with_results(messages, results or {}, frozenset(call.id for call in pending))
    )


def _iter_with_results(
    messages: Iterable[Message], results: Mapping[str, ToolResult], pending: frozenset[str]
) -> Iterator[Message]:
    open_calls: dict[str, ToolCall] = {}
    for message in messages:
        if isinstance(message, ToolResult):
            open_calls.pop(message.call_id, None)
        else:
            for call_id, call in open_calls.items():
                yield results.get(call_id) or _missing_result(call)
            open_calls = {}
        yield message
        if isinstance(message, Assistant):
            open_calls = {call.id: call for call in message.calls if call.id not in pending}
    for call_id, call in open_calls.items():
        yield results.get(call_id) or _missing_result(call)


def _missing_result(call: ToolCall) -> ToolResult:
    return ToolResult(call.id, call.name, NO_RESULT, is_error=True, assessed=True)


def pair_calls(messages: Iterable[Message]) -> tuple[tuple[ToolCall, ToolResult | None], ...]:
    """Return each tool call with the result that follows it, or None."""
    pairs: list[tuple[ToolCall, ToolResult | None]] = []
    start = 0
    for message in messages:
        if isinstance(message, Assistant):
            start = len(pairs)
            pairs += [(call, None) for call in message.calls]
        elif isinstance(message, ToolResult):
            # The first call of the turn with this id: a history from elsewhere may repeat an id.
            for index in range(start, len(pairs)):
                call, result = pairs[index]
                if result is None and call.id == message.call_id:
                    pairs[index] = (call, message)
                    break
    return tuple(pairs)


# Provenance.


class Untrusted:
    """Marks a result of a tool, or a part of it, as untrusted: return it in place of `value`.

    For a tool whose results are untrusted only sometimes; a tool whose results always may be is
    marked `untrusted=True`. It may be anywhere in a result (in a list, a dict, a dataclass, a
    pydantic model) and among the arguments of an exception. It cannot be formatted, as the text
    would lose the mark: return `Untrusted(f"...")` rather than `f"{Untrusted(...)}"`.
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
            "return Untrusted(text), and format its .value"
        )


@dataclass(slots=True)
class EnclosingCall:
    """The tool call in which code runs, for an agent that a tool runs itself.

    tainted: whether the run that made the call had read untrusted content.
    has_read_untrusted: whether a run that was started in the call has.
    """

    tainted: bool
    has_read_untrusted: bool = False


enclosing_call: ContextVar[EnclosingCall | None] = ContextVar("enclosing_call", default=None)
"""The innermost tool call in which code runs; None outside of one."""


class ToolTrust(Protocol):
    """Whether the tools of an agent may return untrusted content."""

    def is_trusted_tool(self, name: str) -> bool:
        """Whether the agent has a tool of this name, and its results are never untrusted."""
        ...

    def is_untrusted_tool(self, name: str) -> bool:
        """Whether the agent has a tool of this name that is marked untrusted."""
        ...

    @property
    def can_read_untrusted_content(self) -> bool:
        """Whether any of its tools may return untrusted content."""
        ...


def is_tainted(messages: Iterable[Message]) -> bool:
    """Whether untrusted content is in the conversation, by the marks of its messages."""
    return any(map(has_taint, messages))


def has_taint(message: Message) -> bool:
    """Whether the message contains untrusted content, or was written after some was read."""
    if not isinstance(message, User):
        return message.untrusted
    if message.tainted or isinstance(message.content, str):
        return message.tainted
    return any(part.untrusted for part in message.content)


def find_untrusted_sources(messages: Iterable[Message]) -> tuple[str, ...]:
    """Return the sources of untrusted content: names of tools, "user", "system".

    "assistant" is returned if only the model's own messages show that there was some.
    """
    sources = dict.fromkeys(_name_source(message) for message in messages if has_taint(message))
    if len(sources) > 1:
        sources.pop("assistant", None)
    return tuple(sources)


def _name_source(message: Message) -> str:
    match message:
        case ToolResult():
            return message.name or "a tool without a name"
        case User():
            return "user"
        case Assistant():
            return "assistant"
        case System():
            return "system"


def clear_provenance(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages as not assessed, as a client may have written their marks."""
    return tuple(
        replace(message, assessed=False)
        if isinstance(message, (Assistant, ToolResult))
        else message
        for message in messages
    )


def mark_messages(messages: Iterable[Message], *, tainted: bool) -> tuple[Message, ...]:
    """Return messages that replace others, with the mark of those."""
    return tuple(_mark_message(message, tainted) for message in messages)


def _mark_message(message: Message, tainted: bool) -> Message:
    match message:
        case User():
            return replace(message, tainted=message.tainted or tainted)
        case System():
            return replace(message, untrusted=message.untrusted or tainted)
        case _:
            return replace(message, untrusted=message.untrusted or tainted, assessed=True)


def assess_messages(messages: Sequence[Message], trust: ToolTrust) -> Sequence[Message]:
    """Return the messages, each marked if it is untrusted or may be, by what the agent knows.

    A result without a name gets the name of its call, as in OpenAI's form only the call has it.
    """
    names: dict[str, list[str]] = {}  # of the calls of the turn, by call id
    assessed: list[Message] = []
    for message in messages:
        if isinstance(message, Assistant):
            names = {call.id: [] for call in message.calls}
            for call in message.calls:
                names[call.id].append(call.name)
            if not message.assessed:
                untrusted = message.untrusted or trust.can_read_untrusted_content
                message = replace(message, untrusted=untrusted, assessed=True)
        elif isinstance(message, ToolResult):
            message = _assess_result(message, names, trust)
        assessed.append(message)
    return tuple(assessed)


def _assess_result(
    message: ToolResult, calls: Mapping[str, Sequence[str]], trust: ToolTrust
) -> ToolResult:
    """Assess a result; without its call it is untrusted, as a part of the history is missing."""
    names = calls.get(message.call_id, ())
    name = message.name or (names[0] if names else "")
    if message.untrusted or not names:
        untrusted = True
    elif message.assessed:
        untrusted = any(map(trust.is_untrusted_tool, {*names, name}))
    else:
        untrusted = not all(map(trust.is_trusted_tool, {*names, name}))
    if message.assessed and (message.untrusted, message.name) == (untrusted, name):
        return message
    return replace(message, name=name, untrusted=untrusted, assessed=True)


# The transcript of a run.


RenderMessage: TypeAlias = Callable[[Message, Sequence[Message]], Iterable[dict[str, JSON]]]
"""Renders a message as JSON objects; the second argument is the conversation before it."""


@dataclass(slots=True)
class _Buffer:
    data: bytearray = field(default_factory=bytearray)
    count: int = 0


class Transcript:
    """The messages of a run, in order; it only grows, and encodes each message once.

    As earlier messages are never rewritten, a request starts with the bytes of the request before
    it, and the server's prefix cache hits. Each dialect has a buffer of its own.
    """

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages: list[Message] = list(messages)
        self._buffers: dict[object, _Buffer] = {}

    def append(self, message: Message) -> None:
        """Append a message."""
        self._messages.append(message)

    def encode(self, key: object, render: RenderMessage) -> bytes:
        """Return the messages as JSON objects joined by commas, as `render` writes them.

        key: identifies `render`, whose output is cached under it.
        """
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = _Buffer()
        before = self._messages[: buffer.count]
        for message in self._messages[buffer.count :]:
            for wire in render(message, before):
                if buffer.data:
                    buffer.data += b","
                buffer.data += encode_json(wire)
            before.append(message)  # copying the list for each message would be quadratic
        buffer.count = len(self._messages)
        return bytes(buffer.data)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index: int) -> Message:
        return self._messages[index]


# Image files.


MAX_IMAGE_BYTES = 20 * 2**20
"""The largest file that is sent; a model sees a few million pixels, and photos have 2 to 8 MiB."""

_IMAGE_SIGNATURES = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff",
    "gif": b"GIF8",
    "webp": b"RIFF",
}


def read_data_url(path: str | Path) -> str:
    """Return an image file as a `data:` URL; its type is detected from its content.

    Raises UsageError if there is no such file, if it is not an image that servers accept, or if it
    is larger than `MAX_IMAGE_BYTES`. Checked here, as a server reports of an image that it cannot
    read at most that something failed (LMDeploy 0.18: "Request preprocessing failed."), and only
    after the whole upload.
    """
    file = Path(path).expanduser()
    try:
        size = file.stat().st_size
        if size > MAX_IMAGE_BYTES:
            raise UsageError(
                f"the image {path} has {size / 2**20:.0f} MiB; the maximum is "
                f"{MAX_IMAGE_BYTES >> 20}; make it smaller"
            )
        data = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no image file {path}") from None
    except OSError as error:
        raise UsageError(f"the image {path} cannot be read: {error.strerror or error}") from error
    kind = _detect_image_type(data)
    if kind is None:
        start = f"it starts with {data[:8]!r}" if data else "it is empty"
        raise UsageError(f"{path} is not a PNG, JPEG, WebP or GIF file: {start}")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _detect_image_type(data: bytes) -> str | None:
    for kind, signature in _IMAGE_SIGNATURES.items():
        if data.startswith(signature) and (kind != "webp" or data[8:12] == b"WEBP"):
            return kind
    return None
