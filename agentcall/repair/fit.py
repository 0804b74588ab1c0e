"""Whether a JSON value has the form that a JSON Schema asks for.

The judge of arguments is the tool's validator; this is the smaller question that a mender asks at
every place: type, choices, properties and items. Bounds, patterns and formats are the judge's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from agentcall.messages import JSON

SchemaMapping: TypeAlias = "Mapping[str, JSON]"

_MAX_DEPTH = 64
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


class RepairTooComplex(Exception):
    """The value is too big or too deep to be mended."""


@dataclass(slots=True)
class SchemaMatcher:
    """Checks against the schemas of one root, at most `budget` places in all."""

    root: SchemaMapping
    budget: int = 100_000
    _depth: int = 0

    def resolve(self, schema: SchemaMapping) -> SchemaMapping:
        """The schema, its references followed."""
        for _ in range(_MAX_DEPTH):
            self._spend()
            match schema:
                case {"$ref": str(ref)}:
                    below = self._follow_reference(ref)
                case {"allOf": [Mapping() as only]}:
                    below = cast("SchemaMapping", only)
                case _:
                    return schema
            beside = {k: v for k, v in schema.items() if k not in ("$ref", "allOf")}
            schema = {**below, **beside}
        raise RepairTooComplex

    def matches(self, value: JSON, schema: SchemaMapping) -> bool:
        """Whether the value has the schema's form. Raises TooMuch."""
        schema = self.resolve(schema)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise RepairTooComplex
        try:
            return self._matches(value, schema)
        finally:
            self._depth -= 1

    def _matches(self, value: JSON, schema: SchemaMapping) -> bool:
        if not _is_in_enum(value, schema):
            return False
        branches = list_choices(schema)
        if branches:
            return any(self.matches(value, branch) for branch in branches)
        kind = infer_kind(schema)
        if kind is not None and not is_kind(value, kind):
            return False
        if isinstance(value, dict):
            return self._matches_object(value, schema)
        return self._matches_list(value, schema) if isinstance(value, list) else True

    def _matches_object(self, value: Mapping[str, JSON], schema: SchemaMapping) -> bool:
        if not all(name in value for name in list_required_names(schema)):
            return False
        own = get_properties(schema)
        extra = schema.get("additionalProperties", True)
        for key, item in value.items():
            below = own.get(key, extra)
            if below is False or (isinstance(below, Mapping) and not self.matches(item, below)):
                return False
        return True

    def _matches_list(self, value: Sequence[JSON], schema: SchemaMapping) -> bool:
        first = schema.get("prefixItems")
        if isinstance(first, list) and len(value) < len(first):
            return False
        return all(
            self.matches(item, below)
            for item, below in zip(value, list_item_schemas(schema, len(value)), strict=True)
            if isinstance(below, Mapping)
        )

    def _spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise RepairTooComplex

    def _follow_reference(self, ref: str) -> SchemaMapping:
        found: JSON = self.root
        for step in ref.removeprefix("#/").split("/"):
            found = found.get(step) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise RepairTooComplex
        return found


def get_properties(schema: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """The properties that a schema names."""
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def list_required_names(schema: Mapping[str, JSON]) -> list[str]:
    """The names of the properties that a schema requires."""
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def list_choices(schema: SchemaMapping) -> list[SchemaMapping]:
    """The schemas of which one has to fit; none where there is no choice."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    found = schema.get("anyOf", schema.get("oneOf"))
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def list_item_schemas(schema: SchemaMapping, count: int) -> list[JSON]:
    """What a schema says of each of so many items."""
    first = schema.get("prefixItems")
    prefix: list[JSON] = [*first] if isinstance(first, list) else []
    return [*prefix, *[schema.get("items")] * (count - len(prefix))][:count]


def list_enum_values(schema: SchemaMapping) -> list[JSON]:
    """The values that an `enum` or a `const` allows."""
    found = schema.get("enum", [schema.get("const")])
    return [*found] if isinstance(found, list) else []


def infer_kind(schema: SchemaMapping) -> str | None:
    """The type that a schema names, or lets see by its other words."""
    match schema:
        case {"type": str(kind)}:
            return kind
        case {"properties": _}:
            return "object"
        case {"items": _} | {"prefixItems": _}:
            return "array"
        case _:
            return None


def is_kind(value: JSON, kind: str) -> bool:
    """Whether a value is of a JSON type; a boolean is no number."""
    if kind in ("integer", "number"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        number = isinstance(value, float) and kind == "number"
        return not isinstance(value, bool) and (whole or number)
    return isinstance(value, _PYTHON_TYPES.get(kind, (object,)))


def _is_in_enum(value: JSON, schema: SchemaMapping) -> bool:
    if "enum" not in schema and "const" not in schema:
        return True
    options = list_enum_values(schema)
    return any(type(value) is type(option) and value == option for option in options)
