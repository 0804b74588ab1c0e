"""Any type as JSON Schema, with an adapter that reads JSON values of it.

Types that JSON has itself are handled without pydantic, whose import takes longer than all of
ours: most tools have no others. Their schemas are those that pydantic generates. A value that is of
such a type already is what pydantic would return; any other value, and any other type, is left to
pydantic.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, Protocol, Union, get_args, get_origin

from agentcall.errors import SchemaError
from agentcall.messages import JSON
from agentcall.tools.schema._definitions import Schema, is_list, is_schema
from agentcall.tools.schema.errors import TypeMismatch, make_fields_error, parse_json


@dataclass(frozen=True, slots=True)
class TypeSchema:
    """A type as a model sees it; `schema` is the JSON Schema of an object or any other value."""

    name: str
    schema: dict[str, JSON]
    _adapter: ValueAdapter = field(repr=False)

    def parse(self, text: str | bytes) -> object:
        """Parse JSON text as a value of the type. Raises ArgumentsError."""
        return self.read(parse_json(text, self.name, self.schema))

    def read(self, value: JSON) -> object:
        """Return the value of the type that a JSON value is. Raises ArgumentsError."""
        try:
            return self._adapter.read(value, "", self.schema)
        except TypeMismatch as mismatch:
            raise make_fields_error(self.name, mismatch.problems, self.schema) from mismatch


def type_schema(annotation: object) -> TypeSchema:
    """Create the schema of any type: a class, a union, a list. Raises SchemaError."""
    try:
        adapter = build_adapter(annotation)
    except Exception as error:  # a type's own hooks may raise anything
        raise SchemaError(explain_unsupported_type(annotation, error)) from error
    schema: Schema = adapter.schema
    if "$ref" in schema:  # recursive: expand the first level, so that its type is visible
        definition = adapter.definitions[schema["$ref"].rsplit("/", 1)[-1]]
        schema = {**definition, **{key: schema[key] for key in schema if key != "$ref"}}
    if adapter.definitions:
        schema = dict(schema, **{"$defs": adapter.definitions})
    name = annotation.__name__ if isinstance(annotation, type) else "value"
    return TypeSchema(name, schema, adapter)


class ValueAdapter(Protocol):
    """Reads JSON values of one type."""

    @property
    def schema(self) -> Schema:
        """The type's JSON Schema; a `$ref` in it refers to `definitions`."""
        ...

    @property
    def definitions(self) -> dict[str, Schema]:
        """The recursive parts of the schema, and only those."""
        ...

    @property
    def alias(self) -> str | None:
        """The name in JSON, if the type defines one."""
        ...

    @property
    def has_default(self) -> bool:
        """Whether the type itself defines a default (`Field(default=...)`)."""
        ...

    def read(self, value: JSON, path: str, schema: Schema) -> object:
        """Return the Python value at a path. Raises TypeMismatch, described by `schema`."""
        ...

    def make_default(self) -> object:
        """Create the default that the type itself defines."""
        ...


def build_adapter(annotation: object) -> ValueAdapter:
    """Build the adapter of a type. Raises any error with which pydantic rejects it."""
    schema = get_builtin_schema(annotation)
    if schema is not None:
        return BuiltinAdapter(annotation, schema)
    from agentcall.tools.schema.pydantic_types import build_pydantic_adapter  # imports pydantic

    return build_pydantic_adapter(annotation)


def encode_default(default: object) -> tuple[JSON] | None:
    """Return a default as JSON, in a tuple since None is one; None if JSON cannot represent it."""
    if default is None or isinstance(default, bool):
        return (default,)
    if isinstance(default, (int, float)) and is_value_of(default, type(default)):
        return (default,)
    if type(default) is str and default.isascii():
        return (default,)
    from agentcall.tools.schema.pydantic_types import encode_default_by_pydantic  # imports pydantic

    return encode_default_by_pydantic(default)


def explain_unsupported_type(annotation: object, error: Exception) -> str:
    """Explain why a type cannot be offered to a model, and what to use instead."""
    name = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    lines = str(error).strip().split("\n")
    first = lines[-1].strip() if lines[0].endswith(":") else lines[0]  # of pydantic's core
    reason = first.split(". ")[0].split(" Set `arbitrary")[0]
    return (
        f"{name or str(annotation)} cannot be written as JSON ({reason}); use a type that can: "
        "str, int, float, bool, list, dict, an Enum, a TypedDict, a dataclass or a BaseModel"
    )


_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_NULL = {"type": "null"}
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class BuiltinAdapter:
    """A `ValueAdapter` of a builtin type."""

    annotation: object
    schema: Schema
    definitions: dict[str, Schema] = field(default_factory=dict[str, Schema])
    alias: None = None
    has_default: bool = False

    def read(self, value: JSON, path: str, schema: Schema) -> object:
        """Return the Python value of a JSON value. Raises TypeMismatch."""
        if is_value_of(value, self.annotation):
            return value
        from agentcall.tools.schema.pydantic_types import build_pydantic_adapter  # imports pydantic

        return build_pydantic_adapter(self.annotation).read(value, path, schema)

    def make_default(self) -> object:
        """Raise NotImplementedError, as a builtin type has no default."""
        raise NotImplementedError


def get_builtin_schema(annotation: Any) -> Schema | None:  # Any: typing names no type for a type
    """Return the schema of a builtin type as pydantic generates it; None for any other type."""
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
        return {"anyOf": sorted(inner, key=lambda schema: schema == _NULL)}  # null last
    if origin is list:
        return {"items": inner[0], "type": "array"}
    if origin is dict and parts[0] is str:
        return {"additionalProperties": inner[1], "type": "object"}
    return None


def is_value_of(value: object, annotation: Any) -> bool:  # Any: typing names no type for a type
    """Whether a JSON value is of a builtin type without conversion."""
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
