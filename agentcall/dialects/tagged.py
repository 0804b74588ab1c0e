"""Values that a family writes between tags without quotes: where they end, and what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agentcall.dialects.offers import ToolSchema
from agentcall.dialects.scan import Delimiters, Scan, TextScanner
from agentcall.jsontext import ParsedJSON, parse_lenient_json
from agentcall.messages import JSON

_TYPE_NAMES: dict[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    str: ("string",),
    type(None): ("null",),
}


@dataclass(frozen=True, slots=True)
class ValueTags:
    """Where a value ends.

    end: its end tag, which counts only where one of `follows` or nothing comes after it, so that
        the same words inside of the value do not end it.
    breaks: tags that end a value whose own end tag is missing, and what has to come after each.
    """

    end: str
    follows: tuple[str, ...]
    breaks: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])


def read_tagged_value(scanner: TextScanner, tags: ValueTags) -> Scan[tuple[str, str]]:
    """The value up to the tag that ends it, and that tag; no tag at the end of the text."""
    delimiters = Delimiters(tags.end, *tags.breaks)
    pieces: list[str] = []
    while True:
        text, needle = yield from scanner.read_until(delimiters)
        pieces.append(text)
        if not needle:
            return "".join(pieces), ""
        seen = yield from scanner.look_past_blanks(*tags.breaks.get(needle, tags.follows))
        if seen or (seen == "" and (needle == tags.end or scanner.is_complete)):
            return "".join(pieces), needle
        pieces.append(needle)


def encode_value(text: str, schema: ToolSchema, root: ToolSchema) -> str:
    """The JSON text of a value written without quotes, as its schema wants it.

    Without a schema a value that reads as JSON is that, all other values are strings.
    """
    kinds = _get_allowed_types(schema, root)
    if kinds == {"string"}:
        return _encode_string(text)
    written = _parse_value(text.strip())
    if written is None:
        return _encode_string(text)
    if kinds and "string" in kinds and not kinds & set(_get_type_names(written[0])):
        return _encode_string(text)
    return _encode_string(text) if isinstance(written[0], str) and not kinds else written[1]


def _encode_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _parse_value(text: str) -> tuple[JSON, str] | None:
    """The value and its text, if it is written as JSON or as Python writes it."""
    if text in ("True", "False", "None"):
        return {"True": (True, "true"), "False": (False, "false"), "None": (None, "null")}[text]
    try:
        return cast("JSON", json.loads(text)), text
    except (ValueError, RecursionError):
        pass
    if not text.startswith(("{", "[")):
        return None
    read = parse_lenient_json(text)
    return (read.value, text) if isinstance(read, ParsedJSON) else None


def _get_type_names(value: JSON) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return ("object",)
    return _TYPE_NAMES.get(type(value), ("array",))


def get_property_schema(schema: ToolSchema, key: str) -> ToolSchema:
    """The schema of one property, empty if there is none."""
    properties = schema.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _get_allowed_types(schema: ToolSchema, root: ToolSchema, depth: int = 0) -> set[str]:
    """The names of the types that a schema allows; empty if it says nothing."""
    schema = _resolve_reference(schema, root)
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    kinds = {one for one in _to_sequence(kind) if isinstance(one, str)}
    if depth < 8:
        for key in ("anyOf", "oneOf", "allOf"):
            for option in _to_sequence(schema.get(key)):
                if isinstance(option, Mapping):
                    kinds |= _get_allowed_types(option, root, depth + 1)
    if kinds:
        return kinds
    values = [*_to_sequence(schema.get("enum")), *([schema["const"]] if "const" in schema else [])]
    return {name for value in values for name in _get_type_names(value)}


def _to_sequence(value: JSON) -> Sequence[JSON]:
    return value if isinstance(value, (list, tuple)) else ()


def _resolve_reference(schema: ToolSchema, root: ToolSchema) -> ToolSchema:
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
