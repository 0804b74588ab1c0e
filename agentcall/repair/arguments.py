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

Whether a JSON value has the form that a JSON Schema asks for.

The judge of arguments is the tool's validator; this is the smaller question that a mender asks at
every place: type, choices, properties and items. Bounds, patterns and formats are the judge's.

Texts that spell out a number, a boolean or null: the value, and the rule by which it is read.

Takes the arguments out of what a model wrapped around them.

Rules:
- double-encoded: a JSON text within the JSON text.
- unwrapped: `{"arguments": {...}}`, a whole call (`{"name": this tool, "arguments": {...}}`), the
  form of a schema (`{"type": "object", "properties": {...}}`), `{this tool: {...}}`, or a list
  around one object. Only if the tool has no parameter of the wrapper's name; a call of another
  name is left as it is, for it is another call.
- positional: a list for as many required parameters, where each value fits as it is.
- lone-value: a value that is no object, for the only parameter there is, or the only required one;
  never a text that looks like JSON, or like `name: value`, and could not be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from agentcall.lenient_json import WrittenFloat, WrittenInt, is_exact
from agentcall.messages import JSON
from agentcall.repair.arguments_json import ParsedArguments, parse_inner
from agentcall.repair.tool_name import find_only_near, find_tool_name, normalize_spelling
from agentcall.repair.types import Fix, dump_json, make_drop_fix, make_fix, make_value_fix
from agentcall.tools.tool import Tool

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


ScalarMatch: TypeAlias = "tuple[str, JSON]"
ScalarReader: TypeAlias = Callable[[str], "ScalarMatch | None"]

_BLANK_WORDS = frozenset({"", "none", "null", "undefined", "nil"})
_INTEGER = re.compile(r"\s*[+-]?\d{1,400}(?:\.0{1,40})?\s*", re.ASCII)
_NUMBER = re.compile(
    r"\s*[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?\s*", re.ASCII
)


def is_blank(value: JSON) -> bool:
    """Whether a value says that there is none: null, nothing, or the word for it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _BLANK_WORDS)


def get_scalar_rule(value: JSON) -> str:
    """The rule by which a text becomes this value."""
    match value:
        case bool():
            return "bool-from-text"
        case None:
            return "null-from-text"
        case _:
            return "number-from-text"


def _read_integer(text: str) -> ScalarMatch | None:
    if not _INTEGER.fullmatch(text):
        return None
    return "number-from-text", int(text.strip().partition(".")[0])


def _read_number(text: str) -> ScalarMatch | None:
    whole = _read_integer(text)
    if whole or not _NUMBER.fullmatch(text):
        return whole
    number = float(text)
    return ("number-from-text", number) if is_exact(number, text.strip()) else None


def _read_bool(text: str) -> ScalarMatch | None:
    plain = text.strip().lower()
    return ("bool-from-text", plain == "true") if plain in ("true", "false") else None


def _read_null(text: str) -> ScalarMatch | None:
    return ("null-from-text", None) if is_blank(text) else None


def _read_text(text: str) -> ScalarMatch | None:
    return None


SCALAR_READERS: dict[str, ScalarReader] = {
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_bool,
    "null": _read_null,
    "string": _read_text,
}


WRAPPER_KEYS = frozenset(
    {
        "parameters",
        "arguments",
        "args",
        "input",
        "inputs",
        "kwargs",
        "properties",
        "params",
        "function",
        "function_call",
        "tool_call",
        "tool_input",
        "tool_args",
        "action_input",
    }
)
_TOOL_NAME_KEYS = (
    "name",
    "tool",
    "tool_name",
    "function",
    "function_name",
    "action",
    "recipient_name",
)
_MAX_LAYERS = 6
_JSON_LIKE = re.compile(r"\s*(?:[{\[(`<]|[\w-]+\s*[:=])")
_PLAIN_TEXT = re.compile(r"(?!\s*[\w-]+\s*[:=])[^{}\[\]\"'`\n|\ud800-\udfff]{1,200}")


def unwrap_layers(reading: ParsedArguments, tool: Tool) -> Iterator[ParsedArguments]:
    """The reading itself, and then what is found below each layer that is around it."""
    current: ParsedArguments | None = reading
    for _ in range(_MAX_LAYERS):
        if current is None:
            return
        yield current
        current = _unwrap_layer(current, tool)


def wrap_in_object(reading: ParsedArguments, tool: Tool) -> Iterator[ParsedArguments]:
    """What is no object, as an object: the values under the names of the tool's parameters."""
    value = reading.value
    if (
        isinstance(value, dict)
        or value is None
        or (isinstance(value, str) and _JSON_LIKE.match(value))
    ):
        return
    required = list_required_names(tool.parameters)
    names = list(get_properties(tool.parameters))
    alone = required if len(required) == 1 else names if len(names) == 1 else []
    if alone:
        yield _add_fix(reading, "lone-value", {alone[0]: value})
    if isinstance(value, list) and value and len(value) == len(required):
        yield _add_fix(reading, "positional", dict(zip(required, value, strict=True)))


