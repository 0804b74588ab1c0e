"""What a JSON Schema is: the rules that are the same in all its drafts since the sixth.

`jsonschema` interprets the metaschema for each schema, which takes milliseconds; nearly all schemas
pass this, which takes microseconds, and only the others need that.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_DIALECTS = (
    None,
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-06/schema",
)
_TYPES = ["string", "number", "integer", "boolean", "object", "array", "null"]
_STRING_KEYWORDS = (
    "$ref",
    "$comment",
    "title",
    "description",
    "format",
    "pattern",
    "contentEncoding",
)
_BOOL_KEYWORDS = ("uniqueItems", "readOnly", "writeOnly", "deprecated")
_NUMBER_KEYWORDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNT_KEYWORDS = (
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
_SCHEMA_KEYWORDS = (
    *("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else"),
    *("additionalItems", "unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
_SCHEMA_MAP_KEYWORDS = (
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
)
_SCHEMA_LIST_KEYWORDS = ("allOf", "anyOf", "oneOf", "prefixItems")
_RARE_KEYWORDS = {"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor",
         "$vocabulary", "minContains", "maxContains"}  # fmt: skip
"""Keywords that are left to the metaschema."""


def is_plainly_valid(schema: dict[str, Any]) -> bool:  # Any: a JSON Schema is any JSON object
    """Whether the schema is valid, beyond doubt; one that is not may be valid all the same."""
    valid: bool = _build_validator().isinstance_python(schema, strict=True)
    return valid and schema.get("$schema") in _DIALECTS


@cache
def _build_validator() -> Any:  # Any: pydantic_core is imported when first needed
    from pydantic_core import SchemaValidator
    from pydantic_core import core_schema as s

    inner = s.definition_reference_schema("schema")
    text, count = s.str_schema(), s.int_schema(ge=0)
    number = s.union_schema([s.int_schema(), s.float_schema()])
    texts, lists = s.list_schema(text), s.list_schema(inner, min_length=1)
    kind, by_name = s.literal_schema(_TYPES), s.dict_schema(text, inner)
    keywords = {
        **dict.fromkeys(_STRING_KEYWORDS, text),
        **dict.fromkeys(_BOOL_KEYWORDS, s.bool_schema()),
        **dict.fromkeys(_NUMBER_KEYWORDS, number),
        **dict.fromkeys(_COUNT_KEYWORDS, count),
        **dict.fromkeys(_SCHEMA_KEYWORDS, inner),
        **dict.fromkeys(_SCHEMA_MAP_KEYWORDS, by_name),
        **dict.fromkeys(_SCHEMA_LIST_KEYWORDS, lists),
        **dict.fromkeys(_RARE_KEYWORDS, s.none_schema()),
        "type": s.union_schema([kind, s.list_schema(kind, min_length=1)]),
        "enum": s.list_schema(s.any_schema()),
        "examples": s.list_schema(s.any_schema()),
        "required": texts,
        "dependentRequired": s.dict_schema(text, texts),
        "dependencies": s.dict_schema(text, s.union_schema([inner, texts])),
        "multipleOf": s.union_schema([s.int_schema(gt=0), s.float_schema(gt=0)]),
    }
    fields = {key: s.typed_dict_field(value, required=False) for key, value in keywords.items()}
    whole = s.typed_dict_schema(fields, extra_behavior="ignore")
    either = s.union_schema([s.bool_schema(), whole], mode="left_to_right", ref="schema")
    return SchemaValidator(s.definitions_schema(inner, [either]))
