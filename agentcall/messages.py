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
- images as `data:` URLs.

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
import binascii
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar, Union, cast

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


@dataclass(frozen=True, slots=True, repr=False)
class Image:
    """An image, of a user's message or of a tool's result; `untrusted` as in `Text`.

    url: an `https:` or `data:` URL. detail: "low", "high" or "auto", for servers that know it.
    """

    url: str
    detail: str | None = None
    untrusted: bool = False

    @classmethod
    def file(cls, path: str | Path) -> Image:
        """Read a local image file (PNG, JPEG, WebP, GIF). Raises UsageError."""
        return cls(read_data_url(path))

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """Return the image of these bytes (PNG, JPEG, WebP, GIF). Raises UsageError."""
        return cls(encode_data_url(data, f"an image of {len(data)} bytes"))

    @property
    def description(self) -> str:
        """The type and the size, such as "image/png, 1024 bytes"; else the beginning of the URL."""
        if not self.url.startswith("data:"):
            return self.url[:_MAX_URL_LENGTH]
        head, _, data = self.url.partition(",")
        size = len(data) * 3 // 4 - data[-2:].count("=")
        return f"{head[5:].partition(';')[0] or 'an image'}, {size} bytes"

    def __repr__(self) -> str:
        return f"Image({self.description!r})"


