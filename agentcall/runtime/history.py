"""Conversations from elsewhere: read in the forms that users have, then mended or refused.

Forms: OpenAI's chat completions (also the legacy `function_call` and role `function`, and the
objects of the `openai` package), messages of LangChain and LiteLLM, items of OpenAI's Responses
API, blocks of Anthropic's tool use, images of Ollama, and `RunResult.messages` in any form. Objects
are read by their `model_dump`; none of those packages is imported. Sources: POST
/v1/chat/completions and POST /v1/responses of OpenAI's API reference, `langchain_core.messages`
1.8, `litellm` 1.110.

Rules:
1. Every tool call is followed by exactly one result. A result that is elsewhere is moved to its
   call, parts of a result are joined, a call without a result gets `NO_RESULT`.
2. A result without an id belongs to the only call that it can belong to, and counts as untrusted
   content if that has an id. So does a result whose call is not in the conversation, which becomes
   a user message.
3. Every call has an id of its own, a name, and a JSON object as arguments. Arguments that are not
   one are kept as text under the key `INVALID_JSON`.
4. What cannot be mended without guessing, and content that cannot be sent (audio, files), is
   refused: UsageError names the index of the message and what to do.
5. Whatever is mended is logged as a warning of `agentcall.history`. Nothing is left out silently.
"""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import orjson

from agentcall.errors import UsageError
from agentcall.lenient_json import ParsedJSON, parse_lenient_json
from agentcall.messages import (
    JSON,
    NO_RESULT,
    Assistant,
    Image,
    Message,
    System,
    Text,
    ToolCall,
    ToolResult,
    User,
    encode_json,
    from_json,
)

Wire: TypeAlias = Mapping[str, Any]  # Any: JSON of any form, which this module checks

INVALID_JSON = "INVALID_JSON"
"""The key of arguments that are not a JSON object."""

_log = logging.getLogger("agentcall.history")
_MESSAGE_TYPES = (System, User, Assistant, ToolResult)

_LANGCHAIN_ROLES = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "function",
    "FunctionMessageChunk": "function",
}
_USE_PART = "use a text or an image_url part"
_USE_CONTENT = "put a text or a list of parts under 'content'"
_SPEAKING_KEYS = {
    "tool_calls",
    "function_call",
    "refusal",
    "reasoning_content",
    "reasoning",
    "images",
}
"""What a message may have in place of content."""


def read_history(history: object) -> tuple[Message, ...]:
    """Return the messages of a conversation, which may be sent.

    history: a list of messages in any of the forms above, or its JSON text. Raises UsageError with
    the index of the message that cannot be read or mended.
    """
    items: Sequence[object] = () if history is None else _list_items(history)
    builder = _HistoryBuilder()
    for index, item in enumerate(items):
        try:
            for message in _read_item(item):
                builder.add(index, message)
        except UsageError as error:
            raise UsageError(f"messages[{index}]: {error}") from None
    return tuple(builder.build())


def _list_items(history: object) -> Sequence[object]:
    if isinstance(history, (str, bytes)):
        try:
            history = cast("object", orjson.loads(history))
        except ValueError as error:
            raise UsageError(f"a history is not JSON: {error}") from None
    if isinstance(history, Mapping):
        inner = cast("Wire", history).get("messages")
        if inner is None or isinstance(inner, (str, bytes)):
            raise UsageError("messages= is one message; use a list of messages")
        history = cast("object", inner)
    if isinstance(history, str) or not isinstance(history, Iterable):
        hint = "pass its messages" if hasattr(history, "messages") else "use a list of messages"
        raise UsageError(f"a history is {history!r:.100}; {hint}")
    return list(cast("Iterable[object]", history))


# One item: a message, an object or a dict of another library.


def _read_item(item: object) -> Iterator[Message]:
    if isinstance(item, _MESSAGE_TYPES):
        yield item
        return
    wire = _to_openai_form(_to_wire(item))
    if wire.get("role") not in ("system", "developer", "user", "assistant", "tool", "function"):
        raise UsageError(
            f"a message has the role {wire.get('role')!r}; use system, user, assistant or tool"
        )
    for kind in ("audio", "files", "attachments"):
        if wire.get(kind):
            raise UsageError(f"it has {kind}, which cannot be sent; {_USE_PART}")
    others = sorted(key for key, value in wire.items() if value and key not in ("role", "id"))
    if "content" not in wire and others and _SPEAKING_KEYS.isdisjoint(others):
        raise UsageError(f"it has no content, but {', '.join(others)}; {_USE_CONTENT}")
    if wire["role"] in ("user", "assistant") and wire.get("name"):
        _log.warning("the name %r of a message is not sent", wire["name"])
    if wire["role"] == "assistant":
        yield from _read_assistant(wire)
    else:
        yield from _read_other(wire)


