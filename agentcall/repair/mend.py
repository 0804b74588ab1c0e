"""Mends a JSON value by the schema that it should fit.

A value that fits is left as it is. What does not fit is mended where it stands, at any depth:
- stringified: a text that spells out the list or object that is wanted.
- number-from-text, bool-from-text, null-from-text: `"2"`, `"true"`, `"None"`.
- text-from-number: `3.10` for a text, digit by digit.
- list-from-one: a lone value for a list; list-from-text: `"2, 3"` for a list of what is no text (a
  text with commas for a list of texts may be one item or many: it is left for the model).
- list-from-object: `{"0": "a", "1": "b"}` for a list; one-from-list: `[2]` for a lone 2.
- enum-spelling: a choice that differs by case and by separators between its words only.
- schema-echo: `{"type": "integer", "value": 2}` for 2, where the rest stands in the schema.
- key-name, key-near: a key that differs in its spelling only, or by one slip, from a property
  that is not given.
- null-dropped: null or blank for an optional property that takes neither.
- dropped-unknown: a key that an object without other properties does not know. It is the one rule
  that leaves out something the model wrote, a whole argument that the tool never had; so it is done
  only on order, never to a wrapper with something in it, never if nothing else was given to an
  object that has properties, and never, unless it is empty, where a property was not given: it may
  be meant for that one.
Of several choices (`anyOf`) the one that needs the fewest fixes is taken; if two do, none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agentcall.jsontext import WrittenFloat, WrittenInt
from agentcall.messages import JSON
from agentcall.repair.fit import (
    SchemaMapping,
    SchemaMatcher,
    get_properties,
    infer_kind,
    list_choices,
    list_enum_values,
    list_item_schemas,
    list_required_names,
)
from agentcall.repair.fix import Fix, dump_json, make_drop_fix, make_fix, make_value_fix
from agentcall.repair.names import find_only_near, normalize_spelling
from agentcall.repair.reading import parse_inner
from agentcall.repair.scalar import SCALAR_READERS, ScalarReader, get_scalar_rule, is_blank
from agentcall.repair.shape import WRAPPER_KEYS

_OPENING_CHARACTERS = ("[", "{", "(", "`")
_SCHEMA_ECHO_KEYS = frozenset({"type", "value", "description", "title"})
_GROUPED_DIGITS = re.compile(r"\s*[+-]?\d{1,3}(?:,\d{3})+\s*")
"""A number with thousands separators, or a list without brackets: nobody can tell."""


@dataclass(slots=True)
class ArgumentCoercer:
    """One walk over one value; `fixes` grows. Raises TooMuch where a value is too big to mend."""

    matcher: SchemaMatcher
    drop_unknown: bool
    fixes: list[Fix] = field(default_factory=list[Fix])

    def coerce(self, value: JSON, schema: SchemaMapping, path: str = "") -> JSON:
        """The value, or what it has to be to fit the schema; as it is where that is not plain."""
        schema = self.matcher.resolve(schema)
        if self.matcher.matches(value, schema):
            return value
        branches = list_choices(schema)
        if branches:
            return self._coerce_choice(value, branches, path)
        if "enum" in schema or "const" in schema:
            return self._coerce_enum(value, schema, path)
        return self._coerce_to_kind(value, schema, path)

    def _coerce_to_kind(self, value: JSON, schema: SchemaMapping, path: str) -> JSON:
        match infer_kind(schema):
            case "object":
                return self._coerce_object(value, schema, path)
            case "array":
                return self._coerce_array(value, schema, path)
            case str(kind) if kind in SCALAR_READERS:
                return self._coerce_scalar(value, schema, path, SCALAR_READERS[kind])
            case _:
                return value

    def _record_fix(self, rule: str, path: str, before: JSON, after: JSON) -> None:
        self.fixes.append(make_value_fix(rule, path, before, after))

    def _coerce_choice(self, value: JSON, branches: Sequence[SchemaMapping], path: str) -> JSON:
        found: list[tuple[int, str, JSON, list[Fix]]] = []
        for branch in branches:
            start = len(self.fixes)
            mended = self.coerce(value, branch, path)
            told = self.fixes[start:]
            del self.fixes[start:]
            if self.matcher.matches(mended, branch):
                found.append((len(told), dump_json(mended), mended, told))
        fewest = min((count for count, *_ in found), default=0)
        best = {text: (mended, told) for count, text, mended, told in found if count == fewest}
        if len(best) != 1:
            return value
        ((mended, told),) = best.values()
        self.fixes += told
        return mended

    def _coerce_enum(self, value: JSON, schema: SchemaMapping, path: str) -> JSON:
        if not isinstance(value, str):
            return self._unwrap_lone_value(value, schema, path)
        wanted = normalize_spelling(value)
        like = [
            e
            for e in list_enum_values(schema)
            if wanted and normalize_spelling(_format_enum_value(e)) == wanted
        ]
        if len(like) != 1:
            return value
        self._record_fix(
            "enum-spelling" if isinstance(like[0], str) else get_scalar_rule(like[0]),
            path,
            value,
            like[0],
        )
        return like[0]

    def _coerce_scalar(
        self,
        value: JSON,
        schema: SchemaMapping,
        path: str,
        read: ScalarReader,
    ) -> JSON:
        if isinstance(value, str):
            found = read(value)
            if found is None:
                return value
            self._record_fix(found[0], path, value, found[1])
            return found[1]
        if read is SCALAR_READERS["string"] and isinstance(value, (WrittenInt, WrittenFloat)):
            self._record_fix("text-from-number", path, value, value.text)
            return value.text
        return self._unwrap_lone_value(value, schema, path)

    def _unwrap_lone_value(self, value: JSON, schema: SchemaMapping, path: str) -> JSON:
        """A lone value out of a list of one, or out of an echo of its schema."""
        inner: JSON = None
        rule = ""
        if isinstance(value, list) and len(value) == 1:
            rule, inner = "one-from-list", value[0]
        elif isinstance(value, dict) and _is_schema_echo(value, schema):
            rule, inner = "schema-echo", value["value"]
        if not rule or isinstance(inner, (list, dict)):
            return value
        start = len(self.fixes)
        self._record_fix(rule, path, value, inner)
        mended = self.coerce(inner, schema, path)
        if self.matcher.matches(mended, schema):
            return mended
        del self.fixes[start:]
        return value

    def _parse_text(self, value: str, wanted: type, path: str) -> JSON:
        """The list or object that a text spells out, or the text."""
        reading = parse_inner(value)
        if reading is None or not isinstance(reading.value, wanted):
            return value
        self._record_fix("stringified", path, value, reading.value)
        return reading.value

    def _coerce_array(self, value: JSON, schema: SchemaMapping, path: str) -> JSON:
        if isinstance(value, str):
            value = self._parse_text(value, list, path)
        if not isinstance(value, list):
            return self._coerce_to_list(value, schema, path)
        return self._coerce_items(value, schema, path)

    def _coerce_items(self, value: list[JSON], schema: SchemaMapping, path: str) -> list[JSON]:
        return [
            self.coerce(item, own, f"{path}[{i}]") if isinstance(own, Mapping) else item
            for i, (item, own) in enumerate(
                zip(value, list_item_schemas(schema, len(value)), strict=True)
            )
        ]

    def _coerce_to_list(self, value: JSON, schema: SchemaMapping, path: str) -> JSON:
        """A list out of what is none."""
        if is_blank(value):
            return value
        own = list_item_schemas(schema, 1)[0]
        takes_text = not isinstance(own, Mapping) or self.matcher.matches("", own)
        rule, found = _split_as_list(value, takes_text)
        start = len(self.fixes)
        mended = self._coerce_items(found, schema, path)
        del self.fixes[start:]
        if not found or not self.matcher.matches(mended, schema):
            return value
        self._record_fix(rule, path, value, mended)
        return mended

    def _coerce_object(self, value: JSON, schema: SchemaMapping, path: str) -> JSON:
        if isinstance(value, str):
            value = self._parse_text(value, dict, path)
        if not isinstance(value, dict):
            return value
        known, required = get_properties(schema), list_required_names(schema)
        value = self._correct_keys(value, schema, path)
        may_drop = self.drop_unknown and not (known and known.keys().isdisjoint(value))
        missing = [name for name in known if name not in value]
        found: dict[str, JSON] = {}
        for key, item in value.items():
            own = known.get(key, schema.get("additionalProperties", True))
            at = _join_path(path, key)
            mended = self.coerce(item, own, at) if isinstance(own, Mapping) else item
            if key in known and key not in required and self._is_blank_misfit(mended, own):
                self.fixes.append(make_drop_fix("null-dropped", at, item))
            elif own is False and (
                item is None
                or (
                    may_drop
                    and not _is_unread_wrapper(key, item)
                    and (not missing or _is_empty_value(item))
                )
            ):
                self.fixes.append(make_drop_fix("dropped-unknown", at, item))
            else:
                found[key] = mended
        return found

    def _is_blank_misfit(self, value: JSON, schema: JSON) -> bool:
        return (
            is_blank(value)
            and isinstance(schema, Mapping)
            and not self.matcher.matches(value, schema)
        )

    def _correct_keys(
        self, value: dict[str, JSON], schema: SchemaMapping, path: str
    ) -> dict[str, JSON]:
        """The object with misspelled keys as its schema spells them."""
        known = get_properties(schema)
        free = [name for name in known if name not in value]
        strange = [key for key in value if key not in known]
        if not free or not strange:
            return value
        closed = schema.get("additionalProperties") is False
        meant = _match_spellings(strange, free if closed else list_required_names(schema))
        if closed:
            left = [name for name in free if name not in meant.values()]
            meant |= _match_slips([key for key in strange if key not in meant], left, list(known))
        for key, name in meant.items():
            rule = "key-name" if normalize_spelling(key) == normalize_spelling(name) else "key-near"
            self.fixes.append(make_fix(rule, _join_path(path, key), _join_path(path, name)))
        return {meant.get(key, key): item for key, item in value.items()}


def _join_path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_unread_wrapper(key: str, item: JSON) -> bool:
    """Whether a key looks like a wrapper around arguments that nobody has understood."""
    return key in WRAPPER_KEYS and isinstance(item, (dict, list)) and bool(item)


def _is_empty_value(item: JSON) -> bool:
    return is_blank(item) or item in ([], {})


def _match_spellings(strange: Sequence[str], free: Sequence[str]) -> dict[str, str]:
    """For each strange key the free name that it spells otherwise, where that is one to one."""
    names, keys = _group_by_spelling(free), _group_by_spelling(strange)
    return {
        group[0]: names[fold][0]
        for fold, group in keys.items()
        if fold and len(group) == 1 and len(names.get(fold, ())) == 1
    }


def _match_slips(
    strange: Sequence[str], free: Sequence[str], known: Sequence[str]
) -> dict[str, str]:
    """For each strange key the free name it is one slip from; a key of a longer list is none."""
    if len(strange) > 16:
        return {}
    found = {key: find_only_near(key, known) for key in strange if len(key) <= 64}
    near = {key: name for key, name in found.items() if name in free}
    return {
        key: name
        for key, name in cast("dict[str, str]", near).items()
        if list(near.values()).count(name) == 1
    }


def _group_by_spelling(names: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(normalize_spelling(name[:200]), []).append(name)
    return groups


def _split_as_list(value: JSON, takes_text: bool) -> tuple[str, list[JSON]]:
    """A value as a list, and by which rule; an empty list where that is not plain."""
    if isinstance(value, dict):
        if value and list(value) == [str(i) for i in range(len(value))]:
            return "list-from-object", list(value.values())
        return "list-from-one", [value]
    if isinstance(value, str) and value.lstrip()[:1] in _OPENING_CHARACTERS:
        return "list-from-one", []  # a list or object that could not be read, perhaps cut
    if isinstance(value, str) and re.search(r"[,;\n]", value):
        unclear = takes_text or _GROUPED_DIGITS.fullmatch(value)
        return "list-from-text", [] if unclear else [p.strip() for p in value.split(",")]
    return "list-from-one", [value]


def _is_schema_echo(value: Mapping[str, JSON], schema: SchemaMapping) -> bool:
    """Whether a value is wrapped in its own schema, and nothing else stands beside it."""
    if not {"type", "value"} <= value.keys() <= _SCHEMA_ECHO_KEYS:
        return False
    beside = {key: item for key, item in value.items() if key not in ("type", "value")}
    kinds = (infer_kind(schema), _PYTHON_TYPE_NAMES.get(infer_kind(schema) or ""))
    return value["type"] in kinds and all(schema.get(key) == item for key, item in beside.items())


_PYTHON_TYPE_NAMES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool"}


def _format_enum_value(option: JSON) -> str:
    return option if isinstance(option, str) else dump_json(option)
