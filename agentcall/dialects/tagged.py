"""Values that a family writes between tags without quotes: where they end, and what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agentcall.dialects.offers import Schema
from agentcall.dialects.scan import Needles, Source, Steps
from agentcall.jsontext import Whole, read_json
from agentcall.messages import JSON

_NAMES: dict[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    str: ("string",),
    type(None): ("null",),
}


@dataclass(frozen=True, slots=True)
class Tags:
    """Where a value ends.

    end: its end tag, which counts only where one of `follows` or nothing comes after it, so that
        the same words inside of the value do not end it.
    breaks: tags that end a value whose own end tag is missing, and what has to come after each.
    """

    end: str
    follows: tuple[str, ...]
    breaks: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])


def tagged_value(source: Source, tags: Tags) -> Steps[tuple[str, str]]:
    """The value up to the tag that ends it, and that tag; no tag at the end of the text."""
    needles = Needles(tags.end, *tags.breaks)
    pieces: list[str] = []
    while True:
        text, needle = yield from source.upto(needles)
        pieces.append(text)
        if not needle:
            return "".join(pieces), ""
        seen = yield from source.ahead(*tags.breaks.get(needle, tags.follows))
        if seen or (seen == "" and (needle == tags.end or source.finished)):
            return "".join(pieces), needle
        pieces.append(needle)


def json_of(text: str, schema: Schema, root: Schema) -> str:
    """The JSON text of a value written without quotes, as its schema wants it.

    Without a schema a value that reads as JSON is that, all other values are strings.
    """
    kinds = _kinds(schema, root)
    if kinds == {"string"}:
        return _string(text)
    written = _written(text.strip())
    if written is None:
        return _string(text)
    if kinds and "string" in kinds and not kinds & set(_kind(written[0])):
        return _string(text)
    return _string(text) if isinstance(written[0], str) and not kinds else written[1]


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _written(text: str) -> tuple[JSON, str] | None:
    """The value and its text, if it is written as JSON or as Python writes it."""
    if text in ("True", "False", "None"):
        return {"True": (True, "true"), "False": (False, "false"), "None": (None, "null")}[text]
    try:
        return cast("JSON", json.loads(text)), text
    except (ValueError, RecursionError):
        pass
    if not text.startswith(("{", "[")):
        return None
    read = read_json(text)
    return (read.value, text) if isinstance(read, Whole) else None


def _kind(value: JSON) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return ("object",)
    return _NAMES.get(type(value), ("array",))


def property_schema(schema: Schema, key: str) -> Schema:
    """The schema of one property, empty if there is none."""
    properties = schema.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _kinds(schema: Schema, root: Schema, depth: int = 0) -> set[str]:
    """The names of the types that a schema allows; empty if it says nothing."""
    schema = _resolved(schema, root)
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    kinds = {one for one in _list(kind) if isinstance(one, str)}
    if depth < 8:
        for key in ("anyOf", "oneOf", "allOf"):
            for option in _list(schema.get(key)):
                if isinstance(option, Mapping):
                    kinds |= _kinds(option, root, depth + 1)
    if kinds:
        return kinds
    values = [*_list(schema.get("enum")), *([schema["const"]] if "const" in schema else [])]
    return {name for value in values for name in _kind(value)}


def _list(value: JSON) -> Sequence[JSON]:
    return value if isinstance(value, (list, tuple)) else ()


def _resolved(schema: Schema, root: Schema) -> Schema:
    for _ in range(8):
        ref = schema.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#/"):
            break
        found: JSON = root
        for step in ref[2:].split("/"):
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
        if not isinstance(found, Mapping):
            return {}
        schema = found
    return schema
