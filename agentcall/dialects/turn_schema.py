"""The JSON Schema of one turn in the constrained dialect: a plan, a call of a tool, or the answer.

Rules:
1. A tool's `$defs` move to the root's, under names that no other schema has: a `$ref` is looked up
   from the root.
2. No `pattern` of a tool: grammar engines know a part of the regular expressions and refuse a
   request for the rest (llama.cpp wants both anchors). The tool's own validator judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentcall.dialects.plan import pattern
from agentcall.dialects.protocol import Choice, Offer
from agentcall.messages import JSON

Schema = dict[str, JSON]

_DEFS = ("$defs", "definitions")


def turn_schema(offer: Offer, choice: Choice) -> Schema:
    """The schema of a turn; `choice` is whether the model may, may not or must call."""
    defs: Schema = {}
    options: list[Schema] = []
    if offer.tools and choice != "none":
        plan: Schema = {"type": "string", "pattern": pattern([tool.name for tool in offer.tools])}
        options.append(_object(plan=plan))
        options += [
            _object(name={"const": tool.name}, arguments=_lifted(tool.parameters, tool.name, defs))
            for tool in offer.tools
        ]
    if choice != "required" or not options:
        options.append(_object(answer=_lifted(offer.answer or {"type": "string"}, "answer", defs)))
    schema: Schema = options[0] if len(options) == 1 else {"anyOf": options}
    return {**schema, "$defs": defs} if defs else schema


def _object(**properties: JSON) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _lifted(schema: Mapping[str, JSON], owner: str, defs: Schema) -> JSON:
    """The schema with its definitions put among the root's."""
    for key in _DEFS:
        own = schema.get(key)
        for name, value in own.items() if isinstance(own, Mapping) else ():
            defs[f"{owner}.{name}"] = _sent(value, owner)
    return _sent({key: value for key, value in schema.items() if key not in _DEFS}, owner)


def _sent(schema: JSON, owner: str) -> JSON:
    """A schema as it is sent: references led to the root, patterns left out."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_sent(item, owner) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _field(key, value, owner) for key, value in schema.items() if key != "pattern"}


def _field(key: str, value: JSON, owner: str) -> JSON:
    """The value of a keyword; the keys below `properties` are names, and constants are data."""
    match key, value:
        case "properties" | "patternProperties", Mapping():
            return {name: _sent(item, owner) for name, item in value.items()}
        case "const" | "enum" | "default" | "examples", _:
            return value
        case "$ref", str():
            for kind in _DEFS:
                value = value.replace(f"#/{kind}/", f"#/$defs/{owner}.", 1)
            return value
        case _:
            return _sent(value, owner)
