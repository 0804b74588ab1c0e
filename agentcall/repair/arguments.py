"""Repairs a JSON value by the schema that it should match, and unwraps arguments.

`ArgumentCoercer` leaves a value that matches as it is. Others are repaired in place, at any depth:
- stringified: a text that contains the expected list or object as JSON.
- number-from-text, bool-from-text, null-from-text: `"2"`, `"true"` or `"yes"`, `"None"`.
- text-from-number: `3.10` for a text, with the same digits; not for a date or another format.
- bool-from-number: 1 or 0 for a boolean.
- list-from-one: a single value for a list. list-from-text: `"2, 3"` for a list, but not of texts:
  a text with commas may be one item or several, and is left to the model.
- list-from-object: `{"0": "a", "1": "b"}` for a list. one-from-list: `[2]` for a single 2.
- enum-spelling: a choice that differs only by case and by separators between its words.
- schema-echo: `{"type": "integer", "value": 2}` for 2, if the other keys repeat the schema.
- key-name, key-near: a key that differs by its spelling, or by one typing error, from a property
  that is missing.
- null-dropped: null or blank for an optional property that accepts neither.
- dropped-unknown: a key that an object without additional properties does not have. It is the only
  rule that drops something that the model wrote, a whole argument that the tool never had.
  Therefore it is applied only on request; never to a wrapper with content; never if an object with
  properties got nothing else; and never, unless the value is empty, if a property is missing, as
  the key may be meant for that one.
Of several choices (`anyOf`) the one that needs the fewest fixes is used; if two do, none. A list
made of one value counts twice: a choice that takes the value itself is preferred.

`unwrap_layers` and `wrap_in_object` find the arguments in the form that a model gave them:
- double-encoded: JSON text inside a JSON string.
- unwrapped: `{"arguments": {...}}`, a whole call (`{"name": this tool, "arguments": {...}}`), the
  form of a schema (`{"type": "object", "properties": {...}}`), `{this tool: {...}}`, or a list with
  one object. Only if the tool has no parameter with the wrapper's name. A call of another name is
  another call and is not touched.
- positional: a list with one matching value for each required parameter.
- lone-value: a value that is not an object, for the only parameter, or the only required one; never
  a text that looks like JSON, or like `name: value`, and could not be read.

`SchemaMatcher` decides whether a value has the form of a schema: type, choices, properties and
items. Bounds, patterns and formats are left to the tool's validator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from agentcall.dialects.dialect import ToolSchema
from agentcall.lenient_json import WrittenFloat, WrittenInt, is_exact
from agentcall.messages import JSON
from agentcall.repair.arguments_json import ParsedArguments, parse_inner
from agentcall.repair.fixes import Fix, dump_json, make_drop_fix, make_fix, make_value_fix
from agentcall.repair.tool_name import find_only_near, find_tool_name, normalize_spelling
from agentcall.tools.tool import Tool


class RepairTooComplex(Exception):
    """The value is too large or too deep to be repaired."""


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
    """Yield the arguments as read, and then what is inside each wrapper around them."""
    current: ParsedArguments | None = reading
    for _ in range(_MAX_LAYERS):
        if current is None:
            return
        yield current
        current = _unwrap_layer(current, tool)


def wrap_in_object(reading: ParsedArguments, tool: Tool) -> Iterator[ParsedArguments]:
    """Yield a value that is not an object as an object with names of the tool's parameters."""
    value = reading.value
    if (
        isinstance(value, dict)
        or value is None
        or (isinstance(value, str) and _JSON_LIKE.match(value))
    ):
        return
    required = list_required_names(tool.parameters)
    names = list(get_properties(tool.parameters))
    only = required if len(required) == 1 else names if len(names) == 1 else []
    if only:
        yield _add_fix(reading, "lone-value", {only[0]: value})
    if isinstance(value, list) and value and len(value) == len(required):
        yield _add_fix(reading, "positional", dict(zip(required, value, strict=True)))


def read_bare_text(text: str, tool: Tool) -> ParsedArguments | None:
    """Read a short text without any JSON, which can only be the value of the only parameter."""
    clean = text.strip()
    is_plain = _PLAIN_TEXT.fullmatch(clean) and not is_blank(clean) and any(map(str.isalnum, clean))
    is_ambiguous = clean in get_properties(tool.parameters) or clean.startswith(
        ("-", "/*", "//", "#")
    )
    return (
        ParsedArguments(clean)
        if is_plain and not is_ambiguous and _has_one_text_parameter(tool)
        else None
    )


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
        fix = make_fix("double-encoded", dump_json(value), dump_json(inner.value))
        return ParsedArguments(inner.value, (*reading.fixes, fix, *inner.fixes))
    if isinstance(value, list):
        only = value[0] if len(value) == 1 else None
        return _add_fix(reading, "unwrapped", only) if isinstance(only, dict) else None
    return _unwrap_object(reading, value, tool) if isinstance(value, dict) else None