_MAX_URL_LENGTH = 200


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

    @property
    def args(self) -> dict[str, Any]:  # Any: a value of JSON
        """The arguments as a new dict; empty if they are not a JSON object."""
        try:
            value: object = orjson.loads(self.arguments)
        except ValueError:
            return {}
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


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
    images: the images of the result; the text says where each belongs.
    seconds: how long the call took; None if it was not executed.
    not_called: whether the tool was not executed: the call was refused, or equal to another one.
    data: what the tool gave the application (`tools.result.Result`); the model never reads it.
    unsaved_data: the name of the type of data that was lost when the result was saved, as it has no
        JSON form; empty otherwise.
    """

    call_id: str
    name: str
    text: str
    is_error: bool = False
    untrusted: bool = False
    assessed: bool = field(default=False, compare=False, repr=False)
    images: tuple[Image, ...] = ()
    seconds: float | None = field(default=None, compare=False, repr=False)
    not_called: bool = field(default=False, compare=False, repr=False)
    data: object = field(default=None, compare=False, repr=False)
    unsaved_data: str = field(default="", compare=False, repr=False)


Message: TypeAlias = System | User | Assistant | ToolResult


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of a run: counts of requests, tokens and tool calls, and the time of the requests.

    seconds: the time of all requests together, each from its sending to the end of its answer; of
        requests that ran at the same time it is the sum.
    writing: the part of it in which answers were written, from their first token on; of an
        answer that came in one piece, all of it.
    first_token: the time to the first token, of thinking too, of the first answer that was
        streamed; None if none was.
    model: the name of the model; empty if several were asked: see `by_model`.
    parts: the usage of each of several models.

    Usages are compared by their counts.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    tool_calls: int = 0
    seconds: float = field(default=0.0, compare=False)
    writing: float = field(default=0.0, compare=False)
    first_token: float | None = field(default=None, compare=False)
    model: str = field(default="", compare=False)
    parts: Mapping[str, Usage] | None = field(default=None, compare=False, repr=False)

    def __add__(self, other: Usage) -> Usage:
        model, parts, first = self.model, self.parts, self.first_token
        if other.requests and (model != other.model or parts):
            model, parts = _join_models(self, other)
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.tool_calls + other.tool_calls,
            self.seconds + other.seconds,
            self.writing + other.writing,
            other.first_token if first is None else first,
            model,
            parts,
        )

    def __sub__(self, other: Usage) -> Usage:
        return self + other._negate()

    def _negate(self) -> Usage:
        parts = self.parts and {
            name: part._negate()  # noqa: SLF001 - of this class
            for name, part in self.parts.items()
        }
        return Usage(
            -self.requests,
            -self.input_tokens,
            -self.output_tokens,
            -self.cached_tokens,
            -self.tool_calls,
            -self.seconds,
            -self.writing,
            model=self.model,
            parts=parts,
        )

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """The speed at which answers were written; None if it is not known."""
        return self.output_tokens / self.writing if self.writing and self.output_tokens else None

    @property
    def by_model(self) -> Mapping[str, Usage]:
        """The usage of each model that was asked, by its name, without the tool calls."""
        if self.parts:
            return dict(self.parts)
        return {self.model: replace(self, tool_calls=0)} if self.requests else {}


def _join_models(one: Usage, other: Usage) -> tuple[str, Mapping[str, Usage] | None]:
    """Return the name of the model of a sum, or the usage of each of its models."""
    if not one.requests:
        return other.model, other.parts
    parts = dict(one.by_model)
    for name, usage in other.by_model.items():
        total = parts[name] + usage if name in parts else usage
        if total.requests:
            parts[name] = total
        else:
            parts.pop(name, None)
    if len(parts) > 1:
        return "", parts
    return next(iter(parts), ""), None


def usage_to_json(usage: Usage) -> dict[str, JSON]:
    """Return the JSON form of a usage; `usage_from_json` reads it."""
    wire: dict[str, JSON] = {name: getattr(usage, name) for name in _COUNT_NAMES}
    wire["seconds"] = round(usage.seconds, 6)
    wire["writing"] = round(usage.writing, 6)
    if usage.first_token is not None:
        wire["first_token"] = round(usage.first_token, 6)
    if usage.model:
        wire["model"] = usage.model
    if usage.parts:
        wire["by_model"] = {name: usage_to_json(part) for name, part in usage.parts.items()}
    return wire


_COUNT_NAMES = ("requests", "input_tokens", "output_tokens", "cached_tokens", "tool_calls")


def usage_from_json(wire: Mapping[str, Any]) -> Usage:  # Any: JSON, checked here
    """Return the usage of a JSON form, also of one without times. Raises ValueError, TypeError."""
    first = wire.get("first_token")
    parts = {str(name): usage_from_json(part) for name, part in wire.get("by_model", {}).items()}
    counts = {name: int(wire.get(name, 0)) for name in _COUNT_NAMES}
    return Usage(
        **counts,
        seconds=float(wire.get("seconds", 0.0)),
        writing=float(wire.get("writing", 0.0)),
        first_token=None if first is None else float(first),
        model=str(wire.get("model", "")),
        parts=parts or None,
    )


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
            wire = _tool_result_to_json(message)
            return _add_provenance(wire, message)
        case System():
            wire = system_to_json(message.text)
            return {**wire, "untrusted": True} if message.untrusted else wire
        case _:
            raise UsageError(
                f"{message!r} is not a message; use System, User, Assistant or ToolResult"
            )


def _tool_result_to_json(message: ToolResult) -> dict[str, JSON]:
    wire = tool_result_to_json(message.call_id, message.name, message.text)
    if message.is_error:
        wire["is_error"] = True
    if message.not_called:
        wire["not_called"] = True
    if message.images:
        wire["images"] = [_part_to_json(image) for image in message.images]
    if message.seconds is not None:
        wire["seconds"] = round(message.seconds, 6)
    if message.data is not None or message.unsaved_data:
        wire.update(data_to_json(message.data, message.unsaved_data))
    return wire


def data_to_json(data: object, unsaved: str = "") -> dict[str, JSON]:
    """Return the key `data` with the JSON value of a tool's data, or `unsaved_data` with its type.

    Dataclasses, pydantic models, numpy arrays, times and UUIDs have a JSON value; sets, bytes and
    other objects have none. unsaved: the type of data that was lost before.
    """
    if data is None:
        return {"unsaved_data": unsaved} if unsaved else {}
    try:
        return {"data": orjson.loads(orjson.dumps(data, _dump_object, _DATA_OPTIONS))}
    except Exception:  # the methods of a user's class may raise anything
        return {"unsaved_data": type(data).__name__}


_DATA_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _dump_object(value: object) -> object:
    if isinstance(value, Untrusted):
        return value.value
    for name, arguments in (("model_dump", {"mode": "json"}), ("_asdict", {})):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method(**arguments)
    raise TypeError


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
            text, images = join_result_parts(_get_content(value))
            return ToolResult(
                _get_string(value, "tool_call_id"),
                _get_string(value, "name"),
                text,
                value.get("is_error") is True,
                untrusted,
                assessed,
                (*images, *_get_images(value)),
                _get_seconds(value),
                value.get("not_called") is True,
                value.get("data"),
                _get_string(value, "unsaved_data"),
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


def join_result_parts(content: Content) -> tuple[str, tuple[Image, ...]]:
    """Return the text of a tool's result, which says where its images belong, and the images."""
    if isinstance(content, str):
        return content, ()
    images = [part for part in content if isinstance(part, Image)]
    numbers = iter(range(1, len(images) + 1))
    lines = (
        part.text if isinstance(part, Text) else format_image(part, next(numbers))
        for part in content
    )
    return "\n".join(lines), tuple(images)


def format_image(image: Image, number: int) -> str:
    """Return what the text of a tool's result has in place of an image."""
    return f"[image {number}: {image.description}]"


