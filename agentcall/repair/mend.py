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
    Fit,
    Schema,
    choices,
    items_of,
    kind_of,
    options_of,
    properties_of,
    required_of,
)
from agentcall.repair.fix import Fix, dropped_at, fix, fix_at, written
from agentcall.repair.names import only_near, spelling
from agentcall.repair.reading import read_inner
from agentcall.repair.scalar import READERS, Read, is_blank, rule_of
from agentcall.repair.shape import WRAPPERS

_OPENERS = ("[", "{", "(", "`")
_ECHO = frozenset({"type", "value", "description", "title"})
_GROUPED = re.compile(r"\s*[+-]?\d{1,3}(?:,\d{3})+\s*")
"""A number with thousands separators, or a list without brackets: nobody can tell."""


@dataclass(slots=True)
class Mender:
    """One walk over one value; `fixes` grows. Raises TooMuch where a value is too big to mend."""

    fit: Fit
    drop_unknown: bool
    fixes: list[Fix] = field(default_factory=list[Fix])

    def mend(self, value: JSON, schema: Schema, place: str = "") -> JSON:
        """The value, or what it has to be to fit the schema; as it is where that is not plain."""
        schema = self.fit.resolved(schema)
        if self.fit.fits(value, schema):
            return value
        branches = choices(schema)
        if branches:
            return self._chosen(value, branches, place)
        if "enum" in schema or "const" in schema:
            return self._enumerated(value, schema, place)
        return self._of_kind(value, schema, place)

    def _of_kind(self, value: JSON, schema: Schema, place: str) -> JSON:
        match kind_of(schema):
            case "object":
                return self._object(value, schema, place)
            case "array":
                return self._array(value, schema, place)
            case str(kind) if kind in READERS:
                return self._scalar(value, schema, place, READERS[kind])
            case _:
                return value

    def _told(self, rule: str, place: str, before: JSON, after: JSON) -> None:
        self.fixes.append(fix_at(rule, place, before, after))

    def _chosen(self, value: JSON, branches: Sequence[Schema], place: str) -> JSON:
        found: list[tuple[int, str, JSON, list[Fix]]] = []
        for branch in branches:
            start = len(self.fixes)
            mended = self.mend(value, branch, place)
            told = self.fixes[start:]
            del self.fixes[start:]
            if self.fit.fits(mended, branch):
                found.append((len(told), written(mended), mended, told))
        fewest = min((count for count, *_ in found), default=0)
        best = {text: (mended, told) for count, text, mended, told in found if count == fewest}
        if len(best) != 1:
            return value
        ((mended, told),) = best.values()
        self.fixes += told
        return mended

    def _enumerated(self, value: JSON, schema: Schema, place: str) -> JSON:
        if not isinstance(value, str):
            return self._lone(value, schema, place)
        wanted = spelling(value)
        like = [e for e in options_of(schema) if wanted and spelling(_spelled(e)) == wanted]
        if len(like) != 1:
            return value
        self._told(
            "enum-spelling" if isinstance(like[0], str) else rule_of(like[0]), place, value, like[0]
        )
        return like[0]

    def _scalar(
        self,
        value: JSON,
        schema: Schema,
        place: str,
        read: Read,
    ) -> JSON:
        if isinstance(value, str):
            found = read(value)
            if found is None:
                return value
            self._told(found[0], place, value, found[1])
            return found[1]
        if read is READERS["string"] and isinstance(value, (WrittenInt, WrittenFloat)):
            self._told("text-from-number", place, value, value.text)
            return value.text
        return self._lone(value, schema, place)

    def _lone(self, value: JSON, schema: Schema, place: str) -> JSON:
        """A lone value out of a list of one, or out of an echo of its schema."""
        inner: JSON = None
        rule = ""
        if isinstance(value, list) and len(value) == 1:
            rule, inner = "one-from-list", value[0]
        elif isinstance(value, dict) and _echoes(value, schema):
            rule, inner = "schema-echo", value["value"]
        if not rule or isinstance(inner, (list, dict)):
            return value
        start = len(self.fixes)
        self._told(rule, place, value, inner)
        mended = self.mend(inner, schema, place)
        if self.fit.fits(mended, schema):
            return mended
        del self.fixes[start:]
        return value

    def _spelled_out(self, value: str, wanted: type, place: str) -> JSON:
        """The list or object that a text spells out, or the text."""
        reading = read_inner(value)
        if reading is None or not isinstance(reading.value, wanted):
            return value
        self._told("stringified", place, value, reading.value)
        return reading.value

    def _array(self, value: JSON, schema: Schema, place: str) -> JSON:
        if isinstance(value, str):
            value = self._spelled_out(value, list, place)
        if not isinstance(value, list):
            return self._listed(value, schema, place)
        return self._items(value, schema, place)

    def _items(self, value: list[JSON], schema: Schema, place: str) -> list[JSON]:
        return [
            self.mend(item, own, f"{place}[{i}]") if isinstance(own, Mapping) else item
            for i, (item, own) in enumerate(zip(value, items_of(schema, len(value)), strict=True))
        ]

    def _listed(self, value: JSON, schema: Schema, place: str) -> JSON:
        """A list out of what is none."""
        if is_blank(value):
            return value
        own = items_of(schema, 1)[0]
        takes_text = not isinstance(own, Mapping) or self.fit.fits("", own)
        rule, found = _as_list(value, takes_text)
        start = len(self.fixes)
        mended = self._items(found, schema, place)
        del self.fixes[start:]
        if not found or not self.fit.fits(mended, schema):
            return value
        self._told(rule, place, value, mended)
        return mended

    def _object(self, value: JSON, schema: Schema, place: str) -> JSON:
        if isinstance(value, str):
            value = self._spelled_out(value, dict, place)
        if not isinstance(value, dict):
            return value
        known, required = properties_of(schema), required_of(schema)
        value = self._renamed(value, schema, place)
        may_drop = self.drop_unknown and not (known and known.keys().isdisjoint(value))
        missing = [name for name in known if name not in value]
        found: dict[str, JSON] = {}
        for key, item in value.items():
            own = known.get(key, schema.get("additionalProperties", True))
            at = _below(place, key)
            mended = self.mend(item, own, at) if isinstance(own, Mapping) else item
            if key in known and key not in required and self._is_blank(mended, own):
                self.fixes.append(dropped_at("null-dropped", at, item))
            elif own is False and (
                item is None
                or (may_drop and not _holds_more(key, item) and (not missing or _is_empty(item)))
            ):
                self.fixes.append(dropped_at("dropped-unknown", at, item))
            else:
                found[key] = mended
        return found

    def _is_blank(self, value: JSON, schema: JSON) -> bool:
        return is_blank(value) and isinstance(schema, Mapping) and not self.fit.fits(value, schema)

    def _renamed(self, value: dict[str, JSON], schema: Schema, place: str) -> dict[str, JSON]:
        """The object with misspelled keys as its schema spells them."""
        known = properties_of(schema)
        free = [name for name in known if name not in value]
        strange = [key for key in value if key not in known]
        if not free or not strange:
            return value
        closed = schema.get("additionalProperties") is False
        meant = _spellings(strange, free if closed else required_of(schema))
        if closed:
            left = [name for name in free if name not in meant.values()]
            meant |= _slips([key for key in strange if key not in meant], left, list(known))
        for key, name in meant.items():
            rule = "key-name" if spelling(key) == spelling(name) else "key-near"
            self.fixes.append(fix(rule, _below(place, key), _below(place, name)))
        return {meant.get(key, key): item for key, item in value.items()}


