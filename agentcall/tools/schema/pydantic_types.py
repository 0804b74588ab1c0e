"""Types validated by pydantic: a short JSON Schema, the validator, and its errors as problems.

A type is validated as the only item of a TypedDict, so that our settings also apply to dataclasses
and TypedDicts without settings of their own, and aliases and defaults of a `Field` keep their
meaning.
"""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import (
    ErrorDetails,
    PydanticSerializationError,
    core_schema,
    to_json,
    to_jsonable_python,
)
from typing_extensions import TypedDict

from agentcall.errors import ArgumentProblem, ModelRetry
from agentcall.messages import JSON
from agentcall.tools.schema._definitions import REF_PREFIX, Schema, is_list, is_schema
from agentcall.tools.schema.annotations import rewrite_annotation
from agentcall.tools.schema.errors import ABSENT, TypeMismatch, describe_schema, format_value

_ITEM = "value"
_CONFIG = ConfigDict(coerce_numbers_to_str=True, allow_inf_nan=False)
_SCHEMA_KEYWORDS = (
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
_UNNEEDED_ITEMS = (("additionalProperties", True), ("format", "binary"))
_SCHEMA_MAPS = ("properties", "patternProperties", "dependentSchemas")


@dataclass(frozen=True, slots=True)
class PydanticAdapter:
    """A `ValueAdapter` that uses pydantic."""

    schema: Schema
    definitions: dict[str, Schema]
    alias: str | None
    has_default: bool
    _adapter: TypeAdapter[dict[str, object]]

    def read(self, value: JSON, path: str, schema: Schema) -> object:
        """Return the Python value of a JSON value. Raises TypeMismatch."""
        if _has_bool_for_number(value, self.schema, self.definitions):
            raise TypeMismatch([ArgumentProblem(path, value, describe_schema(self.schema))])
        text = to_json({self.alias or _ITEM: value}, inf_nan_mode="constants")
        try:
            return self._adapter.validate_json(text)[_ITEM]
        except ValidationError as error:
            raise TypeMismatch(_convert_validation_error(error, path, value, schema)) from error
        except ModelRetry as retry:  # of a validator of the type's own
            problem = ArgumentProblem(path, value, f"something else: {retry}")
            raise TypeMismatch([problem]) from retry

    def make_default(self) -> object:
        """Create the default that the type itself defines."""
        return self._adapter.validate_json(b"{}")[_ITEM]


def build_pydantic_adapter(annotation: object) -> PydanticAdapter:
    """Build a type's schema and validator. Raises any error of pydantic for the type."""
    try:
        # Equal types may differ in order (int | str, str | int), but then their texts differ.
        return _build_with_cache(annotation, repr(annotation))
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
    return _build_adapter(annotation)


@lru_cache(maxsize=4096)
def _build_with_cache(annotation: object, text: str) -> PydanticAdapter:  # text: part of the key
    return _build_adapter(annotation)


def _build_adapter(annotation: object) -> PydanticAdapter:
    item = TypedDict("Value", {_ITEM: rewrite_annotation(annotation)})  # type: ignore[misc]  # made at run time
    setattr(item, "__pydantic_config__", _CONFIG)  # noqa: B010 - unknown to the type checkers
    adapter: TypeAdapter[dict[str, object]] = TypeAdapter(cast("type[dict[str, object]]", item))
    generated = adapter.json_schema(schema_generator=_SchemaGenerator)
    definitions: dict[str, Schema] = generated.pop("$defs", {})
    ((name, schema),) = generated["properties"].items()
    recursive = _find_recursive(definitions)
    simplified = {key: _simplify(definitions[key], definitions, recursive) for key in recursive}
    return PydanticAdapter(
        schema=_simplify(schema, definitions, recursive),
        definitions=simplified,
        alias=None if name == _ITEM else name,
        has_default="required" not in generated,
        _adapter=adapter,
    )


class _SchemaGenerator(GenerateJsonSchema):
    """Rejects types that JSON cannot represent, where pydantic warns or guesses."""

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
        """Return a number; text is accepted too, but its pattern is too complex for servers."""
        generated = super().decimal_schema(schema)
        choices: list[Schema] = generated.get("anyOf", [generated])
        return next((choice for choice in choices if choice.get("type") == "number"), generated)


def _find_recursive(definitions: Mapping[str, Schema]) -> list[str]:
    """Return the definitions that refer back to themselves."""
    edges = {name: _collect_references(schema) for name, schema in definitions.items()}

    def find_reachable(start: str) -> set[str]:
        found: set[str] = set()
        waiting = list(edges[start])
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += edges.get(name, ())
        return found

    return [name for name in definitions if name in find_reachable(name)]


def _collect_references(schema: Schema) -> set[str]:
    found = {schema["$ref"].removeprefix(REF_PREFIX)} if "$ref" in schema else set[str]()
    return found.union(*map(_collect_references, _list_subschemas(schema)))


def _list_subschemas(schema: Schema) -> list[Schema]:
    inner: list[object] = [schema.get(key) for key in _SCHEMA_KEYWORDS]
    for key in _SCHEMA_LISTS:
        inner += schema.get(key, [])
    for key in _SCHEMA_MAPS:
        inner += schema.get(key, {}).values()
    return [child for child in inner if is_schema(child)]


def _simplify(schema: Schema, definitions: Mapping[str, Schema], recursive: list[str]) -> Schema:
    """Return a schema without titles and noise, each reference replaced by its definition."""
    name = schema.get("$ref", "").removeprefix(REF_PREFIX)
    if name in definitions and name not in recursive:
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        return _simplify({**definitions[name], **siblings}, definitions, recursive)

    def inner(child: Any) -> Any:  # Any: a schema, or true or false
        return _simplify(child, definitions, recursive) if is_schema(child) else child

    simplified = {
        key: value for key, value in schema.items() if (key, value) not in _UNNEEDED_ITEMS
    }
    for key in simplified.keys() & _SCHEMA_KEYWORDS:
        simplified[key] = inner(simplified[key])
    for key in simplified.keys() & _SCHEMA_LISTS:
        simplified[key] = [inner(child) for child in simplified[key]]
    for key in simplified.keys() & _SCHEMA_MAPS:
        simplified[key] = {name: inner(child) for name, child in simplified[key].items()}
    simplified.pop("title", None)
    simplified.pop("discriminator", None)
    return simplified


_KINDS_BY_TYPE: dict[type, tuple[str, ...]] = {
    bool: ("boolean", "integer", "number"),
    dict: ("object",),
    list: ("array",),
}


def _has_bool_for_number(value: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    """Whether a value contains a boolean where its schema expects a number.

    pydantic would silently read true as 1. In a union (`anyOf`) only the choices of the value's
    type count; one that accepts it is enough.
    """
    if not isinstance(value, (bool, dict, list)):
        return False
    schema = _resolve_reference(schema, definitions)
    choices = schema.get("anyOf", schema.get("oneOf"))
    if is_list(choices):
        fitting = [c for c in choices if is_schema(c) and _can_hold(value, c, definitions)]
        return bool(fitting) and all(
            _has_bool_for_number(value, choice, definitions) for choice in fitting
        )
    if isinstance(value, bool):
        return schema.get("type") in ("integer", "number")
    return any(
        _has_bool_for_number(item, item_schema, definitions)
        for item, item_schema in _iter_members(value, schema)
    )


def _can_hold(value: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    kind = _resolve_reference(schema, definitions).get("type")
    return kind is None or kind in _KINDS_BY_TYPE.get(type(value), ())


def _iter_members(value: JSON, schema: Schema) -> Iterator[tuple[JSON, Schema]]:
    """Yield the items of a list or object with their schemas."""
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        additional = schema.get("additionalProperties")
        found = ((item, properties.get(key, additional)) for key, item in value.items())
    else:
        items = value if isinstance(value, list) else []
        prefix = schema.get("prefixItems", [])
        rest = schema.get("items")
        found = ((item, prefix[i] if i < len(prefix) else rest) for i, item in enumerate(items))
    yield from ((item, item_schema) for item, item_schema in found if is_schema(item_schema))


def _resolve_reference(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix(REF_PREFIX)
    return definitions.get(name, schema)


def encode_default_by_pydantic(default: object) -> tuple[JSON] | None:
    """Return a default as JSON, in a tuple since None is one; None if JSON cannot represent it."""
    if isinstance(default, decimal.Decimal):
        default = float(default)
    try:
        plain = to_jsonable_python(default)
        json.dumps(plain, allow_nan=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError):
        return None
    return (plain,)


# Prefixes of pydantic's error types, longer ones first.
_EXPECTATIONS = {
    "int_from_float": "an integer, without a fraction",
    "int_": "an integer",
    "float_": "a number",
    "finite_number": "a finite number, not NaN or Infinity",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "bool_": "true or false",
    "string_type": "a string",
    "bytes_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
    "none_required": "null",
    "datetime_": "a date and time like 2026-11-30T14:30:00",
    "date_from_": "a date like 2026-11-30",
    "date_type": "a date like 2026-11-30",
    "date_parsing": "a date like 2026-11-30",
    "time_delta": "a duration like PT1H30M, or seconds",
    "time_type": "a time like 14:30:00",
    "time_parsing": "a time like 14:30:00",
    "uuid_": "a UUID",
    "extra_forbidden": "no such field",
    "unexpected_keyword_argument": "no such field",
    "recursion_loop": "a value that does not contain itself",
}


def _convert_validation_error(
    error: ValidationError, path: str, value: object, schema: Schema
) -> list[ArgumentProblem]:
    """Convert an error to problems, one per location.

    If no choice of a union matches, pydantic reports the errors of each choice. They become one
    problem, at the union, unless all of them are of the one choice that was meant.
    """
    problems: dict[str, list[ArgumentProblem]] = {}
    branches: dict[str, set[str]] = {}
    for details in error.errors(include_url=False):
        location, branch, union, inner = _locate_error(details, path, value)
        problems.setdefault(location if branch is None else union[0], []).append(
            ArgumentProblem(location, inner, _format_expectation(details, schema, details["loc"]))
        )
        if branch is not None:
            branches.setdefault(union[0], set()).add(branch)
            problems[union[0]].insert(0, ArgumentProblem(union[0], union[1], ""))
    return [
        problem
        for location, group in problems.items()
        for problem in _merge_branches(group, branches.get(location, set()), path, schema)
    ]


def _merge_branches(
    group: list[ArgumentProblem], branches: set[str], path: str, schema: Schema
) -> Iterator[ArgumentProblem]:
    reported = [problem for problem in group if problem.expected]
    if len(branches) <= 1:
        yield from reported
        return
    union = group[0]
    if union.path == path:
        expected = describe_schema(schema)
    else:
        expected = " or ".join(dict.fromkeys(problem.expected for problem in reported))
    yield ArgumentProblem(union.path, union.value, expected)


def _locate_error(
    details: ErrorDetails, path: str, value: object
) -> tuple[str, str | None, tuple[str, object], object]:
    """Follow an error's location in a value.

    Returns the path, the first step that is not in the value (a choice of a union), the path and
    value of that union, and the value at the end of the path.
    """
    branch: str | None = None
    union = (path, value)
    steps = details["loc"][1:]
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        if isinstance(step, int) and is_list(value):
            path += f"[{step}]"
            value = value[step] if step < len(value) else ABSENT
        elif isinstance(step, str) and is_schema(value) and step in value:
            path, value = f"{path}.{step}", value[step]
        elif is_last and details["type"] == "missing":
            path, value = f"{path}.{step}", ABSENT
        elif step == "[key]":
            value = steps[number - 1]
        elif branch is None:
            branch, union = str(step), (path, value)
    return path.removeprefix("."), branch, (union[0].removeprefix("."), union[1]), value


def _format_expectation(
    details: ErrorDetails, schema: Schema, location: tuple[int | str, ...]
) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return describe_schema(_get_subschema(schema, location[1:]))
    if kind in ("literal_error", "enum"):
        subschema = _get_subschema(schema, location[1:])
        choices = subschema.get("enum", [subschema["const"]] if "const" in subschema else [])
        return f"one of {', '.join(map(format_value, choices)) or context.get('expected')}"
    if kind in ("value_error", "assertion_error"):
        return f"something else: {re.sub('^(Value error|Assertion failed), ', '', details['msg'])}"
    for beginning, expected in _EXPECTATIONS.items():
        if kind.startswith(beginning):
            return expected
    message = re.sub(r"^(Input should be |[A-Z]\w* should have )", "", details["msg"])
    return message[:1].lower() + message[1:]


def _get_subschema(schema: Schema, steps: Sequence[int | str]) -> Schema:
    """Return the schema at a location, as far as it is unambiguous."""
    for step in steps:
        choices: list[Schema] = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
        inner = [_get_child_schema(choice, step) for choice in choices]
        schema = next(filter(None, inner), inner[0])
    return schema


def _get_child_schema(schema: Schema, step: int | str) -> Schema:
    if isinstance(step, str):
        properties: Schema = schema.get("properties", {})
        inner = properties.get(step, schema.get("additionalProperties"))
    else:
        prefix = schema.get("prefixItems", ())
        inner = prefix[step] if step < len(prefix) else schema.get("items")
    return inner if is_schema(inner) else {}
