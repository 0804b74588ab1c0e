"""Parses the final answer of a run as a value of the agent's output type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentcall.errors import ArgumentsError
from agentcall.messages import JSON
from agentcall.runtime.prompts import format_invalid_output
from agentcall.tools.schema import TypeSchema, type_schema

if TYPE_CHECKING:
    from agentcall.lenient_json import ParsedJSON

_FENCE = re.compile(r"```(?:\w*)[ \t]*\n?(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_MAX_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class InvalidOutput:
    """An answer that is not of the output type.

    message: tells the model why, and what to do. reason: tells the developer why.
    """

    message: str
    reason: str


class OutputParser:
    """Parses answers of one type; plain text if the type is `str`."""

    def __init__(self, output_type: object) -> None:
        self._type: TypeSchema | None = None if output_type is str else type_schema(output_type)

    @property
    def schema(self) -> dict[str, JSON] | None:
        """The JSON Schema of the type; None for plain text."""
        return self._type.schema if self._type else None

    def parse_exactly(self, text: str) -> object | InvalidOutput:
        """Return the value that a tool gave: the whole text, or JSON; nothing is searched for."""
        if self._type is None:
            return text
        reason = ""
        for candidate in _wrap_bare_text(text):
            try:
                return self._type.parse(candidate)
            except ArgumentsError as error:
                reason = reason or _explain_mismatch(error)
        return InvalidOutput("", reason)

    def parse(self, text: str) -> object | InvalidOutput:
        """Return the value that an answer contains: the whole answer, or the JSON in it."""
        if self._type is None:
            return text
        best_error: ArgumentsError | None = None
        for candidate in _iter_candidates(text):
            try:
                return self._type.parse(candidate)
            except ArgumentsError as error:
                # The error of a JSON value is more helpful than "this text is not JSON".
                if best_error is None or candidate in _find_json_values(candidate):
                    best_error = error
        for candidate in _iter_unwrapped(text, self._type.name):
            with suppress(ArgumentsError):
                return self._type.parse(candidate)
        reason = "it is not JSON" if best_error is None else _explain_mismatch(best_error)
        return InvalidOutput(format_invalid_output(best_error), reason)


def _wrap_bare_text(text: str) -> Iterator[str]:
    """Yield a text that is JSON as it is, then the text as a JSON string."""
    yield text
    yield json.dumps(text, ensure_ascii=False)


def _explain_mismatch(error: ArgumentsError) -> str:
    """Return the problems of an answer on one line."""
    problems = [
        f"{problem.path or 'the value'} is {problem.value!r:.100}, expected {problem.expected}"
        for problem in error.problems
    ]
    return "; ".join(problems) or "it is not JSON"


def _iter_candidates(text: str) -> Iterator[str]:
    """Yield what may be the JSON of an answer, the likeliest first; at last the bare text."""
    whole = text.strip()
    fenced = [block.strip() for block in reversed(_FENCE.findall(text))]
    yield from (whole, *fenced)
    found = sorted(_find_json_values(text), key=len, reverse=True)
    yield from found
    for text_with_errors in (*fenced, whole):
        yield from _repair_json(text_with_errors)
    if not found:
        yield json.dumps(whole.strip("\"'`*. \n"))


_WRAPPER_KEYS = frozenset(
    {
        *("answer", "final_answer", "output", "final_output", "result", "final_result"),
        *(
            "response",
            "value",
            "data",
            "items",
            "list",
            "values",
            "results",
            "arguments",
            "parameters",
            "properties",
        ),
    }
)
_MAX_LAYERS = 4


def _iter_unwrapped(text: str, type_name: str) -> Iterator[str]:
    """Yield what is inside the layers around the JSON of an answer, with nothing beside it.

    A layer is an object with one key such as `answer` or the name of the type, a list with one
    item, or a text that is JSON itself. In prose only one object counts: `[1]` may be a footnote.
    """
    whole = text.strip()
    fenced = [block.strip() for block in reversed(_FENCE.findall(text))]
    found = [found for found in _find_json_values(text) if found.startswith("{")]
    for candidate in (whole, *fenced, *(found if len(found) == 1 else ())):
        value = _parse_json(candidate)
        for _ in range(_MAX_LAYERS):
            value = _unwrap(value, type_name)
            if value is None:
                break
            yield json.dumps(value, ensure_ascii=False)


def _unwrap(value: JSON, type_name: str) -> JSON:
    """Return what is inside one layer; None if there is none."""
    if isinstance(value, str):
        return _parse_json(value)
    if isinstance(value, list):
        return value[0] if len(value) == 1 else None
    members = dict(value) if isinstance(value, Mapping) else {}
    name = members.get("name")
    if members.get("type") == "object" or name in _WRAPPER_KEYS or name == type_name:
        members = {key: item for key, item in members.items() if key not in ("type", "name")}
    if len(members) != 1:
        return None
    ((key, item),) = members.items()
    return item if key in _WRAPPER_KEYS or key == type_name else None


def _parse_json(text: str) -> JSON:
    """Return the value of a text that is JSON, with errors or without; None if it is not."""
    parsed = _parse_leniently(text)
    return None if parsed is None else parsed.value


def _repair_json(text: str) -> Iterator[str]:
    """Yield a complete object or list whose JSON has errors of syntax, as valid JSON."""
    parsed = _parse_leniently(text)
    if parsed is not None and parsed.rule and isinstance(parsed.value, (dict, list)):
        yield json.dumps(parsed.value, ensure_ascii=False)


def _parse_leniently(text: str) -> ParsedJSON | None:
    # late: its patterns take long to compile, and few outputs need it
    from agentcall.lenient_json import ParsedJSON, parse_lenient_json

    parsed = parse_lenient_json(text)
    return parsed if isinstance(parsed, ParsedJSON) else None


def _find_json_values(text: str) -> Iterator[str]:
    """Yield the JSON objects and lists in a text."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        start = opening.start()
        try:
            _, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
        else:
            yield text[start:position]
