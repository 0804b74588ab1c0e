"""One type: its JSON Schema, short and without needless references, and its validator.

The type is checked as the only item of a TypedDict: so our settings reach dataclasses and
TypedDicts that have none of their own, and aliases and defaults of a `Field` keep their meaning.
"""

from __future__ import annotations

import decimal
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias, TypeGuard, cast

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, core_schema, to_json, to_jsonable_python
from typing_extensions import TypedDict

from agentcall.messages import JSON
from agentcall.schema.annotation import rewritten

Schema: TypeAlias = dict[str, Any]  # Any: a JSON Schema is any JSON object

_ITEM = "value"
_CONFIG = ConfigDict(coerce_numbers_to_str=True, allow_inf_nan=False)
_REF = "#/$defs/"
_SCHEMAS = (
    "items",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NOISE = (("additionalProperties", True), ("format", "binary"))
_SCHEMA_MAPS = ("properties", "patternProperties", "dependentSchemas")


@dataclass(frozen=True, slots=True)
class Value:
    """A type as JSON.

    schema: its JSON Schema; a `$ref` in it names one of `definitions`.
    definitions: what is recursive, and only that.
    alias: the name by which JSON has it, where the type gives one.
    has_default: whether the type itself brings a default (`Field(default=...)`).
    """

    schema: Schema
    definitions: dict[str, Schema]
    alias: str | None
    has_default: bool
    _adapter: TypeAdapter[dict[str, object]]

    def read(self, value: object) -> object:
        """The Python value of a JSON value. Raises pydantic's ValidationError."""
        wire = to_json({self.alias or _ITEM: value}, inf_nan_mode="constants")
        return self._adapter.validate_json(wire)[_ITEM]

    def default(self) -> object:
        """The default that the type itself brings, made anew."""
        return self._adapter.validate_json(b"{}")[_ITEM]


def is_schema(value: object) -> TypeGuard[Schema]:
    """Whether this is an object; JSON Schema has true and false in its place, too."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether this is a list, of anything."""
    return isinstance(value, list)


def read_type(annotation: object) -> Value:
    """Build a type's schema and validator. Raises whatever says that pydantic cannot."""
    try:
        # Equal types may differ in order (int | str, str | int): their text tells them apart.
        return _cached(annotation, repr(annotation))
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
    return _build(annotation)


@lru_cache(maxsize=4096)
def _cached(annotation: object, text: str) -> Value:  # text: part of the key
    return _build(annotation)


def _build(annotation: object) -> Value:
    item = TypedDict("Value", {_ITEM: rewritten(annotation)})  # type: ignore[misc]
    setattr(item, "__pydantic_config__", _CONFIG)  # noqa: B010 - unknown to the type checkers
    adapter: TypeAdapter[dict[str, object]] = TypeAdapter(cast("type[dict[str, object]]", item))
    whole = adapter.json_schema(schema_generator=_Generator)
    definitions: dict[str, Schema] = whole.pop("$defs", {})
    ((name, schema),) = whole["properties"].items()
    recursive = _recursive(definitions)
    tidy = {key: _tidy(definitions[key], definitions, recursive) for key in recursive}
    return Value(
        schema=_tidy(schema, definitions, recursive),
        definitions=tidy,
        alias=None if name == _ITEM else name,
        has_default="required" not in whole,
        _adapter=adapter,
    )


class _Generator(GenerateJsonSchema):
    """Refuses what JSON cannot hold, where pydantic warns or guesses."""

    ignored_warning_kinds = {"non-serializable-default"}  # noqa: RUF012 - as pydantic declares it

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def emit_warning(self, kind: Any, detail: str) -> None:  # Any: pydantic's own literal
        if kind == "skipped-choice":
            raise TypeError(f"one choice of a union cannot be written as JSON: {detail}")
        super().emit_warning(kind, detail)

    def generator_schema(self, schema: core_schema.GeneratorSchema) -> NoReturn:
        raise TypeError("a generator cannot be written as JSON")

    def is_subclass_schema(self, schema: core_schema.IsSubclassSchema) -> NoReturn:
        raise TypeError("a class cannot be written as JSON")

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        """A number; the text form is read too, but its pattern is more than servers take."""
        whole = super().decimal_schema(schema)
        choices: list[Schema] = whole.get("anyOf", [whole])
        return next((choice for choice in choices if choice.get("type") == "number"), whole)


def _recursive(definitions: Mapping[str, Schema]) -> list[str]:
    """The definitions that lead back to themselves."""
    edges = {name: _references(schema) for name, schema in definitions.items()}

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = list(edges[start])
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += edges.get(name, ())
        return found

    return [name for name in definitions if name in reached(name)]


def _references(schema: Schema) -> set[str]:
    found = {schema["$ref"].removeprefix(_REF)} if "$ref" in schema else set[str]()
    return found.union(*map(_references, _children(schema)))


def _children(schema: Schema) -> list[Schema]:
    inner: list[object] = [schema.get(key) for key in _SCHEMAS]
    for key in _SCHEMA_LISTS:
        inner += schema.get(key, [])
    for key in _SCHEMA_MAPS:
        inner += schema.get(key, {}).values()
    return [child for child in inner if is_schema(child)]


def _tidy(schema: Schema, definitions: Mapping[str, Schema], kept: list[str]) -> Schema:
    """A schema without titles and noise, each reference replaced by what it names."""
    name = schema.get("$ref", "").removeprefix(_REF)
    if name in definitions and name not in kept:
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        return _tidy({**definitions[name], **siblings}, definitions, kept)

    def inner(child: Any) -> Any:  # Any: a schema, or true or false
        return _tidy(child, definitions, kept) if is_schema(child) else child

    tidy = {key: value for key, value in schema.items() if (key, value) not in _NOISE}
    for key in tidy.keys() & _SCHEMAS:
        tidy[key] = inner(tidy[key])
    for key in tidy.keys() & _SCHEMA_LISTS:
        tidy[key] = [inner(child) for child in tidy[key]]
    for key in tidy.keys() & _SCHEMA_MAPS:
        tidy[key] = {name: inner(child) for name, child in tidy[key].items()}
    tidy.pop("title", None)
    tidy.pop("discriminator", None)
    return tidy


def merge_definitions(into: dict[str, Schema], value: Value) -> Schema:
    """Add a value's definitions to those of others; its schema, with names that no other has."""
    renamed: dict[str, str] = {}
    for name, schema in value.definitions.items():
        free = name
        while into.get(free, schema) != schema:
            free += "_"
        renamed[name] = free
    if all(old == new for old, new in renamed.items()):
        into.update(value.definitions)
        return value.schema
    for name, schema in value.definitions.items():
        into[renamed[name]] = _rename(schema, renamed)
    return {**_rename(value.schema, renamed)}


def _rename(schema: Any, renamed: Mapping[str, str]) -> Any:  # Any: any JSON below a schema
    if is_list(schema):
        return [_rename(child, renamed) for child in schema]
    if not is_schema(schema):
        return schema
    copy = {key: _rename(child, renamed) for key, child in schema.items()}
    if isinstance(copy.get("$ref"), str):
        name = copy["$ref"].removeprefix(_REF)
        copy["$ref"] = _REF + renamed.get(name, name)
    return copy


def default_json(default: object) -> tuple[JSON] | None:
    """A default as JSON, in a tuple since None is one; None where JSON cannot hold it."""
    if isinstance(default, decimal.Decimal):
        default = float(default)
    try:
        plain = to_jsonable_python(default)
        json.dumps(plain, allow_nan=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError):
        return None
    return (plain,)


def unfit(annotation: object, error: Exception) -> str:
    """Why a type cannot be offered to a model, and what to use."""
    name = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    reason = str(error).split("\n")[0].split(". ")[0].split(" Set `arbitrary")[0]
    return (
        f"{name or str(annotation)} cannot be written as JSON ({reason}); use a type that can: "
        "str, int, float, bool, list, dict, an Enum, a TypedDict, a dataclass or a BaseModel"
    )