def _get_images(value: Mapping[str, JSON]) -> Iterator[Image]:
    """Yield what `to_json` wrote of the images of a tool's result."""
    images = value.get("images")
    if images is None:
        return
    if isinstance(images, str) or not isinstance(images, Sequence):
        raise UsageError(f"a message's images is {images!r:.100}; use a list of image_url parts")
    for part in map(_part_from_json, images):
        if not isinstance(part, Image):
            raise UsageError(f"an image of a message is {part!r:.100}; use an image_url part")
        yield part


def _get_seconds(value: Mapping[str, JSON]) -> float | None:
    seconds = value.get("seconds")
    return float(seconds) if isinstance(seconds, (int, float)) else None


def _has_untrusted_flag(value: Mapping[str, JSON]) -> bool:
    """Whether a message or a part of its content is marked, as `untrusted` or `tainted`."""
    if _has_flag(value, "untrusted") or _has_flag(value, "tainted"):
        return True
    return any(
        _has_untrusted_part_flag(part)
        for parts in (value.get("content"), value.get("images"))
        if not isinstance(parts, str) and isinstance(parts, Sequence)
        for part in parts
    )


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
            raise UsageError(f"a content part is {value!r:.200}; use a text or an image_url part")


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
        elif open_calls:
            for call_id, call in open_calls.items():
                yield results.get(call_id) or _missing_result(call)
            open_calls = {}
        yield message
        if isinstance(message, Assistant) and message.calls:
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

    `has_images` is whether a message has an image. `size` is the number of characters of its texts
    and of the arguments of its calls.
    """

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages: list[Message] = list(messages)
        self._buffers: dict[object, _Buffer] = {}
        self.has_images = any(map(_has_images, self._messages))
        self.size = sum([_count_characters(message) for message in self._messages])

    def append(self, message: Message) -> None:
        """Append a message."""
        self._messages.append(message)
        self.size += len(message.text)
        if isinstance(message, ToolResult):
            self.has_images = self.has_images or bool(message.images)
        elif isinstance(message, Assistant):
            for call in message.calls:
                self.size += len(call.arguments)

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


def _count_characters(message: Message) -> int:
    """Return the number of characters of a message's text and of the arguments of its calls."""
    if isinstance(message, Assistant) and message.calls:
        return len(message.text) + sum([len(call.arguments) for call in message.calls])
    return len(message.text)


def _has_images(message: Message) -> bool:
    if isinstance(message, ToolResult):
        return bool(message.images)
    if not isinstance(message, User) or isinstance(message.content, str):
        return False
    return any(isinstance(part, Image) for part in message.content)


# Images.


MAX_IMAGE_BYTES = 20 * 2**20
"""The largest image that is sent; a model sees a few million pixels, and photos have 2 to 8 MiB."""

_IMAGE_SIGNATURES = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff",
    "gif": b"GIF8",
    "webp": b"RIFF",
}
_IMAGE_URL = r"data:image/(?:png|jpe?g|gif|webp);base64,[a-zA-Z0-9_+/]{60,}={0,2}"
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


class Picture(Protocol):
    """An image of Pillow, which is not imported here: `PIL.Image.Image` has these members."""

    @property
    def mode(self) -> str:
        """How a pixel is stored, such as "RGB"."""
        ...

    @property
    def save(self) -> Callable[..., object]:
        """Write the image to a file: `save(file, format="PNG")`."""
        ...

    @property
    def convert(self) -> Callable[..., Any]:  # Any: another image
        """Return the image in another mode: `convert("RGB")`."""
        ...


PromptPart: TypeAlias = str | Text | Image | bytes | Picture
Prompt: TypeAlias = PromptPart | Sequence[PromptPart]


def to_user_message(prompt: Prompt) -> User:
    """Return a prompt as a message of the user. Raises UsageError."""
    if isinstance(prompt, str):
        return User(prompt)
    parts = prompt if isinstance(prompt, (list, tuple)) else [prompt]
    return User(tuple(_to_content_part(part, index) for index, part in enumerate(parts)))


def _to_content_part(part: object, index: int) -> Text | Image:
    if isinstance(part, (str, Text)):
        return Text(part) if isinstance(part, str) else part
    if is_image(part):
        return to_image(part)
    raise UsageError(
        f"part {index} of the prompt is {part!r:.100}; use a text, or an image: Image.file(path), "
        "the bytes of an image file, or an image of Pillow"
    )


def is_image(value: object) -> bool:
    """Whether a value is an image: `Image`, the bytes of an image file, or an image of Pillow."""
    if isinstance(value, (bytes, bytearray)):
        return detect_image_type(value) is not None
    return isinstance(value, Image) or _is_picture(value)