def _to_wire(item: object) -> Wire:
    """Return the fields of a message; a pair is a role and a content, as in LangChain."""
    if isinstance(item, Mapping):
        return cast("Wire", item)
    if isinstance(item, (tuple, list)):
        pair = cast("Sequence[object]", item)
        if len(pair) == 2:
            return {"role": _LANGCHAIN_ROLES.get(str(pair[0]), pair[0]), "content": pair[1]}
    return _dump_object(item)


def _dump_object(item: Any) -> Wire:  # Any: an object of another library
    dump = getattr(item, "model_dump", None)
    if not callable(dump) or isinstance(item, type):
        raise UsageError(
            f"{item!r:.100} is not a message; use User(...), or {{'role': 'user', ...}}"
        )
    return cast("Wire", dump(mode="json"))


def _to_openai_form(wire: Wire) -> Wire:
    """Return a message of LangChain, or an item of the Responses API, in OpenAI's chat form."""
    if "choices" in wire:
        raise UsageError("it is a whole answer of the API; use its choices[0].message")
    if "lc" in wire:  # langchain_core.load.dumpd
        wire = cast("Wire", wire.get("kwargs", {}))
    if "role" in wire and wire.get("type") != "chat":
        return wire
    kind = wire.get("type")
    if isinstance(wire.get("data"), Mapping):  # langchain_core.messages.messages_to_dict
        wire = {**wire["data"], "type": kind}
    match kind:
        case "function_call":
            call = {**wire, "id": wire.get("call_id") or wire.get("id")}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            content = wire.get("output")
            return {"role": "tool", "tool_call_id": wire.get("call_id"), "content": content}
        case "reasoning":
            texts = [*(wire.get("summary") or ()), *(wire.get("content") or ())]
            thinking = "\n".join(str(_get(part, "text") or "") for part in texts)
            return {"role": "assistant", "content": None, "reasoning_content": thinking}
        case "chat":
            return wire
        case _ if kind in _LANGCHAIN_ROLES:
            return _langchain_to_openai(wire, _LANGCHAIN_ROLES[str(kind)])
        case _:
            return {**wire, "role": wire.get("role", kind)}


def _langchain_to_openai(wire: Wire, role: str) -> Wire:
    more = cast("Wire", wire.get("additional_kwargs") or {})
    calls = [*(wire.get("tool_calls") or ()), *(wire.get("invalid_tool_calls") or ())]
    fields: dict[str, Any] = {  # Any: as in Wire
        **wire,
        "role": role,
        "name": wire.get("name") if role in ("tool", "function") else None,
        "tool_calls": calls or more.get("tool_calls"),
    }
    if not calls:
        fields["function_call"] = more.get("function_call")
    if thinking := more.get("reasoning_content"):
        fields["reasoning_content"] = thinking
    if wire.get("status") == "error":
        fields["is_error"] = True
    return fields


def _read_assistant(wire: Wire) -> Iterator[Message]:
    """Yield a message of the model; its blocks may be calls and thinking."""
    calls = [_read_call(call) for call in _list_calls(wire)]
    parts: list[JSON] = []
    thinking = [str(wire.get("reasoning_content") or wire.get("reasoning") or "")]
    for part in _list_parts(wire):
        match part:
            case {"type": "tool_use", "id": call_id}:  # Anthropic; LangChain has it in both places
                if all(call.id != call_id for call in calls):
                    calls.append(_read_call(part))
            case {"type": "thinking" | "reasoning"}:
                kinds = ("thinking", "reasoning", "text")
                thinking += (str(part[kind]) for kind in kinds if part.get(kind))
            case {"type": "refusal", "refusal": str(text)}:
                parts.append({"type": "text", "text": text})
            case {"type": "tool_call" | "redacted_thinking"}:
                pass
            case _:
                parts.append(_check_part(part, only_text=True))
    if wire.get("refusal"):
        parts.append({"type": "text", "text": str(wire["refusal"])})
    fields = {**wire, "content": parts, "tool_calls": None}
    fields["reasoning_content"] = "\n".join(filter(None, thinking))
    message = cast("Assistant", from_json(fields))
    yield replace(message, calls=tuple(calls))