def _unwrap_object(
    reading: ParsedArguments, value: dict[str, JSON], tool: Tool
) -> ParsedArguments | None:
    properties = get_properties(tool.parameters)
    wrapped = {
        key: inner for key, inner in value.items() if _is_wrapper(key, inner, properties, tool)
    }
    if len(wrapped) > 1:
        wrapped = {key: inner for key, inner in wrapped.items() if inner}
    if len(wrapped) != 1:
        return None
    ((key, inner),) = wrapped.items()
    others = {name: item for name, item in value.items() if name != key}
    if not _has_no_arguments(others, key, properties, tool):
        return None
    return _add_fix(reading, "unwrapped", inner)


def _is_wrapper(key: str, inner: JSON, properties: Mapping[str, JSON], tool: Tool) -> bool:
    if key in properties or not (key in WRAPPER_KEYS or key == tool.name):
        return False
    if isinstance(inner, str):
        parsed = parse_inner(inner)
        return parsed is not None and isinstance(parsed.value, dict)
    return inner is None or isinstance(inner, (dict, list))


def _has_no_arguments(
    others: dict[str, JSON], wrapper: str, properties: Mapping[str, JSON], tool: Tool
) -> bool:
    """Whether the keys beside a wrapper are not arguments, and do not name another tool."""
    for name, item in others.items():
        if name in _TOOL_NAME_KEYS and isinstance(item, str):
            if find_tool_name(item, [tool.name]) is None:
                return False
        elif name in properties and not (wrapper == "properties" and name in ("type", "required")):
            return False
    return True


_OPENING_CHARACTERS = ("[", "{", "(", "`")
_SCHEMA_ECHO_KEYS = frozenset({"type", "value", "description", "title"})
_PYTHON_TYPE_NAMES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool"}
_GROUPED_DIGITS = re.compile(r"\s*[+-]?\d{1,3}(?:,\d{3})+\s*")
"""Thousands separators or a list without brackets: the two cannot be distinguished."""


