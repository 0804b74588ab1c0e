"""A typed answer as `response_format`: what holds a model to a JSON Schema on the server.

Only a request in which no tool can be called has it. vLLM, SGLang, llama.cpp, LMDeploy and Ollama
apply the schema to all that the model writes, so that a call could not be written at all
(vllm#39929, ollama#8095, llama.cpp#25454).

Grammar engines support a part of JSON Schema, and differ in what they do with the rest: refuse the
request, or ignore the whole schema (llama.cpp#19051). So only what all of them support is sent; the
type itself checks the answer afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentcall.dialects.dialect import JSONObject, PromptSpec, ToolChoice
from agentcall.messages import JSON

ANSWER_NAME = "answer"
"""The name of the schema of an answer in a request, and of the key of a value in an object."""

_UNSUPPORTED = frozenset(
    {
        *("pattern", "format", "multipleOf", "uniqueItems", "contains", "minContains"),
        *("maxContains", "propertyNames", "patternProperties", "minProperties", "maxProperties"),
        *("dependentSchemas", "dependentRequired", "not", "if", "then", "else", "default"),
        *("examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "title"),
    }
)
_NAMED = ("properties", "$defs", "definitions")


def is_answer_constrained(prompt: PromptSpec, tool_choice: ToolChoice) -> bool:
    """Whether a request asks the server to hold the answer to its type."""
    if prompt.answer_schema is None or prompt.answer_mode == "prompt":
        return False
    return not prompt.tools or tool_choice == "none"


def create_response_format(schema: Mapping[str, JSON]) -> JSONObject:
    """Return the value of `response_format` for the JSON Schema of an answer."""
    restricted = restrict_schema(schema)
    return {
        "type": "json_schema",
        "json_schema": {
            "name": ANSWER_NAME,
            "strict": _is_strict(restricted),
            "schema": restricted,
        },
    }


def restrict_schema(schema: JSON) -> JSON:
    """Return a schema with what every grammar engine supports; objects have no other members."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [restrict_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    restricted: JSONObject = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping):
            restricted[key] = {name: restrict_schema(inner) for name, inner in value.items()}
        elif key in ("enum", "const", "required", "description"):
            restricted[key] = value
        elif key not in _UNSUPPORTED:
            restricted["anyOf" if key == "oneOf" else key] = restrict_schema(value)
    if restricted.get("type") == "object" and "properties" in restricted:
        restricted.setdefault("additionalProperties", False)
    return restricted


def _is_strict(schema: JSON) -> bool:
    """Whether a schema has what OpenAI demands of a strict one: no optional or other members."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        names, required = schema.get("properties"), schema.get("required", [])
        if not isinstance(names, Mapping) or not isinstance(required, Sequence):
            return False
        if schema.get("additionalProperties") is not False or set(names) - set(required):
            return False
    inner = [
        value
        for key, value in schema.items()
        if key not in ("enum", "const", "required", "description", *_NAMED)
    ]
    for key in _NAMED:
        named = schema.get(key)
        inner += named.values() if isinstance(named, Mapping) else ()
    return all(map(_is_strict, inner))
