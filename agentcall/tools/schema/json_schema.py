"""The schema of a tool that is not a Python function: a JSON Schema from outside.

Arguments are validated by `jsonschema` and remain JSON values. References to other documents are
not followed: a schema from outside must not cause requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, cast

import orjson

from agentcall.errors import ArgumentProblem, ArgumentsError, MissingExtra, SchemaError
from agentcall.messages import JSON
from agentcall.tools.schema._definitions import Schema, is_schema, prune_schema
from agentcall.tools.schema.errors import (
    ABSENT,
    describe_schema,
    describe_unknown_argument,
    format_expected_line,
    make_fields_error,
    make_not_object_error,
    parse_json,
)
from agentcall.tools.schema.metaschema import encode_bounded_schema
from agentcall.tools.schema.signature import TOOL_NAME


@dataclass(frozen=True, slots=True)
class ExternalSchema:
    """A tool as a model sees it; its function takes the arguments as one mapping.

    takes_context: whether its function takes the `RunContext` after the mapping.

    Raises SchemaError for parameters that are not the JSON Schema of an object, and MissingExtra
    without `jsonschema`.
    """

    name: str
    description: str
    parameters: dict[str, JSON]
    context_parameter: None = None
    takes_context: bool = False
    _encoded: bytes = b""

    @classmethod
    def from_parameters(
        cls, name: str, description: str, parameters: Mapping[str, JSON]
    ) -> ExternalSchema:
        """Create a schema without titles for the model, and validate it as given."""
        encoded = encode_bounded_schema(parameters, name)
        shown = cast("dict[str, JSON]", strip_titles(parameters))
        return cls(name, description, shown, _encoded=encoded)

    def __post_init__(self) -> None:
        if not TOOL_NAME.fullmatch(self.name):
            raise SchemaError(
                f"{self.name!r} is not a valid tool name: 1 to 64 letters, digits, _ or -"
            )
        _get_validator(self._encoded, self.name)

    def parse(self, arguments: str | bytes) -> dict[str, object]:
        """Return the arguments as given. Raises ArgumentsError, which names each wrong field."""
        if not self.parameters.get("required") and arguments.strip() in ("", b"", "null", b"null"):
            arguments = "{}"
        value = parse_json(arguments, self.name, self.parameters)
        if not isinstance(value, dict):
            raise make_not_object_error(self.name, value, self.parameters)
        problems = self._list_problems(value)
        if problems:
            raise make_fields_error(self.name, problems, self.parameters)
        return cast("dict[str, object]", value)

    def _list_problems(self, arguments: dict[str, JSON]) -> list[ArgumentProblem]:
        validation = _import_validator(self.name)
        validator = _get_validator(self._encoded, self.name)
        try:
            errors = validation.iter_errors(validator, arguments)
            return [problem for error in errors for problem in _convert_error(error)]
        except validation.TooCostly as error:
            raise ArgumentsError(
                f"{self.name}: the arguments cannot be checked against its schema: it takes "
                f"{error}. Give fewer or smaller values, less deep within each other.\n"
                + format_expected_line(self.parameters)
            ) from error

    def bind(
        self, values: Mapping[str, object], context: object | None = None
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the one argument to call the function with, and the context if it takes that."""
        return (dict(values), context) if self.takes_context else (dict(values),), {}


@lru_cache(maxsize=1024)
def _get_validator(text: bytes, name: str) -> Any:  # Any: jsonschema is imported on demand
    schema: Schema = orjson.loads(text)
    if schema.get("type", "object") != "object":
        raise SchemaError(f"the tool {name} takes {schema['type']!r}; arguments are an object")
    return _import_validator(name).create_validator(schema, name)


def _import_validator(name: str) -> Any:  # Any: a module
    try:
        return import_module("agentcall.tools.schema.validator")
    except ImportError as error:
        raise MissingExtra(
            f"the tool {name} has a JSON Schema of its own, and the package jsonschema that checks "
            f"its arguments is not installed ({error}): pip install jsonschema"
        ) from error


def _convert_error(error: Any) -> Iterable[ArgumentProblem]:  # Any: a jsonschema.ValidationError
    """Convert an error to problems as our own schemas report them."""
    path = _format_path(error.absolute_path)
    match error.validator:
        case "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield ArgumentProblem(
                        _format_path([*error.absolute_path, name]),
                        ABSENT,
                        _describe_property(error, name),
                    )
        case "additionalProperties" if error.validator_value is False:
            expected = describe_unknown_argument(list(error.schema.get("properties", ())))
            for name in _import_validator("").list_extra_names(error.schema, error.instance):
                yield ArgumentProblem(
                    _format_path([*error.absolute_path, name]), error.instance[name], expected
                )
        case "type" | "enum" | "const" | "anyOf" | "oneOf":
            yield ArgumentProblem(path, error.instance, describe_schema(error.schema))
        case _:
            yield ArgumentProblem(path, error.instance, f"something else: {error.message}")


def strip_titles(schema: object) -> object:
    """Return a schema without titles and the name of its dialect, which a model does not need."""
    return prune_schema(
        schema, lambda key, value: key in _UNNEEDED_KEYWORDS and isinstance(value, str)
    )


_UNNEEDED_KEYWORDS = ("title", "$schema")


def _describe_property(error: Any, name: str) -> str:  # Any: a jsonschema.ValidationError
    inner: Schema = error.schema.get("properties", {}).get(name, {})
    return describe_schema(inner) if is_schema(inner) else "a value"


def _format_path(steps: Iterable[str | int]) -> str:
    parts = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return "".join(parts).removeprefix(".")