@dataclass(slots=True)
class ArgumentCoercer:
    """Repairs one value; `fixes` grows. Raises RepairTooComplex."""

    matcher: SchemaMatcher
    drop_unknown: bool
    fixes: list[Fix] = field(default_factory=list[Fix])

    def coerce(self, value: JSON, schema: ToolSchema, path: str = "") -> JSON:
        """Return the value repaired to match the schema, or unchanged if that is ambiguous."""
        schema = self.matcher.resolve(schema)
        if self.matcher.matches(value, schema):
            return value
        branches = list_choices(schema)
        if branches:
            return self._coerce_choice(value, branches, path)
        if "enum" in schema or "const" in schema:
            return self._coerce_enum(value, schema, path)
        return self._coerce_to_kind(value, schema, path)

    def _coerce_to_kind(self, value: JSON, schema: ToolSchema, path: str) -> JSON:
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

    def _coerce_choice(self, value: JSON, branches: Sequence[ToolSchema], path: str) -> JSON:
        candidates: list[tuple[int, str, JSON, list[Fix]]] = []
        for branch in branches:
            start = len(self.fixes)
            repaired = self.coerce(value, branch, path)
            fixes = self.fixes[start:]
            del self.fixes[start:]
            if self.matcher.matches(repaired, branch):
                cost = len(fixes) + sum(fix.rule.startswith("list-from-") for fix in fixes)
                candidates.append((cost, dump_json(repaired), repaired, fixes))
        fewest = min((count for count, *_ in candidates), default=0)
        best = {
            text: (repaired, fixes)
            for count, text, repaired, fixes in candidates
            if count == fewest
        }
        if len(best) != 1:
            return value
        ((repaired, fixes),) = best.values()
        self.fixes += fixes
        return repaired

    def _coerce_enum(self, value: JSON, schema: ToolSchema, path: str) -> JSON:
        if not isinstance(value, str):
            return self._unwrap_lone_value(value, schema, path)
        spelling = normalize_spelling(value)
        matches = [
            option
            for option in list_enum_values(schema)
            if spelling and normalize_spelling(_format_enum_value(option)) == spelling
        ]
        if len(matches) != 1:
            return value
        option = matches[0]
        rule = "enum-spelling" if isinstance(option, str) else get_scalar_rule(option)
        self._record_fix(rule, path, value, option)
        return option

    def _coerce_scalar(
        self, value: JSON, schema: ToolSchema, path: str, read: ScalarReader
    ) -> JSON:
        if isinstance(value, str):
            match = read(value)
            if match is None:
                return value
            self._record_fix(match[0], path, value, match[1])
            return match[1]
        if read is _read_text and is_kind(value, "number") and "format" not in schema:
            text = _get_written_number(cast("float", value))
            self._record_fix("text-from-number", path, value, text)
            return text
        if read is _read_bool and is_kind(value, "integer") and value in (0, 1):
            self._record_fix("bool-from-number", path, value, value == 1)
            return value == 1
        return self._unwrap_lone_value(value, schema, path)

    def _unwrap_lone_value(self, value: JSON, schema: ToolSchema, path: str) -> JSON:
        """Take a value out of a list with one item, or out of an echo of its schema."""
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
        repaired = self.coerce(inner, schema, path)
        if self.matcher.matches(repaired, schema):
            return repaired
        del self.fixes[start:]
        return value

    def _parse_text(self, value: str, kind: type, path: str) -> JSON:
        """Return the list or object that a text contains, or the text."""
        reading = parse_inner(value)
        if reading is None or not isinstance(reading.value, kind):
            return value
        self._record_fix("stringified", path, value, reading.value)
        return reading.value

    def _coerce_array(self, value: JSON, schema: ToolSchema, path: str) -> JSON:
        if isinstance(value, str):
            value = self._parse_text(value, list, path)
        if not isinstance(value, list):
            return self._coerce_to_list(value, schema, path)
        return self._coerce_items(value, schema, path)

    def _coerce_items(self, value: list[JSON], schema: ToolSchema, path: str) -> list[JSON]:
        return [
            self.coerce(item, item_schema, f"{path}[{i}]")
            if isinstance(item_schema, Mapping)
            else item
            for i, (item, item_schema) in enumerate(
                zip(value, list_item_schemas(schema, len(value)), strict=True)
            )
        ]

    def _coerce_to_list(self, value: JSON, schema: ToolSchema, path: str) -> JSON:
        """Make a list from a value that is not one."""
        if is_blank(value):
            return value
        item_schema = list_item_schemas(schema, 1)[0]
        takes_text = not isinstance(item_schema, Mapping) or self.matcher.matches("", item_schema)
        rule, items = _split_as_list(value, takes_text)
        start = len(self.fixes)
        repaired = self._coerce_items(items, schema, path)
        del self.fixes[start:]
        if not items or not self.matcher.matches(repaired, schema):
            return value
        self._record_fix(rule, path, value, repaired)
        return repaired

    def _coerce_object(self, value: JSON, schema: ToolSchema, path: str) -> JSON:
        if isinstance(value, str):
            value = self._parse_text(value, dict, path)
        if not isinstance(value, dict):
            return value
        properties, required = get_properties(schema), list_required_names(schema)
        value = self._correct_keys(value, schema, path)
        has_none = bool(properties) and properties.keys().isdisjoint(value)
        missing = [name for name in properties if name not in value]
        coerced: dict[str, JSON] = {}
        for key, item in value.items():
            item_schema = properties.get(key, schema.get("additionalProperties", True))
            item_path = _join_path(path, key)
            if item_schema is False:  # an unknown key
                may_drop = self.drop_unknown and not has_none and not _is_unread_wrapper(key, item)
                is_empty = is_blank(item) or item in ([], {})
                if item is None or (may_drop and (is_empty or not missing)):
                    self.fixes.append(make_drop_fix("dropped-unknown", item_path, item))
                else:
                    coerced[key] = item
                continue
            repaired = item
            if isinstance(item_schema, Mapping):
                repaired = self.coerce(item, item_schema, item_path)
                is_optional_blank = key in properties and key not in required and is_blank(repaired)
                if is_optional_blank and not self.matcher.matches(repaired, item_schema):
                    self.fixes.append(make_drop_fix("null-dropped", item_path, item))
                    continue
            coerced[key] = repaired
        return coerced

    def _correct_keys(
        self, value: dict[str, JSON], schema: ToolSchema, path: str
    ) -> dict[str, JSON]:
        """Return the object with misspelled keys corrected."""
        properties = get_properties(schema)
        missing = [name for name in properties if name not in value]
        unknown = [key for key in value if key not in properties]
        if not missing or not unknown:
            return value
        is_closed = schema.get("additionalProperties") is False
        corrections = _match_spellings(
            unknown, missing if is_closed else list_required_names(schema)
        )
        if is_closed:
            remaining = [name for name in missing if name not in corrections.values()]
            corrections |= _match_slips(
                [key for key in unknown if key not in corrections], remaining, list(properties)
            )
        for key, name in corrections.items():
            rule = "key-name" if normalize_spelling(key) == normalize_spelling(name) else "key-near"
            self.fixes.append(make_fix(rule, _join_path(path, key), _join_path(path, name)))
        return {corrections.get(key, key): item for key, item in value.items()}