def _read_other(wire: Wire) -> Iterator[Message]:
    """Yield a message of the user or a tool, or instructions; blocks may be results of tools."""
    if wire["role"] in ("tool", "function") and not _has_parts(wire.get("content")):
        text = encode_json(wire["content"]).decode()
        yield from_json({**wire, "content": text})
        return
    parts: list[JSON] = []
    has_results = False
    for part in _list_parts(wire):
        if _get(part, "type") == "tool_result":  # Anthropic
            has_results = True
            fields = {**part, "role": "tool", "tool_call_id": part.get("tool_use_id")}
            yield from _read_other(fields)
        else:
            only_text = wire["role"] in ("system", "developer")
            parts.append(_check_part(part, only_text=only_text))
    if wire["role"] == "user":
        parts += map(_read_bare_image, wire.get("images") or ())
    if parts or not has_results:
        yield from_json({**wire, "content": _join_parts(parts)})


def _read_bare_image(image: object) -> JSON:
    """Return the part of an image of Ollama's own API: base64, or a URL."""
    if not isinstance(image, str):
        raise UsageError(f"an image is {image!r:.100}; {_USE_PART}")
    if not image.startswith(("http:", "https:", "data:")):
        try:
            image = Image.from_bytes(b64decode(image, validate=True)).url
        except ValueError:
            raise UsageError(
                f"an image is {image!r:.40}, which is not base64; {_USE_PART}"
            ) from None
    return {"type": "image_url", "image_url": image}


def _has_parts(content: object) -> bool:
    """Whether the content of a tool's result is a text or a list of parts, and not any JSON."""
    if isinstance(content, list):
        parts = cast("list[object]", content)
        return all(isinstance(part, str) or isinstance(_get(part, "type"), str) for part in parts)
    return content is None or isinstance(content, str) or isinstance(_get(content, "type"), str)


def _list_parts(wire: Wire) -> list[Any]:  # Any: as in Wire
    """Return the parts of a message's content, a text as one."""
    content: object = wire.get("content")
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, Mapping):
        return [cast("Wire", content)]
    if not isinstance(content, Sequence):
        raise UsageError(f"its content is {content!r:.100}; use a text or a list of parts")
    parts = cast("Iterable[Any]", content)  # Any: as in Wire
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]


def _join_parts(parts: Sequence[JSON]) -> JSON:
    """Return parts as a content: one text without a mark as text."""
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": str(text), **others}] if not others:
            return text
        case _:
            return list(parts)


def _check_part(part: Any, *, only_text: bool) -> JSON:
    """Return a part that can be carried. Raises UsageError for any other."""
    match part:
        case {"type": "text" | "input_text" | "output_text", "text": str()}:
            return cast("JSON", part)
        case {"type": "image_url" | "input_image", "image_url": str() | {"url": str()}}:
            if only_text:
                raise UsageError("an image is in a message of another role than user or tool")
            return cast("JSON", part)
        case {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}} | {
            "type": "image",
            "source_type": "base64",
            "mime_type": kind,
            "data": data,
        }:  # Anthropic, LangChain
            url = f"data:{kind};base64,{data}"
            return _check_part({"type": "image_url", "image_url": url}, only_text=only_text)
        case {"type": "image", "url": str(url)} | {"type": "image", "source": {"url": str(url)}}:
            return _check_part({"type": "image_url", "image_url": url}, only_text=only_text)
        case {"type": kind}:
            raise UsageError(
                f"a content part is of the type {kind!r}, which cannot be sent; {_USE_PART}"
            )
        case _:
            raise UsageError(f"a content part is {part!r:.100}; {_USE_PART}")


def _list_calls(wire: Wire) -> Sequence[Any]:  # Any: as in Wire
    calls = wire.get("tool_calls") or ()
    if isinstance(calls, (str, bytes)) or not isinstance(calls, Sequence):
        raise UsageError(f"its tool_calls is {calls!r:.100}; use a list of calls")
    legacy = wire.get("function_call")
    return [*calls, *([legacy] if legacy else [])]


