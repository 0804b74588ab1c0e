"""The schema of a tool that is no Python function: a JSON Schema that came with it.

Arguments are checked by `jsonschema` and stay the JSON they are; references to other documents are
not followed, as a schema from elsewhere must not make us fetch anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, cast

import orjson

from agentcall.errors import MissingExtra, Problem, SchemaError
from agentcall.messages import JSON
from agentcall.schema.definitions import Schema, is_list, is_schema
from agentcall.schema.problems import ABSENT, described, read_json, wrong_fields, wrong_whole
from agentcall.schema.signature import NAME


@dataclass(frozen=True, slots=True)
class GivenSchema:
    """A tool as a model sees it; its function takes the arguments as one mapping.

    Raises SchemaError for what is no JSON Schema of an object, and MissingExtra without
    `jsonschema`.
    """

    name: str
    description: str
    parameters: dict[str, JSON]
    context_parameter: None = None
    _whole: bytes = b""

    @classmethod
    def of(cls, name: str, description: str, parameters: Mapping[str, JSON]) -> GivenSchema:
        """The schema as a model needs it, without titles; checked as it came."""
        tidy = cast("dict[str, JSON]", untitled(parameters))
        return cls(name, description, tidy, _whole=orjson.dumps(parameters))

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise SchemaError(
                f"{self.name!r} is no name for a tool: 1 to 64 letters, digits, _ or -"
            )
        _validator(self._whole, self.name)

    def parse(self, arguments: str | bytes) -> dict[str, object]:
        """The arguments as they came. Raises ArgumentsError, which names each wrong field."""
        if not self.parameters.get("required") and arguments.strip() in ("", b"", "null", b"null"):
            arguments = "{}"
        whole = read_json(arguments, self.name, self.parameters)
        if not isinstance(whole, dict):
            raise wrong_whole(self.name, whole, self.parameters)
        problems = list(self._problems(whole))
        if problems:
            raise wrong_fields(self.name, problems, self.parameters)
        return cast("dict[str, object]", whole)

    def _problems(self, whole: dict[str, JSON]) -> Iterable[Problem]:
        validator = _validator(self._whole, self.name)
        try:
            for error in validator.iter_errors(whole):
                yield from _problems(error)
        except (re.error, _unresolvable()):
            # a pattern that Python cannot read, a reference elsewhere: the tool itself will judge
            return

    def bind(
        self, values: Mapping[str, object], context: object | None = None
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """The one argument to call the function with."""
        return (dict(values),), {}


@lru_cache(maxsize=1024)
def _validator(text: bytes, name: str) -> Any:  # Any: jsonschema is imported when first needed
    try:
        jsonschema: Any = import_module("jsonschema")
        registry: Any = import_module("referencing").Registry()
    except ImportError as error:
        raise MissingExtra(
            f"the tool {name} has a JSON Schema of its own, which needs jsonschema: "
            f"pip install jsonschema"
        ) from error
    schema = orjson.loads(text)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        # patterns are in ECMA's dialect: one that Python cannot read is no fault of the schema
        kind.check_schema(schema, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        raise SchemaError(
            f"the tool {name} has no valid JSON Schema: {error.json_path}: {error.message}"
        ) from error
    if schema.get("type", "object") != "object":
        raise SchemaError(f"the tool {name} takes {schema['type']!r}; arguments are an object")
    return kind(schema, registry=registry)


def _unresolvable() -> type[Exception]:
    return cast("type[Exception]", import_module("referencing.exceptions").Unresolvable)


def _problems(error: Any) -> Iterable[Problem]:  # Any: a jsonschema.ValidationError
    """What is wrong, with the place in the words of our own schemas."""
    path = _path(error.absolute_path)
    match error.validator:
        case "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield Problem(_path([*error.absolute_path, name]), ABSENT, _below(error, name))
        case "additionalProperties" if error.validator_value is False:
            known = error.schema.get("properties", {})
            words = f"no such argument; known are {', '.join(known)}" if known else "no arguments"
            for name in error.instance.keys() - known.keys():
                yield Problem(_path([*error.absolute_path, name]), error.instance[name], words)
        case "type" | "enum" | "const" | "anyOf" | "oneOf":
            yield Problem(path, error.instance, described(error.schema))
        case _:
            yield Problem(path, error.instance, f"something else: {error.message}")


def untitled(schema: object) -> object:
    """A schema without what a model need not read: titles and the name of its dialect."""
    if is_list(schema):
        return [untitled(item) for item in schema]
    if not is_schema(schema):
        return schema
    return {
        key: {name: untitled(inner) for name, inner in value.items()}
        if key in _NAMED and is_schema(value)
        else untitled(value)
        for key, value in schema.items()
        if key != "$schema" and not (key == "title" and isinstance(value, str))
    }


_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")


def _below(error: Any, name: str) -> str:  # Any: as above
    inner: Schema = error.schema.get("properties", {}).get(name, {})
    return described(inner) if is_schema(inner) else "a value"


def _path(steps: Iterable[str | int]) -> str:
    words = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return "".join(words).removeprefix(".")
