"""The JSON Schema of one turn in the constrained dialect: a plan, a call of a tool, or the answer.

Rules:
1. A tool's `$defs` move to the root's, under names that no other schema has: a `$ref` is looked up
   from the root.
2. No `pattern` of a tool: grammar engines know a part of the regular expressions and refuse a
   request for the rest (llama.cpp wants both anchors). The tool's own validator judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentcall.dialects.plan import build_plan_pattern
from agentcall.dialects.protocol import PromptSpec, ToolChoice
from agentcall.messages import JSON

SchemaDict = dict[str, JSON]

_DEFS = ("$defs", "definitions")


def build_turn_schema(prompt: PromptSpec, tool_choice: ToolChoice) -> SchemaDict:
    """The schema of a turn; `choice` is whether the model may, may not or must call."""
    defs: SchemaDict = {}
    options: list[SchemaDict] = []
    if prompt.tools and tool_choice != "none":
        plan: SchemaDict = {
            "type": "string",
            "pattern": build_plan_pattern([tool.name for tool in prompt.tools]),
        }
        options.append(_create_object_schema(plan=plan))
        options += [
            _create_object_schema(
                name={"const": tool.name},
                arguments=_lift_definitions(tool.parameters, tool.name, defs),
            )
            for tool in prompt.tools
        ]
    if tool_choice != "required" or not options:
        options.append(
            _create_object_schema(
                answer=_lift_definitions(prompt.answer_schema or {"type": "string"}, "answer", defs)
            )
        )
    schema: SchemaDict = options[0] if len(options) == 1 else {"anyOf": options}
    return {**schema, "$defs": defs} if defs else schema


def _create_object_schema(**properties: JSON) -> SchemaDict:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _lift_definitions(schema: Mapping[str, JSON], owner: str, defs: SchemaDict) -> JSON:
    """The schema with its definitions put among the root's."""
    for key in _DEFS:
        own = schema.get(key)
        for name, value in own.items() if isinstance(own, Mapping) else ():
            defs[f"{owner}.{name}"] = _rewrite_schema(value, owner)
    return _rewrite_schema({key: value for key, value in schema.items() if key not in _DEFS}, owner)


def _rewrite_schema(schema: JSON, owner: str) -> JSON:
    """A schema as it is sent: references led to the root, patterns left out."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_rewrite_schema(item, owner) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: _rewrite_keyword(key, value, owner)
        for key, value in schema.items()
        if key != "pattern"
    }


def _rewrite_keyword(key: str, value: JSON, owner: str) -> JSON:
    """The value of a keyword; the keys below `properties` are names, and constants are data."""
    match key, value:
        case "properties" | "patternProperties", Mapping():
            return {name: _rewrite_schema(item, owner) for name, item in value.items()}
        case "const" | "enum" | "default" | "examples", _:
            return value
        case "$ref", str():
            for kind in _DEFS:
                value = value.replace(f"#/{kind}/", f"#/$defs/{owner}.", 1)
            return value
        case _:
            return _rewrite_schema(value, owner)