def _below(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _holds_more(key: str, item: JSON) -> bool:
    """Whether a key looks like a wrapper around arguments that nobody has understood."""
    return key in WRAPPERS and isinstance(item, (dict, list)) and bool(item)


def _is_empty(item: JSON) -> bool:
    return is_blank(item) or item in ([], {})


def _spellings(strange: Sequence[str], free: Sequence[str]) -> dict[str, str]:
    """For each strange key the free name that it spells otherwise, where that is one to one."""
    names, keys = _by_fold(free), _by_fold(strange)
    return {
        group[0]: names[fold][0]
        for fold, group in keys.items()
        if fold and len(group) == 1 and len(names.get(fold, ())) == 1
    }


def _slips(strange: Sequence[str], free: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """For each strange key the free name it is one slip from; a key of a longer list is none."""
    if len(strange) > 16:
        return {}
    found = {key: only_near(key, known) for key in strange if len(key) <= 64}
    near = {key: name for key, name in found.items() if name in free}
    return {
        key: name
        for key, name in cast("dict[str, str]", near).items()
        if list(near.values()).count(name) == 1
    }


def _by_fold(names: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(spelling(name[:200]), []).append(name)
    return groups


def _as_list(value: JSON, takes_text: bool) -> tuple[str, list[JSON]]:
    """A value as a list, and by which rule; an empty list where that is not plain."""
    if isinstance(value, dict):
        if value and list(value) == [str(i) for i in range(len(value))]:
            return "list-from-object", list(value.values())
        return "list-from-one", [value]
    if isinstance(value, str) and value.lstrip()[:1] in _OPENERS:
        return "list-from-one", []  # a list or object that could not be read, perhaps cut
    if isinstance(value, str) and re.search(r"[,;\n]", value):
        unclear = takes_text or _GROUPED.fullmatch(value)
        return "list-from-text", [] if unclear else [p.strip() for p in value.split(",")]
    return "list-from-one", [value]


def _echoes(value: Mapping[str, JSON], schema: Schema) -> bool:
    """Whether a value is wrapped in its own schema, and nothing else stands beside it."""
    if not {"type", "value"} <= value.keys() <= _ECHO:
        return False
    beside = {key: item for key, item in value.items() if key not in ("type", "value")}
    kinds = (kind_of(schema), _PYTHON_NAMES.get(kind_of(schema) or ""))
    return value["type"] in kinds and all(schema.get(key) == item for key, item in beside.items())


_PYTHON_NAMES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool"}


def _spelled(option: JSON) -> str:
    return option if isinstance(option, str) else written(option)
