"""Error messages for invalid arguments, simple enough for a small model to act on."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import orjson

from agentcall.errors import ArgumentProblem, ArgumentsError
from agentcall.messages import JSON
from agentcall.tools.schema._definitions import Schema, is_schema


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


class TypeMismatch(Exception):
    """A JSON value is not of its type; `problems` has one problem per location."""

    def __init__(self, problems: Sequence[ArgumentProblem]) -> None:
        super().__init__(str(problems))
        self.problems = problems


ABSENT = _Absent()
"""The `value` of an ArgumentProblem for a missing required value."""

_LONG_NUMBER = re.compile(rb"\d{19}")
_MAX_VALUE_LENGTH = 80
_MAX_DEPTH = 4
_TYPE_NAMES = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}


def parse_json(arguments: str | bytes, name: str, schema: Schema) -> JSON:
    """Parse JSON arguments. Raises ArgumentsError, which has the cause and the position."""
    from agentcall.lenient_json import has_repeated_key  # late: its patterns take long to compile

    raw = b""
    try:
        raw = arguments.encode() if isinstance(arguments, str) else bytes(arguments)
        value = _parse_bytes(raw)
        if has_repeated_key(raw, value):
            raise ValueError("a key is given twice, with two values")
        return value
    except ValueError as error:
        reason = _explain_invalid_json(raw, str(error))
        text = raw.decode(errors="replace") if raw else str(arguments)
        problem = ArgumentProblem("", text, f"JSON: {reason}")
        message = f"{name}: the arguments are not valid JSON: {reason}.\n"
        raise ArgumentsError(message + format_expected_line(schema), (problem,)) from error


def _parse_bytes(raw: bytes) -> JSON:
    """Parse JSON. Raises ValueError with the position.

    orjson returns long integers as floats. These, and all errors, are left to pydantic's parser,
    whose import would take longer than all of ours.
    """
    if not _LONG_NUMBER.search(raw):
        try:
            parsed: JSON = orjson.loads(raw)
            return parsed
        except ValueError:
            pass
    from pydantic_core import from_json

    value: JSON = from_json(raw, allow_inf_nan=False)
    return value


def _explain_invalid_json(raw: bytes, error: str) -> str:
    if error.startswith("a key is"):
        return error
    if not raw.strip():
        return "the text is empty" if not error.startswith("'utf") else error
    match = re.search(r"at line (\d+) column (\d+)$", error)
    line, column = (int(match[1]), int(match[2])) if match else (1, 0)
    start = sum(len(part) + 1 for part in raw.split(b"\n")[: line - 1]) + max(column - 1, 0)
    near = raw[max(start - 20, 0) : start + 20].decode(errors="replace")
    if error.startswith("EOF"):
        return f"it is cut short ({error}), after {near!r}"
    if re.match(rb"-?(NaN|Inf)", raw[max(start - 1, 0) :].lstrip(b"-:, [")):
        return (
            f"NaN and Infinity are not JSON; send a number or null (line {line}, column {column})"
        )
    if error.startswith("trailing characters"):
        return f"text after the end of the JSON ({error}), near {near!r}"
    return f"{error}, near {near!r}"


def make_not_object_error(name: str, value: JSON, schema: Schema) -> ArgumentsError:
    """Create the error for arguments that are JSON but not an object."""
    kind = _describe_kind(value)
    message = f"{name}: the arguments must be one JSON object, not {kind}: {format_value(value)}.\n"
    problem = ArgumentProblem("", value, "one JSON object")
    return ArgumentsError(message + format_expected_line(schema), (problem,))


def make_fields_error(
    name: str, problems: Sequence[ArgumentProblem], schema: Schema
) -> ArgumentsError:
    """Create the error that names every wrong field, and the expected shape."""
    lines = [f"{name}: the arguments do not fit."]
    for problem in problems:
        given = "missing" if problem.value is ABSENT else f"got {format_value(problem.value)}"
        lines.append(f"- {problem.path or 'value'}: {given}, expected {problem.expected}")
    return ArgumentsError("\n".join([*lines, format_expected_line(schema)]), tuple(problems))


def format_expected_line(schema: Schema) -> str:
    """Format the line with the expected shape of the arguments."""
    return f"Expected shape: {format_shape(schema)}"


def format_value(value: object) -> str:
    """Format a value as short JSON text."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        text = repr(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 3] + "..."


def _describe_kind(value: JSON) -> str:
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


def format_shape(schema: Schema, depth: int = 0) -> str:
    """Format a schema as one line: `{"city": string, "days"?: integer, "unit": "C" | "F"}`."""
    if "const" in schema:
        return format_value(schema["const"])
    if "enum" in schema:
        return " | ".join(map(format_value, schema["enum"]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(format_shape(choice, depth) for choice in schema[key]))
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    match schema.get("type"):
        case "array" if depth < _MAX_DEPTH:
            return _format_array_shape(schema, depth + 1)
        case "object" if depth < _MAX_DEPTH:
            return _format_object_shape(schema, depth + 1)
        case None:
            return "any"
        case kind:
            return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _format_array_shape(schema: Schema, depth: int) -> str:
    items = [format_shape(item, depth) for item in schema.get("prefixItems", ())]
    if is_schema(schema.get("items")):
        items += [format_shape(schema["items"], depth), "..."]
    return f"[{', '.join(items or ['...'])}]"


def _format_object_shape(schema: Schema, depth: int) -> str:
    required = schema.get("required", ())
    items = [
        f'"{name}"{"" if name in required else "?"}: {format_shape(child, depth)}'
        for name, child in schema.get("properties", {}).items()
    ]
    additional = schema.get("additionalProperties", "properties" not in schema)
    if additional is not False:
        items.append(f"...: {format_shape(additional, depth)}" if is_schema(additional) else "...")
    return f"{{{', '.join(items)}}}"


def describe_unknown_argument(known: Sequence[str]) -> str:
    """Describe what is expected in place of an argument that does not exist."""
    return f"no such argument; known are {', '.join(known)}" if known else "no arguments"


def describe_schema(schema: Schema) -> str:
    """Describe in a few words what a schema expects."""
    type_name = _TYPE_NAMES.get(str(schema.get("type")), "") if "format" not in schema else ""
    if "enum" in schema or "const" in schema or "properties" in schema or not type_name:
        return format_shape(schema)
    return type_name