def read_bare_text(text: str, tool: Tool) -> ParsedArguments | None:
    """A short text without any JSON in it, which can only be the value of the only parameter."""
    clean = text.strip()
    plain = _PLAIN_TEXT.fullmatch(clean) and not is_blank(clean) and any(map(str.isalnum, clean))
    name = clean in get_properties(tool.parameters) or clean.startswith(("-", "/*", "//", "#"))
    return ParsedArguments(clean) if plain and not name and _has_one_text_parameter(tool) else None


def _add_fix(reading: ParsedArguments, rule: str, value: JSON) -> ParsedArguments:
    return ParsedArguments(
        value, (*reading.fixes, make_fix(rule, dump_json(reading.value), dump_json(value)))
    )


def _has_one_text_parameter(tool: Tool) -> bool:
    required = list_required_names(tool.parameters)
    schemas = get_properties(tool.parameters)
    only = required if len(required) == 1 else list(schemas) if len(schemas) == 1 else []
    schema = schemas.get(only[0]) if only else None
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def _unwrap_layer(reading: ParsedArguments, tool: Tool) -> ParsedArguments | None:
    value = reading.value
    if value is None:
        return _add_fix(reading, "empty", {})
    if isinstance(value, str):
        inner = parse_inner(value) or (ParsedArguments({}) if not value.strip() else None)
        if inner is None:
            return None
        told = make_fix("double-encoded", dump_json(value), dump_json(inner.value))
        return ParsedArguments(inner.value, (*reading.fixes, told, *inner.fixes))
    if isinstance(value, list):
        only = value[0] if len(value) == 1 else None
        return _add_fix(reading, "unwrapped", only) if isinstance(only, dict) else None
    return _unwrap_object(reading, value, tool) if isinstance(value, dict) else None


def _unwrap_object(
    reading: ParsedArguments, value: dict[str, JSON], tool: Tool
) -> ParsedArguments | None:
    own = get_properties(tool.parameters)
    wrapped = {key: inner for key, inner in value.items() if _is_wrapper(key, inner, own, tool)}
    if len(wrapped) > 1:
        wrapped = {key: inner for key, inner in wrapped.items() if inner}
    if len(wrapped) != 1:
        return None
    ((key, inner),) = wrapped.items()
    beside = {name: item for name, item in value.items() if name != key}
    if not _has_no_arguments(beside, key, own, tool):
        return None
    return _add_fix(reading, "unwrapped", inner)


def _is_wrapper(key: str, inner: JSON, own: Mapping[str, JSON], tool: Tool) -> bool:
    if key in own or not (key in WRAPPER_KEYS or key == tool.name):
        return False
    if isinstance(inner, str):
        found = parse_inner(inner)
        return found is not None and isinstance(found.value, dict)
    return inner is None or isinstance(inner, (dict, list))


def _has_no_arguments(
    beside: dict[str, JSON], wrapper: str, own: Mapping[str, JSON], tool: Tool
) -> bool:
    """Whether what stands beside a wrapper is no argument, and names no other tool."""
    for name, item in beside.items():
        if name in _TOOL_NAME_KEYS and isinstance(item, str):
            if find_tool_name(item, [tool.name]) is None:
                return False
        elif name in own and not (wrapper == "properties" and name in ("type", "required")):
            return False
    return True


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
