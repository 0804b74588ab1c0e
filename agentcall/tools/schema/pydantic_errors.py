"""What pydantic complains of, as problems in words that a small model can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agentcall.errors import ArgumentProblem
from agentcall.tools.schema._definitions import Schema, is_list, is_schema
from agentcall.tools.schema.errors import ABSENT, describe_schema, format_value

# The beginnings of pydantic's error types, the longer ones first.
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
    """What is wrong with one value, a problem for each place.

    Where no choice of a union fits, pydantic reports each choice's complaints; they make one
    problem, at the union, unless all of them are of the one choice that was meant.
    """
    found: dict[str, list[ArgumentProblem]] = {}
    branches: dict[str, set[str]] = {}
    for details in error.errors(include_url=False):
        place, branch, at, inner = _locate_error(details, path, value)
        found.setdefault(place if branch is None else at[0], []).append(
            ArgumentProblem(place, inner, _format_expectation(details, schema, details["loc"]))
        )
        if branch is not None:
            branches.setdefault(at[0], set()).add(branch)
            found[at[0]].insert(0, ArgumentProblem(at[0], at[1], ""))
    return [
        problem
        for place, group in found.items()
        for problem in _merge_branches(group, branches.get(place, set()), path, schema)
    ]


def _merge_branches(
    group: list[ArgumentProblem], branches: set[str], path: str, schema: Schema
) -> Iterator[ArgumentProblem]:
    real = [problem for problem in group if problem.expected]
    if len(branches) <= 1:
        yield from real
        return
    union = group[0]
    if union.path == path:
        words = describe_schema(schema)
    else:
        words = " or ".join(dict.fromkeys(problem.expected for problem in real))
    yield ArgumentProblem(union.path, union.value, words)


def _locate_error(
    details: ErrorDetails, path: str, value: object
) -> tuple[str, str | None, tuple[str, object], object]:
    """Walk a value along an error's location.

    Gives the path, the first step that is no place in the value (a choice of a union), the path
    and value where that choice was, and the value at the end of the path.
    """
    branch: str | None = None
    at = (path, value)
    steps = details["loc"][1:]
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if isinstance(step, int) and is_list(value):
            path += f"[{step}]"
            value = value[step] if step < len(value) else ABSENT
        elif isinstance(step, str) and is_schema(value) and step in value:
            path, value = f"{path}.{step}", value[step]
        elif last and details["type"] == "missing":
            path, value = f"{path}.{step}", ABSENT
        elif step == "[key]":
            value = steps[number - 1]
        elif branch is None:
            branch, at = str(step), (path, value)
    return path.removeprefix("."), branch, (at[0].removeprefix("."), at[1]), value


def _format_expectation(
    details: ErrorDetails, schema: Schema, location: tuple[int | str, ...]
) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return describe_schema(_get_subschema(schema, location[1:]))
    if kind in ("literal_error", "enum"):
        return (
            "one of "
            f"{_format_choices(_get_subschema(schema, location[1:])) or context.get('expected')}"
        )
    if kind in ("value_error", "assertion_error"):
        return f"something else: {re.sub('^(Value error|Assertion failed), ', '', details['msg'])}"
    for beginning, words in _EXPECTATIONS.items():
        if kind.startswith(beginning):
            return words
    message = re.sub(r"^(Input should be |[A-Z]\w* should have )", "", details["msg"])
    return message[:1].lower() + message[1:]


def _format_choices(schema: Schema) -> str:
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return ", ".join(map(format_value, choices))


def _get_subschema(schema: Schema, steps: Sequence[int | str]) -> Schema:
    """The schema at a place, as far as it is plain to see."""
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
