"""What is wrong with arguments, in words that a small model can act on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json, to_jsonable_python

from agentcall.errors import ArgumentsError, Problem
from agentcall.messages import JSON
from agentcall.schema.value import Schema, is_list, is_schema


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
"""The `value` of a Problem where a required value was not given."""

_SHOWN = 80
_DEEPEST = 4
_WORDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
# The beginnings of pydantic's error types, the longer ones first.
_EXPECTED = {
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


def read_json(arguments: str | bytes, name: str, schema: Schema) -> JSON:
    """The value of a JSON text. Raises ArgumentsError that says what breaks it, and where."""
    raw = b""
    try:
        raw = arguments.encode() if isinstance(arguments, str) else bytes(arguments)
        value: JSON = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        reason = _broken(raw, str(error))
        text = raw.decode(errors="replace") if raw else str(arguments)
        problem = Problem("", text, f"JSON: {reason}")
        message = f"{name}: the arguments are not valid JSON: {reason}.\n"
        raise ArgumentsError(message + expected_line(schema), (problem,)) from error
    return value


def _broken(raw: bytes, error: str) -> str:
    if not raw.strip():
        return "the text is empty" if not error.startswith("'utf") else error
    found = re.search(r"at line (\d+) column (\d+)$", error)
    line, column = (int(found[1]), int(found[2])) if found else (1, 0)
    start = sum(len(part) + 1 for part in raw.split(b"\n")[: line - 1]) + max(column - 1, 0)
    near = raw[max(start - 20, 0) : start + 20].decode(errors="replace")
    if error.startswith("EOF"):
        return f"it is cut short ({error}), after {near!r}"
    if re.match(rb"-?(NaN|Inf)", raw[max(start - 1, 0) :].lstrip(b"-:, [")):
        return f"NaN and Infinity are no JSON; send a number or null (line {line}, column {column})"
    if error.startswith("trailing characters"):
        return f"text after the end of the JSON ({error}), near {near!r}"
    return f"{error}, near {near!r}"


def wrong_whole(name: str, value: JSON, schema: Schema) -> ArgumentsError:
    """The error for arguments that are JSON, but no object."""
    given = _kind(value)
    message = f"{name}: the arguments must be one JSON object, not {given}: {shown(value)}.\n"
    problem = Problem("", value, "one JSON object")
    return ArgumentsError(message + expected_line(schema), (problem,))


def wrong_fields(name: str, problems: Sequence[Problem], schema: Schema) -> ArgumentsError:
    """The error that names every wrong field, and the expected shape."""
    lines = [f"{name}: the arguments do not fit."]
    for problem in problems:
        given = "missing" if problem.value is ABSENT else f"got {shown(problem.value)}"
        lines.append(f"- {problem.path or 'value'}: {given}, expected {problem.expected}")
    return ArgumentsError("\n".join([*lines, expected_line(schema)]), tuple(problems))


def expected_line(schema: Schema) -> str:
    """One line with the shape that a schema asks for."""
    return f"Expected shape: {shape(schema)}"


def shown(value: object) -> str:
    """A value as short JSON text."""
    try:
        text = json.dumps(to_jsonable_python(value), ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _kind(value: JSON) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"


def shape(schema: Schema, depth: int = 0) -> str:
    """A schema in one line: `{"city": string, "days"?: integer, "unit": "C" | "F"}`."""
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return " | ".join(map(shown, schema["enum"]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(shape(choice, depth) for choice in schema[key]))
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    match schema.get("type"):
        case "array" if depth < _DEEPEST:
            return _array_shape(schema, depth + 1)
        case "object" if depth < _DEEPEST:
            return _object_shape(schema, depth + 1)
        case None:
            return "any"
        case kind:
            return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _array_shape(schema: Schema, depth: int) -> str:
    items = [shape(item, depth) for item in schema.get("prefixItems", ())]
    if is_schema(schema.get("items")):
        items += [shape(schema["items"], depth), "..."]
    return f"[{', '.join(items or ['...'])}]"


def _object_shape(schema: Schema, depth: int) -> str:
    required = schema.get("required", ())
    items = [
        f'"{name}"{"" if name in required else "?"}: {shape(child, depth)}'
        for name, child in schema.get("properties", {}).items()
    ]
    more = schema.get("additionalProperties", "properties" not in schema)
    if more is not False:
        items.append(f"...: {shape(more, depth)}" if is_schema(more) else "...")
    return f"{{{', '.join(items)}}}"


def described(schema: Schema) -> str:
    """What a schema asks for, in a few words."""
    plain = _WORDS.get(str(schema.get("type")), "") if "format" not in schema else ""
    if "enum" in schema or "const" in schema or "properties" in schema or not plain:
        return shape(schema)
    return plain


def problems_of(error: ValidationError, path: str, value: object, schema: Schema) -> list[Problem]:
    """What is wrong with one value, a problem for each place.

    Where no choice of a union fits, pydantic reports each choice's complaints; they make one
    problem, at the union, unless all of them are of the one choice that was meant.
    """
    found: dict[str, list[Problem]] = {}
    branches: dict[str, set[str]] = {}
    for details in error.errors(include_url=False):
        place, branch, at, inner = _locate(details, path, value)
        found.setdefault(place if branch is None else at[0], []).append(
            Problem(place, inner, _expected(details, schema, details["loc"]))
        )
        if branch is not None:
            branches.setdefault(at[0], set()).add(branch)
            found[at[0]].insert(0, Problem(at[0], at[1], ""))
    return [
        problem
        for place, group in found.items()
        for problem in _joined(group, branches.get(place, set()), path, schema)
    ]


def _joined(
    group: list[Problem], branches: set[str], path: str, schema: Schema
) -> Iterator[Problem]:
    real = [problem for problem in group if problem.expected]
    if len(branches) <= 1:
        yield from real
        return
    union = group[0]
    if union.path == path:
        words = described(schema)
    else:
        words = " or ".join(dict.fromkeys(problem.expected for problem in real))
    yield Problem(union.path, union.value, words)


def _locate(
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


def _expected(details: ErrorDetails, schema: Schema, location: tuple[int | str, ...]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return described(_below(schema, location[1:]))
    if kind in ("literal_error", "enum"):
        return f"one of {_choices(_below(schema, location[1:])) or context.get('expected')}"
    if kind in ("value_error", "assertion_error"):
        return f"something else: {re.sub('^(Value error|Assertion failed), ', '', details['msg'])}"
    for beginning, words in _EXPECTED.items():
        if kind.startswith(beginning):
            return words
    message = re.sub(r"^(Input should be |[A-Z]\w* should have )", "", details["msg"])
    return message[:1].lower() + message[1:]


def _choices(schema: Schema) -> str:
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return ", ".join(map(shown, choices))


def _below(schema: Schema, steps: Sequence[int | str]) -> Schema:
    """The schema at a place, as far as it is plain to see."""
    for step in steps:
        choices: list[Schema] = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
        inner = [_step(choice, step) for choice in choices]
        schema = next(filter(None, inner), inner[0])
    return schema


def _step(schema: Schema, step: int | str) -> Schema:
    if isinstance(step, str):
        properties: Schema = schema.get("properties", {})
        inner = properties.get(step, schema.get("additionalProperties"))
    else:
        prefix = schema.get("prefixItems", ())
        inner = prefix[step] if step < len(prefix) else schema.get("items")
    return inner if is_schema(inner) else {}
