"""Types that JSON has itself, known without pydantic, whose import costs more than all of ours.

Most tools have no others. The schema is the one that pydantic gives, and a value that is of such a
type already is what pydantic would give for it; any other value is left to pydantic.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, Union, get_args, get_origin

from agentcall.messages import JSON
from agentcall.schema.definitions import Schema, is_list, is_schema

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_NULL = {"type": "null"}
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class BuiltinAdapter:
    """A `Value` of a plain type."""

    annotation: object
    schema: Schema
    definitions: dict[str, Schema] = field(default_factory=dict[str, Schema])
    alias: None = None
    has_default: bool = False

    def read(self, value: JSON, path: str, schema: Schema) -> object:
        """The Python value of a JSON value. Raises Misfit."""
        if is_value_of(value, self.annotation):
            return value
        from agentcall.schema.checked import build_pydantic_adapter  # imports pydantic

        return build_pydantic_adapter(self.annotation).read(value, path, schema)

    def make_default(self) -> object:
        """A plain type brings no default."""
        raise NotImplementedError


def get_builtin_schema(annotation: Any) -> Schema | None:  # Any: typing names no type for a type
    """The schema of a plain type, in pydantic's words; None for any other type."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is None:
        kind = _SCALARS.get(annotation) if isinstance(annotation, type) else None
        return {"type": kind} if kind else None
    if origin is Literal and all(type(part) is str for part in parts):
        choice: Schema = {"const": parts[0]} if len(parts) == 1 else {"enum": list(parts)}
        return {**choice, "type": "string"}
    inner = [get_builtin_schema(part) for part in parts]
    if None in inner:
        return None
    if origin in _UNIONS:
        return {"anyOf": sorted(inner, key=lambda one: one == _NULL)}  # null last
    if origin is list:
        return {"items": inner[0], "type": "array"}
    if origin is dict and parts[0] is str:
        return {"additionalProperties": inner[1], "type": "object"}
    return None


def is_value_of(value: object, annotation: Any) -> bool:  # Any: as above
    """Whether a value that came as JSON is of a plain type as it stands."""
    if annotation in _SCALARS:
        return type(value) is annotation and (not isinstance(value, float) or isfinite(value))
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in _UNIONS:
        return any(is_value_of(value, part) for part in parts)
    if origin is Literal:
        return type(value) is str and value in parts
    if origin is list:
        return is_list(value) and all(is_value_of(item, parts[0]) for item in value)
    return is_schema(value) and all(is_value_of(item, parts[1]) for item in value.values())
