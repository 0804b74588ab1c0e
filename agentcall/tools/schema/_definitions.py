"""JSON Schemas as values, and the definitions that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeGuard

Schema: TypeAlias = dict[str, Any]  # Any: a JSON Schema is any JSON object

REF_PREFIX = "#/$defs/"
"""The beginning of a reference to a definition."""


def is_schema(value: object) -> TypeGuard[Schema]:
    """Whether this is an object; JSON Schema also allows true and false as schemas."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether this is a list."""
    return isinstance(value, list)


NAMED_SCHEMA_KEYWORDS = (
    "properties",
    "$defs",
    "definitions",
    "patternProperties",
    "dependentSchemas",
)
"""The keywords whose value maps names, which are not keywords, to schemas."""


def prune_schema(schema: object, drops: Callable[[str, object], bool]) -> object:
    """Return a copy of a schema without the keywords for which `drops(name, value)` is true."""
    if is_list(schema):
        return [prune_schema(item, drops) for item in schema]
    if not is_schema(schema):
        return schema
    return {
        key: {name: prune_schema(inner, drops) for name, inner in value.items()}
        if key in NAMED_SCHEMA_KEYWORDS and is_schema(value)
        else prune_schema(value, drops)
        for key, value in schema.items()
        if not drops(key, value)
    }


def merge_definitions(
    into: dict[str, Schema], schema: Schema, definitions: Mapping[str, Schema]
) -> Schema:
    """Add a schema's definitions to others under unique names; return the renamed schema."""
    renamed: dict[str, str] = {}
    for name, definition in definitions.items():
        unique = name
        while into.get(unique, definition) != definition:
            unique += "_"
        renamed[name] = unique
    if all(old == new for old, new in renamed.items()):
        into.update(definitions)
        return schema
    for name, definition in definitions.items():
        into[renamed[name]] = _rename_references(definition, renamed)
    return {**_rename_references(schema, renamed)}


def _rename_references(
    schema: Any, renamed: Mapping[str, str]
) -> Any:  # Any: any JSON below a schema
    if is_list(schema):
        return [_rename_references(child, renamed) for child in schema]
    if not is_schema(schema):
        return schema
    copy = {key: _rename_references(child, renamed) for key, child in schema.items()}
    if isinstance(copy.get("$ref"), str):
        name = copy["$ref"].removeprefix(REF_PREFIX)
        copy["$ref"] = REF_PREFIX + renamed.get(name, name)
    return copy