def _join_path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_unread_wrapper(key: str, item: JSON) -> bool:
    """Whether a key looks like a wrapper around arguments that could not be unwrapped."""
    return key in WRAPPER_KEYS and isinstance(item, (dict, list)) and bool(item)


def _match_spellings(unknown: Sequence[str], missing: Sequence[str]) -> dict[str, str]:
    """Map unknown keys to the missing names that they spell differently, one to one."""
    names, keys = _group_by_spelling(missing), _group_by_spelling(unknown)
    return {
        group[0]: names[fold][0]
        for fold, group in keys.items()
        if fold and len(group) == 1 and len(names.get(fold, ())) == 1
    }


def _match_slips(
    unknown: Sequence[str], missing: Sequence[str], known: Sequence[str]
) -> dict[str, str]:
    """Map unknown keys to the missing names that are one typing error away.

    Nothing is mapped for more than 16 keys, where guessing is too slow.
    """
    if len(unknown) > 16:
        return {}
    nearest = {key: find_only_near(key, known) for key in unknown if len(key) <= 64}
    near = {key: name for key, name in nearest.items() if name in missing}
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
    """Return the rule and the items for a value as a list; no items if that is ambiguous."""
    if isinstance(value, dict):
        if value and list(value) == [str(i) for i in range(len(value))]:
            return "list-from-object", list(value.values())
        return "list-from-one", [value]
    if isinstance(value, str) and value.lstrip()[:1] in _OPENING_CHARACTERS:
        return "list-from-one", []  # a list or object that could not be parsed, perhaps cut
    if isinstance(value, str) and re.search(r"[,;\n]", value):
        is_ambiguous = takes_text or _GROUPED_DIGITS.fullmatch(value)
        return "list-from-text", [] if is_ambiguous else [p.strip() for p in value.split(",")]
    return "list-from-one", [value]


def _is_schema_echo(value: Mapping[str, JSON], schema: ToolSchema) -> bool:
    """Whether a value is wrapped in its own schema, and nothing else."""
    if not {"type", "value"} <= value.keys() <= _SCHEMA_ECHO_KEYS:
        return False
    others = {key: item for key, item in value.items() if key not in ("type", "value")}
    kinds = (infer_kind(schema), _PYTHON_TYPE_NAMES.get(infer_kind(schema) or ""))
    return value["type"] in kinds and all(schema.get(key) == item for key, item in others.items())


def _format_enum_value(option: JSON) -> str:
    return option if isinstance(option, str) else dump_json(option)


ScalarMatch: TypeAlias = "tuple[str, JSON]"
ScalarReader: TypeAlias = Callable[[str], "ScalarMatch | None"]
_BLANK_WORDS = frozenset({"", "none", "null", "undefined", "nil"})
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "t", "y", "1"), True),
    **dict.fromkeys(("false", "no", "off", "f", "n", "0"), False),
}
"""The words that pydantic reads as a boolean."""
_INTEGER = re.compile(r"\s*[+-]?\d{1,400}(?:\.0{1,40})?\s*", re.ASCII)
_NUMBER = re.compile(
    r"\s*[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?\s*", re.ASCII
)