def _read_call(call: Any) -> ToolCall:
    """Read a call of any form; a name or an id that is missing is empty."""
    if not isinstance(call, Mapping):
        raise UsageError(f"a tool call is {call!r:.100}; it needs function.name and .arguments")
    wire = cast("Wire", call)
    function = wire.get("function") or wire.get("custom") or wire
    name = _get(function, "name")
    if _get(function, "arguments") is None and isinstance(text := _get(function, "input"), str):
        arguments: Any = {"input": text}  # a custom tool takes a text
    else:
        arguments = next(
            (v for k in ("arguments", "args", "input") if (v := _get(function, k)) is not None), ""
        )
    call_id = wire.get("id")
    return ToolCall(
        call_id if isinstance(call_id, str) else "",
        name if isinstance(name, str) else "",
        arguments if isinstance(arguments, str) else encode_json(arguments).decode(),
    )


def _get(value: Any, key: str) -> Any:
    return cast("Wire", value).get(key) if isinstance(value, Mapping) else None


# The whole conversation: each call with its result.


@dataclass(slots=True)
class _Call:
    """A call, and its result once it is found. `given_id` is its id in the history."""

    call: ToolCall
    given_id: str
    result: ToolResult | None = None


@dataclass(slots=True)
class _Entry:
    """A message at its place; a result is at its call, unless that is not found."""

    index: int
    message: Message
    calls: list[_Call] = field(default_factory=list["_Call"])


class _HistoryBuilder:
    """Collects the messages of a history, and returns them in an order that may be sent."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._turns: list[_Entry] = []  # those with calls
        self._early: list[_Entry] = []  # results whose call has not been found
        self._ids: set[str] = set()

    def add(self, index: int, message: Message) -> None:
        """Add the message with this index. Raises UsageError if it cannot be placed."""
        match message:
            case ToolResult():
                if not self._place_result(index, message):
                    self._early.append(_Entry(index, message))
                    self._entries.append(self._early[-1])
            case Assistant():
                self._add_answer(index, message)
            case _:
                self._entries.append(_Entry(index, message))

    def build(self) -> Iterator[Message]:
        """Yield the messages. Raises UsageError for a call without a name."""
        for entry in self._entries:
            match entry.message:
                case ToolResult() as result:
                    _report(entry.index, "a result without its call is sent as a user message")
                    yield _to_user_message(result)
                case Assistant() as answer:
                    calls = tuple(_complete_call(entry.index, call) for call in entry.calls)
                    yield answer if calls == answer.calls else replace(answer, calls=calls)
                    for call, known in zip(calls, entry.calls, strict=True):
                        yield _complete_result(entry.index, call, known.result)
                case message:
                    yield message

    def _add_answer(self, index: int, message: Assistant) -> None:
        if not (message.calls or message.text or message.thinking):
            _report(index, "an empty message of the assistant is left out")
            return
        calls = [_Call(self._assign_id(index, call), call.id) for call in message.calls]
        self._entries.append(_Entry(index, message, calls))
        if not calls:
            return
        self._turns.append(self._entries[-1])
        early, self._early = self._early, []
        for entry in early:
            if self._place_by_id(cast("ToolResult", entry.message), self._turns[-1:]):
                _report(entry.index, "a result before its call is moved behind it")
                self._entries.remove(entry)
            else:
                self._early.append(entry)

    def _place_by_id(self, result: ToolResult, turns: Iterable[_Entry]) -> _Entry | None:
        """Put a result to the first call with its id that has none, and return the turn."""
        for entry in turns:
            for call in entry.calls:
                if result.call_id and call.given_id == result.call_id and call.result is None:
                    call.result = result
                    return entry
        return None

    def _assign_id(self, index: int, call: ToolCall) -> ToolCall:
        """Return the call with an id of its own; one that is missing gets nine letters and digits,
        which is the form that Mistral's servers require."""
        call_id, number = call.id, 0
        while not call_id or call_id in self._ids:
            call_id = f"call{index % 1000:03}{number % 100:02}"
            number += 1
        self._ids.add(call_id)
        if call_id == call.id:
            return call
        why = f"the id {call.id!r} of a call is not unique" if call.id else "a call has no id"
        _report(index, f"{why}; it is sent as {call_id!r}")
        return replace(call, id=call_id)

    def _place_result(self, index: int, result: ToolResult) -> bool:
        """Put a result to its call; False if the call has not been found yet."""
        entry = self._place_by_id(result, reversed(self._turns))
        if entry is not None:
            if entry is not self._entries[-1]:
                _report(index, "a result is moved behind its call")
            return True
        for call in (call for entry in reversed(self._turns) for call in entry.calls):
            if result.call_id and call.given_id == result.call_id and call.result is not None:
                _report(index, "a second result of a call is joined to the first")
                call.result = _join_results(call.result, result)
                return True
        return self._match_without_id(index, result)

    def _match_without_id(self, index: int, result: ToolResult) -> bool:
        """Put a result without an id, or a call without one, to the only possible call."""
        open_calls: Iterator[list[_Call]] = (
            [c for c in e.calls if c.result is None] for e in reversed(self._turns)
        )
        waiting: list[_Call] = next(filter(None, open_calls), list[_Call]())
        if result.call_id:
            waiting = [call for call in waiting if not call.given_id]
        named = [call for call in waiting if result.name in ("", call.call.name)]
        if len(named) == 1:
            _report(index, f"a result without an id is taken as that of {named[0].call.name!r}")
            is_marked = result.untrusted or result.call_id != named[0].given_id
            named[0].result = replace(result, untrusted=is_marked)
            return True
        if len(named) > 1 and not result.call_id:
            ids = ", ".join(repr(call.given_id or call.call.name) for call in named)
            raise UsageError(
                f"a tool result has no tool_call_id, and {len(named)} calls wait for one ({ids}); "
                "set tool_call_id to the id of its call"
            )
        if len(named) > 1:
            raise UsageError(
                f"a tool result has the tool_call_id {result.call_id!r}, and {len(named)} calls "
                "have no id; set the id of each call"
            )
        return False