def _is_picture(value: object) -> TypeGuard[Picture]:
    # Not an isinstance check, which takes as long as a whole result of a tool.
    kind = type(value)
    return hasattr(kind, "save") and hasattr(kind, "convert") and hasattr(kind, "tobytes")


def to_image(value: object) -> Image:
    """Return a value for which `is_image` is true as an `Image` that can be sent.

    Raises UsageError if it cannot be sent: it is too large, or its URL is a path.
    """
    if isinstance(value, Image):
        return _check_image(value)
    if _is_picture(value):
        return Image.from_bytes(_save_picture(value))
    return Image.from_bytes(bytes(cast("bytes", value)))


def _check_image(image: Image) -> Image:
    scheme, _, data = image.url.partition(":")
    if scheme.lower() not in ("data", "https", "http", "file"):
        raise UsageError(f"{image!r} has no URL; use Image.file(path) for a file")
    if scheme.lower() == "data" and len(data) * 3 // 4 > MAX_IMAGE_BYTES + len(data) // 100:
        raise _build_size_error(f"{image!r}", len(data) * 3 // 4)
    return image


def _build_size_error(name: str, size: int) -> UsageError:
    return UsageError(
        f"{name} has {size / 2**20:.0f} MiB; the maximum is {MAX_IMAGE_BYTES >> 20}; "
        "make it smaller"
    )


def _save_picture(picture: Picture) -> bytes:
    """Return the file of an image of Pillow, in its own format if servers accept that."""
    kind = getattr(picture, "format", None)
    kind = kind if kind in ("PNG", "JPEG", "GIF", "WEBP") else "PNG"
    buffer = BytesIO()
    try:
        if kind == "PNG" and picture.mode not in _PNG_MODES:
            picture = cast("Picture", picture.convert("RGB"))
        picture.save(buffer, format=kind, quality=95)
    except Exception as error:  # any error of another library
        raise UsageError(f"{picture!r} cannot be saved as {kind}: {error}") from error
    return buffer.getvalue()


def extract_images(text: str, first: int = 1) -> tuple[str, tuple[Image, ...]]:
    """Return a text without the images that it has as `data:` URLs, and these images.

    A URL that is not a whole image is left as it is. `first` is the number of the first image.
    """
    if ";base64," not in text:
        return text, ()
    images: list[Image] = []

    def replace_url(match: re.Match[str]) -> str:
        image = Image(match.group())
        decoded = decode_image(image)
        if decoded is None or detect_image_type(decoded[1]) is None:
            return match.group()
        images.append(image)
        return format_image(image, first + len(images) - 1)

    return re.sub(_IMAGE_URL, replace_url, text), tuple(images)


def hide_image_data(message: Message) -> Message:
    """Return the message with descriptions in place of `data:` URLs, for logs and displays."""
    if isinstance(message, ToolResult) and message.images:
        return replace(message, images=tuple(map(_hide_data, message.images)))
    if isinstance(message, User) and not isinstance(message.content, str):
        return replace(message, content=tuple(map(_hide_data, message.content)))
    return message


_Part = TypeVar("_Part", Text, Image, Text | Image)


def _hide_data(part: _Part) -> _Part:
    if isinstance(part, Image) and part.url.startswith("data:"):
        return replace(part, url=f"[{part.description}]")
    return part


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
            raise _build_size_error(f"the image {path}", size)
        data = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no image file {path}") from None
    except OSError as error:
        raise UsageError(f"the image {path} cannot be read: {error.strerror or error}") from error
    return encode_data_url(data, str(path))


def encode_data_url(data: bytes, name: str) -> str:
    """Return the bytes of an image file as a `data:` URL; `name` is for the error.

    Raises UsageError if they are not an image that servers accept, or too many.
    """
    kind = detect_image_type(data)
    if kind is None:
        start = f"it starts with {data[:8]!r}" if data else "it is empty"
        raise UsageError(f"{name} is not a PNG, JPEG, WebP or GIF file: {start}")
    if len(data) > MAX_IMAGE_BYTES:
        raise _build_size_error(name, len(data))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def decode_image(image: Image) -> tuple[str, bytes] | None:
    """Return the MIME type and the bytes of an image with a `data:` URL; None for any other."""
    head, _, data = image.url.partition(";base64,")
    if not head.startswith("data:"):
        return None
    try:
        return head[5:], base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def detect_image_type(data: bytes | bytearray) -> str | None:
    """Return "png", "jpeg", "gif" or "webp" by the first bytes of a file; None for other files."""
    for kind, signature in _IMAGE_SIGNATURES.items():
        if data.startswith(signature) and (kind != "webp" or data[8:12] == b"WEBP"):
            return kind
    return None
