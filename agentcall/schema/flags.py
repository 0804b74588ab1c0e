"""True and false where a number is wanted: pydantic reads them as 1 and 0, without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agentcall.messages import JSON
from agentcall.schema.definitions import REF_PREFIX, Schema, is_list, is_schema

_KINDS: dict[type, tuple[str, ...]] = {
    bool: ("boolean", "integer", "number"),
    dict: ("object",),
    list: ("array",),
}


def has_bool_for_number(value: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    """Whether true or false stands somewhere in a value where its schema wants a number.

    A value is judged by the choices of a union (`anyOf`) that are of its type; if one of them takes
    it as it is, it is fine.
    """
    if not isinstance(value, (bool, dict, list)):
        return False
    schema = _resolve_reference(schema, definitions)
    choices = schema.get("anyOf", schema.get("oneOf"))
    if is_list(choices):
        fitting = [
            each for each in choices if is_schema(each) and _can_hold(value, each, definitions)
        ]
        return bool(fitting) and all(
            has_bool_for_number(value, each, definitions) for each in fitting
        )
    if isinstance(value, bool):
        return schema.get("type") in ("integer", "number")
    return any(
        has_bool_for_number(item, below, definitions)
        for item, below in _iter_members(value, schema)
    )


def _can_hold(value: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    kind = _resolve_reference(schema, definitions).get("type")
    return kind is None or kind in _KINDS.get(type(value), ())


def _iter_members(value: JSON, schema: Schema) -> Iterator[tuple[JSON, Schema]]:
    """The items of a list or object, each with its schema."""
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties")
        found = ((item, known.get(key, more)) for key, item in value.items())
    else:
        items = value if isinstance(value, list) else []
        first = schema.get("prefixItems", [])
        rest = schema.get("items")
        found = (
            (item, first[place] if place < len(first) else rest) for place, item in enumerate(items)
        )
    yield from ((item, below) for item, below in found if is_schema(below))


def _resolve_reference(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix(REF_PREFIX)
    return definitions.get(name, schema)