def is_blank(value: JSON) -> bool:
    """Whether a value means "no value": null, an empty text, or a word such as `none`."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _BLANK_WORDS)


def get_scalar_rule(value: JSON) -> str:
    """Return the rule by which a text becomes this value."""
    match value:
        case bool():
            return "bool-from-text"
        case None:
            return "null-from-text"
        case _:
            return "number-from-text"


def _get_written_number(value: float) -> str:
    """Return a number with the digits that the model wrote."""
    return value.text if isinstance(value, (WrittenInt, WrittenFloat)) else repr(value)


def _read_integer(text: str) -> ScalarMatch | None:
    if not _INTEGER.fullmatch(text):
        return None
    return "number-from-text", int(text.strip().partition(".")[0])


def _read_number(text: str) -> ScalarMatch | None:
    integer = _read_integer(text)
    if integer or not _NUMBER.fullmatch(text):
        return integer
    number = float(text)
    return ("number-from-text", number) if is_exact(number, text.strip()) else None


def _read_bool(text: str) -> ScalarMatch | None:
    value = _BOOLEANS.get(text.strip().lower())
    return None if value is None else ("bool-from-text", value)


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
_MAX_DEPTH = 64
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


@dataclass(slots=True)
class SchemaMatcher:
    """Matches values against the schemas of one root, at most `budget` of them in total."""

    root: ToolSchema
    budget: int = 100_000
    _depth: int = 0

    def resolve(self, schema: ToolSchema) -> ToolSchema:
        """Return the schema with its references resolved."""
        for _ in range(_MAX_DEPTH):
            self._spend()
            match schema:
                case {"$ref": str(ref)}:
                    target = self._follow_reference(ref)
                case {"allOf": [Mapping() as only]}:
                    target = cast("ToolSchema", only)
                case _:
                    return schema
            siblings = {k: v for k, v in schema.items() if k not in ("$ref", "allOf")}
            schema = {**target, **siblings}
        raise RepairTooComplex

    def matches(self, value: JSON, schema: ToolSchema) -> bool:
        """Whether the value has the schema's form. Raises RepairTooComplex."""
        schema = self.resolve(schema)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise RepairTooComplex
        try:
            return self._matches(value, schema)
        finally:
            self._depth -= 1

    def _matches(self, value: JSON, schema: ToolSchema) -> bool:
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

    def _matches_object(self, value: Mapping[str, JSON], schema: ToolSchema) -> bool:
        if not all(name in value for name in list_required_names(schema)):
            return False
        properties = get_properties(schema)
        additional = schema.get("additionalProperties", True)
        for key, item in value.items():
            item_schema = properties.get(key, additional)
            if item_schema is False or (
                isinstance(item_schema, Mapping) and not self.matches(item, item_schema)
            ):
                return False
        return True

    def _matches_list(self, value: Sequence[JSON], schema: ToolSchema) -> bool:
        prefix = schema.get("prefixItems")
        if isinstance(prefix, list) and len(value) < len(prefix):
            return False
        return all(
            self.matches(item, item_schema)
            for item, item_schema in zip(value, list_item_schemas(schema, len(value)), strict=True)
            if isinstance(item_schema, Mapping)
        )

    def _spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise RepairTooComplex

    def _follow_reference(self, ref: str) -> ToolSchema:
        target: JSON = self.root
        for step in ref.removeprefix("#/").split("/"):
            target = target.get(step) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            raise RepairTooComplex
        return target


def get_properties(schema: ToolSchema) -> Mapping[str, JSON]:
    """Return the properties of a schema."""
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def list_required_names(schema: ToolSchema) -> list[str]:
    """Return the names of the required properties."""
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def list_choices(schema: ToolSchema) -> list[ToolSchema]:
    """Return the alternatives of which one has to match; none for a schema without alternatives."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    choices = schema.get("anyOf", schema.get("oneOf"))
    return (
        [choice for choice in choices if isinstance(choice, Mapping)]
        if isinstance(choices, list)
        else []
    )


def list_item_schemas(schema: ToolSchema, count: int) -> list[JSON]:
    """Return the schema of each of the first `count` items."""
    first = schema.get("prefixItems")
    prefix: list[JSON] = [*first] if isinstance(first, list) else []
    return [*prefix, *[schema.get("items")] * (count - len(prefix))][:count]


def list_enum_values(schema: ToolSchema) -> list[JSON]:
    """Return the values that an `enum` or a `const` allows."""
    found = schema.get("enum", [schema.get("const")])
    return [*found] if isinstance(found, list) else []


def infer_kind(schema: ToolSchema) -> str | None:
    """Return the type of a schema, given or implied by its keywords."""
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
    """Whether a value has a JSON type; a boolean is not a number."""
    if kind in ("integer", "number"):
        is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        is_float = isinstance(value, float) and kind == "number"
        return not isinstance(value, bool) and (is_whole or is_float)
    return isinstance(value, _PYTHON_TYPES.get(kind, (object,)))


def _is_in_enum(value: JSON, schema: ToolSchema) -> bool:
    if "enum" not in schema and "const" not in schema:
        return True
    options = list_enum_values(schema)
    return any(type(value) is type(option) and value == option for option in options)
