"""Takes the arguments out of what a model wrapped around them.

Rules:
- double-encoded: a JSON text within the JSON text.
- unwrapped: `{"arguments": {...}}`, a whole call (`{"name": this tool, "arguments": {...}}`), the
  form of a schema (`{"type": "object", "properties": {...}}`), `{this tool: {...}}`, or a list
  around one object. Only if the tool has no parameter of the wrapper's name; a call of another
  name is left as it is, for it is another call.
- positional: a list for as many required parameters, where each value fits as it is.
- lone-value: a value that is no object, for the only parameter there is, or the only required one;
  never a text that looks like JSON, or like `name: value`, and could not be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from agentcall.messages import JSON
from agentcall.repair.fit import get_properties, list_required_names
from agentcall.repair.fix import dump_json, make_fix
from agentcall.repair.names import find_tool_name
from agentcall.repair.reading import ParsedArguments, parse_inner
from agentcall.repair.scalar import is_blank
from agentcall.tool import Tool

WRAPPER_KEYS = frozenset(
    {
        "parameters",
        "arguments",
        "args",
        "input",
        "inputs",
        "kwargs",
        "properties",
        "params",
        "function",
        "function_call",
        "tool_call",
        "tool_input",
        "tool_args",
        "action_input",
    }
)
_TOOL_NAME_KEYS = (
    "name",
    "tool",
    "tool_name",
    "function",
    "function_name",
    "action",
    "recipient_name",
)
_MAX_LAYERS = 6
_JSON_LIKE = re.compile(r"\s*(?:[{\[(`<]|[\w-]+\s*[:=])")
_PLAIN_TEXT = re.compile(r"(?!\s*[\w-]+\s*[:=])[^{}\[\]\"'`\n|\ud800-\udfff]{1,200}")


def unwrap_layers(reading: ParsedArguments, tool: Tool) -> Iterator[ParsedArguments]:
    """The reading itself, and then what is found below each layer that is around it."""
    current: ParsedArguments | None = reading
    for _ in range(_MAX_LAYERS):
        if current is None:
            return
        yield current
        current = _unwrap_layer(current, tool)


def wrap_in_object(reading: ParsedArguments, tool: Tool) -> Iterator[ParsedArguments]:
    """What is no object, as an object: the values under the names of the tool's parameters."""
    value = reading.value
    if (
        isinstance(value, dict)
        or value is None
        or (isinstance(value, str) and _JSON_LIKE.match(value))
    ):
        return
    required = list_required_names(tool.parameters)
    names = list(get_properties(tool.parameters))
    alone = required if len(required) == 1 else names if len(names) == 1 else []
    if alone:
        yield _add_fix(reading, "lone-value", {alone[0]: value})
    if isinstance(value, list) and value and len(value) == len(required):
        yield _add_fix(reading, "positional", dict(zip(required, value, strict=True)))


def read_bare_text(text: str, tool: Tool) -> ParsedArguments | None:
    """A short text without any JSON in it, which can only be the value of the only parameter."""
    clean = text.strip()
    plain = _PLAIN_TEXT.fullmatch(clean) and not is_blank(clean) and any(map(str.isalnum, clean))
    name = clean in get_properties(tool.parameters) or clean.startswith(("-", "/*", "//", "#"))
    return ParsedArguments(clean) if plain and not name and _has_one_text_parameter(tool) else None


def _add_fix(reading: ParsedArguments, rule: str, value: JSON) -> ParsedArguments:
    return ParsedArguments(
        value, (*reading.fixes, make_fix(rule, dump_json(reading.value), dump_json(value)))
    )


def _has_one_text_parameter(tool: Tool) -> bool:
    required = list_required_names(tool.parameters)
    schemas = get_properties(tool.parameters)
    only = required if len(required) == 1 else list(schemas) if len(schemas) == 1 else []
    schema = schemas.get(only[0]) if only else None
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def _unwrap_layer(reading: ParsedArguments, tool: Tool) -> ParsedArguments | None:
    value = reading.value
    if value is None:
        return _add_fix(reading, "empty", {})
    if isinstance(value, str):
        inner = parse_inner(value) or (ParsedArguments({}) if not value.strip() else None)
        if inner is None:
            return None
        told = make_fix("double-encoded", dump_json(value), dump_json(inner.value))
        return ParsedArguments(inner.value, (*reading.fixes, told, *inner.fixes))
    if isinstance(value, list):
        only = value[0] if len(value) == 1 else None
        return _add_fix(reading, "unwrapped", only) if isinstance(only, dict) else None
    return _unwrap_object(reading, value, tool) if isinstance(value, dict) else None


def _unwrap_object(
    reading: ParsedArguments, value: dict[str, JSON], tool: Tool
) -> ParsedArguments | None:
    own = get_properties(tool.parameters)
    wrapped = {key: inner for key, inner in value.items() if _is_wrapper(key, inner, own, tool)}
    if len(wrapped) > 1:
        wrapped = {key: inner for key, inner in wrapped.items() if inner}
    if len(wrapped) != 1:
        return None
    ((key, inner),) = wrapped.items()
    beside = {name: item for name, item in value.items() if name != key}
    if not _has_no_arguments(beside, key, own, tool):
        return None
    return _add_fix(reading, "unwrapped", inner)


def _is_wrapper(key: str, inner: JSON, own: Mapping[str, JSON], tool: Tool) -> bool:
    if key in own or not (key in WRAPPER_KEYS or key == tool.name):
        return False
    if isinstance(inner, str):
        found = parse_inner(inner)
        return found is not None and isinstance(found.value, dict)
    return inner is None or isinstance(inner, (dict, list))


def _has_no_arguments(
    beside: dict[str, JSON], wrapper: str, own: Mapping[str, JSON], tool: Tool
) -> bool:
    """Whether what stands beside a wrapper is no argument, and names no other tool."""
    for name, item in beside.items():
        if name in _TOOL_NAME_KEYS and isinstance(item, str):
            if find_tool_name(item, [tool.name]) is None:
                return False
        elif name in own and not (wrapper == "properties" and name in ("type", "required")):
            return False
    return True
