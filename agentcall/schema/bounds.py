"""The bounds of a JSON Schema from elsewhere: its depth, its size, and an end to its references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast
from urllib.parse import unquote

import orjson

from agentcall.errors import SchemaError
from agentcall.schema.definitions import Schema, is_list, is_schema

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
            f"the tool {name} has a JSON Schema of {len(text)} bytes, at most {MAX_SCHEMA_BYTES} are taken; "
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
