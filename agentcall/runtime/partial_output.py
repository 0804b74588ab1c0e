"""Reads the beginning of a typed answer as a value, while the model still writes it.

Rules:
1. A value is of the output type, validated as the whole answer will be. What is not complete or not
   valid yet is left out, with all around it that is not valid without it.
2. A later value differs from an earlier one only by growing: a text, list or object that was open
   gets longer, and a field that was null or empty gets its value. So a number or a choice counts
   once it is complete, and an object once no field with another default is missing.
3. An open object of a union counts once only one of the types fits.
4. Only an answer that begins with JSON is read; nothing is searched for in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, cast

from pydantic_core import from_json, to_jsonable_python

from agentcall.dialects.answer_schema import ANSWER_NAME
from agentcall.events import (
    AnswerDiscarded,
    Emit,
    Event,
    ModelAnswered,
    PartialOutput,
    TextDelta,
)
from agentcall.messages import JSON
from agentcall.tools.schema import TypeSchema

Schema: TypeAlias = Mapping[str, Any]  # Any: a JSON Schema is any JSON object

_FENCE = re.compile(r"\s*```\w*[ \t]*\n")
_TOKEN = re.compile(r'[\[{\]},:"]|[^\[{\]},:"\s]+')
_STRING_END = re.compile(r'["\\]')
_PLAIN_STRING = frozenset({"type", "description", "default", "minLength", "maxLength", "examples"})
_EMPTY: tuple[JSON, ...] = (None, "", [], {})
_STEPS = 64
"""An answer is read again when it has grown by this part of its length, so that the work for a long
one stays in proportion to it."""


class PartialEmitter:
    """Reports the beginnings of the answers whose events it passes on."""

    def __init__(self, emit: Emit, output: TypeSchema) -> None:
        self._emit = emit
        self._reader = PartialReader(output)

    def __call__(self, event: Event) -> None:
        """Pass the event on, and what is new of the answer."""
        self._emit(event)
        match event:
            case TextDelta(text):
                found = self._reader.feed(text)
                if found is not None:
                    self._emit(PartialOutput(found[0]))
            case AnswerDiscarded() | ModelAnswered():
                self._reader.reset()
            case _:
                pass


class PartialReader:
    """Reads one answer, piece by piece; `reset` begins another one."""

    def __init__(self, output: TypeSchema) -> None:
        self._type = output
        self._definitions = cast("Mapping[str, Schema]", output.schema.get("$defs", {}))
        self.reset()

    def reset(self) -> None:
        """Begin with another answer."""
        self._text = ""
        self._scanner = _Scanner()
        self._start: int | None = None
        self._next_length = 0
        self._last: JSON = None
        self._last_value: object = None
        self._has_last = False
        self._unknown: list[tuple[tuple[str | int, ...], str]] = []

    def feed(self, piece: str) -> tuple[object] | None:
        """Return the value of the answer so far, in a tuple; None if it is the same as before."""
        self._text += piece
        if self._start is None:
            self._start = self._find_start()
            if self._start is None:
                return None
            piece = self._text[self._start :]
        self._scanner.feed(piece)
        if len(self._text) < self._next_length and self._scanner.depth:
            return None
        self._next_length = len(self._text) + len(self._text) // _STEPS
        return self._read()

    def _find_start(self) -> int | None:
        """Return where the JSON begins; None if it has not, or the answer begins with words."""
        fence = _FENCE.match(self._text)
        start = fence.end() if fence else 0
        body = self._text[start:]
        offset = start + len(body) - len(body.lstrip())
        return offset if self._text[offset : offset + 1] in ("{", "[") else None

    def _read(self) -> tuple[object] | None:
        try:
            value: JSON = from_json(self._text[self._start :], allow_partial="trailing-strings")
        except ValueError:  # not JSON, or not yet
            return None
        depth = self._scanner.depth
        if isinstance(value, dict) and list(value) == [ANSWER_NAME] and not self._is_object:
            value, depth = value[ANSWER_NAME], max(depth - 1, 0)
        for candidate in self._iter_candidates(value, depth):
            if self._has_last and not _is_grown(self._last, candidate):
                continue
            if self._has_last and candidate == self._last:
                return None
            found = self._validate(candidate)
            if found is None:
                continue
            is_new = not self._has_last or found[0] != self._last_value
            self._last, self._last_value, self._has_last = candidate, found[0], True
            return found if is_new else None
        return None

    def _validate(self, candidate: JSON) -> tuple[object] | None:
        """Return the value, in a tuple, unless it is not valid or has a default that may change."""
        with suppress(Exception):  # not valid yet; a validator of the user's may raise anything
            found = self._type.read(candidate)
            written: JSON = to_jsonable_python(found, by_alias=True) if self._unknown else None
            for path, name in self._unknown:
                member = written
                for step in (*path, name):
                    member = member[step]  # type: ignore[index]  # it has the form of the type
                if member not in _EMPTY:
                    return None
            return (found,)
        return None

    @property
    def _is_object(self) -> bool:
        return self._type.schema.get("type") == "object"

    def _iter_candidates(self, value: JSON, depth: int) -> Iterator[JSON]:
        """Yield the value without what is open, from the innermost element outwards."""
        path = [value]
        for _ in range(depth - 1):
            path.append(_get_last(path[-1]))
        is_first = True
        while path:
            candidate = path[0]
            if is_first and depth and self._scanner.is_in_value:
                kept = self._may_keep_string(path)
                if not kept:
                    candidate = _drop_last(path)
            elif not is_first:
                candidate = _drop_last(path)
            is_first = False
            self._unknown = []
            if depth == 0 or self._is_certain(candidate, len(path)):
                yield candidate
            path.pop()

    def _may_keep_string(self, path: Sequence[JSON]) -> bool:
        """Whether the element that is being written is a text that may be shown as far as it is."""
        schema: Schema | None = self._type.schema
        for container in path:
            schema = self._find_member_schema(schema, container)
        if schema is None or not self._scanner.is_in_string:
            return False
        texts = [each for each in self._list_alternatives(schema) if each.get("type") == "string"]
        return len(texts) == 1 and texts[0].keys() <= _PLAIN_STRING

    def _is_certain(self, candidate: JSON, depth: int) -> bool:
        """Whether the containers that are still open can only grow."""
        schema: Schema | None = self._type.schema
        container = candidate
        path: tuple[str | int, ...] = ()
        for level in range(depth):
            if level:
                schema = self._find_member_schema(schema, container)
                path = (*path, _get_last_key(container))
                container = _get_last(container)
            if schema is None or not self._can_only_grow(schema, container, path):
                return False
        return True

    def _can_only_grow(self, schema: Schema, container: JSON, path: tuple[str | int, ...]) -> bool:
        """Whether an open container has no field that would change, as far as the schema says.

        Fields with a default that it does not say are noted in `_unknown`.
        """
        fitting = self._list_fitting(schema, container)
        if len(fitting) != 1:
            return False
        if not isinstance(container, dict):
            return isinstance(container, list)
        properties = cast("Mapping[str, Schema]", fitting[0].get("properties", {}))
        required = fitting[0].get("required", ())
        for name, field in properties.items():
            if name in container or name in required:
                continue
            if "default" not in field:
                self._unknown.append((path, name))
            elif field["default"] not in _EMPTY:
                return False
        return True

    def _find_member_schema(self, schema: Schema | None, container: JSON) -> Schema | None:
        """Return the schema of the last element of a container; None if it is not certain."""
        fitting = [] if schema is None else self._list_fitting(schema, container)
        if len(fitting) != 1:
            return None
        found: object = None
        if isinstance(container, dict) and container:
            key = next(reversed(container))
            found = (
                fitting[0].get("properties", {}).get(key, fitting[0].get("additionalProperties"))
            )
        elif isinstance(container, list) and container:
            prefix = fitting[0].get("prefixItems", ())
            index = len(container) - 1
            found = prefix[index] if index < len(prefix) else fitting[0].get("items")
        return cast("Schema", found) if isinstance(found, Mapping) else None

    def _list_fitting(self, schema: Schema, container: JSON) -> list[Schema]:
        """Return the alternatives of a schema that an open container may become."""
        kind = "object" if isinstance(container, dict) else "array"
        alternatives = [
            each for each in self._list_alternatives(schema) if each.get("type") == kind
        ]
        if len(alternatives) <= 1 or not isinstance(container, dict):
            return alternatives
        return [each for each in alternatives if _may_become(container, each)]

    def _list_alternatives(self, schema: Schema) -> list[Schema]:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            found = self._definitions.get(reference.rsplit("/", 1)[-1])
            return [] if found is None else self._list_alternatives(found)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return [each for one in schema[key] for each in self._list_alternatives(one)]
        return [schema]


def _may_become(container: Mapping[str, JSON], schema: Schema) -> bool:
    """Whether an open object has only what an alternative has, with the constants that it wants."""
    properties = cast("Mapping[str, Schema]", schema.get("properties", {}))
    is_open = schema.get("additionalProperties", False) is not False
    for name, value in container.items():
        wanted = properties.get(name)
        if wanted is None:
            if not is_open:
                return False
        elif value not in wanted.get("enum", [wanted.get("const", value)]):
            return False
    return True


def _get_last_key(container: JSON) -> str | int:
    return next(reversed(container)) if isinstance(container, dict) else -1


def _get_last(container: JSON) -> JSON:
    last: JSON = None
    if isinstance(container, dict) and container:
        last = container[next(reversed(container))]
    elif isinstance(container, list) and container:
        last = container[-1]
    return last


def _drop_last(path: Sequence[JSON]) -> JSON:
    """Return the value without the last element of the last container of a path."""
    innermost = path[-1]
    shorter: JSON = innermost
    if isinstance(innermost, dict):
        shorter = dict(list(innermost.items())[:-1])
    elif isinstance(innermost, list):
        shorter = innermost[:-1]
    for container in reversed(path[:-1]):
        if isinstance(container, dict):
            shorter = {**container, next(reversed(container)): shorter}
        elif isinstance(container, list):
            shorter = [*container[:-1], shorter]
    return shorter


def _is_grown(before: JSON, now: JSON) -> bool:
    """Whether a value is the same as before, or longer."""
    if before is None or before == now:
        return True
    if isinstance(before, str) and isinstance(now, str):
        return now.startswith(before)
    if isinstance(before, dict) and isinstance(now, dict):
        return all(name in now and _is_grown(before[name], now[name]) for name in before)
    if isinstance(before, list) and isinstance(now, list):
        pairs = zip(before, now, strict=False)
        return len(before) <= len(now) and all(_is_grown(old, new) for old, new in pairs)
    return False


class _Scanner:
    """Follows which containers of a JSON text are open, and whether a value is being written."""

    def __init__(self) -> None:
        self._containers: list[str] = []
        self._is_key = False
        self._is_escaped = False
        self._is_done = False
        self._in_scalar = False
        self.is_in_string = False

    @property
    def depth(self) -> int:
        """The number of containers that are open."""
        return len(self._containers)

    @property
    def is_in_value(self) -> bool:
        """Whether the text ends within a text, a number or a name that is a value."""
        return (self.is_in_string or self._in_scalar) and not self._is_key

    def feed(self, text: str) -> None:
        """Read the next piece."""
        at = 0
        while at < len(text) and not self._is_done:
            if self.is_in_string:
                at = self._skip_string(text, at)
                continue
            found = _TOKEN.search(text, at)
            self._in_scalar = found is not None and found.end() == len(text)
            if found is None:
                return
            at = found.end()
            self._read_token(found[0])

    def _skip_string(self, text: str, at: int) -> int:
        if self._is_escaped:
            self._is_escaped = False
            return at + 1
        found = _STRING_END.search(text, at)
        if found is None:
            return len(text)
        self._is_escaped = found[0] == "\\"
        self.is_in_string = self._is_escaped
        return found.end()

    def _read_token(self, word: str) -> None:
        match word:
            case '"':
                self.is_in_string = True
            case "[" | "{":
                self._containers.append(word)
                self._is_key = word == "{"
            case "]" | "}":
                self._containers = self._containers[:-1]
                self._is_done = not self._containers
                self._is_key = False
            case ",":
                self._is_key = self._containers[-1:] == ["{"]
            case ":":
                self._is_key = False
            case _:
                return
        self._in_scalar = False
