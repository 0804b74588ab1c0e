"""Whether a JSON Schema from outside can be used: its size, depth and references, and its validity.

The validity rules are those that all drafts since the sixth share. `jsonschema` interprets the
metaschema for each schema, which takes milliseconds. Nearly all schemas pass the check here, which
takes microseconds; only the others need the metaschema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, cast
from urllib.parse import unquote

import orjson

from agentcall.errors import SchemaError
from agentcall.tools.schema._definitions import Schema, is_list, is_schema

MAX_DEPTH = 64
"""Nested lists and objects; a property of an object takes two levels."""
MAX_SCHEMA_BYTES = 250_000
"""Bytes of JSON: about 60,000 tokens."""
_MAX_VALUES = 5_000

_IN_PLACE_KEYWORDS = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "extends", "disallow")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_REFERENCE_KEYWORDS = ("$ref", "$dynamicRef", "$recursiveRef")


def encode_bounded_schema(schema: Mapping[str, object], name: str) -> bytes:
    """Return a tool's schema as JSON. Raises SchemaError if it is too deep or too large."""
    _check_depth(schema, name)
    try:
        text = orjson.dumps(schema)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"the tool {name} has a schema that is not JSON: {error}") from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise SchemaError(
            f"the tool {name} has a JSON Schema of {len(text)} bytes, over the limit of "
            f"{MAX_SCHEMA_BYTES}; offer a part of it"
        )
    if b'ef"' in text:  # $ref, $dynamicRef
        _check_references(cast("Schema", orjson.loads(text)), name)
    return text


def _check_depth(schema: object, name: str) -> None:
    level: list[object] = [schema]
    count = depth = 0
    while level:
        depth += 1
        count += len(level)
        if depth > MAX_DEPTH or count > _MAX_VALUES:
            excess = (
                f"over {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"over {_MAX_VALUES} values"
            )
            raise SchemaError(
                f"the tool {name} has a JSON Schema of {excess}; make it flatter, or take the deep "
                "parts as text"
            )
        level = [child for parent in level for child in iter_children(parent)]


def iter_children(value: object) -> Iterator[object]:
    """Yield the lists and objects in a list or object."""
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, object]", value).values()
    elif is_list(value):
        inner = value
    for child in inner:
        if isinstance(child, (Mapping, list)):
            yield cast("object", child)


def _check_references(root: Schema, name: str) -> None:
    """Raise SchemaError if a schema leads back to itself for the same value."""
    checked: set[int] = set()
    pending: list[object] = [root]
    while pending:
        start = pending.pop()
        pending += iter_children(start)
        if is_schema(start) and id(start) not in checked:
            _check_cycles(start, root, checked, name)


def _check_cycles(start: Schema, root: Schema, checked: set[int], name: str) -> None:
    path: list[tuple[Schema, Iterator[Schema]]] = [(start, _iter_in_place_schemas(start, root))]
    open_ids = {id(start)}
    while path:
        node, following = path[-1]
        child = next(following, None)
        if child is None:
            path.pop()
            open_ids.discard(id(node))
            checked.add(id(node))
        elif id(child) in open_ids:
            reference = next(
                (str(node[key]) for key in _REFERENCE_KEYWORDS if key in node), "allOf"
            )
            raise SchemaError(
                f"the tool {name} has a JSON Schema that refers to itself endlessly: "
                f"{reference!r} leads back to itself"
            )
        elif id(child) not in checked:
            open_ids.add(id(child))
            path.append((child, _iter_in_place_schemas(child, root)))


def _iter_in_place_schemas(node: Schema, root: Schema) -> Iterator[Schema]:
    """Yield the schemas that the same value has to match."""
    for key in _IN_PLACE_KEYWORDS:
        value = node.get(key)
        yield from filter(is_schema, value if is_list(value) else [value])
    for key in _IN_PLACE_MAPS:
        value = node.get(key)
        yield from filter(is_schema, value.values() if is_schema(value) else ())
    for key in _REFERENCE_KEYWORDS:
        target = _resolve_reference(node.get(key), root)
        if is_schema(target):
            yield target


def _resolve_reference(reference: object, root: Schema) -> object:
    """Return the target of a reference within the document; None if it is elsewhere."""
    if reference == "#":
        return root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: object = root
    for step in unquote(reference[2:]).split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if is_schema(target):
            target = target.get(step)
        elif is_list(target) and step.isdecimal() and int(step) < len(target):
            target = target[int(step)]
        else:
            return None
    return target


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
_RARE_KEYWORDS = (
    *("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"),
    *("$vocabulary", "minContains", "maxContains"),
)
"""Keywords that are left to the metaschema."""


def is_plainly_valid(schema: dict[str, Any]) -> bool:  # Any: a JSON Schema is any JSON object
    """Whether the schema is certainly valid; others may be valid, too."""
    valid: bool = _build_validator().isinstance_python(schema, strict=True)
    return valid and schema.get("$schema") in _DIALECTS


@cache
def _build_validator() -> Any:  # Any: pydantic_core is imported on demand
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
    keywords_schema = s.typed_dict_schema(fields, extra_behavior="ignore")
    either = s.union_schema([s.bool_schema(), keywords_schema], mode="left_to_right", ref="schema")
    return SchemaValidator(s.definitions_schema(inner, [either]))
