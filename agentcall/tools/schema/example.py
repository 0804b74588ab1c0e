"""An example of a value of a JSON Schema, to show a model what it has to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from agentcall.messages import JSON

_MAX_DEPTH = 4
_VALUES: dict[str, JSON] = {
    "string": "...",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
    "array": [],
    "object": {},
}


def build_example(schema: Mapping[str, JSON]) -> JSON:
    """Return an example of a value; of an object the required members, or the first one.

    >>> build_example({"type": "object", "properties": {"day": {"type": "string"}}})
    {'day': '...'}
    """
    definitions = cast("Mapping[str, Mapping[str, JSON]]", schema.get("$defs", {}))
    return _build(schema, definitions, 0)


def _build(
    schema: Mapping[str, JSON], definitions: Mapping[str, Mapping[str, JSON]], depth: int
) -> JSON:
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        found = definitions.get(name, {})
        return None if depth > _MAX_DEPTH else _build(found, definitions, depth + 1)
    for key in ("const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    for key in ("enum", "examples", "anyOf", "oneOf", "allOf"):
        options = schema.get(key)
        if isinstance(options, Sequence) and not isinstance(options, str) and options:
            first = options[0]
            if key.endswith("Of") and isinstance(first, Mapping):
                return _build(first, definitions, depth + 1)
            return first
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and properties:
        required = schema.get("required")
        names = [str(name) for name in required] if isinstance(required, Sequence) else []
        members = cast("Mapping[str, Mapping[str, JSON]]", properties)
        return {
            name: _build(members[name], definitions, depth + 1)
            for name in names or list(members)[:1]
            if name in members and depth <= _MAX_DEPTH
        }
    items = schema.get("items")
    if isinstance(items, Mapping) and depth <= _MAX_DEPTH:
        return [_build(items, definitions, depth + 1)]
    kind = schema.get("type")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = kind[0] if kind else "null"
    return _VALUES.get(str(kind))