def _report(index: int, what: str) -> None:
    _log.warning("messages[%d]: %s", index, what)


def _complete_call(index: int, known: _Call) -> ToolCall:
    """Return the call with a name and a JSON object as arguments."""
    call = known.call
    name = call.name or (known.result.name if known.result is not None else "")
    if not name:
        raise UsageError(f"messages[{index}]: a tool call has no name; set its function.name")
    arguments, repair = _repair_arguments(call.arguments)
    if repair:
        _report(index, f"the arguments of {name!r} {repair}")
    return (
        call
        if (name, arguments) == (call.name, call.arguments)
        else ToolCall(call.id, name, arguments)
    )


def _repair_arguments(text: str) -> tuple[str, str]:
    """Return arguments as a JSON object, and what was repaired."""
    try:
        value: object = orjson.loads(text)
    except ValueError:
        parsed = parse_lenient_json(text)
        value = parsed.value if isinstance(parsed, ParsedJSON) else text
    else:
        if isinstance(value, dict):
            return text, ""
    if value is None or value == "":
        return "{}", "were empty"
    if isinstance(value, str):
        with suppress(ValueError):
            value = cast("object", orjson.loads(value))
    if isinstance(value, dict):
        return encode_json(cast("JSON", value)).decode(), "were not JSON, and are"
    return encode_json({INVALID_JSON: text}).decode(), "are not a JSON object, and are sent as text"


def _complete_result(index: int, call: ToolCall, result: ToolResult | None) -> ToolResult:
    """Return the result under the id and the name of its call."""
    if result is None:
        _report(index, f"the call of {call.name!r} has no result; the model reads that")
        return ToolResult(call.id, call.name, NO_RESULT, is_error=True, assessed=True)
    if result.call_id == call.id and result.name:
        return result
    return replace(result, call_id=call.id, name=result.name or call.name)


def _join_results(first: ToolResult, second: ToolResult) -> ToolResult:
    if (first.text, first.images) == (second.text, second.images):
        return first
    return replace(
        first,
        text="\n".join(filter(None, (first.text, second.text))),
        is_error=first.is_error or second.is_error,
        untrusted=first.untrusted or second.untrusted,
        assessed=first.assessed and second.assessed,
        images=(*first.images, *second.images),
    )


def _to_user_message(result: ToolResult) -> User:
    name = result.name or "a tool"
    text = f"The result of {name}, whose call is not in this conversation:\n{result.text}"
    images = (replace(image, untrusted=True) for image in result.images)
    return User((Text(text, untrusted=True), *images), tainted=True)
