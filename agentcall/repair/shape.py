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
from agentcall.repair.fit import properties_of, required_of
from agentcall.repair.fix import fix, written
from agentcall.repair.names import find
from agentcall.repair.reading import Reading, read_inner
from agentcall.repair.scalar import is_blank
from agentcall.tool import Tool

WRAPPERS = frozenset(
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
_NAMES = ("name", "tool", "tool_name", "function", "function_name", "action", "recipient_name")
_DEEPEST = 6
_CODE = re.compile(r"\s*(?:[{\[(`<]|[\w-]+\s*[:=])")
_PLAIN_TEXT = re.compile(r"(?!\s*[\w-]+\s*[:=])[^{}\[\]\"'`\n|\ud800-\udfff]{1,200}")


def peeled(reading: Reading, tool: Tool) -> Iterator[Reading]:
    """The reading itself, and then what is found below each layer that is around it."""
    current: Reading | None = reading
    for _ in range(_DEEPEST):
        if current is None:
            return
        yield current
        current = _below(current, tool)


def placed(reading: Reading, tool: Tool) -> Iterator[Reading]:
    """What is no object, as an object: the values under the names of the tool's parameters."""
    value = reading.value
    if isinstance(value, dict) or value is None or (isinstance(value, str) and _CODE.match(value)):
        return
    required = required_of(tool.parameters)
    names = list(properties_of(tool.parameters))
    alone = required if len(required) == 1 else names if len(names) == 1 else []
    if alone:
        yield _with(reading, "lone-value", {alone[0]: value})
    if isinstance(value, list) and value and len(value) == len(required):
        yield _with(reading, "positional", dict(zip(required, value, strict=True)))


def bare_text(text: str, tool: Tool) -> Reading | None:
    """A short text without any JSON in it, which can only be the value of the only parameter."""
    clean = text.strip()
    plain = _PLAIN_TEXT.fullmatch(clean) and not is_blank(clean) and any(map(str.isalnum, clean))
    name = clean in properties_of(tool.parameters) or clean.startswith(("-", "/*", "//", "#"))
    return Reading(clean) if plain and not name and _takes_text(tool) else None


def _with(reading: Reading, rule: str, value: JSON) -> Reading:
    return Reading(value, (*reading.fixes, fix(rule, written(reading.value), written(value))))


def _takes_text(tool: Tool) -> bool:
    required = required_of(tool.parameters)
    schemas = properties_of(tool.parameters)
    only = required if len(required) == 1 else list(schemas) if len(schemas) == 1 else []
    schema = schemas.get(only[0]) if only else None
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def _below(reading: Reading, tool: Tool) -> Reading | None:
    value = reading.value
    if value is None:
        return _with(reading, "empty", {})
    if isinstance(value, str):
        inner = read_inner(value) or (Reading({}) if not value.strip() else None)
        if inner is None:
            return None
        told = fix("double-encoded", written(value), written(inner.value))
        return Reading(inner.value, (*reading.fixes, told, *inner.fixes))
    if isinstance(value, list):
        only = value[0] if len(value) == 1 else None
        return _with(reading, "unwrapped", only) if isinstance(only, dict) else None
    return _unwrapped(reading, value, tool) if isinstance(value, dict) else None


def _unwrapped(reading: Reading, value: dict[str, JSON], tool: Tool) -> Reading | None:
    own = properties_of(tool.parameters)
    wrapped = {key: inner for key, inner in value.items() if _wraps(key, inner, own, tool)}
    if len(wrapped) > 1:
        wrapped = {key: inner for key, inner in wrapped.items() if inner}
    if len(wrapped) != 1:
        return None
    ((key, inner),) = wrapped.items()
    beside = {name: item for name, item in value.items() if name != key}
    if not _harmless(beside, key, own, tool):
        return None
    return _with(reading, "unwrapped", inner)


def _wraps(key: str, inner: JSON, own: Mapping[str, JSON], tool: Tool) -> bool:
    if key in own or not (key in WRAPPERS or key == tool.name):
        return False
    if isinstance(inner, str):
        found = read_inner(inner)
        return found is not None and isinstance(found.value, dict)
    return inner is None or isinstance(inner, (dict, list))


def _harmless(beside: dict[str, JSON], wrapper: str, own: Mapping[str, JSON], tool: Tool) -> bool:
    """Whether what stands beside a wrapper is no argument, and names no other tool."""
    for name, item in beside.items():
        if name in _NAMES and isinstance(item, str):
            if find(item, [tool.name]) is None:
                return False
        elif name in own and not (wrapper == "properties" and name in ("type", "required")):
            return False
    return True
