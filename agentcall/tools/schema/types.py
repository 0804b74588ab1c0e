"""Types that JSON has itself, known without pydantic, whose import costs more than all of ours.

Most tools have no others. The schema is the one that pydantic gives, and a value that is of such a
type already is what pydantic would give for it; any other value is left to pydantic.

A type as JSON: plain ones by themselves, all others by pydantic.

Any type as JSON Schema, and JSON text read as a value of it.
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
        from agentcall.tools.schema.pydantic_types import build_pydantic_adapter  # imports pydantic

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


class ValueAdapter(Protocol):
    """A type as JSON."""

    @property
    def schema(self) -> Schema:
        """Its JSON Schema; a `$ref` in it names one of `definitions`."""
        ...

    @property
    def definitions(self) -> dict[str, Schema]:
        """What is recursive in it, and only that."""
        ...

    @property
    def alias(self) -> str | None:
        """The name by which JSON has it, where the type gives one."""
        ...

    @property
    def has_default(self) -> bool:
        """Whether the type itself brings a default (`Field(default=...)`)."""
        ...

    def read(self, value: JSON, path: str, schema: Schema) -> object:
        """The Python value of a JSON value at a path. Raises Misfit, in words of the schema."""
        ...

    def make_default(self) -> object:
        """The default that the type itself brings, made anew."""
        ...


def build_adapter(annotation: object) -> ValueAdapter:
    """A type's schema and check. Raises whatever says that pydantic cannot."""
    schema = get_builtin_schema(annotation)
    if schema is not None:
        return BuiltinAdapter(annotation, schema)
    from agentcall.tools.schema.pydantic_types import build_pydantic_adapter  # imports pydantic

    return build_pydantic_adapter(annotation)


def encode_default(default: object) -> tuple[JSON] | None:
    """A default as JSON, in a tuple since None is one; None where JSON cannot hold it."""
    if default is None or isinstance(default, bool):
        return (default,)
    if isinstance(default, (int, float)) and is_value_of(default, type(default)):
        return (default,)
    if type(default) is str and default.isascii():
        return (default,)
    from agentcall.tools.schema import pydantic_types  # imports pydantic

    return pydantic_types.encode_default_by_pydantic(default)


def explain_unsupported_type(annotation: object, error: Exception) -> str:
    """Why a type cannot be offered to a model, and what to use."""
    name = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    lines = str(error).strip().split("\n")
    first = lines[-1].strip() if lines[0].endswith(":") else lines[0]  # of pydantic's core
    reason = first.split(". ")[0].split(" Set `arbitrary")[0]
    return (
        f"{name or str(annotation)} cannot be written as JSON ({reason}); use a type that can: "
        "str, int, float, bool, list, dict, an Enum, a TypedDict, a dataclass or a BaseModel"
    )


@dataclass(frozen=True, slots=True)
class TypeSchema:
    """A type as a model sees it; `schema` is its JSON Schema, of an object or of any value."""

    name: str
    schema: dict[str, JSON]
    _adapter: ValueAdapter = field(repr=False)

    def parse(self, text: str | bytes) -> object:
        """Read JSON text as a value of the type. Raises ArgumentsError."""
        wire = parse_json(text, self.name, self.schema)
        try:
            return self._adapter.read(wire, "", self.schema)
        except TypeMismatch as misfit:
            raise make_fields_error(self.name, misfit.problems, self.schema) from misfit


def type_schema(annotation: object) -> TypeSchema:
    """The schema of any type: a class, a Union, a list of something. Raises SchemaError."""
    try:
        value = build_adapter(annotation)
    except Exception as error:  # a type's own hooks may raise anything
        raise SchemaError(explain_unsupported_type(annotation, error)) from error
    schema: Schema = value.schema
    if "$ref" in schema:  # recursive: the first level in full, so that its type is plain to see
        named = value.definitions[schema["$ref"].rsplit("/", 1)[-1]]
        schema = {**named, **{key: schema[key] for key in schema if key != "$ref"}}
    if value.definitions:
        schema = dict(schema, **{"$defs": value.definitions})
    name = annotation.__name__ if isinstance(annotation, type) else "value"
    return TypeSchema(name, schema, value)
