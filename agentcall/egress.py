"""What a call sends out: arguments that leave for an address, and whether the user wrote them.

A tool that only looks may still carry data out in what it asks for: the server of a URL reads the
URL. A model that has read untrusted content may have been told which URL to ask for, and to put
into it what it knows. What the user wrote can be sent: nobody else chose it.

Rules:
1. Texts and numbers count, keys of objects included; true, false, null and a parameter's default
   carry nothing.
2. The user wrote a value if it stands in a message of the user as a whole: a part of a longer
   address or word is another address or word. `www.example.org` stands for `https://www.example.org/`,
   and for host names upper and lower case are the same.
3. Messages that are tainted, and parts that are untrusted, are not the user's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import orjson

from agentcall.messages import JSON, Message, ToolCall, User
from agentcall.tool import Tool

_LETTER = r"[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]"  # Chinese and Japanese have no blanks
_BEFORE = rf"(?<!{_LETTER})(?<![-./@:%?&=#+~])"
_AFTER = rf"(?!{_LETTER})(?![-/@%&=#+~])(?![.:?!,;]+\w)"


def find_foreign_arguments(tool: Tool, call: ToolCall, messages: Iterable[Message]) -> list[str]:
    """The names of the arguments that the tool sends out and that the user did not write."""
    leaving = _select_egress(tool, call)
    if not leaving:
        return []
    user_text = " ".join("\n".join(_iter_user_texts(messages)).split())
    return [
        name
        for name, value in leaving.items()
        if not all(_contains_word(word, user_text) for word in _iter_texts(value))
    ]


def _select_egress(tool: Tool, call: ToolCall) -> dict[str, JSON]:
    """The arguments that are sent out, without those that have their default."""
    marked = tool.options.egress
    if not marked:
        return {}
    given = _parse_object(call.arguments)
    if given is None:
        return {"arguments": call.arguments}
    defaults = dict(_iter_defaults(tool))
    return {
        name: value
        for name, value in given.items()
        if (marked is True or name in marked) and not (name in defaults and defaults[name] == value)
    }


def _parse_object(arguments: str) -> Mapping[str, JSON] | None:
    """The arguments by name; None where they cannot be read here."""
    if arguments.strip() in ("", "null"):  # as a tool without required parameters takes them
        return {}
    try:
        value: JSON = orjson.loads(arguments)
    except ValueError:
        return None
    return value if isinstance(value, Mapping) else None


def _iter_defaults(tool: Tool) -> Iterator[tuple[str, JSON]]:
    properties = cast("Mapping[str, JSON]", tool.parameters.get("properties", {}))
    for name, schema in properties.items():
        if isinstance(schema, Mapping) and "default" in schema:
            yield name, schema["default"]


def _iter_user_texts(messages: Iterable[Message]) -> Iterator[str]:
    """What the user wrote."""
    for message in messages:
        if isinstance(message, User) and not message.tainted:
            yield message.trusted_text


def _iter_texts(value: JSON) -> Iterator[str]:
    """The texts in a value, however deep."""
    left = [value]
    while left:
        match left.pop():
            case None | bool():
                pass
            case Mapping() as inner:
                yield from inner
                left += inner.values()
            case str() | int() | float() as plain:
                yield str(plain)
            case items:
                left += items


def _contains_word(word: str, text: str) -> bool:
    """Whether the word stands in the text, and is no part of a longer one."""
    word = " ".join(word.split())
    scheme, found, rest = word.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        scheme, rest = "https?", word
    host, slash, path = rest.rstrip("/").partition("/")
    if not host:
        return not word
    pattern = f"{_BEFORE}(?ai:(?:{scheme}://)?{re.escape(host)}){re.escape(slash + path)}/?{_AFTER}"
    return re.search(pattern, text) is not None
