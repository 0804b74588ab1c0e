"""True and false where a number is wanted: pydantic reads them as 1 and 0, without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agentcall.messages import JSON
from agentcall.schema.definitions import REF, Schema, is_list, is_schema

_KINDS: dict[type, tuple[str, ...]] = {
    bool: ("boolean", "integer", "number"),
    dict: ("object",),
    list: ("array",),
}


def has_flag_for_number(wire: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    """Whether true or false stands somewhere in a value where its schema wants a number.

    A value is judged by the choices of a union (`anyOf`) that are of its type; if one of them takes
    it as it is, it is fine.
    """
    if not isinstance(wire, (bool, dict, list)):
        return False
    schema = _resolved(schema, definitions)
    choices = schema.get("anyOf", schema.get("oneOf"))
    if is_list(choices):
        fitting = [
            each for each in choices if is_schema(each) and _may_hold(wire, each, definitions)
        ]
        return bool(fitting) and all(
            has_flag_for_number(wire, each, definitions) for each in fitting
        )
    if isinstance(wire, bool):
        return schema.get("type") in ("integer", "number")
    return any(
        has_flag_for_number(item, below, definitions) for item, below in _members(wire, schema)
    )


def _may_hold(wire: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    kind = _resolved(schema, definitions).get("type")
    return kind is None or kind in _KINDS.get(type(wire), ())


def _members(wire: JSON, schema: Schema) -> Iterator[tuple[JSON, Schema]]:
    """The items of a list or object, each with its schema."""
    if isinstance(wire, Mapping):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties")
        found = ((item, known.get(key, more)) for key, item in wire.items())
    else:
        items = wire if isinstance(wire, list) else []
        first = schema.get("prefixItems", [])
        rest = schema.get("items")
        found = (
            (item, first[place] if place < len(first) else rest) for place, item in enumerate(items)
        )
    yield from ((item, below) for item, below in found if is_schema(below))


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix(REF)
    return definitions.get(name, schema)
