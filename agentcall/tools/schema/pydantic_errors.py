"""Converts pydantic's validation errors to problems that a small model can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agentcall.errors import ArgumentProblem
from agentcall.tools.schema._definitions import Schema, is_list, is_schema
from agentcall.tools.schema.errors import ABSENT, describe_schema, format_value

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


def convert_validation_error(
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
