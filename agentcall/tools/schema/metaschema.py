"""What a JSON Schema is: the rules that are the same in all its drafts since the sixth.

`jsonschema` interprets the metaschema for each schema, which takes milliseconds; nearly all schemas
pass this, which takes microseconds, and only the others need that.

The bounds of a JSON Schema from elsewhere: its depth, its size, and an end to its references.
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
"""Lists and objects within each other; a property of an object takes two."""
MAX_SCHEMA_BYTES = 250_000
"""Bytes of JSON: some 60,000 tokens."""
_MAX_VALUES = 5_000

_IN_PLACE_KEYWORDS = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "extends", "disallow")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_REFERENCE_KEYWORDS = ("$ref", "$dynamicRef", "$recursiveRef")


def encode_bounded_schema(schema: Mapping[str, object], name: str) -> bytes:
    """The schema of a tool as JSON. Raises SchemaError where it is too deep or too large."""
    _check_depth(schema, name)
    try:
        text = orjson.dumps(schema)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"the tool {name} has a schema that is not JSON: {error}") from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise SchemaError(
            f"the tool {name} has a JSON Schema of {len(text)} bytes, at most "
            f"{MAX_SCHEMA_BYTES} are taken; "
            "offer a part of it"
        )
    if b'ef"' in text:  # $ref, $dynamicRef
        _check_references(cast("Schema", orjson.loads(text)), name)
    return text


def _check_depth(schema: object, name: str) -> None:
    level: list[object] = [schema]
    seen = depth = 0
    while level:
        depth += 1
        seen += len(level)
        if depth > MAX_DEPTH or seen > _MAX_VALUES:
            words = (
                f"over {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"over {_MAX_VALUES} values"
            )
            raise SchemaError(
                f"the tool {name} has a JSON Schema of {words}; make it flatter, or give what lies "
                "deep as a text"
            )
        level = [child for parent in level for child in iter_children(parent)]


def iter_children(value: object) -> Iterator[object]:
    """The lists and objects in one."""
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, object]", value).values()
    elif is_list(value):
        inner = value
    for child in inner:
        if isinstance(child, (Mapping, list)):
            yield cast("object", child)


def _check_references(root: Schema, name: str) -> None:
    """Raises SchemaError where a schema leads back to itself for the very same value."""
    done: set[int] = set()
    waiting: list[object] = [root]
    while waiting:
        start = waiting.pop()
        waiting += iter_children(start)
        if is_schema(start) and id(start) not in done:
            _check_cycles(start, root, done, name)


def _check_cycles(start: Schema, root: Schema, done: set[int], name: str) -> None:
    path: list[tuple[Schema, Iterator[Schema]]] = [(start, _iter_in_place_schemas(start, root))]
    open_ones = {id(start)}
    while path:
        node, following = path[-1]
        after = next(following, None)
        if after is None:
            path.pop()
            open_ones.discard(id(node))
            done.add(id(node))
        elif id(after) in open_ones:
            reference = next(
                (str(node[key]) for key in _REFERENCE_KEYWORDS if key in node), "allOf"
            )
            raise SchemaError(
                f"the tool {name} has a JSON Schema that refers to itself without an end: "
                f"{reference!r} leads back to where it stands"
            )
        elif id(after) not in done:
            open_ones.add(id(after))
            path.append((after, _iter_in_place_schemas(after, root)))


def _iter_in_place_schemas(node: Schema, root: Schema) -> Iterator[Schema]:
    """The schemas that the same value has to fit."""
    for key in _IN_PLACE_KEYWORDS:
        value = node.get(key)
        yield from filter(is_schema, value if is_list(value) else [value])
    for key in _IN_PLACE_MAPS:
        value = node.get(key)
        yield from filter(is_schema, value.values() if is_schema(value) else ())
    for key in _REFERENCE_KEYWORDS:
        found = _resolve_reference(node.get(key), root)
        if is_schema(found):
            yield found


def _resolve_reference(reference: object, root: Schema) -> object:
    """What a reference within the document leads to; None where it leads elsewhere."""
    if reference == "#":
        return root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: object = root
    for step in unquote(reference[2:]).split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if is_schema(found):
            found = found.get(step)
        elif is_list(found) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


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
_RARE_KEYWORDS = {"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef",
    "$recursiveAnchor",
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
